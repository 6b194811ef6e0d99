from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from harness.errors import UserError
from harness.experiment import Experiment, build_config, plain, read_experiment, trials, with_nulls
from harness.registry import Registry
from tests.harness.conftest import FILES


def test_flags_and_yaml_make_the_same_experiment(tmp_path: Path):
    file = tmp_path / "e.yaml"
    file.write_text("mixers:\n  - uniform\n  - rnb: {lam: 10}\nseeds: 3\npreset: nano\n")
    by_flags = read_experiment(None, {"mixers": "uniform,rnb[lam=10]", "seeds": "3", "preset": "nano"})
    registry = Registry(FILES)
    ids = [[t.id for t in trials(e.model_copy(update={"tasks": ("toy",), "preset": "demo", "device": "cpu"}), registry)]
           for e in (read_experiment(file, {}), by_flags)]  # fmt: skip
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 6


def test_flags_win_over_the_file(tmp_path: Path):
    file = tmp_path / "e.yaml"
    file.write_text("seeds: 3\nsteps: 7\n")
    experiment = read_experiment(file, {"steps": 9, "preset": None})
    assert experiment.seeds == (0, 1, 2)
    assert experiment.steps == 9


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mixer": "uniform"}, "did you mean 'mixers'"),
        ({"seeds": "many"}, "number of seeds"),
        ({"seeds": "0"}, "at least one seed"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"device": "gpu"}, "'cpu' or 'cuda'"),
        ({"dtype": "float16"}, "bfloat16"),
    ],
)
def test_bad_values_name_the_key_and_the_remedy(values, says):
    with pytest.raises(UserError) as caught:
        read_experiment(None, values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "seeds: {a: 1}\n"])
def test_bad_yaml_is_one_line(tmp_path: Path, text: str):
    file = tmp_path / "e.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_experiment(file, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"mixers": "rnbb"}, "did you mean 'rnb'"),
        ({"mixers": "rnb[lambda=3]"}, "unknown parameter 'lambda' (did you mean 'lam'"),
        ({"mixers": "rnb[lam=many]"}, "lam"),
        ({"mixers": "uniform,uniform"}, "stands twice"),
        ({"mixers": "rnb,rnb[lam=3]"}, "is the same as rnb"),
        ({"partitions": "k_means"}, "did you mean 'kmeans'"),
        ({"preset": "nanno"}, "no preset 'nanno'"),
        ({"tasks": "toy[sise=3]"}, "sise"),
        ({"tasks": "tex"}, "did you mean 'text'"),
    ],
)
def test_unknown_names_give_the_nearest(toy_specs, flags, says):
    with pytest.raises(UserError) as caught:
        toy_specs(**flags)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ids_depend_on_what_matters_and_on_nothing_else(toy_specs):
    (base,) = toy_specs()
    same = toy_specs(mixers="natural,uniform", seeds="0,3", workers=2, timing=False, time_limit=5.0)
    assert base.id in {spec.id for spec in same}
    for change in ({"steps": 31}, {"threads": 2}, {"dtype": "bfloat16"}, {"tasks": "toy[size=41]"}, {"seeds": "7,"}):
        (other,) = toy_specs(**change)
        assert other.id != base.id, change
    assert {s.cell for s in toy_specs(seeds="3")} == {base.cell}, "a cell is a trial without its seed"


def test_specs_survive_json(toy_specs):
    import json

    for spec in toy_specs(mixers="uniform,rnb[lam=10]", partitions="original,kmeans"):
        again = type(spec).from_json(json.loads(json.dumps(spec.as_json())))
        assert again == spec
        assert again.id == spec.id


def test_every_field_has_a_flag():
    from harness.commands.running import run

    names = {parameter.name for parameter in run.params}
    assert set(Experiment.model_fields) <= names


def test_none_is_null_where_a_field_takes_null_and_no_text(tmp_path: Path):
    file = tmp_path / "none.yaml"
    file.write_text("mixers:\n  - best_static: {prior_cap: none}\n")
    flags = {"tasks": "toy", "seeds": "1", "device": "cpu"}
    inline = [{"mixers": f"best_static[prior_cap={text}]"} for text in ("none", "None", "null")]
    given = [read_experiment(file, flags), *(read_experiment(None, flags | mixers) for mixers in inline)]
    specs = [spec for experiment in given for spec in trials(experiment, Registry(FILES))]
    assert [spec.mixer.config["prior_cap"] for spec in specs] == [None] * 4
    assert len({spec.id for spec in specs}) == 1


def test_none_stays_text_where_text_may_stand_and_wrong_where_null_may_not():
    @dataclass(frozen=True)
    class Config:
        name: str | None = "x"
        mode: Literal["none", "some"] | None = "some"
        limit: int | None = 3
        count: int = 1

    params = {"name": "none", "mode": "none", "limit": "None", "count": "none"}
    assert with_nulls(Config, params) == {**params, "limit": None}
    assert with_nulls(Config, {"limit": "nought", "other": "none"}) == {"limit": "nought", "other": "none"}
    with pytest.raises(UserError, match=r"^best_static: seeds: .* got 'none'$"):
        build_config(Registry().get("mixers", "best_static"), {"seeds": "none"})


def test_fields_of_mixers_that_were_added_later_leave_older_trials_as_they_were():
    for kind, name, fields in (
        ("mixers", "regmix", {"prior": "uniform"}),
        ("mixers", "best_static", {"prior": "uniform"}),
        ("mixers", "automixer", {"match_repetition": True, "max_epochs": 4.0}),
        ("mixers", "tikmix_m", {"max_epochs": 4.0}),
        ("regroupers", "automixer", {"match_repetition": True}),
    ):
        plugin = Registry().get(kind, name)
        assert not fields.keys() & plain(build_config(plugin, {})).keys()
        assert fields.items() <= plain(build_config(plugin, fields)).items()


def test_a_field_that_was_added_later_is_left_out_at_its_default(toy_specs):
    from harness.experiment import plain
    from tasks.base import Recipe

    (spec,) = toy_specs()
    assert "schedule" not in spec.recipe
    assert "eps" not in spec.recipe
    recipe = Recipe(steps=1, batch_size=1, learning_rate=1.0, schedule="linear")
    assert plain(recipe)["schedule"] == "linear"
    assert "eps" not in plain(recipe)
