"""Publishing, regenerating and checking leaderboards."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from PIL import Image

from harness.leaderboard import RowsError, check, publish, read_rows
from harness.leaderboard.groups import split
from harness.leaderboard.mixtures import mixture_picture
from tests.harness import rows_factory as factory


def board():
    return [*factory.series("uniform", [2.0, 2.1]), *factory.series("rnb", [1.9, 2.01]), factory.failed("rnb", 2)]


@pytest.fixture
def folder(tmp_path):
    return publish(board(), tmp_path, "demo", "A demo")


def contents(folder: Path):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_files_and_title(folder):
    assert sorted(contents(folder)) == [
        "README.md",
        "figures/mixtures-text-nano.png",
        "figures/quality-text-nano.png",
        "leaderboard.csv",
        "rows.jsonl.gz",
    ]
    text = (folder / "README.md").read_text()
    assert text.startswith("# A demo\n")
    assert "![Mixture over time](figures/mixtures-text-nano.png)" in text
    assert "## How to read the tables" in text


def test_same_rows_give_the_same_bytes_in_any_order(folder, tmp_path):
    again = publish(board()[::-1], tmp_path / "again", "demo", "A demo")
    assert contents(folder) == contents(again)


def test_a_fresh_board_passes_the_check_and_may_have_notes(folder):
    assert check(folder.parent) == []
    (folder / "notes.md").write_text("Some *remarks*.\n")
    assert check(folder.parent) == [f"{folder / 'README.md'}: differs from what its rows give, first in line 5"]
    publish([], folder.parent, "demo", "A demo")
    assert "Some *remarks*." in (folder / "README.md").read_text()
    assert check(folder.parent) == []


def test_the_check_names_what_was_tampered_with(folder):
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("1.9550", "1.8550"))
    (problem,) = check(folder.parent)
    assert str(readme) in problem
    assert "first in line" in problem
    publish([], folder.parent, "demo", "A demo")

    (folder / "leaderboard.csv").unlink()
    picture = folder / "figures" / "quality-text-nano.png"
    with Image.open(picture) as image:
        image.load()
        painted, about = image.convert("RGB"), dict(image.text)
    painted.putpixel((5, 5), (255, 0, 0))
    _save(painted, about, picture)
    (folder / "figures" / "stray.png").write_bytes(b"")
    assert check(folder.parent) == [
        f"{folder / 'leaderboard.csv'}: is missing",
        f"{picture}: was changed after it was drawn",
        f"{folder / 'figures' / 'stray.png'}: does not follow from the rows",
    ]


def _save(image, about, path):
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for key, value in about.items():
        info.add_text(key, value)
    image.save(path, pnginfo=info)


def test_the_check_sees_a_picture_of_other_data(folder, tmp_path):
    other = publish(board()[:4], tmp_path / "other", "demo", "A demo")
    name = "figures/quality-text-nano.png"
    (other / name).write_bytes((publish(board()[:3], tmp_path / "third", "demo", "A demo") / name).read_bytes())
    assert check(other.parent) == [f"{other / name}: shows other data than the rows"]
    (other / name).write_bytes(b"no picture")
    assert check(other.parent) == [f"{other / name}: is not a readable picture"]


def test_the_check_reports_folders_without_rows(tmp_path):
    (tmp_path / "empty").mkdir()
    (problem,) = check(tmp_path)
    assert "holds no rows" in problem
    assert check(tmp_path / "nowhere") == [f"{tmp_path / 'nowhere'}: no such folder"]


def test_publishing_on_extends_what_is_there(folder):
    publish(factory.series("natural", [2.05, 2.2]), folder.parent, "demo", "A demo")
    assert len(read_rows([folder])) == 7
    assert "natural" in (folder / "README.md").read_text()
    assert check(folder.parent) == []


def test_a_page_keeps_its_title(folder, tmp_path):
    publish([], folder.parent, "demo")
    publish(factory.series("natural", [2.05, 2.2]), folder.parent, "demo", None)
    assert (folder / "README.md").read_text().startswith("# A demo\n")
    publish([], folder.parent, "demo", "Another")
    assert (folder / "README.md").read_text().startswith("# Another\n")
    fresh = publish(board(), tmp_path / "fresh", "some-name")
    assert (fresh / "README.md").read_text().startswith("# some-name\n")
    assert check(fresh.parent) == []


def test_publishing_a_contradiction_changes_nothing(folder):
    before = contents(folder)
    with pytest.raises(RowsError, match="row text-nano-original-rnb-s0 exists with another result"):
        publish([factory.row("rnb", 0, 1.5)], folder.parent, "demo", "A demo")
    assert contents(folder) == before


def test_publishing_again_takes_newer_provenance(folder):
    newer = copy.deepcopy(board()[0])
    newer["provenance"]["time"] = "2027-01-01T00:00:00Z"
    publish([newer], folder.parent, "demo", "A demo")
    found = {row["id"]: row for row in read_rows([folder])}
    assert found[newer["id"]]["provenance"]["time"].startswith("2027")


def test_names_and_rows_are_checked(tmp_path):
    with pytest.raises(RowsError, match=r"cannot be called '\.\./x'"):
        publish(board(), tmp_path, "../x", "X")
    with pytest.raises(RowsError, match="no rows to publish"):
        publish([], tmp_path, "x", "X")
    with pytest.raises(RowsError, match="row None: row_version"):
        publish([{}], tmp_path, "x", "X")


def test_plain_rows_are_read_and_packed(tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in board()))
    publish([], tmp_path, "plain", "Plain")
    assert not (folder / "rows.jsonl").exists()
    assert check(tmp_path) == []


def test_mixtures_are_averaged_over_seeds_of_one_cut_only():
    wide = [[0, [1.0, 0.0, 0.0]], [500, [0.0, 1.0, 0.0]]]
    late = [[0, [1.0, 0.0, 0.0]], [800, [0.0, 1.0, 0.0]]]
    rows = [factory.row("rnb", 0, requested=wide), factory.row("rnb", 1, requested=late)]
    (group,) = split(rows)
    (block,) = mixture_picture(group).data["blocks"]
    assert block["seeds"] == "mean of 2 seeds"
    assert block["panels"] == [
        {"mixer": "rnb", "steps": [0, 500, 800], "weights": [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]}
    ]
    rows[1]["domains"]["train_shares"] = [0.2, 0.3, 0.5]
    (block,) = mixture_picture(group).data["blocks"]
    assert block["seeds"] == "seed 0"
    assert block["panels"][0]["steps"] == [0, 500]


def test_many_domains_are_cut_to_the_largest_and_the_rest():
    names = tuple(f"d{i:02}" for i in range(20))
    weights = [0.01] * 20
    weights[17] = 1 - 0.19
    (group,) = split([factory.row("rnb", domains=names, requested=[[0, weights]])])
    (block,) = mixture_picture(group).data["blocks"]
    assert len(block["domains"]) == 12
    assert "d17" in block["domains"]
    assert block["domains"][-1] == "other"
    assert sum(block["panels"][0]["weights"][0]) == pytest.approx(1)
