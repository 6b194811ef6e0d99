import json
import math
from pathlib import Path

import numpy as np
import pytest
from mixer_fakes import FakeLab, frozen, make_problem

from mixers import scaling_law
from mixers.ado import ADO, clip_min_probability
from mixers.base import MixerError, Observation, TrainLosses, UndeclaredSignalError
from mixers.domain_laws import DomainLaws
from mixers.scaling_law import Limits

LAB = FakeLab()
ORACLE = json.loads((Path(__file__).parent / "oracles" / "ado.json").read_text())
LAWS = np.array([[math.log(4.0), math.log(1.2), 0.35], [math.log(3.0), math.log(0.4), 0.15], [1.0, 0.7, 0.6]])


def started(problem, **config):
    mixer = ADO(ADO.Config(**config))
    mixer.start(problem, LAB)
    return mixer


def seen(problem, step, counts, losses, every=1):
    counts = np.asarray(counts)
    return Observation(
        domains=problem.domains,
        step=step,
        steps=problem.steps,
        round=step // every - 1,
        learning_rate=1e-3,
        mixture_id=0,
        examples=frozen(counts, np.int64),
        units=frozen(counts * 100, np.int64),
        losses=frozen(np.where(counts > 0, losses, np.nan)),
    )


def drive(mixer, problem, counts, losses, first=1, every=1):
    """Mixtures after each round, [rounds, m]; NaN where the mixer kept what there was."""
    rows = []
    for i, (count, loss) in enumerate(zip(counts, losses, strict=True)):
        answer = mixer.update(seen(problem, first + i * every, count, loss, every), LAB)
        rows.append(np.full(problem.m, np.nan) if answer is None else answer.checked(problem.domains).weights)
    return np.array(rows)


def tape(problem, rounds, *, laws=LAWS, noise=0.02, seed=0, factor=1.0):
    """Counts of multinomial batches from the train shares, and losses that follow the laws in the total of examples."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(problem.batch_size, problem.train_shares, size=rounds)
    n = np.cumsum(counts.sum(axis=1))
    clean = np.stack([scaling_law.predict(law, n) for law in laws], axis=1)
    return counts, factor * clean * np.exp(noise * rng.normal(size=clean.shape))


def give(monkeypatch, laws):
    """Every fit answers with the given laws, in the order of the domains; ``None``: not valid."""
    calls = iter(laws)
    monkeypatch.setattr(scaling_law, "fit", lambda n, loss, limits, last=None: next(calls))


# The law and its fit


def test_the_law_and_its_slope_by_hand():
    law = np.array([math.log(8.0), math.log(2.0), 0.5])
    np.testing.assert_allclose(scaling_law.predict(law, np.array([4.0, 16.0])), [6.0, 4.0])
    # alpha (L - eps) / n = 0.5 x 2 / 16 at n = 16; with the exponent raised to 0.8 as a factor: 0.8 x 2 / 16
    np.testing.assert_allclose(np.exp(scaling_law.log_speed(law[None], np.array([16.0]))), [1 / 16])
    np.testing.assert_allclose(np.exp(scaling_law.log_speed(law[None], np.array([16.0]), 0.8)), [0.1])


def test_the_gradient_of_the_misfit_is_its_gradient():
    rng = np.random.default_rng(0)
    log_n, log_loss = np.log(8.0 * np.arange(5, 60)), rng.normal(0.8, 0.1, 55)
    for _ in range(20):
        params = rng.uniform([-1, -1, -0.2], [8, 2, 1.2])
        gradient = scaling_law.misfit(params, log_n, log_loss)[1]
        for k, step in enumerate(1e-7 * np.eye(3)):
            up, down = (scaling_law.misfit(params + s * step, log_n, log_loss)[0] for s in (1, -1))
            assert gradient[k] == pytest.approx((up - down) / 2e-7, abs=1e-5)


@pytest.mark.parametrize("alpha", [0.1, 0.35, 0.7])
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_a_fit_finds_the_law_of_noiseless_losses(alpha, scale):
    n = 8.0 * np.arange(5, 500)
    law = np.array([math.log(4.0 * scale), math.log(1.2 * scale), alpha])
    found = scaling_law.fit(n, scaling_law.predict(law, n), Limits(max_log_beta=20.0))
    assert found is not None
    np.testing.assert_allclose(found, law, atol=1e-3)


def test_a_fit_gets_at_least_as_low_as_the_law_behind_noisy_losses():
    rng = np.random.default_rng(0)
    n = 8.0 * np.arange(10, 500)
    for law in LAWS:
        loss = scaling_law.predict(law, n) * np.exp(0.1 * rng.normal(size=n.size))
        found = scaling_law.fit(n, loss, Limits())
        again = scaling_law.fit(n, loss, Limits(), last=law)
        values = [scaling_law.misfit(p, np.log(n), np.log(loss))[0] for p in (found, again, law)]
        assert values[0] <= values[2]
        assert values[0] == pytest.approx(values[1], abs=1e-3 * 1e-3 * n.size)  # 0.001 a point in ln loss


def test_a_fit_keeps_its_limits():
    n = 8.0 * np.arange(10, 500)
    steep = scaling_law.predict(np.array([9.0, 0.0, 1.2]), n)
    found = scaling_law.fit(n, steep, Limits(max_alpha=0.7, max_log_beta=5.0, min_log_eps=-0.5))
    assert found[0] == 5.0
    assert found[1] >= -0.5
    assert found[2] <= 0.7
    free = scaling_law.fit(n, steep, Limits(max_alpha=1.5, max_log_beta=20.0))
    np.testing.assert_allclose(free, [9.0, 0.0, 1.2], atol=1e-3)


def test_the_released_bound_breaks_a_loss_below_it():
    n = 8.0 * np.arange(5, 500)
    law = np.array([math.log(4.0), math.log(1.0), 0.35])  # down to 1.22 at the end
    loss = scaling_law.predict(law, n)
    bound = scaling_law.fit(n, loss, Limits(min_log_eps=0.5))
    assert bound[1] == pytest.approx(0.5, abs=1e-3)
    assert np.abs(np.log(scaling_law.predict(bound, n) / loss)).max() > 0.2


@pytest.mark.parametrize(
    ("n", "loss"),
    [([], []), ([8, 16, 24], [3, 2, 1]), ([8, 16, 24, 32], [3, 2, math.nan, 1]), ([8, 16, 24, 32], [3, 2, 0, -1])],
)
def test_too_few_usable_points_give_no_fit(n, loss):
    assert scaling_law.fit(np.array(n, dtype=float), np.array(loss, dtype=float), Limits()) is None


def test_losses_that_do_not_fall_are_fitted_all_the_same():
    n = 8.0 * np.arange(1, 100)
    for loss in (np.full(99, 2.0), np.linspace(2.0, 3.0, 99)):
        assert np.all(np.isfinite(scaling_law.fit(n, loss, Limits())))


def test_points_are_smoothed_then_ignored_then_thinned():
    laws = DomainLaws(("a", "b"), Limits())
    steps = np.arange(1, 41)
    cubic = 50.0 + 0.001 * (steps - 20.0) ** 3
    for step, loss in zip(steps.tolist(), cubic, strict=True):
        laws.add(step, np.array([8.0 * step, 8.0 * step]), np.array([loss, loss if step % 4 else np.nan]))
    n, loss = laws.points(0, ignore=10, window=12, stride=7)
    np.testing.assert_allclose(n, 8.0 * np.array([11, 18, 25, 32, 39]))
    np.testing.assert_allclose(loss, cubic[[10, 17, 24, 31, 38]])  # the filter leaves a cubic as it is
    n, loss = laws.points(1, ignore=10, window=1, stride=1)
    np.testing.assert_allclose(n, [8.0 * step for step in steps if step > 10 and step % 4])


# The policy


def test_clip_min_probability_by_hand():
    # 0.005 becomes 0.01, the sum 1.005
    np.testing.assert_allclose(
        clip_min_probability(np.array([0.895, 0.1, 0.005]), 0.01), np.array([0.895, 0.1, 0.01]) / 1.005
    )


def test_two_updates_by_hand(monkeypatch):
    give(monkeypatch, [np.array([math.log(8.0), 0.3, 0.5]), np.array([math.log(4.0), 0.9, 0.02])])
    problem = make_problem(train=(0.8, 0.2), target=(0.5, 0.5), batch_size=4, steps=10)
    mixer = started(problem, start_step=1, update_interval=3, ignore_steps=0)
    weights = drive(mixer, problem, [[3, 1], [1, 3], [2, 2], [4, 0], [2, 2]], np.ones((5, 2)))
    assert np.all(np.isnan(weights[:3]))  # the released count from zero makes step 4 the first multiple of 3 from 1 on
    h, mean = np.array([0.8, 0.2]), np.array([0.8, 0.2])
    for served in ([0.75, 0.25], [0.25, 0.75], [0.5, 0.5]):
        h = 0.9 * h + 0.1 * np.array(served)
    for step, served in ((4, [1.0, 0.0]), (5, [0.5, 0.5])):
        h = 0.9 * h + 0.1 * np.array(served)
        n = 4.0 * step
        speed = np.array([0.5 * 8.0 * n**-0.5 / n, 0.05 * 4.0 * n**-0.02 / n])  # 0.02 is raised to 0.05 as a factor
        rho = np.array([0.8, 0.2]) * np.sqrt(h) * speed
        rho = np.maximum(rho / rho.sum(), 0.01)
        rho /= rho.sum()
        np.testing.assert_allclose(weights[step - 1], 0.1 * rho + 0.9 * mean, rtol=1e-12)
        mean = (1 - 1 / step) * mean + rho / step


def test_invalid_fits_keep_the_old_laws(monkeypatch):
    first, second = [LAWS[0], LAWS[1], LAWS[2]], [None, LAWS[2], np.array([np.nan, 0.0, 0.1])]
    give(monkeypatch, [*first, *second])
    problem = make_problem(steps=10)
    mixer = started(problem, start_step=1, update_interval=1, ignore_steps=0)
    drive(mixer, problem, [[2, 1, 1]] * 3, np.ones((3, 3)))
    laws = mixer.state_dict()["laws"]["domains"]
    np.testing.assert_array_equal([laws[d]["law"] for d in problem.domains], [LAWS[0], LAWS[2], LAWS[2]])
    assert mixer.report()["invalid_fits"] == {"d0": 1, "d2": 1}
    assert mixer.report()["fits"] == 2


def test_before_its_first_law_a_domain_has_its_prior_share_of_the_preference(monkeypatch):
    give(monkeypatch, [LAWS[0], None, LAWS[2]])
    problem = make_problem(steps=10)
    mixer = started(problem, start_step=1, update_interval=9, ignore_steps=0, gamma2=1.0)
    weights = drive(mixer, problem, [[2, 1, 1]] * 10, np.ones((10, 3)))[-1]
    assert weights[1] == pytest.approx(problem.train_shares[1])


def test_a_run_shorter_than_the_warm_up_stays_at_the_prior():
    problem = make_problem(steps=200, batch_size=16)
    counts, losses = tape(problem, 200)
    mixer = started(problem, start_step=1000, ignore_steps=1000, update_interval=1000)  # the released numbers
    assert np.all(np.isnan(drive(mixer, problem, counts, losses)))
    assert mixer.report() == {"fits": 0, "laws": {}}


def test_the_released_schedule_as_shares_leaves_the_prior_in_a_short_run():
    problem = make_problem(steps=300, batch_size=16)
    counts, losses = tape(problem, 300)
    mixer = started(problem)
    weights = drive(mixer, problem, counts, losses)
    assert 5 <= np.flatnonzero(~np.isnan(weights[:, 0]))[0] <= 15
    assert np.abs(weights[-1] - problem.train_shares).sum() > 0.05
    assert mixer.report()["fits"] == 59
    released = started(make_problem(steps=60_000))
    assert (released._begin, released._ignore, released._interval) == (1000, 1000, 1000)
    assert (released._window, released._stride) == (101, 10)


def test_the_prior_is_empirical_or_uniform():
    problem = make_problem()
    np.testing.assert_allclose(ADO().start(problem, LAB).weights, problem.train_shares)
    np.testing.assert_allclose(ADO(ADO.Config(mode="uniform")).start(problem, LAB).weights, 1 / 3)


SHORT = {"start_step": 20, "ignore_steps": 5, "update_interval": 10}


def test_a_factor_on_all_losses_changes_nothing():
    problem = make_problem(steps=60, batch_size=12)
    one, many = (drive(started(problem, **SHORT), problem, *tape(problem, 60, factor=f)) for f in (1.0, 20.0))
    np.testing.assert_allclose(many, one, atol=1e-4)  # up to where the search stops
    bound = [drive(started(problem, min_log_eps=0.5, **SHORT), problem, *tape(problem, 60, factor=f)) for f in (1, 20)]
    assert np.nanmax(np.abs(bound[0] - bound[1])) > 0.01  # the released limit has a scale


def test_a_factor_on_one_domains_losses_multiplies_its_speed(monkeypatch):
    n = np.array([400.0])
    loud = LAWS + np.array([[math.log(7.0), math.log(7.0), 0.0], [0, 0, 0], [0, 0, 0]])
    speeds = [np.exp(scaling_law.log_speed(laws, n)) for laws in (LAWS, loud)]
    np.testing.assert_allclose(speeds[1], speeds[0] * [7.0, 1.0, 1.0])
    shares = []
    for laws in (LAWS, loud):
        give(monkeypatch, laws)
        mixer = started(make_problem(steps=10), start_step=1, update_interval=1, ignore_steps=0, gamma2=1.0)
        shares.append(drive(mixer, make_problem(steps=10), [[2, 1, 1]] * 2, np.ones((2, 3)))[-1])
    ratio = shares[1] / shares[0]
    assert ratio[0] / ratio[1] == pytest.approx(7.0)


def test_permutation_of_the_domains_permutes_the_mixture():
    order = [2, 0, 1]
    train, domains = np.array([0.5, 0.3, 0.2]), ["a", "b", "c"]
    problem = make_problem(train=train, domains=domains, steps=60, batch_size=12)
    other = make_problem(train=train[order], domains=[domains[i] for i in order], steps=60, batch_size=12)
    counts, losses = tape(problem, 60)
    weights = drive(started(problem, **SHORT), problem, counts, losses)
    permuted = drive(started(other, **SHORT), other, counts[:, order], losses[:, order])
    np.testing.assert_allclose(permuted, weights[:, order], rtol=1e-9)


def test_an_absent_domain_adds_no_point_and_only_its_history_falls():
    problem = make_problem(steps=60, batch_size=12)
    counts, losses = tape(problem, 60)
    counts[20:40, 2] = 0
    noisy = losses.copy()
    noisy[20:40, 2] = 1e9  # what is not served is not looked at
    mixers = [started(problem, **SHORT) for _ in range(2)]
    a, b = (drive(m, problem, counts, x) for m, x in zip(mixers, (losses, noisy), strict=True))
    np.testing.assert_array_equal(a, b)
    state = mixers[0].state_dict()
    assert [step for step, _, _ in state["laws"]["domains"]["d2"]["losses"] if 20 < step <= 40] == []
    assert np.all(a[-1] > 0.0)


def test_more_domains_than_examples():
    m = 64
    problem = make_problem(train=np.full(m, 1 / m), target=np.full(m, 1 / m), steps=60, batch_size=4)
    counts, losses = tape(problem, 60, laws=np.tile(LAWS, (22, 1))[:m])
    weights = drive(started(problem, **SHORT), problem, counts, losses)
    assert not np.isnan(weights[-1]).any()
    assert weights[-1].min() >= 0.006
    assert started(problem).report() == {"fits": 0, "laws": {}}


def test_a_floor_that_cannot_be_is_lowered_and_reported():
    m = 128
    problem = make_problem(train=np.full(m, 1 / m), target=np.full(m, 1 / m), steps=60)
    assert started(problem).report()["delta_min"] == 0.5 / m


def test_own_counts_make_rarely_drawn_domains_faster(monkeypatch):
    give(monkeypatch, [LAWS[0]] * 9)
    problem = make_problem(train=(1 / 3,) * 3, target=(1 / 3,) * 3, steps=10)
    mixer = started(problem, start_step=1, update_interval=1, ignore_steps=0, use_same_step_size=False, s=0.0, gamma2=1)
    weights = drive(mixer, problem, [[6, 1, 1]] * 3, np.ones((3, 3)))[-1]
    n = np.array([18.0, 3.0, 3.0])
    expected = n ** -(1.0 + LAWS[0, 2])
    np.testing.assert_allclose(weights, expected / expected.sum())


def test_rounds_of_several_steps_count_as_such(monkeypatch):
    give(monkeypatch, [*LAWS] * 9)
    problem = make_problem(steps=40)
    mixer = started(problem, every=5, start_step=10, update_interval=10, ignore_steps=0)
    assert mixer.needs().every == 5
    weights = drive(mixer, problem, [[10, 6, 4]] * 4, np.ones((4, 3)), first=5, every=5)
    assert np.isnan(weights[:, 0]).tolist() == [True, True, False, False]
    state = mixer.state_dict()
    np.testing.assert_allclose(state["history"], problem.train_shares)
    # the mean at step 15 is a third rho, at step 20 three quarters of that and a quarter rho: rho hardly moves
    rho = (weights[2] - 0.9 * problem.train_shares) / 0.1
    np.testing.assert_allclose(state["mean"], problem.train_shares / 2 + rho / 2, atol=1e-2)


@pytest.mark.parametrize("stop", [10, 25, 41])
def test_a_resumed_mixer_goes_on_as_if_nothing_had_happened(stop):
    problem = make_problem(steps=60, batch_size=5)
    counts, losses = tape(problem, 60)
    whole = drive(started(problem, **SHORT), problem, counts, losses)
    half = started(problem, **SHORT)
    drive(half, problem, counts[:stop], losses[:stop])
    state = half.state_dict()
    resumed = started(problem, **SHORT)
    resumed.load_state_dict(json.loads(json.dumps(state, allow_nan=False)))
    assert resumed.state_dict() == state
    rest = drive(resumed, problem, counts[stop:], losses[stop:], first=stop + 1)
    np.testing.assert_array_equal(rest, whole[stop:])
    drive(half, problem, counts[stop:], losses[stop:], first=stop + 1)
    assert half.state_dict() == resumed.state_dict()
    assert half.report() == resumed.report()
    assert len(state["laws"]["domains"]["d0"]["losses"]) <= stop  # a snapshot


def test_needs_and_undeclared_losses():
    assert ADO().needs().signals == (TrainLosses(),)
    assert ADO().needs().every == 1
    problem = make_problem()
    blind = seen(problem, 1, [2, 1, 1], np.ones(3))
    blind = Observation(**{f: getattr(blind, f) for f in blind.__dataclass_fields__ if f != "losses"})
    with pytest.raises(UndeclaredSignalError, match="TrainLosses"):
        started(problem).update(blind, LAB)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start_step", -1.0),
        ("ignore_steps", math.nan),
        ("update_interval", math.inf),
        ("smooth", -0.5),
        ("subsample", -2.0),
        ("every", 0),
        ("mode", "guess"),
        ("s", -0.5),
        ("gamma1", 1.5),
        ("gamma2", -0.1),
        ("delta_min", 2.0),
        ("alpha_min", -0.05),
        ("max_alpha", math.inf),
        ("max_log_beta", math.nan),
        ("min_log_eps", math.inf),
    ],
)
def test_a_senseless_setting_is_named(field, value):
    with pytest.raises(MixerError, match=f"ado: {field}"):
        ADO.Config(**{field: value})


# The official code's own answers (oracles/ado.json says how they were made)


def expected_rows(expected, prior):
    """The mixtures of an oracle, [T, m]: where the official policy answers nothing, NaN."""
    return np.array([[np.nan] * len(prior) if p is None else p for p in expected])


def oracle_mixer(tape):
    counts = np.array(tape["examples"])
    losses = np.array([[np.nan if x is None else x for x in row] for row in tape["losses"]])
    prior = np.array(tape["tokens"]) / np.sum(tape["tokens"])
    problem = make_problem(train=prior, target=prior, steps=len(counts), batch_size=int(counts[0].sum()))
    return problem, counts, losses


@pytest.mark.parametrize("name", list(ORACLE["policy"]))
def test_the_policy_is_the_official_one(monkeypatch, name):
    tape = ORACLE["policy"][name]
    problem, counts, losses = oracle_mixer(tape)
    give(monkeypatch, [None if law is None else np.array(law[k]) for law in tape["laws"] for k in range(problem.m)])
    mixer = started(problem, **tape["settings"])
    expected = tape["expected"]
    for step, (count, loss) in enumerate(zip(counts, losses, strict=True), start=1):
        answer = mixer.update(seen(problem, step, count, loss), LAB)
        assert (answer is None) == (expected["p"][step - 1] is None)
        if answer is not None:
            np.testing.assert_allclose(answer.weights, expected["p"][step - 1], atol=1e-6, rtol=0)
        state = mixer.state_dict()
        np.testing.assert_array_equal(state["n"], expected["n"][step - 1])
        np.testing.assert_allclose(state["history"], expected["p_history"][step - 1], atol=1e-6, rtol=0)
        np.testing.assert_allclose(state["mean"], expected["p_avg"][step - 1], atol=1e-6, rtol=0)
    assert sum(p is not None for p in expected["p"]) >= 20


def test_the_law_and_the_misfit_are_the_official_ones():
    case = ORACLE["law"]
    n, loss = np.array(case["n"]), np.array(case["loss"])
    for i, params in enumerate(np.array(case["params"])):
        value, gradient = scaling_law.misfit(params, np.log(n), np.log(loss))
        assert value - 0.001 == pytest.approx(
            case["objective"][i], abs=1e-9
        )  # what the penalties come to within limits
        np.testing.assert_allclose(gradient, case["gradient"][i], atol=1e-9)
        np.testing.assert_allclose(scaling_law.predict(params, n), case["scaling_law"][i], rtol=1e-9)


RELEASED = {"smooth": 101, "subsample": 10, "min_log_eps": 0.5}


def test_fits_see_the_official_points_and_end_no_higher_than_from_512_starts():
    tape = ORACLE["fit"]
    problem, counts, losses = oracle_mixer(tape)
    laws = DomainLaws(problem.domains, Limits(min_log_eps=0.5))
    total, fits = 0.0, iter(tape["fits"])
    for step, (count, loss) in enumerate(zip(counts, losses, strict=True), start=1):
        total += count.sum()
        laws.add(step, np.full(3, total), loss)
        if step not in (101, 201, 301):
            continue
        official = next(fits)
        laws.refit(ignore=40, window=101, stride=10)
        for k in range(3):
            n, smooth = laws.points(k, ignore=40, window=101, stride=10)
            np.testing.assert_array_equal(n, official["n"][k])
            np.testing.assert_allclose(smooth, official["loss"][k], atol=1e-6)
            value = scaling_law.misfit(laws.params[k], np.log(n), np.log(smooth))[0] - 0.001
            assert value <= official["objective"][k] + 1e-6
    assert next(fits, None) is None


def test_a_whole_run_ends_where_the_official_one_does():
    tape = ORACLE["fit"]
    problem, counts, losses = oracle_mixer(tape)
    weights = drive(started(problem, **tape["settings"], **RELEASED), problem, counts, losses)
    for step, expected in tape["p"].items():
        np.testing.assert_allclose(weights[int(step) - 1], expected, atol=1e-3)
