"""WebDataset shards: made here, and the two real sets beside the repository."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.experiment import read_experiment, trials
from harness.registry import Registry
from harness.results import metrics_of
from harness.store import RunFolder
from harness.trial import run_trial
from tasks.base import SPLITS, TaskError
from tasks.clip.images import Images, decode, shifted
from tasks.multimodal import Multimodal
from tasks.sources.webdataset import WebDataset, find_shards

SHARED = Path(__file__).parents[3] / "shared" / "data"
TINY = {
    "width": 16, "heads": 2, "image_layers": 1, "text_layers": 1, "embed_dim": 12, "image_size": 12, "patch_size": 6,
    "context": 12,
}  # fmt: skip


def picture(number: int, size: tuple[int, int] = (20, 10), kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def sample(number: int, category: str = "sea", kind: str = "png") -> dict[str, bytes]:
    stem = f"{number:06d}"
    return {
        f"{stem}.{kind}": picture(number, kind={"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[kind]),
        f"{stem}.txt": f"a picture\n of thing {number} ".encode(),
        f"{stem}.json": json.dumps({"category": category, "kind": number % 2}).encode(),
    }


def merged(*parts: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for part in parts for name, content in part.items()}


def corpus_folder(root: Path, n: int = 60) -> Path:
    root.mkdir()
    half = n // 2
    for index in range(2):
        numbers = range(index * half, (index + 1) * half)
        shard(root / f"{index:05d}.tar", merged(*(sample(i, "sea" if i % 3 else "law") for i in numbers)))
    return root


def make(path: object, cache: Path, **settings: object) -> Multimodal:
    pytest.importorskip("open_clip")
    preset = Multimodal.presets["nano"]
    return Multimodal(Multimodal.configure(preset, {**TINY, "path": str(path), **settings}), preset, cache)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_members_of_a_key_are_one_sample_whose_image_is_found_again(tmp_path: Path, kind: str) -> None:
    path = shard(tmp_path / "0.tar", merged(sample(1, "sea", kind), sample(2, "law", kind)))
    found = list(WebDataset(str(path), domain_field="category", class_field="kind").images())
    assert [item.caption for item in found] == ["a picture of thing 1", "a picture of thing 2"]
    assert [item.domain for item in found] == ["sea", "law"]
    assert [item.label for item in found] == ["1", "0"]
    for item in found:
        raw = path.read_bytes()[item.offset : item.offset + item.size]
        assert decode(raw, 8, "pad").shape == (8, 8, 3)
    bare = list(WebDataset(str(path)).images())
    assert [(item.domain, item.label) for item in bare] == [("all", "")] * 2


def test_folders_globs_and_braces_name_the_same_shards(tmp_path: Path) -> None:
    root = corpus_folder(tmp_path / "data")
    expected = sorted(root.glob("*.tar"))
    for path in (root, root / "*.tar", root / "{00000..00001}.tar", root / "{00000,00001}.tar"):
        assert find_shards(str(path)) == expected
    assert find_shards(str(root / "{00001..00007}.tar")) == expected[1:], (
        "shards that are not there yet are passed over"
    )
    assert find_shards(str(root / "nothing")) == []
    assert find_shards(str(tmp_path)) == expected, "DataComp's own script puts them into folders below"


def test_samples_without_image_or_caption_are_left_out_and_counted(tmp_path: Path) -> None:
    whole, no_text, no_image = sample(1), sample(2), sample(3)
    del no_text["000002.txt"], no_image["000003.png"]
    source = WebDataset(str(shard(tmp_path / "0.tar", merged(no_text, whole, no_image, {"x.bin": b"1"}))))
    assert [item.caption for item in source.images()] == ["a picture of thing 1"]
    assert source.provenance()["left_out"] == {"no caption": 1, "no image": 2}
    assert source.provenance()["samples"] == 4


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"000001.png": b"no image at all", "000001.txt": b"x"}, "000001.png is no readable image"),
        ({**sample(1), "000001.json": b"{"}, "000001.json is no JSON object"),
        ({**sample(1), "000001.json": b"[1]"}, "000001.json is no JSON object"),
        ({**sample(1), "000001.json": b'{"n": ' + b"1" * 5000 + b"}"}, "000001.json is no JSON object"),
        ({**sample(1), "000001.json": b"{}"}, "sample 000001 has no field 'category' .* domain_field"),
    ],
)
def test_damaged_members_are_one_clear_line(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    path = shard(tmp_path / "0.tar", members)
    with pytest.raises(TaskError, match=message) as caught:
        list(WebDataset(str(path), domain_field="category").images())
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [0.5, 1000])
def test_a_cut_off_or_compressed_shard_is_one_clear_line(tmp_path: Path, keep: float) -> None:
    path = shard(tmp_path / "0.tar", merged(*(sample(i) for i in range(5))))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep * len(raw)) if keep < 1 else int(keep)])
    with pytest.raises(TaskError, match="is damaged, cut off or compressed") as caught:
        list(WebDataset(str(path)).images())
    assert "\n" not in str(caught.value)


def test_a_shard_that_ends_without_its_marker_is_one_clear_line(tmp_path: Path) -> None:
    """``tarfile`` takes a header that it cannot read, and a file cut between two members, for the end."""
    path = shard(tmp_path / "0.tar", merged(*(sample(i) for i in range(5))))
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        third = archive.getmembers()[6]
    corrupted = bytearray(whole)
    corrupted[third.offset + 10] ^= 1
    for damaged in (bytes(corrupted), whole[: third.offset]):
        path.write_bytes(damaged)
        with pytest.raises(
            TaskError, match=f"is damaged.*neither a member nor the end .* byte {third.offset}"
        ) as caught:
            list(WebDataset(str(path)).images())
        assert "\n" not in str(caught.value)
    path.write_bytes(whole[: third.offset] + bytes(1024))
    assert len(list(WebDataset(str(path)).images())) == 2, "an end marker is all that is asked for"


def test_a_gzipped_shard_is_refused(tmp_path: Path) -> None:
    import gzip

    path = shard(tmp_path / "0.tar", sample(1))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(TaskError, match="damaged, cut off or compressed"):
        list(WebDataset(str(path)).images())


def test_an_image_that_is_cut_off_inside_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    members = merged(*(sample(i, kind="jpg") for i in range(40)))
    members["000007.jpg"] = picture(7, (400, 400), "JPEG")[:5000]
    with pytest.raises(TaskError, match="not a whole image") as caught:
        make(shard(tmp_path / "0.tar", members), tmp_path / "cache").load()
    assert "\n" not in str(caught.value)


def test_corpus_of_shards_with_domains(tmp_path: Path) -> None:
    task = make(corpus_folder(tmp_path / "data"), tmp_path / "cache", domain_field="category", smallest_domain=5)
    corpus = task.load()
    assert corpus.domains == ("law", "sea")
    assert sum(len(corpus.labels[split]) for split in SPLITS) == 60
    assert corpus.target_shares == pytest.approx(corpus.train_shares)
    assert corpus.expected_fingerprint is None
    batch = task.batch(corpus, "test", np.array([0, 1]))
    white = (batch["images"] == 255).all(dim=1)
    assert white[:, :3].all(), "twice as wide as high: padded above"
    assert not white[:, 5].all()


def test_without_a_field_there_is_one_domain(tmp_path: Path) -> None:
    task = make(corpus_folder(tmp_path / "data"), tmp_path / "cache")
    corpus = task.load()
    assert corpus.domains == ("all",)
    for split in SPLITS:
        assert (corpus.examples[split].label == -1).all(), "and no class"
        assert (corpus.examples[split].weight == 1).all(), "every sample counts as one"
    scores = task.evaluate(task.build_model(0), corpus, "test", device=torch.device("cpu"), dtype=torch.float32)
    for sums in (scores.sums, scores.baselines):
        assert not np.any(sums["zero_shot_accuracy"][1]), "nothing is counted"
    metrics = metrics_of(task, corpus, scores)
    assert "zero_shot_accuracy" not in metrics
    assert metrics["mean_reciprocal_rank"]["target"] > 0


def test_the_class_of_gathered_domains_is_other(tmp_path: Path) -> None:
    names = ["sea"] * 40 + ["law"] * 8 + ["art"] * 9
    path = shard(tmp_path / "0.tar", merged(*(sample(i, name) for i, name in enumerate(names))))
    task = make(path, tmp_path / "cache", domain_field="category", smallest_domain=20)
    corpus = task.load()
    assert corpus.domains == task._prepared().classes == ("other", "sea")
    for split in SPLITS:
        assert np.array_equal(corpus.examples[split].label, corpus.labels[split])
    own = make(path, tmp_path / "cache", domain_field="category", class_field="kind", smallest_domain=20)
    own.load()
    assert own._prepared().classes == ("0", "1")


def test_a_folder_that_moved_is_read_from_where_it_is(tmp_path: Path) -> None:
    before = corpus_folder(tmp_path / "before")
    first = make(before, tmp_path / "cache", decoded_megabytes=0)
    corpus = first.load()
    expected = first.batch(corpus, "test", np.array([0, 1]))["images"]
    stored = sorted((tmp_path / "cache" / "multimodal").iterdir())
    after = before.rename(tmp_path / "after")
    for path in (after, after / "*.tar", after / "{00000..00001}.tar"):
        task = make(path, tmp_path / "cache", decoded_megabytes=0)
        again = task.load()
        assert again.fingerprint == corpus.fingerprint
        assert torch.equal(task.batch(again, "test", np.array([0, 1]))["images"], expected)
    assert sorted((tmp_path / "cache" / "multimodal").iterdir()) == stored, "from the same place in the cache"


def test_another_decoder_decodes_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = corpus_folder(tmp_path / "data")
    make(root, tmp_path / "cache").load()
    monkeypatch.setattr("tasks.multimodal.DECODER", "1, Pillow 0")
    make(root, tmp_path / "cache").load()
    assert len(list((tmp_path / "cache" / "multimodal").glob("*.npy"))) == 2


def test_templates_belong_to_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = corpus_folder(tmp_path / "data")
    before = make(root, tmp_path / "cache").load().fingerprint
    monkeypatch.setattr(WebDataset, "templates", ("{}",))
    assert make(root, tmp_path / "cache").load().fingerprint != before


def test_equal_images_and_equal_captions_share_a_split(tmp_path: Path) -> None:
    members = merged(*(sample(i) for i in range(60)))
    for i in range(0, 60, 4):
        members[f"{i + 1:06d}.png"] = members[f"{i:06d}.png"]
        members[f"{i + 2:06d}.txt"] = members[f"{i + 1:06d}.txt"]
    task = make(shard(tmp_path / "0.tar", members), tmp_path / "cache")
    corpus = task.load()
    where = {int(i): split for split in SPLITS for i in corpus.examples[split].image}
    for i in range(0, 60, 4):
        assert where[i] == where[i + 1] == where[i + 2]


def test_decoding_on_demand_gives_the_same_images(tmp_path: Path) -> None:
    root = corpus_folder(tmp_path / "data")
    mapped, demanded = make(root, tmp_path / "a"), make(root, tmp_path / "b", decoded_megabytes=0)
    one, two = mapped.load(), demanded.load()
    assert one.fingerprint == two.fingerprint
    assert list((tmp_path / "a" / "multimodal").glob("*.npy"))
    assert not list((tmp_path / "b" / "multimodal").glob("*.npy"))
    for indices in (np.array([3, 1]), np.arange(30)):
        left, right = (task.batch(one, "train", indices)["images"] for task in (mapped, demanded))
        assert np.array_equal(left, right)


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    root = corpus_folder(tmp_path / "data")
    first = make(root, tmp_path / "cache")
    corpus = first.load()
    expected = first.batch(corpus, "test", np.array([0]))["images"]
    for stored in (tmp_path / "cache" / "multimodal").iterdir():
        stored.write_bytes(stored.read_bytes()[:100])
    again = make(root, tmp_path / "cache")
    assert again.load().fingerprint == corpus.fingerprint
    assert np.array_equal(again.batch(corpus, "test", np.array([0]))["images"], expected)


def test_a_changed_shard_is_read_anew(tmp_path: Path) -> None:
    root = corpus_folder(tmp_path / "data")
    before = make(root, tmp_path / "cache").load().fingerprint
    shard(root / "00002.tar", sample(99))
    assert make(root, tmp_path / "cache").load().fingerprint != before


def test_framing() -> None:
    raw = io.BytesIO()
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = (255, 0, 0)
    Image.fromarray(wide).save(raw, "PNG")
    cropped, padded = (decode(raw.getvalue(), 9, framing) for framing in ("crop", "pad"))
    assert (cropped[:, 2:7, 0] > 200).all()
    assert (padded[0] == 255).all()
    assert (padded[4, 0] == 0).all()
    clear = io.BytesIO()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(clear, "PNG")
    assert (decode(clear.getvalue(), 4, "pad") == 255).all()


def test_shifts_move_and_fill_with_white() -> None:
    image = np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3)
    moved = shifted(image, np.array([[1, -1], [0, 0]]))
    assert np.array_equal(moved[0, 1:, :2], image[0, :2, 1:])
    assert (moved[0, 0] == 255).all()
    assert (moved[0, :, 2] == 255).all()
    assert np.array_equal(moved[1], image[1])


def test_images_know_their_number(tmp_path: Path) -> None:
    task = make(corpus_folder(tmp_path / "data"), tmp_path / "cache")
    task.load()
    images = task._images
    assert isinstance(images, Images)
    assert len(images) == 60
    assert images.at(np.array([0, 5]), 7).shape == (2, 7, 7, 3)


REAL = {"clipart": 3000, "stamps": 948}
SMOKE = "width=16,heads=2,image_layers=1,text_layers=1,embed_dim=12,image_size=12,patch_size=6,context=12"


@pytest.mark.parametrize("name", [pytest.param("clipart", marks=pytest.mark.slow), "stamps"])
@pytest.mark.parametrize("partition", ["original", "kmeans[k=4,embedder=image:pixels]"])
def test_a_smoke_trial_on_real_shards(name: str, partition: str, tmp_path: Path) -> None:
    """Through the harness: a few steps of R&B on the data's own domains, and on clusters of what has none."""
    if not (SHARED / name).exists():
        pytest.skip("the shared data are not beside this checkout")
    pytest.importorskip("open_clip")
    field = "domain_field=category," if partition == "original" else ""
    flags = {
        "tasks": f"multimodal[path={SHARED / name},{field}{SMOKE}]",
        "preset": "demo",
        "mixers": "rnb[rounds=2]",
        "partitions": partition,
        "seeds": "1",
        "device": "cpu",
        "steps": 4,
    }
    registry = Registry()
    (spec,) = trials(read_experiment(None, flags), registry)
    row = run_trial(spec, registry, RunFolder(tmp_path / "run"), tmp_path, lambda step, steps: None)
    assert row["status"] == "ok", row["reason"]
    assert row["data"]["images"] == REAL[name]
    assert row["data"]["left_out"] == {}
    assert len(row["domains"]["train"]) == 4 if field == "" else len(row["domains"]["train"]) > 5
    assert row["overhead"]["mixing_flops"] > 0
    for metric in row["metrics"].values():
        assert np.isfinite(metric["target"])
        assert "baseline" in metric
