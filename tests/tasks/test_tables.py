"""Readers of published tables: RegMix's files, those of the mixing laws, plain CSV; what is said of broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.base import TaskError
from tasks.sources import mixing_laws_tables, plain_table, regmix_tables
from tasks.sources.tables import Table, count_of
from tests.tasks.table_files import write_csv, write_regmix

SHARED = Path(__file__).parents[3] / "shared" / "data"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_regmix_joins_by_index_and_keeps_domains_and_targets_apart(tmp_path):
    table = regmix_tables.read(write_regmix(tmp_path / "t", {"1m": 12}))
    assert table.domains == ("web", "law", "code", "irc")
    assert table.targets == ("law", "web"), "in their own order, of those that have a loss"
    assert table.mixtures.shape == (24, 4)
    np.testing.assert_allclose(table.mixtures.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(table.losses[:, 1], 3 - table.mixtures[:, 0], atol=2e-3)
    assert table.splits.count("train") == table.splits.count("test") == 12
    assert table.notes == (), "sums that are off by rounding are nothing to note"


def test_regmix_without_a_training_split_and_with_other_sizes(tmp_path):
    table = regmix_tables.read(write_regmix(tmp_path / "t", {"1B": 6, "60m": 7}, splits=("test",)))
    assert [(size.name, size.parameters) for size in table.sizes] == [("60m", 60e6), ("1B", 1e9)]
    assert [int((table.size == i).sum()) for i in range(2)] == [7, 6]
    assert table.cost(1) == pytest.approx(6 * 1e9 * 25e9), "RegMix's own runs of 1B have 25 B tokens"
    told = regmix_tables.read(tmp_path / "t", tokens={"1B": 1e9})
    assert told.cost(1) == pytest.approx(6e18)
    assert told.cost(0) == table.cost(0)


def test_rows_in_another_order_are_joined_all_the_same(tmp_path):
    folder = write_regmix(tmp_path / "t", {"1m": 8}, splits=("test",))
    table = regmix_tables.read(folder)
    losses = folder / "test_pile_loss_1m.csv"
    head, *rows = losses.read_text().splitlines()
    losses.write_text("\n".join([head, *reversed(rows)]))
    np.testing.assert_array_equal(regmix_tables.read(folder).losses, table.losses)


def test_a_file_without_its_other_half_is_left_out_with_a_note(tmp_path):
    folder = write_regmix(tmp_path / "t", {"1m": 8, "60m": 7})
    whole = regmix_tables.read(folder)
    (folder / "train_pile_loss_60m.csv").unlink()
    (folder / "test_mixture_60m.csv").unlink()
    table = regmix_tables.read(folder)
    assert [size.name for size in table.sizes] == ["1m"]
    np.testing.assert_array_equal(table.losses, whole.losses[whole.size == 0])
    assert table.notes == (
        "left out train_mixture_60m.csv: no file train_..._loss_60m.csv beside it",
        "left out test_pile_loss_60m.csv: no file test_mixture_60m.csv beside it",
    )


def _drop_losses(folder: Path) -> None:
    for file in folder.glob("*_loss_1m.csv"):
        file.unlink()


def _drop_other_halves(folder: Path) -> None:
    (folder / "train_pile_loss_1m.csv").unlink()
    (folder / "test_mixture_1m.csv").unlink()


def _drop_mixtures(folder: Path) -> None:
    for file in folder.glob("*_mixture_1m.csv"):
        file.unlink()


def _second_losses(folder: Path) -> None:
    (folder / "train_web_loss_1m.csv").write_text("index,metric/web_val_loss\n0,1\n")


def _drop_index(folder: Path) -> None:
    file = folder / "train_pile_loss_1m.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]))


def _repeat_index(folder: Path) -> None:
    file = folder / "train_mixture_1m.csv"
    file.write_text(file.read_text() + file.read_text().splitlines()[1])


def _other_domain(folder: Path) -> None:
    file = folder / "test_mixture_1m.csv"
    file.write_text(file.read_text().replace("the_pile_irc", "the_pile_mail"))


def _no_columns(folder: Path) -> None:
    file = folder / "train_mixture_1m.csv"
    file.write_text(file.read_text().replace("train_", "share_"))


@pytest.mark.parametrize(
    ("breakage", "said"),
    [
        (_drop_losses, r"holds no mixtures with their losses \(left out test_mixture_1m\.csv: no file test_\.\.\."),
        (_drop_other_halves, r"\(left out train_mixture_1m\.csv: .* beside it\); add the other half of a pair"),
        (_drop_mixtures, r"holds no file such as train_mixture_1m\.csv"),
        (_second_losses, r"holds 2 files train_\.\.\._loss_1m\.csv beside train_mixture_1m\.csv; it takes one"),
        (_drop_index, r"train_mixture_1m\.csv:13: index 11 is not in train_pile_loss_1m\.csv; add it"),
        (_repeat_index, r"train_mixture_1m\.csv:14: index 0 stands twice; drop one"),
        (_other_domain, r"its domains differ from those of .*:2 in 'irc'"),
        (_no_columns, r"train_mixture_1m\.csv:1: expected the columns 'index' and 'train_<name>'"),
    ],
)
def test_broken_regmix_files_are_one_line(tmp_path, breakage, said):
    folder = write_regmix(tmp_path / "t", {"1m": 12})
    breakage(folder)
    with pytest.raises(TaskError, match=said) as caught:
        regmix_tables.read(folder)
    assert "\n" not in str(caught.value)


MIX = ("run,step,w_a,w_b,loss_x,loss_y", "r1,10,0.25,0.75,3,", "r1,20,0.25,0.75,2,5", "r2,10,1,0,4,6", "r2,20,1,0,3,6")


def test_mixing_laws_reads_one_step_and_leaves_empty_losses_empty(tmp_path):
    file = write(tmp_path / "2Mix_70M.csv", *MIX, "base,20,,,1,1", "r3,10,0.5,0.5,4,6")
    table = mixing_laws_tables.read(file)
    assert table.runs == ("r1", "r2", "r3"), "step 10 is the one that most runs have; base has no mixture"
    np.testing.assert_array_equal(table.losses, [[3, np.nan], [4, 6], [4, 6]])
    assert table.sizes[0].name == "70M"
    assert table.cost(0) == pytest.approx(6 * 70e6 * 10e6)
    assert table.notes == ("losses at step 10, which 3 of 3 runs with proportions have",)
    later = mixing_laws_tables.read(file, step=20)
    assert later.runs == ("r1", "r2")
    with pytest.raises(TaskError, match="no run at step 15; there are 10, 20"):
        mixing_laws_tables.read(file, step=15)


def test_a_run_that_stands_twice_at_a_step_is_refused(tmp_path):
    file = write(tmp_path / "2Mix_70M.csv", *MIX, "r2 ,20,0,1,3,6")
    with pytest.raises(TaskError, match=r"2Mix_70M\.csv:6: run r2 stands twice at step 20; drop one of them") as caught:
        mixing_laws_tables.read(file)
    assert "\n" not in str(caught.value)


def test_sums_within_two_percent_are_normalised_with_a_note_beyond_named(tmp_path):
    file = write(tmp_path / "t.csv", "run,w_a,w_b,loss_x", "good,0.5,0.5,1", "loose,0.5,0.515,1")
    table = plain_table.read(file)
    assert table.notes == ("1 runs normalised, the farthest off loose with 1.0150",)
    np.testing.assert_allclose(table.mixtures[1], [0.5 / 1.015, 0.515 / 1.015])
    file = write(tmp_path / "t.csv", "run,w_a,w_b,loss_x", "good,0.5,0.5,1", "off,0.5,0.55,1")
    with pytest.raises(TaskError, match=r"t\.csv:3: the proportions of run off sum to 1\.05; they must sum to 1"):
        plain_table.read(file)


def test_a_plain_table_takes_costs_from_its_column_or_counts_runs(tmp_path):
    table = plain_table.read(write(tmp_path / "t.csv", "w_a,w_b,loss_x,cost", "0,1,1,5e9", "", "1,0,2,7e9"))
    assert table.cost(0) == 6e9
    assert table.runs == ("line 2", "line 4")
    bare = plain_table.read(write(tmp_path / "t.csv", "w_a,w_b,loss_x", "0,1,1", "1,0,2"))
    assert (bare.sizes[0].name, bare.cost(0)) == ("table", 1.0)
    assert "runs counted" in bare.cost_rule
    told = plain_table.read(tmp_path / "t.csv", parameters={"table": 1e6}, tokens=1e8)
    assert (told.cost(0), told.cost_rule) == (6e14, "6 N D")
    half = plain_table.read(write_csv(tmp_path / "s.csv", {"10m": 3, "1m": 3}))
    assert [half.cost(i) for i in range(2)] == [6e6, 6e7]
    assert "tokens are not known" in half.cost_rule


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], r":1: has no header"),
        (["w_a,loss_x"], "holds no runs below its first line"),
        (["w_a,w_a,loss_x", "1,0,1"], ":1: has column 'w_a' twice"),
        (["a,b,x", "1,0,1"], r":1: expected columns w_<domain> and loss_<target>"),
        (["w_a,w_b,loss_x,weight", "1,0,1,1"], ":1: column 'weight' is none of"),
        (["w_a,w_b,loss_x", "1,0"], ":2: 2 cells, the header has 3; mend the line"),
        (["w_a,w_b,loss_x", "1,zero,1"], ":2: column 'w_b' holds 'zero'; write a number"),
        (["w_a,w_b,loss_x", "1,,1"], ":2: column 'w_b' holds ''; write a number"),
        (["w_a,w_b,loss_x", "1,0,inf"], ":2: column 'loss_x' holds 'inf'; write a number, or leave it empty"),
        (["w_a,w_b,loss_x", "1.5,-0.5,1"], ":2: run line 2 has a proportion that is negative"),
        (["w_a,w_b,loss_x,cost", "1,0,1,", "1,0,1,3"], ":2: run line 2 has no cost, others have"),
        (["w_a,w_b,loss_x,cost", "1,0,1,0"], ":2: a cost of 0; write the run's FLOPs"),
        (["w_a,w_b,loss_x,size", "1,0,1,big", "1,0,1,1m"], "size 'big' says no number of parameters; give it as"),
        (["w_a,w_b,loss_x,size", "1,0,1,60m", "1,0,1,60M"], "sizes '60M' and '60m' have 6e\\+07 parameters both"),
    ],
)
def test_broken_csv_files_are_one_line_with_file_and_remedy(tmp_path, lines, said):
    with pytest.raises(TaskError, match=said) as caught:
        plain_table.read(write(tmp_path / "t.csv", *lines))
    assert "t.csv" in str(caught.value) or "size" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_that_the_table_lacks_are_refused(tmp_path):
    file = write_csv(tmp_path / "t.csv", {"1m": 3})
    with pytest.raises(TaskError, match="tokens names size '1M', which the table lacks; it has 1m"):
        plain_table.read(file, tokens={"1M": 1e9})


def test_sizes_of_equal_parameters_may_be_told_apart(tmp_path):
    file = write(tmp_path / "t.csv", "w_a,w_b,loss_x,size", "1,0,1,60m", "1,0,1,0.06B")
    with pytest.raises(TaskError, match=r"sizes '0\.06B' and '60m' have 6e\+07 parameters both, .* parameters="):
        plain_table.read(file)
    told = plain_table.read(file, parameters={"60m": 61e6})
    assert [size.name for size in told.sizes] == ["0.06B", "60m"]


def test_names_of_sizes_say_parameters():
    assert [count_of(text) for text in ("1m", "60M", "1.5B", "2e", "70000")] == [1e6, 60e6, 1.5e9, 0.0, 70000.0]


def test_the_fingerprint_follows_the_contents(tmp_path):
    def read(**sizes: int) -> Table:
        return plain_table.read(write_csv(tmp_path / "t.csv", sizes))

    first = read(**{"1m": 5}).fingerprint()
    assert read(**{"1m": 5}).fingerprint() == first
    assert read(**{"1m": 6}).fingerprint() != first
    assert read(**{"2m": 5}).fingerprint() != first


@pytest.mark.skipif(not (SHARED / "regmix").is_dir(), reason="the shared data are not beside this checkout")
def test_the_published_regmix_tables():
    table = regmix_tables.read(SHARED / "regmix")
    assert (len(table.domains), len(table.targets)) == (17, 13)
    assert set(table.domains) > set(table.targets)
    assert "pile_cc" in table.targets
    assert (table.splits.count("train"), table.splits.count("test")) == (512, 256)
    assert np.isfinite(table.losses).all()


@pytest.mark.skipif(not (SHARED / "mixinglaws").is_dir(), reason="the shared data are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "runs", "domains", "targets"),
    [("2Mix", 5, 2, 2), ("3Mix", 3, 3, 3), ("5Mix", 26, 5, 22), ("RedPajama", 42, 7, 22), ("ct", 5, 2, 23)],
)
def test_the_published_mixing_laws_tables(name, runs, domains, targets):
    table = mixing_laws_tables.read(SHARED / "mixinglaws" / f"{name}_70M.csv")
    assert table.mixtures.shape == (runs, domains)
    assert table.losses.shape == (runs, targets)
    odd = [note for note in table.notes if "normalised" in note]
    assert odd == (["1 runs normalised, the farthest off 70M_RP_999 with 1.0199"] if name == "RedPajama" else [])
