from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.inline import parse_choice, split_list


def test_commas_inside_brackets_do_not_split():
    assert split_list("a, rnb[lam=3,rounds=10],k[grid=[4,5]]") == ["a", "rnb[lam=3,rounds=10]", "k[grid=[4,5]]"]


def test_values_are_read_as_yaml():
    choice = parse_choice("rnb[lam=3, ema=0.5, floor=1e-3, debias=true, grid=[4,5], path=a/b.jsonl]")
    assert choice.name == "rnb"
    assert choice.params["lam"] == 3
    assert choice.params["debias"] is True
    assert choice.params["grid"] == [4, 5]
    assert choice.params["path"] == "a/b.jsonl"


def test_yaml_form_and_inline_form_agree():
    assert parse_choice({"rnb": {"lam": 3}}) == parse_choice("rnb[lam=3]")
    assert parse_choice({"rnb": None}) == parse_choice("rnb")


def test_labels_are_sorted_and_round_trip():
    choice = parse_choice("rnb[rounds=5,lam=3]")
    assert choice.label == "rnb[lam=3,rounds=5]"
    assert parse_choice(choice.label) == choice


def test_a_mapping_is_written_like_the_parameters_or_as_in_yaml():
    expected = {"grid": {"shares": {"photos": 0.25, "art = new": 3}}}
    for text in ("grid[shares={photos=0.25,art = new=3}]", 'grid[shares={photos: 0.25, "art = new": 3}]'):
        (part,) = split_list(text)
        assert parse_choice(part) == parse_choice(expected)
        assert parse_choice(parse_choice(part).label) == parse_choice(expected)
    assert parse_choice("a[b={c,d}]").params == {"b": {"c": None, "d": None}}, "what has no values stays as it is"


@pytest.mark.parametrize("text", ["rnb[lam=3", "rnb]", "rnb[lam]", "rnb lam", "rnb[=3]", "rnb[lam={]"])
def test_bad_forms_are_one_line(text: str):
    with pytest.raises(UserError) as caught:
        [parse_choice(part) for part in split_list(text)]
    assert "\n" not in str(caught.value)
