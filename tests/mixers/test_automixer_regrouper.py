import json

import numpy as np
import pytest
from mixer_fakes import FakeRegroupLab, frozen, make_grouping

from mixers.base import Checkpoint, InfluenceEstimate, MixerError, Problem, RunResult
from mixers.regroup.automixer import AutoMixer

LABELS, VALIDATION = np.array([0, 0, 0, 1, 1, 2]), np.array([2, 0, 1, 1])
# by training example and target; the second target is measured in other units
TABLE = np.array([[3, 0, 1], [0, 40, 0], [0, 0, 2], [1, 10, 5], [-1, -2, -9], [0, 0, 0]], dtype=np.float64)


class Labelled:
    """Sells a run and the influences of a table [n_train, n], in a scrambled order as a lab may have them."""

    def __init__(self, labels, table, losses, noise=0.0):
        self.labels, self.table, self.losses, self.noise = labels, np.array(table), np.array(losses), noise
        self.orders, self.calls = [], []

    def train(self, runs):
        (run,) = runs
        self.orders.append(run)
        kept = {step: Checkpoint(key=f"{run.seed}@{step}") for step in run.keep_at}
        return [RunResult(steps=run.evaluate_at, losses=frozen(self.losses), checkpoints=kept)]

    def influence(self, checkpoint, how, targets=None):
        seed = int(checkpoint.key.partition("@")[0])
        self.calls.append((checkpoint.key, tuple(targets), how))
        order = np.random.default_rng(1).permutation(len(self.labels))
        table = self.table + self.noise * np.random.default_rng(seed).normal(size=self.table.shape)
        asked = np.isin(np.arange(table.shape[1]), targets)
        return InfluenceEstimate(
            influence=frozen(np.where(asked, table, np.nan)[order]),
            domains=frozen(self.labels[order], np.int64),
            units=frozen(np.ones(len(order))),
            examples=frozen(order, np.int64),
        )


class RegroupLab(FakeRegroupLab):
    def __init__(self, grouping, labelled):
        super().__init__(np.zeros((1, 1)), np.zeros((1, 1)))
        self.grouping, self.lab = grouping, labelled

    def labelled(self):
        g, m = self.grouping, len(self.grouping.domains)
        examples = np.bincount(g.train, minlength=m)
        problem = Problem(
            domains=g.domains,
            targets=g.domains,
            train_shares=frozen(examples / examples.sum()),
            target_shares=frozen(np.bincount(g.validation, minlength=m) / len(g.validation)),
            examples=frozen(examples, np.int64),
            units=frozen(examples, np.int64),
            steps=40,
            batch_size=4,
            seed=0,
        )
        return problem, self.lab


def cut(
    table=TABLE, losses=((1.0, 1.0, 1.0), (2.0, 2.0, 0.5)), *, labels=LABELS, validation=VALIDATION, noise=0.0, **c
):
    grouping = make_grouping(labels, validation)
    labelled = Labelled(labels, table, losses, noise)
    lab = RegroupLab(grouping, labelled)
    made = AutoMixer(AutoMixer.Config(checkpoints=2, **c)).regroup(grouping, lab).checked(grouping)
    return made, labelled


def test_examples_join_the_target_that_they_serve_most():
    made, labelled = cut()
    sizes = np.sqrt((TABLE**2).mean(axis=0))
    assert (TABLE / sizes)[3].argmax() == 2, "in its own units the second target would have taken this one"
    # example 4 harms all and joins the one that it harms least; example 5 does nothing and stays with its own
    assert [made.domains[i] for i in made.train] == ["for-o0", "for-o1", "for-o2", "for-o2", "for-o1", "for-o2"]
    assert made.targets == ()
    assert [made.domains[i] for i in made.validation] == ["for-o2", "for-o0", "for-o1", "for-o1"]
    (run,) = labelled.orders
    assert (run.steps, run.keep_at, run.seed) == (20, (10, 20), 0)
    np.testing.assert_allclose(run.mixture.weights, [3 / 6, 2 / 6, 1 / 6])
    assert [(key, targets) for key, targets, _ in labelled.calls] == [("0@10", (0, 1)), ("0@20", (2,))]
    assert {how.examples for *_, how in labelled.calls} == {0}, "all of them"
    report = made.report
    assert report["sizes"] == [1, 2, 3]
    assert report["checkpoints"] == {"o0": 10, "o1": 10, "o2": 20}
    assert report["kept_by_own_target"] == pytest.approx(3 / 6, abs=1e-4)  # examples 0, 4 and 5
    assert report["harmful_to_all"] == pytest.approx(2 / 6, abs=1e-4)  # examples 4 and 5
    assert report["stability"] is None
    json.dumps(report, allow_nan=False)


def test_the_scale_of_a_target_does_not_matter():
    scaled, _ = cut(TABLE * [1.0, 1e3, 1e-3])
    np.testing.assert_array_equal(scaled.train, cut()[0].train)


def test_a_target_that_nothing_serves_most_is_a_target_alone():
    table = np.where(np.arange(3) == 1, -1.0, np.abs(TABLE) + 0.1)
    made, _ = cut(table)
    assert made.domains == ("for-o0", "for-o2")
    assert made.targets == ("for-o0", "for-o1", "for-o2")
    assert [made.targets[i] for i in made.validation] == ["for-o2", "for-o0", "for-o1", "for-o1"]


def test_a_domain_without_validation_examples_is_no_target():
    made, labelled = cut(losses=((1.0, np.nan, 1.0), (2.0, np.nan, 2.0)), validation=np.array([0, 2]))
    assert made.domains == ("for-o0", "for-o2")
    assert [made.domains[i] for i in made.train][:2] == ["for-o0", "for-o0"]
    assert [made.domains[i] for i in made.validation] == ["for-o0", "for-o2"]
    assert [targets for _, targets, _ in labelled.calls] == [(0, 2)]
    with pytest.raises(MixerError, match="no finite loss of o1"):
        cut(losses=((1.0, np.nan, 1.0), (2.0, np.nan, 2.0)))


def test_an_example_without_finite_influence_stays_with_its_own_target():
    table = TABLE.copy()
    table[3, 0] = np.inf
    made, _ = cut(table)
    assert made.domains[made.train[3]] == "for-o1"


def test_one_domain_is_one_group():
    made, _ = cut(TABLE[:, :1], [[1.0], [2.0]], labels=np.zeros(6, dtype=int), validation=np.zeros(2, dtype=int))
    assert made.domains == ("for-o0",)
    assert made.report["silhouette"] is None


def test_order_and_names_of_the_domains_do_not_matter():
    order = np.array([2, 0, 1])  # the domain at each new place
    rank = np.argsort(order)
    base, _ = cut(TABLE[:5], labels=LABELS[:5])
    losses = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 0.5]])[:, order]
    moved, _ = cut(TABLE[:5, order], losses, labels=rank[LABELS[:5]], validation=rank[VALIDATION])
    where = {f"for-o{i}": f"for-o{rank[i]}" for i in range(3)}
    assert [where[base.domains[i]] for i in base.train] == [moved.domains[i] for i in moved.train]


def test_other_seeds_tell_how_stable_the_cut_is():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=60)
    table = np.eye(3)[labels] + 0.01
    steady, labelled = cut(table, labels=labels, stability_seeds=2)
    assert [run.seed for run in labelled.orders] == [0, 1, 2]
    assert steady.report["stability"] == steady.report["adjusted_rand_index"] == 1.0
    assert steady.report["silhouette"] > 0.9
    shaky, _ = cut(table, labels=labels, stability_seeds=2, noise=2.0)
    assert shaky.report["stability"] < 0.3


def test_one_other_seed_gives_a_number():
    table = np.eye(3)[np.random.default_rng(0).integers(3, size=60)]
    labels = table.argmax(axis=1)
    assert cut(table, labels=labels)[0].report["stability"] is None
    stability = cut(table, labels=labels, stability_seeds=1, noise=1.0)[0].report["stability"]
    assert -1.0 <= stability < 1.0


def test_the_simulated_run_may_repeat_as_often_as_the_main_run():
    _, plain = cut()
    made, matched = cut(match_repetition=True)
    assert plain.orders[0].subsample == 1.0
    assert (matched.orders[0].steps, matched.orders[0].subsample) == (20, 0.5)
    assert len(made.train) == len(LABELS), "every example has its place all the same"


@pytest.mark.parametrize(
    "config",
    [{"checkpoints": 0}, {"stability_seeds": -1}, {"proxy_share": 0.0}, {"proxy_size": -1.0}],
)
def test_a_senseless_setting_is_refused(config):
    with pytest.raises(MixerError, match="automixer"):
        AutoMixer.Config(**config)
    with pytest.raises(MixerError, match="layers is"):
        AutoMixer.Config(layers="none")
