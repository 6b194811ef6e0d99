from __future__ import annotations

import numpy as np
import pytest

from harness.sampler import DomainSampler

NAMES = ("a", "b", "c")
LABELS = np.array([0] * 7 + [1] * 5 + [2] * 3)


def _draw(sampler: DomainSampler, weights: list[float], steps: int, batch: int = 4, first: int = 0):
    pairs = [sampler.draw(np.array(weights), first + step, batch) for step in range(steps)]
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def test_examples_belong_to_their_domain_and_none_repeats_within_an_epoch():
    sampler = DomainSampler(LABELS, NAMES, seed=1)
    indices, domains = _draw(sampler, [0.2, 0.3, 0.5], 40)
    assert (LABELS[indices] == domains).all()
    for domain, size in enumerate((7, 5, 3)):
        stream = indices[domains == domain]
        for start in range(0, len(stream) - size + 1, size):
            assert len(set(stream[start : start + size])) == size


def test_a_domain_does_not_restart_when_the_mixture_changes():
    changing = DomainSampler(LABELS, NAMES, seed=1)
    first, _d1 = _draw(changing, [1.0, 0.0, 0.0], 1, batch=3)
    _draw(changing, [0.0, 1.0, 0.0], 1, batch=2, first=1)
    second, _ = _draw(changing, [1.0, 0.0, 0.0], 1, batch=4, first=2)
    assert sorted([*first, *second]) == list(range(7)), "one whole epoch in spite of the change between"
    steady, _ = _draw(DomainSampler(LABELS, NAMES, seed=1), [1.0, 0.0, 0.0], 1, batch=7)
    assert [*first, *second] == list(steady)


def test_all_mixtures_meet_a_domains_examples_in_the_same_order():
    one, d1 = _draw(DomainSampler(LABELS, NAMES, seed=3), [0.6, 0.2, 0.2], 30)
    two, d2 = _draw(DomainSampler(LABELS, NAMES, seed=3), [0.1, 0.8, 0.1], 30)
    for domain in range(3):
        a, b = one[d1 == domain], two[d2 == domain]
        n = min(len(a), len(b))
        assert n > 3
        assert (a[:n] == b[:n]).all()


def test_other_seeds_give_other_orders_and_epochs_are_shuffled_anew():
    sampler = DomainSampler(LABELS, NAMES, seed=0)
    one, _ = _draw(sampler, [1.0, 0.0, 0.0], 2, batch=7)
    assert list(one[:7]) != list(one[7:])
    two, _ = _draw(DomainSampler(LABELS, NAMES, seed=5), [1.0, 0.0, 0.0], 1, batch=7)
    assert list(one[:7]) != list(two)


def test_epochs_count_passes():
    sampler = DomainSampler(LABELS, NAMES, seed=0)
    _draw(sampler, [1.0, 0.0, 0.0], 2, batch=7)
    assert sampler.epochs.tolist() == [2.0, 0.0, 0.0]


def test_shares_follow_the_mixture():
    sampler = DomainSampler(LABELS, NAMES, seed=0)
    _draw(sampler, [0.5, 0.3, 0.2], 1000, batch=10)
    realised = sampler.drawn / sampler.drawn.sum()
    error = np.sqrt(0.25 / 10_000)
    assert np.abs(realised - [0.5, 0.3, 0.2]).max() < 4 * error


def test_a_weight_of_zero_is_never_drawn():
    sampler = DomainSampler(LABELS, NAMES, seed=0)
    _, domains = _draw(sampler, [0.0, 1.0, 0.0], 500)
    assert set(domains) == {1}


def test_state_round_trip_continues_the_stream():
    unbroken = DomainSampler(LABELS, NAMES, seed=2)
    whole, _ = _draw(unbroken, [0.4, 0.3, 0.3], 20)
    first = DomainSampler(LABELS, NAMES, seed=2)
    head, _ = _draw(first, [0.4, 0.3, 0.3], 9)
    second = DomainSampler(LABELS, NAMES, seed=2)
    second.load_state(first.state())
    tail, _ = _draw(second, [0.4, 0.3, 0.3], 11, first=9)
    assert list(whole) == [*head, *tail]


def test_an_empty_domain_is_refused():
    with pytest.raises(ValueError, match="domain c has no training example"):
        DomainSampler(np.array([0, 1]), NAMES, seed=0)
