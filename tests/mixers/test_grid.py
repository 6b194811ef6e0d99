import numpy as np
import pytest
from mixer_fakes import FakeLab, make_problem

from mixers.base import MixerError
from mixers.grid import Grid

LAB = FakeLab()


def weights(domains="abc", **config):
    m = len(domains)
    problem = make_problem(domains=domains, train=(1 / m,) * m, target=(1 / m,) * m, examples=(100,) * m)
    return Grid(Grid.Config(**config)).start(problem, LAB).weights


def test_amounts_are_divided_by_their_sum_and_unnamed_domains_get_nothing():
    np.testing.assert_allclose(weights(shares={"c": 3, "a": 1}), [0.25, 0.0, 0.75])
    np.testing.assert_allclose(weights(shares={"c": 0.75, "a": 0.25}), [0.25, 0.0, 0.75])


def test_one_source_against_the_others():
    np.testing.assert_allclose(weights(source="b", share=0.5), [0.25, 0.5, 0.25])
    np.testing.assert_allclose(weights("ab", source="b", share=0.25), [0.75, 0.25])
    np.testing.assert_allclose(weights("ab", source="a", share=0.0), [0.0, 1.0])
    np.testing.assert_allclose(weights("a", source="a", share=1.0), [1.0])


def test_without_shares_all_get_the_same():
    np.testing.assert_allclose(weights(), np.full(3, 1 / 3))


def test_shares_belong_to_names_wherever_they_stand():
    np.testing.assert_allclose(weights("cab", shares={"c": 3, "a": 1}), [0.75, 0.25, 0.0])
    assert list(Grid.Config(shares={"b": 1, "a": 2}).shares) == ["a", "b"]


@pytest.mark.parametrize("config", [{"shares": {"zebra": 1}}, {"source": "zebra", "share": 0.5}])
def test_an_unknown_name_names_the_domains(config):
    with pytest.raises(MixerError, match=r"^grid: there is no training domain 'zebra'; the domains are a, b, c$"):
        weights(**config)


def test_the_only_domain_cannot_have_less_than_all():
    with pytest.raises(MixerError, match="only domain"):
        weights("a", source="a", share=0.5)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"shares": {"a": 1}, "source": "a", "share": 0.5}, "either shares"),
        ({"source": "a"}, "belong together"),
        ({"share": 0.5}, "belong together"),
        ({"source": "a", "share": 1.5}, "in \\[0, 1\\]"),
        ({"source": "a", "share": float("nan")}, "in \\[0, 1\\]"),
        ({"shares": {"a": -1.0, "b": 2.0}}, "at least 0"),
        ({"shares": {"a": float("inf")}}, "finite"),
        ({"shares": {"a": 0.0}}, "all zero"),
    ],
)
def test_bad_shares_are_refused(config, said):
    with pytest.raises(MixerError, match=said):
        Grid.Config(**config)
