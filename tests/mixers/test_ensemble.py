import numpy as np
import pytest
from mixer_fakes import FakeLab, make_problem

from mixers.base import MixerError, Purchases
from mixers.ensemble import Ensemble

LAB = FakeLab()


def ensemble(**config):
    return Ensemble(Ensemble.Config(**config))


def steps(problem, **config):
    return [run.steps for run in ensemble(**config).members(problem)]


def test_members_are_trained_on_one_domain_each_and_share_the_steps():
    problem = make_problem(train=(0.5, 0.3, 0.2), steps=100)
    runs = ensemble().members(problem)
    np.testing.assert_array_equal([run.mixture.weights for run in runs], np.eye(3))
    assert all(run.keep for run in runs)
    assert sorted(run.steps for run in runs) == [33, 33, 34]
    assert steps(problem, budget="natural") == [50, 30, 20]


def test_whole_steps_by_largest_remainder_sum_to_the_budget():
    # 7 steps at .5, .3, .2: 3.5, 2.1, 1.4; the step that is left goes to the remainder of a half.
    assert steps(make_problem(train=(0.5, 0.3, 0.2), steps=7), budget="natural") == [4, 2, 1]
    # 10 at .98, .01, .01: the small ones round to nothing and get one each from the large one.
    tiny = make_problem(train=(0.98, 0.01, 0.01), examples=(9800, 101, 100), steps=10)
    assert steps(tiny, budget="natural") == [8, 1, 1]
    for total in (3, 4, 11, 97):
        assert sum(steps(make_problem(steps=total))) == total


def test_who_gets_the_odd_step_does_not_depend_on_place_or_name():
    sizes = np.array([500, 300, 200])
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        shares = sizes[order] / 1000
        problem = make_problem(train=shares, target=shares, examples=sizes[order], domains=["z", "", "b"], steps=100)
        assert np.array(steps(problem))[np.argsort(order)].tolist() == [33, 33, 34]


def test_the_mixture_is_what_all_members_together_are_trained_on():
    problem = make_problem(train=(0.5, 0.3, 0.2), steps=10)
    np.testing.assert_allclose(ensemble(budget="natural").start(problem, LAB).weights, [0.5, 0.3, 0.2])


def test_many_members_are_a_caution():
    even = (1 / 17,) * 17
    problem = make_problem(domains=[f"d{i}" for i in range(17)], train=even, target=even, examples=(9,) * 17, steps=40)
    mixer = ensemble()
    mixer.start(problem, LAB)
    assert mixer.report() == {"caution": "17 models are trained, kept and served; one has 2 of 40 steps"}
    mixer.start(make_problem(), LAB)
    assert mixer.report() == {}


def test_more_domains_than_steps_are_refused_with_the_remedy():
    with pytest.raises(MixerError, match=r"^ensemble: 3 domains share 2 steps, and each needs one"):
        ensemble().start(make_problem(steps=2), LAB)


def test_the_grid_of_weights_of_two_members_are_quarters():
    problem = make_problem(domains="ab", train=(0.5, 0.5), target=(0.5, 0.5), examples=(10, 10))
    found = ensemble(weights="fitted").candidates(problem)
    assert found.tolist() == [[0.5, 0.5], [1.0, 0.0], [0.0, 1.0], [0.75, 0.25], [0.25, 0.75]]
    assert ensemble().candidates(problem).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_the_fits_forward_passes_are_declared(m):
    even = (1 / m,) * m
    problem = make_problem(domains=[f"d{i}" for i in range(m)], train=even, target=even, examples=(9,) * m)
    assert ensemble().purchases(problem) == Purchases()
    bought = ensemble(weights="fitted", validation_examples=4).purchases(problem)
    assert bought.validation_losses == (m * (m + 2) if m > 1 else 0)
    assert bought.validation_examples == (4 if m > 1 else 0)


def test_the_least_loss_under_the_target_shares_decides():
    problem = make_problem(domains="ab", train=(0.5, 0.5), target=(0.9, 0.1), examples=(10, 10))
    losses = np.array([[2.0, 2.0], [1.0, 9.0], [3.0, 0.0], [np.inf, 0.0]])  # 2.0, 1.8, 2.7 and none
    assert ensemble().choose(problem, losses) == 1
    assert ensemble().choose(problem, losses[:, ::-1]) == 2, "2.0, 8.2, 0.3"
    assert ensemble().choose(problem, np.array([[np.nan, 2.0], [np.nan, 1.0]])) == 1, (
        "a target without losses is no target"
    )
    assert ensemble().choose(problem, np.ones((3, 2))) == 0, "the first of equal ones"
    with pytest.raises(MixerError, match="finite"):
        ensemble().choose(problem, np.array([[np.inf, 1.0], [1.0, np.inf]]))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"combine": "votes"}, "combine is logits or probabilities"),
        ({"budget": "target"}, "budget is even or natural"),
        ({"weights": "best"}, "weights is even or fitted"),
        ({"validation_examples": -1}, "at least 0"),
    ],
)
def test_bad_configs_are_refused(config, said):
    with pytest.raises(MixerError, match=said):
        Ensemble.Config(**config)
