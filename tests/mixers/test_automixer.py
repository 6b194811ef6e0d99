import json

import numpy as np
import pytest
from mixer_fakes import frozen, make_problem

from mixers.automixer import AutoMixer
from mixers.base import Checkpoint, Influence, InfluenceEstimate, MixerError, RunResult


class Lab:
    """Sells a run with given losses by checkpoint, and influences [m, n] by domain that depend on the step.

    Every domain has two examples, of 1 and 3 units with 0.5 and 1.5 times the influence in ``table``, so that its
    unit-weighted mean is 1.25 times that. Domains in ``missing`` have none.
    """

    def __init__(self, problem, losses, table, missing=(), scale=1.0):
        self.problem, self.losses, self.table = problem, np.array(losses, dtype=np.float64), table
        self.missing, self.scale, self.orders, self.calls = missing, scale, [], []

    def train(self, runs):
        (run,) = runs
        self.orders.append(run)
        kept = {step: Checkpoint(key=f"at {step}") for step in run.keep_at}
        return [RunResult(steps=run.evaluate_at, losses=frozen(self.losses), checkpoints=kept)]

    def influence(self, checkpoint, how, targets=None):
        step = int(checkpoint.key.removeprefix("at "))
        self.calls.append((step, tuple(targets), how))
        rows = [i for i, name in enumerate(self.problem.domains) if name not in self.missing]
        table = np.asarray(self.table(step) if callable(self.table) else self.table, dtype=np.float64)[rows]
        whole = self.scale * np.concatenate([0.5 * table, 1.5 * table])
        asked = np.isin(np.arange(whole.shape[1]), targets)
        return InfluenceEstimate(
            influence=frozen(np.where(asked, whole, np.nan)),
            domains=frozen(rows + rows, np.int64),
            units=frozen(np.repeat([1.0, 3.0], len(rows))),
            examples=frozen(np.arange(2 * len(rows)), np.int64),
        )


TRAIN = (0.5, 0.3, 0.2)
FLAT = np.ones((2, 3))  # every target's best checkpoint is the first of the two


def start(table, losses=FLAT, *, problem=None, missing=(), scale=1.0, **config):
    problem = make_problem(train=TRAIN) if problem is None else problem
    mixer = AutoMixer(AutoMixer.Config(checkpoints=2, proxy_share=0.2, **config))
    lab = Lab(problem, losses, table, missing, scale)
    return mixer.start(problem, lab).weights, mixer, lab


DIAGONAL = np.diag([3.0, 2.0, 5.0])


def test_weights_are_the_densities_of_what_helps():
    weights, mixer, lab = start(DIAGONAL)
    np.testing.assert_allclose(weights, [0.3, 0.2, 0.5])
    # each target counts a third: all have the same step
    np.testing.assert_allclose(list(mixer.report()["density"].values()), 1.25 * np.array([3, 2, 5]) / 3)
    assert mixer.report()["checkpoints"] == {"d0": 10, "d1": 10, "d2": 10}
    assert [(step, targets) for step, targets, _ in lab.calls] == [(10, (0, 1, 2))]
    (run,) = lab.orders
    assert (run.steps, run.keep_at, run.evaluate_at) == (20, (10, 20), (10, 20))
    np.testing.assert_allclose(run.mixture.weights, TRAIN)


def test_targets_count_by_the_step_of_their_checkpoint():
    # target 0 is best after 10 steps, the others after 20: a = 1/5, 2/5, 2/5
    weights, mixer, lab = start(DIAGONAL, [[1, 2, 2], [2, 1, 1]])
    np.testing.assert_allclose(weights, np.array([3.0, 4.0, 10.0]) / 17)
    np.testing.assert_allclose(mixer.report()["density"]["d0"], 1.25 * 3 / 5)
    assert [(step, targets) for step, targets, _ in lab.calls] == [(10, (0,)), (20, (1, 2))]


def test_every_target_is_asked_at_its_own_checkpoint():
    weights, *_ = start(lambda step: DIAGONAL if step == 10 else 7.0 * DIAGONAL, [[1, 2, 2], [2, 1, 1]])
    np.testing.assert_allclose(weights, np.array([3.0, 28.0, 70.0]) / 101)


def test_targets_may_count_by_their_shares():
    problem = make_problem(train=TRAIN, target=(0.5, 0.5, 0.0))
    weights, *_ = start(DIAGONAL, problem=problem, shares="target")
    np.testing.assert_allclose(weights, [0.6, 0.4, 0.0])
    weights, mixer, lab = start(DIAGONAL, problem=problem)
    np.testing.assert_allclose(weights, [0.6, 0.4, 0.0], err_msg="a target of share 0 is none")
    assert mixer.report()["skipped_targets"] == ["d2"]
    assert lab.calls[0][1] == (0, 1)


def test_the_simulated_run_may_repeat_as_often_as_the_main_run():
    assert start(DIAGONAL)[2].orders[0].subsample == 1.0
    (run,) = start(DIAGONAL, match_repetition=True)[2].orders
    assert (run.steps, run.subsample, run.keep_at) == (20, 0.2, (10, 20))


def test_no_domain_is_repeated_more_often_than_allowed():
    # 400 examples are drawn: once through 100 of 1000 is a quarter of them
    problem = make_problem(train=TRAIN, examples=(500, 300, 100))
    weights, mixer, _ = start(DIAGONAL, problem=problem, max_epochs=1.0)
    np.testing.assert_allclose(weights, [0.45, 0.3, 0.25])
    assert mixer.report()["capped"] == pytest.approx(0.25)
    alone = np.diag([0.0, -1.0, 5.0])
    np.testing.assert_allclose(start(alone, problem=problem)[0], [0.0, 0.0, 1.0])
    weights, *_ = start(alone, problem=problem, max_epochs=1.0)
    np.testing.assert_allclose(weights, [0.75 * 5 / 8, 0.75 * 3 / 8, 0.25], err_msg="the rest by training shares")
    assert "capped" not in start(DIAGONAL, problem=problem)[1].report()


def test_what_harms_is_clipped_or_weighed_down():
    table = np.diag([3.0, 1.0, -4.0])
    clipped, mixer, _ = start(table)
    np.testing.assert_allclose(clipped, [0.75, 0.25, 0.0])
    assert "remark" not in mixer.report()
    soft, *_ = start(table, negative="softmax", temperature=2.0)
    logits = np.array([3.0, 1.0, -4.0]) / (2.0 * np.std([3.0, 1.0, -4.0]))
    np.testing.assert_allclose(soft, np.exp(logits) / np.exp(logits).sum())


@pytest.mark.parametrize(
    ("table", "config", "says"),
    [(-DIAGONAL, {}, "no domain"), (0 * DIAGONAL, {}, "no domain"), (0 * DIAGONAL, {"negative": "softmax"}, "all den")],
)
def test_without_help_the_training_shares_stay(table, config, says):
    weights, mixer, _ = start(table, **config)
    np.testing.assert_allclose(weights, TRAIN)
    assert mixer.report()["remark"].startswith(says)


def test_equal_densities_give_equal_weights_either_way():
    for negative in ("clip", "softmax"):
        np.testing.assert_allclose(start(np.eye(3), negative=negative)[0], 1 / 3)


@pytest.mark.parametrize("config", [{}, {"negative": "softmax"}, {"standardise": True}])
def test_scale_changes_nothing(config):
    table = np.array([[3.0, 1.0, -1.0], [0.5, 2.0, 0.1], [-2.0, 0.3, 1.0]])
    base, *_ = start(table, **config)
    np.testing.assert_allclose(start(table, scale=1e-6, **config)[0], base, rtol=1e-9)
    if config == {"standardise": True}:  # then that of each target does not matter either
        np.testing.assert_allclose(start(table * [1.0, 50.0, 1e3], **config)[0], base, rtol=1e-9)
    else:
        assert not np.allclose(start(table * [1.0, 50.0, 1e3], **config)[0], base, rtol=1e-2)


def test_weights_follow_the_domains():
    rng = np.random.default_rng(0)
    table, losses, order = rng.normal(size=(3, 3)) + 0.5, rng.uniform(size=(2, 3)), [2, 0, 1]
    base, *_ = start(table, losses)
    train = np.array(TRAIN)[order]
    problem = make_problem(train=train, target=np.array([0.2, 0.3, 0.5])[order], domains=[f"d{i}" for i in order])
    moved, *_ = start(table[np.ix_(order, order)], losses[:, order], problem=problem)
    np.testing.assert_allclose(moved, base[order], rtol=1e-9)


def test_absent_domains_keep_their_share_and_absent_targets_count_for_nothing():
    weights, mixer, _ = start(DIAGONAL, missing=("d1",))
    np.testing.assert_allclose(weights, [0.7 * 3 / 8, 0.3, 0.7 * 5 / 8])
    assert mixer.report()["not_scored"] == ["d1"]
    weights, mixer, _ = start(DIAGONAL, [[1, np.nan, 1], [1, np.nan, 1]])
    np.testing.assert_allclose(weights, [3 / 8, 0.0, 5 / 8])
    assert mixer.report()["skipped_targets"] == ["d1"]
    json.dumps(mixer.report(), allow_nan=False)
    with pytest.raises(MixerError, match="finite validation loss"):
        start(DIAGONAL, np.full((2, 3), np.nan))


def test_targets_may_be_others_than_the_domains_and_domains_may_be_two_or_one():
    problem = make_problem(train=(0.4, 0.6), target=(0.5, 0.3, 0.2), targets=("x", "y", "z"))
    weights, *_ = start([[1, 2, 3], [2, 0, 0]], problem=problem)
    np.testing.assert_allclose(weights, [0.75, 0.25])
    single = make_problem(train=(1.0,), target=(1.0,))
    weights, mixer, lab = start([[1.0]], problem=single)
    np.testing.assert_array_equal(weights, [1.0])
    assert not lab.orders
    assert mixer.purchases(single).runs == ()


def test_purchases_are_an_upper_bound():
    problem = make_problem(train=TRAIN, steps=100)
    mixer = AutoMixer(AutoMixer.Config(checkpoints=2, examples=5, target_examples=7, proxy_size=0.5, method="grad_dot"))
    bought = mixer.purchases(problem)
    (run,) = bought.runs
    assert (run.steps, run.size, run.keep_at) == (50, 0.5, (25, 50))
    assert (bought.influence, bought.influence_size) == (2, 0.5)
    assert bought.influence_how == Influence(examples=5, target_examples=7, method="grad_dot")
    assert AutoMixer().purchases(problem).influence == 3, "ten checkpoints, but three targets"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"checkpoints": 0}, "automixer: checkpoints must be at least 1"),
        ({"proxy_share": 1.5}, r"automixer: proxy_share must be in \(0, 1\]"),
        ({"proxy_size": 0.0}, "automixer: proxy_size must be above 0"),
        ({"shares": "some"}, "automixer: shares is equal or target"),
        ({"negative": "abs"}, "automixer: negative is clip or softmax"),
        ({"temperature": 0.0}, "automixer: temperature must be above 0"),
        ({"max_epochs": 0.0}, "automixer: max_epochs must be positive and finite, or none, not 0.0"),
        ({"examples": -1}, "examples must be at least 0"),
        ({"layers": "middle"}, "layers is ends, output or all"),
    ],
)
def test_senseless_settings_are_refused(config, says):
    with pytest.raises(MixerError, match=says):
        AutoMixer.Config(**config)
