"""Decisions give legal labels, never score worse than the plain ones, and come back from JSON."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score

from stackfeat.errors import UsageError
from stackfeat.metrics.decision_rule import Decision
from stackfeat.metrics.registry import get_metric, metric_names
from stackfeat.tasks.task import Task

BINARY = Task("binary", ("n", "y"), positive=0)
MULTI = Task("multiclass", ("a", "b", "c", "d"))
VALUE = Task("regression")
FITTED = ("recall_macro", "kappa", "f1", "f1_macro", "mcc", "balanced_accuracy", "quadratic_weighted_kappa")


def rare(task, n=400, seed=0):
    """Classes of uneven size, and probabilities that favour the large ones."""
    random = np.random.default_rng(seed)
    k = task.n_outputs
    shares = 0.35 ** np.arange(k)[::-1]
    y = random.choice(k, n, p=shares / shares.sum())
    raw = np.exp(1.5 * np.eye(k)[y] + random.normal(size=(n, k)) + np.log(shares))
    return y, raw / raw.sum(axis=1, keepdims=True)


@given(seed=st.integers(0, 500))
@settings(max_examples=8)
def test_decisions_are_legal_codes_no_worse_than_argmax(seed):
    for task in (BINARY, MULTI):
        y, p = rare(task, n=120, seed=seed)
        for name in metric_names(task.kind):
            metric = get_metric(name, task.kind)
            decision = Decision.fit(metric, y, p, task)
            codes = decision.apply(p)
            assert codes.dtype == np.int64
            assert set(codes) <= set(range(task.n_outputs))
            assert codes.shape == (120,)
            if decision.kind != "cuts" and metric.needs == "label":
                assert metric.score(y, codes, task) >= metric.score(y, p, task)


def test_auto_fits_for_label_metrics_other_than_accuracy():
    kinds = {}
    for task in (BINARY, MULTI):
        y, p = rare(task)
        for name in metric_names(task.kind):
            kinds[task.kind, name] = Decision.fit(get_metric(name, task.kind), y, p, task).kind
    for (kind, name), found in kinds.items():
        fitted = "threshold" if kind == "binary" else "cuts" if "quadratic" in name else "offsets"
        assert found == (fitted if name in FITTED else "argmax")


def test_the_threshold_is_the_best_of_all():
    y, p = rare(BINARY)
    metric = get_metric("f1", "binary")
    decision = Decision.fit(metric, y, p, BINARY)
    found = metric.score(y, decision.apply(p), BINARY)
    scores = [f1_score(y == 0, p[:, 0] > t) for t in np.r_[0.0, np.sort(p[:, 0])]]
    assert found == pytest.approx(max(scores), abs=0.005)
    assert found > metric.score(y, p, BINARY)


def test_offsets_lift_rare_classes():
    y, p = rare(MULTI, n=2000)
    new_y, new_p = rare(MULTI, n=2000, seed=1)
    for name in ("balanced_accuracy", "f1_macro"):
        metric = get_metric(name, "multiclass")
        decision = Decision.fit(metric, y, p, MULTI)
        assert np.mean(decision.numbers) == pytest.approx(0.0, abs=1e-12)
        assert metric.score(new_y, decision.apply(new_p), MULTI) > metric.score(new_y, new_p, MULTI)


def test_kappa_cuts_beat_rounding_on_new_rows():
    def rows(seed, n=1500):
        random = np.random.default_rng(seed)
        y = random.choice([1, 2, 3, 4, 6], n, p=[0.5, 0.2, 0.1, 0.1, 0.1]).astype(float)
        return y, 2 + 0.4 * (y - 2) + 0.4 * random.normal(size=n)

    metric = get_metric("quadratic_weighted_kappa", "regression")
    (y, p), (new_y, new_p) = rows(0), rows(1)
    decision = Decision.fit(metric, y, p[:, None], VALUE)
    decided = decision.apply(new_p[:, None])
    assert set(decided) <= {1, 2, 3, 4, 6}
    rounded = cohen_kappa_score(
        new_y.astype(int), np.rint(new_p).astype(int), weights="quadratic", labels=range(-9, 12)
    )
    assert metric.score(new_y, decided, VALUE) > rounded + 0.05


def test_multiclass_kappa_cuts_the_expected_code():
    y, p = rare(MULTI, n=1000)
    metric = get_metric("quadratic_weighted_kappa", "multiclass")
    decision = Decision.fit(metric, y, p, MULTI)
    assert decision.kind == "cuts"
    assert list(decision.numbers) == sorted(decision.numbers)
    assert metric.score(y, decision.apply(p), MULTI) >= metric.score(y, p, MULTI)


def test_what_is_asked_for_is_done():
    y, p = rare(BINARY)
    assert Decision.fit(get_metric("accuracy", "binary"), y, p, BINARY, "threshold").kind == "threshold"
    assert Decision.fit(get_metric("f1", "binary"), y, p, BINARY, "argmax").kind == "argmax"
    with pytest.raises(UsageError, match="needs a label metric; got log_loss"):
        Decision.fit(get_metric("log_loss", "binary"), y, p, BINARY, "threshold")
    values = np.array([[1.2], [2.7]])
    assert Decision.fit(get_metric("rmse", "regression"), values[:, 0], values, VALUE).apply(
        values
    ).tolist() == [1.2, 2.7]
    kappa = get_metric("quadratic_weighted_kappa", "regression")
    assert Decision.fit(kappa, values[:, 0], values, VALUE, "argmax").apply(values).tolist() == [1.0, 3.0]


def test_fitting_twice_gives_the_same_decision_and_json_keeps_it():
    for task, name in (
        (BINARY, "mcc"),
        (MULTI, "f1_macro"),
        (MULTI, "quadratic_weighted_kappa"),
        (BINARY, "accuracy"),
    ):
        y, p = rare(task)
        metric = get_metric(name, task.kind)
        decision = Decision.fit(metric, y, p, task)
        assert Decision.fit(metric, y, p, task) == decision
        assert Decision.from_json(json.loads(json.dumps(decision.to_json()))) == decision


def test_decisions_of_pipelines_are_averaged():
    assert Decision.average([Decision("threshold", (0.2,)), Decision("threshold", (0.4,))]).numbers[
        0
    ] == pytest.approx(0.3)
    assert Decision.average([Decision("argmax")] * 3) == Decision("argmax")
    offsets = Decision.average([Decision("offsets", (1.0, -1.0)), Decision("offsets", (0.0, 0.0))])
    assert offsets.numbers == (0.5, -0.5)
    with pytest.raises(UsageError, match="one kind; got argmax, threshold"):
        Decision.average([Decision("argmax"), Decision("threshold", (0.2,))])
    with pytest.raises(UsageError, match="got none"):
        Decision.average([])


def test_cuts_of_pipelines_that_saw_different_labels_are_averaged():
    a = Decision("cuts", (1.4, 2.6), (1.0, 2.0, 3.0))
    b = Decision("cuts", (2.0,), (1.0, 3.0))
    mean = Decision.average([a, b])
    assert mean.labels == (1.0, 2.0, 3.0)
    np.testing.assert_allclose(mean.numbers, [1.7, 2.3])
    c = Decision("cuts", (2.2,), (2.0, 3.0))
    assert Decision.average([c, a]).numbers == pytest.approx(((1.5 + 1.4) / 2, (2.2 + 2.6) / 2))


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=30), min_size=1, max_size=4), st.integers(0, 99)
)
@settings(max_examples=30)
def test_averaged_cuts_ascend_and_give_known_labels(groups, seed):
    random = np.random.default_rng(seed)
    metric = get_metric("quadratic_weighted_kappa", "regression")
    decisions = []
    for group in groups:
        y = np.asarray(group, dtype=float)
        decisions.append(Decision.fit(metric, y, (y + random.normal(size=len(y)))[:, None], VALUE))
    mean = Decision.average(decisions)
    assert list(mean.numbers) == sorted(mean.numbers)
    assert set(mean.apply(random.normal(size=(50, 1)) * 5)) <= {float(v) for group in groups for v in group}


@pytest.mark.parametrize(
    ("decision", "task"),
    [
        (Decision("threshold", (0.3,)), Task("multiclass", ("a", "b", "c"))),
        (Decision("offsets", (0.1, -0.1)), Task("multiclass", ("a", "b", "c"))),
        (Decision("offsets"), Task("regression")),
        (Decision("cuts", (0.5,), (1.0, 7.0)), Task("multiclass", ("a", "b", "c"))),
    ],
)
def test_a_given_decision_of_another_task_is_refused(decision, task):
    with pytest.raises(UsageError, match=f"must fit the predictions; got {decision.kind}"):
        decision.checked(task)


def test_a_given_decision_of_its_task_is_taken():
    for decision, task in (
        (Decision("threshold", (0.3,)), Task("binary", (0, 1))),
        (Decision("offsets", (0.1, -0.1, 0.0)), Task("multiclass", ("a", "b", "c"))),
        (Decision("cuts", (2.5,), (1.0, 7.0)), Task("regression")),
    ):
        assert decision.checked(task) is decision
