"""Reading, checking and merging rows, and cutting them into tables."""

from __future__ import annotations

import copy
import gzip
import json

import pytest

from harness.leaderboard import RowsError, as_csv, frame, publish, read_rows
from harness.leaderboard.groups import reasons, split
from harness.leaderboard.rows import merge
from tests.harness import rows_factory as factory


def test_reads_run_folders_published_folders_and_files(tmp_path):
    rows = factory.series("uniform", [2.0, 2.1])
    run = factory.write_run(tmp_path / "run", rows)
    published = tmp_path / "published"
    published.mkdir()
    more = factory.row("rnb", 0, 1.9)
    (published / "rows.jsonl.gz").write_bytes(gzip.compress((json.dumps(more) + "\n").encode()))
    plain = tmp_path / "some.jsonl"
    plain.write_text(json.dumps(factory.row("rnb", 1, 1.8)) + "\n\n")
    found = read_rows([run, published, plain])
    assert [row["id"] for row in found] == sorted(row["id"] for row in found)
    assert len(found) == 4


def test_a_run_folders_timing_is_joined(tmp_path):
    row = factory.row("rnb") | {"cell": "some-cell"}
    run = factory.write_run(tmp_path, [row])
    (run / "timing").mkdir()
    (run / "timing" / "some-cell.json").write_text(json.dumps({"step_overhead": 0.02}))
    assert read_rows([run])[0]["measured"]["timing"] == {"step_overhead": 0.02}
    (run / "timing" / "some-cell.json").write_text("{")
    with pytest.raises(RowsError, match=r"some-cell\.json: is not a readable timing"):
        read_rows([run])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda row: row.update(row_version=9), "row_version is 9, this harness reads 1"),
        (lambda row: row.update(status="fine"), "status 'fine' is none of ok, failed"),
        (lambda row: row["spec"].pop("mixer_label"), "field spec.mixer_label is missing"),
        (lambda row: row["spec"].update(seed="0"), 'field spec.seed is "0", which is not of the right type'),
        (lambda row: row.update(metrics=None), "field metrics is missing"),
        (lambda row: row["metrics"]["accuracy"].update(primary=True), "2 primary metrics, expected one"),
        (lambda row: row["metrics"]["bits_per_byte"].pop("by_domain"), "metrics.bits_per_byte lacks 'by_domain'"),
    ],
)
def test_a_bad_row_is_one_line_that_names_the_file(tmp_path, change, complaint):
    row = factory.row()
    name = f"{row['id']}.json"
    change(row)
    run = factory.write_run(tmp_path, [row])
    with pytest.raises(RowsError) as caught:
        read_rows([run])
    assert complaint in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_one_line(tmp_path):
    with pytest.raises(RowsError, match="no such file or folder"):
        read_rows([tmp_path / "nowhere"])
    with pytest.raises(RowsError, match="holds no rows"):
        read_rows([tmp_path])
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"b"\n')
    with pytest.raises(RowsError, match=r"rows\.jsonl, line 1: row_version is None"):
        read_rows([tmp_path])
    (tmp_path / "rows.jsonl").write_text('{"b"\n')
    with pytest.raises(RowsError, match=r"rows\.jsonl, line 1: is not JSON"):
        read_rows([tmp_path])
    (tmp_path / "broken.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(RowsError, match=r"broken\.jsonl\.gz: cannot be read"):
        read_rows([tmp_path / "broken.jsonl.gz"])


def test_line_separators_inside_strings_break_no_row(tmp_path):
    row = factory.failed("rnb", reason="one\u2028two\u2029three\u0085four")
    (tmp_path / "rows.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\r\n", encoding="utf-8", newline="")
    assert read_rows([tmp_path]) == [row]
    publish([], tmp_path.parent, tmp_path.name)
    assert read_rows([tmp_path]) == [row]


def test_damaged_gzip_is_one_line(tmp_path):
    good = gzip.compress(json.dumps(factory.row()).encode())
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(good[:10] + b"\xff" * 40 + good[50:])
    with pytest.raises(RowsError, match=r"rows\.jsonl\.gz: cannot be read \(Error -3") as caught:
        read_rows([tmp_path])
    assert "\n" not in str(caught.value)


def test_merge_takes_the_newer_and_keeps_a_timing():
    old = factory.row("rnb", timing={"step_overhead": 0.01})
    new = copy.deepcopy(old)
    new["provenance"]["time"] = "2026-02-01T00:00:00Z"
    new["measured"] |= {"timing": None, "seconds": 3.0}
    new["spec"]["mixer_label"] = "rnb[lam=3]"
    for pair in ((old, new), (new, old)):
        merged = merge(*pair)
        assert merged["provenance"]["time"].startswith("2026-02")
        assert merged["measured"]["seconds"] == 3.0
        assert merged["measured"]["timing"] == {"step_overhead": 0.01}


def test_merge_refuses_another_result_and_says_which():
    with pytest.raises(
        RowsError, match=r"row text-nano-original-rnb-s0 exists with another result \(metrics\.accuracy"
    ):
        merge(factory.row("rnb", 0, 2.0), factory.row("rnb", 0, 2.1))


def test_merge_prefers_a_finished_row():
    good, bad = factory.row("rnb"), factory.failed("rnb")
    assert merge(good, bad) is good
    assert merge(bad, good) is good


def test_groups_split_by_fingerprint_protocol_and_spec():
    rows = [
        factory.row(),
        factory.row("rnb"),
        factory.row(seed=1, fingerprint="sha256:other"),
        factory.row(seed=2, protocol=2),
        factory.row(seed=3, steps=2000),
    ]
    groups = split(rows)
    assert [len(group.rows) for group in groups] == [1, 2, 1, 1]
    assert reasons(groups) == ["steps", "protocol", "fingerprint"]


def test_spelling_and_time_limits_do_not_split_cells():
    rows = factory.series("rnb", [2.0, 2.1])
    rows[1]["spec"]["mixer_label"] = "rnb[lam=3]"
    rows[1]["spec"]["recipe"] = rows[1]["spec"]["recipe"] | {"time_limit": 60}
    (group,) = split(rows)
    assert list(group.cells) == [("original", "rnb")]


def test_two_configurations_of_one_label_stay_apart():
    rows = [factory.row("rnb"), factory.row("rnb", seed=1)]
    rows[1]["spec"]["mixer_config"] = {"lam": 5}
    (group,) = split(rows)
    assert len(group.cells) == 2
    assert all(mixer.startswith("rnb #") for _, mixer in group.cells)


def test_one_trial_under_two_ids_is_an_error():
    with pytest.raises(RowsError, match="are the same trial under two ids"):
        split([factory.row(), factory.row() | {"id": "another"}])


def test_a_failure_without_fingerprint_joins_its_siblings():
    (group,) = split([factory.row(), factory.failed("rnb")])
    assert set(group.cells) == {("original", "uniform"), ("original", "rnb")}


def test_frame_and_csv_have_a_line_a_trial():
    rows = [factory.row(score=2.0), factory.failed("rnb")]
    table = frame(rows).set_index("mixer")
    assert table.loc["uniform", "bits_per_byte.target"] == 2.0
    assert table.loc["uniform", "bits_per_byte.code"] == pytest.approx(1.9)
    assert table.loc["rnb", "status"] == "timeout"
    assert as_csv(rows).splitlines()[0].startswith("id,status,reason,task")
    assert as_csv(rows).count("\n") == 3
