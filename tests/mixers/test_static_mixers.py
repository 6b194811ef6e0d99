import numpy as np
import pytest
from mixer_fakes import FakeLab, make_problem

from mixers.base import MixerError
from mixers.natural import Natural
from mixers.target import Target
from mixers.uniform import Uniform
from mixers.unimax import UniMax

LAB = FakeLab()


def test_uniform_ignores_sizes():
    np.testing.assert_allclose(Uniform().start(make_problem(), LAB).weights, np.full(3, 1 / 3))


def test_natural_follows_the_training_data():
    np.testing.assert_allclose(Natural().start(make_problem(), LAB).weights, [0.5, 0.3, 0.2])


def test_target_follows_the_evaluation_data_in_the_order_of_the_training_domains():
    problem = make_problem(domains="abc", targets="cab", target=(0.5, 0.2, 0.3))
    np.testing.assert_allclose(Target().start(problem, LAB).weights, [0.2, 0.3, 0.5])


def test_target_renormalises_what_falls_on_training_domains():
    problem = make_problem(domains="abc", targets="axyb", target=(0.1, 0.3, 0.3, 0.3))
    np.testing.assert_allclose(Target().start(problem, LAB).weights, [0.25, 0.75, 0.0])


@pytest.mark.parametrize("target", [(0.5, 0.5), (1.0, 0.0)])
def test_target_out_of_domain_says_so(target):
    problem = make_problem(domains="abc", targets="xy", target=target)
    with pytest.raises(MixerError, match="no training domain is a target domain"):
        Target().start(problem, LAB)


def test_target_needs_mass_on_training_domains():
    problem = make_problem(domains="abc", targets="xa", target=(1.0, 0.0))
    with pytest.raises(MixerError, match="no training domain"):
        Target().start(problem, LAB)


def test_unimax_by_hand():
    # budget 100 × 10 = 1000 over 4: 250 each. The smallest holds 50; 950 / 3 = 316.7, the next holds 300;
    # the two large ones share 650.
    problem = make_problem(
        train=(0.5, 0.1, 0.2, 0.2), target=(0.25,) * 4, examples=(5000, 50, 300, 2000), steps=100, batch_size=10
    )
    mixer = UniMax()
    np.testing.assert_allclose(mixer.start(problem, LAB).weights, [0.325, 0.05, 0.3, 0.325])
    assert mixer.report() == {"capped": ["d1", "d2"], "budget_in_epochs": 1000 / 7350}


def test_unimax_cap_scales_with_the_epochs():
    problem = make_problem(train=(0.9, 0.1), target=(0.5, 0.5), examples=(900, 100), steps=100, batch_size=8)
    np.testing.assert_allclose(UniMax().start(problem, LAB).weights, [0.875, 0.125])
    np.testing.assert_allclose(UniMax(UniMax.Config(max_epochs=2)).start(problem, LAB).weights, [0.75, 0.25])
    np.testing.assert_allclose(UniMax(UniMax.Config(max_epochs=4)).start(problem, LAB).weights, [0.5, 0.5])


def test_unimax_is_natural_where_the_budget_exceeds_all_caps():
    problem = make_problem(examples=(50, 30, 20), steps=1000)
    np.testing.assert_allclose(UniMax().start(problem, LAB).weights, [0.5, 0.3, 0.2])


@pytest.mark.parametrize("epochs", [0.0, -1.0, float("inf"), float("nan")])
def test_unimax_refuses_a_senseless_cap(epochs):
    with pytest.raises(MixerError, match="max_epochs"):
        UniMax.Config(max_epochs=epochs)
