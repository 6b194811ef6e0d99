import numpy as np
import pytest
from mixer_fakes import frozen, make_problem

from mixers import checkpoints
from mixers.base import Checkpoint, Influence, InfluenceEstimate, MixerError, Run, RunResult


def test_steps_are_evenly_spaced_and_end_with_the_run():
    assert checkpoints.spaced(100, 10) == (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    assert checkpoints.spaced(10, 3) == (3, 7, 10)
    assert checkpoints.spaced(3, 10) == (1, 2, 3)
    assert checkpoints.spaced(1, 4) == (1,)
    run = checkpoints.watched(Run(steps=9, mixture=make_problem().mixture([1, 0, 0])), 3)
    assert run.keep_at == run.evaluate_at == (3, 6, 9)


def test_the_best_checkpoint_has_the_least_finite_loss_and_is_the_first_of_equals():
    nan, inf = np.nan, np.inf
    losses = np.array([[3.0, 1.0, nan, 2.0, inf], [2.0, 1.0, nan, nan, inf], [2.5, 4.0, nan, 1.0, nan]])
    np.testing.assert_array_equal(checkpoints.best(losses), [1, 0, -1, 2, -1])


class TapeLab:
    """Sells given influences [k, n] by step, of two domains with two examples each."""

    def __init__(self, by_step):
        self.by_step, self.asked = by_step, []

    def influence(self, checkpoint, how, targets=None):
        step = int(checkpoint.key.removeprefix("at "))
        self.asked.append((step, tuple(targets)))
        whole = np.array(self.by_step[step], dtype=np.float64)
        asked = np.isin(np.arange(whole.shape[1]), targets)
        return InfluenceEstimate(
            influence=frozen(np.where(asked, whole, np.nan)),
            domains=frozen([0, 0, 1, 1], np.int64),
            units=frozen([1.0, 3.0, 2.0, 2.0]),
            examples=frozen([5, 6, 7, 8], np.int64),
        )


def result(losses, steps=(10, 20)):
    return RunResult(
        steps=steps, losses=frozen(losses), checkpoints={step: Checkpoint(key=f"at {step}") for step in steps}
    )


AT = {10: [[1, 2, 3], [4, 5, 6], [7, 8, 9], [0, 0, 1]], 20: [[-1, -2, -3], [-4, -5, -6], [-7, -8, -9], [0, 0, -1]]}
USED = np.array([True, True, True])


def test_every_target_is_scored_at_its_own_checkpoint_and_those_of_one_checkpoint_together():
    lab = TapeLab(AT)
    made = checkpoints.score(result([[1, 2, 1], [2, 1, 2]]), lab, Influence(), USED, standardise=False)
    np.testing.assert_array_equal(made.influence, [[1, -2, 3], [4, -5, 6], [7, -8, 9], [0, 0, 1]])
    np.testing.assert_array_equal(made.steps, [10, 20, 10])
    assert lab.asked == [(10, (0, 2)), (20, (1,))]


def test_targets_that_are_not_used_are_not_bought():
    lab = TapeLab(AT)
    made = checkpoints.score(
        result([[1, np.nan, 1], [2, np.nan, 2]]), lab, Influence(), np.array([True, False, True]), standardise=False
    )
    np.testing.assert_array_equal(made.influence[:, 1], 0.0)
    np.testing.assert_array_equal(made.steps, [10, 0, 10])
    assert lab.asked == [(10, (0, 2))]
    with pytest.raises(MixerError, match="give it validation examples"):
        checkpoints.score(result([[1, 2, 1], [2, 1, 2]]), lab, Influence(), ~USED, standardise=False)


def test_standardised_targets_have_a_root_mean_square_of_one_and_lost_examples_are_left_out():
    broken = {10: [[np.inf, 2, 3], *AT[10][1:]]}
    made = checkpoints.score(result([[1, 1, 1]], (10,)), TapeLab(broken), Influence(), USED, standardise=True)
    np.testing.assert_array_equal(made.domains, [0, 1, 1])
    np.testing.assert_array_equal(made.units, [3.0, 2.0, 2.0])
    np.testing.assert_allclose((made.influence**2).mean(axis=0), 1.0)
    np.testing.assert_allclose(made.influence[:, 0], np.array([4, 7, 0]) / np.sqrt((16 + 49) / 3))


def test_densities_are_unit_weighted_means():
    joint, units, domains = np.array([1.0, 5.0, -2.0]), np.array([1.0, 3.0, 7.0]), np.array([0, 0, 2])
    density, error = checkpoints.densities(joint, units, domains, 3)
    np.testing.assert_allclose(density, [(1 + 15) / 4, np.nan, -2.0])
    np.testing.assert_allclose(error, [np.sqrt(3.0**2 + 3.0**2) / 4, np.nan, 0.0])
