import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixer_fakes import FakeLab, frozen, make_problem, play

from mixers import simplex
from mixers.base import MixerError, Observation, TrainLosses, UndeclaredSignalError
from mixers.odm import ODM, REWARDS, exploration_rate

LAB = FakeLab()
ORACLE = json.loads((Path(__file__).parent / "oracles" / "odm.json").read_text())
every_variant = pytest.mark.parametrize("variant", sorted(REWARDS))


def problem_of(shares, domains=None, steps=1000):
    return make_problem(train=shares, target=shares, domains=domains, steps=steps)


def started(problem, **config):
    mixer = ODM(ODM.Config(**config))
    mixer.start(problem, LAB)
    return mixer


def answer(mixer, problem, step, losses, counts=None):
    """The mixer's answer after a step; a loss of None makes a domain absent."""
    values = [math.nan if loss is None else loss for loss in losses]
    counts = np.array([loss is not None for loss in losses]) if counts is None else counts
    seen = Observation(
        domains=problem.domains,
        step=step,
        steps=problem.steps,
        round=step - 1,
        learning_rate=1e-3,
        mixture_id=0,
        examples=frozen(counts, np.int64),
        units=frozen(100 * np.asarray(counts), np.int64),
        losses=frozen(values),
    )
    result = mixer.update(seen, LAB)
    return None if result is None else result.checked(problem.domains).weights


def run(problem, tape, start=1, **config):
    """Weights after every step of a tape of losses, [steps, m]."""
    mixer = started(problem, **config)
    return np.stack([answer(mixer, problem, start + i, losses) for i, losses in enumerate(tape)])


def tape(m, steps, seed=0, present=0.6, start=1):
    rng = np.random.default_rng(seed)
    losses = np.round(rng.uniform(1.0, 3.0, (steps, m)), 3)
    served = rng.random((steps, m)) < present
    served[np.arange(steps), rng.integers(m, size=steps)] = True
    return np.where(served, losses, None).tolist()


# Two domains with shares 0.75 and 0.25, smoothing 0.9, one step of warm-up; step 2 serves both with losses 1.2 and 2,
# step 3 only the second with loss 3. eps: 1/2 at first, sqrt(ln 2 / 4) = 0.416277 in step 2, sqrt(ln 2 / 6) = 0.339889.
BY_HAND = {
    # R = 0.1 (1.2 / 0.75, 2 / 0.25) = (0.16, 0.8); logits R / 2; then R_2 = 0.72 + 0.1 × 3 / 0.513283 = 1.304473
    "paper": [(0.486717, 0.513283), (0.462565, 0.537435)],
    # R = 0.1 (e^1.2, e^2) = (0.332012, 0.738906); logits R / 2; then R_2 = 0.665015 + 0.1 e^3 = 2.673569
    "smoothed_exp": [(0.491513, 0.508487), (0.427610, 0.572390)],
    # the same R: shares 0.332012 / 1.070918 = 0.310026, then 0.332012 / 3.005581 = 0.110465
    "smoothed_linear": [(0.468190, 0.531810), (0.375262, 0.624738)],
    # R = (1.2 / 0.75, 2 / 0.25) / 10 = (0.16, 0.8), as in the first; then R_2 = 0.8 + 0.3 / 0.513283 = 1.384473
    "cumulative": [(0.486717, 0.513283), (0.460055, 0.539945)],
}


@every_variant
def test_by_hand(variant):
    problem = problem_of((0.75, 0.25))
    mixer = started(problem, variant=variant, warmup_steps=1)
    assert answer(mixer, problem, 1, [9.0, 9.0]) is None
    np.testing.assert_allclose(answer(mixer, problem, 2, [1.2, 2.0]), BY_HAND[variant][0], atol=1e-6)
    np.testing.assert_allclose(answer(mixer, problem, 3, [None, 3.0]), BY_HAND[variant][1], atol=1e-6)


@pytest.mark.parametrize("case", ORACLE["cases"], ids=lambda case: f"{case['variant']}, {case['tape']}")
def test_official_updaters_agree(case):
    recorded, arguments = ORACLE["tapes"][case["tape"]], case["arguments"]
    problem = problem_of(recorded["shares"], recorded["domains"])
    every, warmup = arguments["update_frequency"], arguments["warmup_steps"]
    smoothing = arguments.get("smoothing_factor", 0.9)
    mixer = ODM(ODM.Config(variant=case["variant"], warmup_steps=warmup, every=every, smoothing=smoothing))
    weights = mixer.start(problem, LAB).weights
    moved = 0.0
    for t, (losses, counts) in enumerate(zip(recorded["losses"], recorded["counts"], strict=True), start=1):
        if t % every == 0:
            new = answer(mixer, problem, t, losses, counts)
            weights = weights if new is None else new
        np.testing.assert_allclose(weights, case["expected"][t - 1], rtol=0, atol=1e-9)
        moved = max(moved, simplex.total_variation(weights, simplex.uniform(len(weights))))
    assert moved > 0.02


def test_the_oracle_covers_every_released_variant():
    assert {case["variant"] for case in ORACLE["cases"]} == set(REWARDS) - {"paper"}


def test_exploration_follows_the_steps_and_is_uniform_until_m_log_m():
    assert exploration_rate(22, 2000) == pytest.approx(math.sqrt(math.log(22) / (22 * 2000)))
    assert 22 * exploration_rate(22, 2000) == pytest.approx(0.18, abs=0.01)
    assert exploration_rate(7, 13) == 1 / 7  # 7 ln 7 = 13.6
    assert exploration_rate(7, 14) < 1 / 7
    assert exploration_rate(1, 5) == 0.0
    assert exploration_rate(7, 1000, 2.0) == pytest.approx(2.0 * exploration_rate(7, 1000))
    problem = problem_of(np.full(7, 1 / 7))
    weights = run(problem, tape(7, 20), warmup_steps=0)
    np.testing.assert_allclose(weights[:13], 1 / 7)
    assert np.ptp(weights[13]) > 0.0


def test_the_count_of_steps_includes_the_warm_up():
    problem = problem_of((0.6, 0.3, 0.1))
    mixer = started(problem, warmup_steps=500)
    weights = answer(mixer, problem, 501, [2.0, None, None])
    eps = exploration_rate(3, 501)
    np.testing.assert_allclose(weights[1:], eps + (1 - 3 * eps) / (2 + math.exp(0.1 * 2.0 / 0.6 / 3)))


@pytest.mark.parametrize(("config", "first"), [({}, 21), ({"warmup": 0.1}, 101), ({"warmup_steps": 3}, 4)])
def test_warm_up_keeps_the_natural_mixture(config, first):
    problem = problem_of((0.6, 0.3, 0.1), steps=1000)
    mixer = ODM(ODM.Config(**config))
    np.testing.assert_allclose(mixer.start(problem, LAB).weights, [0.6, 0.3, 0.1])
    fresh = mixer.state_dict()
    for step in range(1, first):
        assert answer(mixer, problem, step, [1.0, 2.0, 3.0]) is None
    assert mixer.state_dict() == fresh  # what the warm-up shows is not learnt
    assert answer(mixer, problem, first, [1.0, 2.0, 3.0]) is not None
    assert mixer.report()["warmup_steps"] == first - 1


@every_variant
def test_only_served_domains_are_updated(variant):
    problem = problem_of((0.5, 0.3, 0.2))
    mixer = started(problem, variant=variant, warmup_steps=0)
    answer(mixer, problem, 101, [2.0, 1.5, None])
    before = mixer.report()["estimates"]
    assert before["d2"] == 0.0
    assert mixer.report()["never_served"] == ["d2"]
    answer(mixer, problem, 102, [None, 1.7, math.nan], counts=[0, 2, 1])  # nor is a loss that is not finite learnt
    after = mixer.report()["estimates"]
    assert {name for name in before if before[name] != after[name]} == {"d1"}
    for step in (103, 104):
        weights = answer(mixer, problem, step, [None, None, None])
    assert mixer.report()["estimates"] == after
    eps = exploration_rate(3, 104)
    assert (weights[2] == pytest.approx(eps)) == (variant == "smoothed_linear")
    assert weights.min() >= eps * (1 - 1e-12)


def test_nothing_served_yet_keeps_the_linear_variant_where_it_is():
    problem = problem_of((0.5, 0.3, 0.2))
    assert answer(started(problem, variant="smoothed_linear"), problem, 101, [None, None, None]) is None


@every_variant
def test_more_domains_than_examples(variant):
    m = 64
    problem = problem_of(np.full(m, 1 / m), steps=2000)
    weights = run(problem, tape(m, 500, present=0.03), variant=variant, warmup_steps=0)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert weights.min() > 0.0
    assert simplex.total_variation(weights[-1], simplex.uniform(m)) > 1e-3


@every_variant
def test_the_order_of_the_domains_does_not_matter(variant):
    order = [3, 0, 4, 1, 2]
    shares, losses = np.array([0.4, 0.25, 0.2, 0.1, 0.05]), tape(5, 40)
    weights = run(problem_of(shares), losses, variant=variant, warmup_steps=0)
    shuffled = [[row[i] for i in order] for row in losses]
    np.testing.assert_allclose(
        run(problem_of(shares[order]), shuffled, variant=variant, warmup_steps=0), weights[:, order], rtol=1e-9
    )


@every_variant
@pytest.mark.parametrize("reward", ["loss", "exp_loss"])
def test_a_resumed_mixer_goes_on_as_if_nothing_had_happened(variant, reward):
    problem = problem_of((0.5, 0.3, 0.15, 0.05))
    config = {"variant": variant, "reward": reward, "warmup_steps": 2}
    losses = tape(4, 60)
    whole, half = started(problem, **config), started(problem, **config)
    for step in range(1, 31):
        answer(whole, problem, step, losses[step - 1])
        answer(half, problem, step, losses[step - 1])
    resumed = started(problem, **config)
    resumed.load_state_dict(json.loads(json.dumps(half.state_dict())))
    for step in range(31, 61):
        a, b = (answer(mixer, problem, step, losses[step - 1]) for mixer in (whole, resumed))
        np.testing.assert_array_equal(a, b)
    assert whole.state_dict() == resumed.state_dict()
    assert whole.report() == resumed.report()


def test_state_goes_by_name():
    problem, turned = problem_of((0.7, 0.3), "ab"), problem_of((0.3, 0.7), "ba")
    mixer, other = started(problem), started(turned)
    answer(mixer, problem, 101, [2.0, 1.0])
    other.load_state_dict(mixer.state_dict())
    np.testing.assert_allclose(
        answer(other, turned, 102, [None, 3.0]), answer(mixer, problem, 102, [3.0, None])[::-1], rtol=1e-12
    )


@given(st.floats(0.1, 10.0), st.sampled_from(["paper", "cumulative"]))
def test_scale_multiplies_the_first_logits(c, variant):
    problem, losses = problem_of((0.5, 0.3, 0.2)), np.array([2.0, 1.5, 3.0])
    mixers = [started(problem, variant=variant, warmup_steps=100) for _ in range(2)]
    one, scaled = (answer(mixer, problem, 101, k * losses) for mixer, k in zip(mixers, (1.0, c), strict=True))
    eps = exploration_rate(3, 101)
    ratios = [np.log((weights - eps) / (weights[0] - eps)) for weights in (one, scaled)]
    np.testing.assert_allclose(ratios[1], c * ratios[0], rtol=1e-6, atol=1e-9)


def test_scale_never_matters_to_the_linear_variant_with_plain_losses():
    problem, losses = problem_of((0.5, 0.3, 0.2)), tape(3, 50)
    scaled = [[None if loss is None else 7.0 * loss for loss in row] for row in losses]
    config = {"variant": "smoothed_linear", "reward": "loss", "warmup_steps": 0}
    np.testing.assert_allclose(run(problem, scaled, **config), run(problem, losses, **config), rtol=1e-9)


def test_scale_is_a_temperature_and_a_shift_nothing_to_the_linear_variant():
    problem, losses = problem_of((0.5, 0.3, 0.2)), tape(3, 50)
    config = {"variant": "smoothed_linear", "warmup_steps": 0}
    shifted = [[None if loss is None else 1.3 + loss for loss in row] for row in losses]
    np.testing.assert_allclose(run(problem, shifted, **config), run(problem, losses, **config), rtol=1e-9)
    first, eps = np.array([2.0, 1.5, 3.0]), exploration_rate(3, 101)
    for c in (1.0, 2.0):
        weights = answer(started(problem, variant="smoothed_linear"), problem, 101, c * first)
        np.testing.assert_allclose(weights, (1 - 3 * eps) * simplex.softmax(c * first) + eps)


def test_the_papers_logits_never_exceed_the_largest_loss():
    # p_i is at least the eps before, so eps L / p is at most L: no weight is more than e^L times another
    problem = problem_of((0.25, 0.25, 0.25, 0.25), steps=3000)
    weights = run(problem, tape(4, 2000, present=0.3), warmup_steps=0)
    for t in range(20, 2001):
        eps = exploration_rate(4, t)
        assert (weights[t - 1].max() - eps) / (weights[t - 1].min() - eps) <= math.exp(3.0)


def test_with_fixed_losses_only_the_cumulative_variant_goes_to_one_domain():
    problem, losses = problem_of(np.full(3, 1 / 3), steps=2000), [3.2, 2.6, 1.4]
    rng, last = np.random.default_rng(0), {}
    for variant in REWARDS:
        mixer = started(problem, variant=variant, warmup_steps=0)
        weights = simplex.uniform(3)
        for t in range(1, 2001):
            drawn = rng.choice(3, p=weights)
            weights = answer(mixer, problem, t, [loss if i == drawn else None for i, loss in enumerate(losses)])
        last[variant] = weights
    assert last["cumulative"].max() > 0.8
    assert last["paper"].max() < last["smoothed_exp"].max() < 0.4
    np.testing.assert_allclose(last["smoothed_linear"], simplex.softmax(losses), atol=0.03)


def test_a_huge_loss_does_not_overflow():
    problem = problem_of((0.5, 0.3, 0.2))
    for variant in REWARDS:
        for reward in ("loss", "exp_loss"):
            mixer = started(problem, variant=variant, reward=reward)
            weights = answer(mixer, problem, 501, [1e4, 1.0, 2.0])
            assert weights.argmax() == 0


def test_play_moves_away_from_uniform():
    problem = problem_of((0.4, 0.3, 0.3), steps=200)
    weights = play(ODM(), problem, np.array([[3.0], [2.0], [1.0]]))  # losses 5, 4 and 3
    assert weights[-1, 0] > weights[-1, 2]


def test_needs_follow_the_config():
    assert ODM().needs().boundaries(4) == (1, 2, 3, 4)
    assert ODM(ODM.Config(every=5)).needs().every == 5
    assert ODM().needs().signals == (TrainLosses(),)


def test_undeclared_losses_raise():
    problem = problem_of((0.5, 0.5))
    seen = Observation(
        domains=problem.domains,
        step=900,
        steps=1000,
        round=0,
        learning_rate=1e-3,
        mixture_id=0,
        examples=frozen((1, 1), np.int64),
        units=frozen((1, 1), np.int64),
    )
    with pytest.raises(UndeclaredSignalError, match="TrainLosses"):
        started(problem).update(seen, LAB)


def test_the_report_says_what_is_left_of_exploration():
    problem = problem_of((0.5, 0.3, 0.2))
    mixer = started(problem)
    assert mixer.report()["uniform_share"] == 1.0
    answer(mixer, problem, 300, [1.0, 2.0, 3.0])
    report = mixer.report()
    assert report["uniform_share"] == pytest.approx(math.sqrt(3 * math.log(3) / 300))
    assert set(report["estimates"]) == set(problem.domains)
    assert "never_served" not in report


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("variant", "exp3"),
        ("reward", "accuracy"),
        ("smoothing", 1.0),
        ("smoothing", -0.1),
        ("warmup", 1.5),
        ("warmup_steps", -1),
        ("every", 0),
        ("exploration", 0.0),
        ("exploration", math.inf),
    ],
)
def test_a_senseless_setting_is_named(field, value):
    with pytest.raises(MixerError, match=f"odm: {field}"):
        ODM.Config(**{field: value})
