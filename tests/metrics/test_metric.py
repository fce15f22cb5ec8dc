"""Metrics at the edges of what they are given, named wrongly, of one's own; their bootstrap for many seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackfeat.errors import ConfigError, DataError, TrustError, UsageError
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.metric import draw_rows
from stackfeat.metrics.registry import get_metric, metric_names
from stackfeat.tasks.task import Task

BINARY = Task("binary", ("bad", "good"), positive=0)
MULTI = Task("multiclass", (10, 20, 30, 40))
VALUE = Task("regression")


def classes(task, n=300, seed=0):
    random = np.random.default_rng(seed)
    y = random.integers(0, len(task.classes), n)
    logits = random.normal(size=(n, len(task.classes))).round(1) + 1.5 * np.eye(len(task.classes))[y]
    proba = np.exp(logits)
    return y, proba / proba.sum(axis=1, keepdims=True), random.uniform(0.1, 3, n)


def values(n=300, seed=0):
    random = np.random.default_rng(seed)
    y = random.gamma(2.0, size=n)
    return y, (y + random.normal(size=n))[:, None], random.uniform(0.1, 3, n)


def test_codes_may_be_scored_directly():
    y, p, _ = classes(MULTI)
    metric = get_metric("mcc", "multiclass")
    assert metric.score(y, p.argmax(axis=1), MULTI) == metric.score(y, p, MULTI)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("acuracy", "binary", "Did you mean 'accuracy'"),
        ("qwk", "multiclass", "Did you mean 'quadratic_weighted_kappa'"),
        ("auc", "binary", "Did you mean 'roc_auc'"),
        (
            "rmse",
            "binary",
            "must fit task binary; got 'rmse', which is for regression. Choose one of accuracy",
        ),
        ("log_loss", "regression", "Choose one of rmse"),
        ("", "binary", "metric must be one of"),
        (
            "fbeta",
            "binary",
            "must be written as fbeta@B with a number above 0 .* such as fbeta@2; got 'fbeta'",
        ),
        ("fbeta@-1", "binary", "fbeta@B with a number above 0 in the place of B"),
        (
            "top_k@1.5",
            "multiclass",
            "top_k@K with a whole number of at least 1 .* such as top_k@5; got 'top_k@1.5'",
        ),
        ("top_k@05", "multiclass", "a whole number of at least 1"),
        ("top_k@nan", "multiclass", "a whole number of at least 1"),
        ("top_k@3", "binary", "must fit task binary; got 'top_k@3', which is for multiclass"),
        ("top_k_accuracy", "multiclass", "Did you mean 'top_k@5'"),
        ("spearmen", "regression", "spearman"),
    ],
)
def test_a_wrong_metric_names_the_right_ones(name, kind, message):
    with pytest.raises(ConfigError, match=message):
        get_metric(name, kind)


def test_a_number_belongs_to_the_name():
    assert get_metric("fbeta@0.5", "binary").name == "fbeta@0.5"
    assert get_metric("top_k@3", "multiclass") is get_metric("top_k@3", "multiclass")
    assert "top_k@3" not in set(METRICS) and len(METRICS) == len(set(METRICS))


def test_k_of_all_classes_leaves_nothing_out():
    y, p, _ = classes(MULTI)
    assert get_metric("top_k@1", "multiclass").score(y, p, MULTI) == get_metric(
        "accuracy", "multiclass"
    ).score(y, p, MULTI)
    assert get_metric(f"top_k@{p.shape[1]}", "multiclass").score(y, p, MULTI) == 1.0


def test_a_constant_prediction_ranks_nothing():
    y, flat = np.arange(1.0, 9.0), np.full((8, 1), 3.0)
    found = {
        name: get_metric(name, "regression").score(y, flat, VALUE)
        for name in ("gini", "gini_normalized", "spearman")
    }
    assert found == {"gini": 0.0, "gini_normalized": 0.0, "spearman": 0.0}


def test_targets_of_0_have_no_percentage():
    y = np.array([0.0, 2.0, 0.0])
    with pytest.raises(DataError, match=r"mape needs targets other than 0; got 2 rows with 0\. Use smape"):
        get_metric("mape", "regression").score(y, y, VALUE)
    assert get_metric("smape", "regression").score(y, y, VALUE) == 0.0


def test_bad_rows_are_refused():
    y, p, _ = classes(BINARY)
    metric = get_metric("log_loss", "binary")
    with pytest.raises(UsageError, match="same rows; got 300 and 299"):
        metric.score(y, p[1:], BINARY)
    p[3, 0] = np.nan
    with pytest.raises(UsageError, match="got 1 rows with NaN"):
        metric.score(y, p, BINARY)
    with pytest.raises(UsageError, match="each of 2 classes"):
        metric.score(y, np.zeros(300), BINARY)
    with pytest.raises(DataError, match="at least 0; got -1"):
        get_metric("rmsle", "regression").score(np.array([-1.0]), np.array([1.0]), VALUE)


USER = """
def cost(y_true, y_pred):
    assert set(y_true) <= {"bad", "good"} and set(y_pred) <= {"bad", "good"}
    return (y_true != y_pred).mean()
cost.greater_is_better = False

def auc(y_true, y_pred, sample_weight=None):
    from sklearn.metrics import roc_auc_score
    return roc_auc_score(y_true == "bad", y_pred, sample_weight=sample_weight)
auc.needs = "proba"

def my_loss(y_true, y_pred):
    return 0.0

def broken(y_true, y_pred):
    return "no number"

def wrong(y_true, y_pred):
    return 0.0
wrong.needs = "logits"
"""


def test_user_metrics_get_original_labels(tmp_path):
    (tmp_path / "metrics_user.py").write_text(USER)
    with pytest.raises(TrustError, match="metric 'metrics_user:cost' is code"):
        get_metric("metrics_user:cost", "binary", search_path=tmp_path)

    def get(name):
        return get_metric(f"metrics_user:{name}", "binary", trust_code=True, search_path=tmp_path)

    y, p, w = classes(BINARY)
    assert get("cost").score(y, p, BINARY) == pytest.approx(
        1 - get_metric("accuracy", "binary").score(y, p, BINARY)
    )
    assert not get("cost").greater_is_better
    assert get("auc").score(y, p, BINARY, w) == pytest.approx(
        get_metric("roc_auc", "binary").score(y, p, BINARY, w)
    )
    with pytest.warns(UserWarning, match="reads like a loss"):
        get("my_loss")
    with pytest.raises(UsageError, match="must return one number; got str"):
        get("broken").score(y, p, BINARY)
    with pytest.raises(ConfigError, match=r"needs must be one of label, proba.*got 'logits'"):
        get("wrong")
    with pytest.raises(ConfigError, match="Did you mean 'cost'"):
        get("coost")


def slow_bootstrap(metric, y, predictions, task, weight, n_resamples, seed, strata):
    rows = draw_rows(len(y), n_resamples, seed, strata)
    return np.array(
        [
            [metric.score(y[r], p[r], task, None if weight is None else weight[r]) for p in predictions]
            for r in rows
        ]
    )


@given(seed=st.integers(0, 1000), weighted=st.booleans(), stratified=st.booleans())
@settings(max_examples=10)
def test_the_fast_bootstrap_equals_the_slow_one(seed, weighted, stratified):
    for task in (BINARY, MULTI):
        y, p, w = classes(task, n=80, seed=seed)
        _check_bootstrap(task, y, [p, p[:, ::-1]], w if weighted else None, y if stratified else None, seed)
    y, p, w = values(n=80, seed=seed)
    _check_bootstrap(VALUE, y, [p, p**2], w if weighted else None, (y > 1) if stratified else None, seed)


def _check_bootstrap(task, y, predictions, w, strata, seed):
    for name in metric_names(task.kind):
        metric = get_metric(name, task.kind)
        fast = metric.bootstrap(y, predictions, task, w, 5, seed, strata)
        slow = slow_bootstrap(metric, y, predictions, task, w, 5, seed, strata)
        assert fast.shape == (5, 2)
        np.testing.assert_allclose(fast, slow, rtol=1e-10, atol=1e-12, err_msg=name)


def test_strata_keep_their_counts():
    strata = np.repeat([0, 1, 2], [5, 1, 14])
    for rows in draw_rows(20, 10, seed=3, strata=strata):
        assert (np.bincount(strata[rows]) == [5, 1, 14]).all()


def test_clusters_are_drawn_whole():
    clusters = np.array([3, 1, 3, 7, 1, 3, 9, 9])
    drawn = [*draw_rows(8, 50, seed=0, clusters=clusters)]
    sizes = {value: int((clusters == value).sum()) for value in np.unique(clusters)}
    for rows in drawn:
        counts = np.bincount(rows, minlength=8)
        for value in sizes:
            assert len(set(counts[clusters == value].tolist())) == 1
        assert sum(counts[clusters == value][0] for value in sizes) == len(sizes), "as many as there are"
    assert len({tuple(rows.tolist()) for rows in drawn}) > 20


def test_the_bootstrap_error_is_the_textbook_one():
    y, p, _ = values(n=2000)
    metric = get_metric("mae", "regression")
    spread = metric.bootstrap(y, [p], VALUE, None, 400, 0).std()
    assert spread == pytest.approx(np.abs(y - p[:, 0]).std() / np.sqrt(2000), rel=0.15)
