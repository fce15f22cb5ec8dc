"""What every metric keeps: it agrees with an independent implementation, and its fast ways with the slow one.

A new metric is an entry of `METRICS` (`stackfeat/metrics/built_in.py`) and a row of `ORACLES`; all else follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy import stats

from stackfeat.errors import UsageError
from stackfeat.meta.votes.greedy import greedy_selection
from stackfeat.meta.votes.weighted import fit_simplex_weights
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.decision_rule import Decision
from stackfeat.metrics.metric import Metric, draw_rows
from stackfeat.metrics.registry import metric_names, user_metric
from stackfeat.tasks.task import Task

TASKS = {
    "binary": Task("binary", ("bad", "good"), positive=0),
    "multiclass": Task("multiclass", (10, 20, 30, 40)),
    "regression": Task("regression"),
    "quantile": Task("quantile", quantiles=(0.05, 0.25, 0.5, 0.6, 0.75, 0.95)),
}
Oracle = Callable[[np.ndarray, np.ndarray, Task, Any], float]


def one_against_rest(score: Callable[..., float]) -> Oracle:
    """Of classes the positive one's score, or the mean over each against the rest."""

    def oracle(y: np.ndarray, p: np.ndarray, task: Task, w: Any) -> float:
        codes = [task.positive] if task.kind == "binary" else range(task.n_outputs)
        return float(np.mean([score(y == code, p[:, code], sample_weight=w) for code in codes]))

    return oracle


def of_labels(score: Callable[..., float], **options: Any) -> Oracle:
    def oracle(y: np.ndarray, p: np.ndarray, task: Task, w: Any) -> float:
        decided = p.argmax(axis=1) if task.classes else np.rint(p[:, 0]).astype(int)
        return float(score(y.astype(int), decided, sample_weight=w, **options))

    return oracle


def of_values(score: Callable[..., float]) -> Oracle:
    return lambda y, p, task, w: float(score(y, np.maximum(p[:, 0], 0.0), sample_weight=w))


def brier(y: np.ndarray, p: np.ndarray, task: Task, w: Any) -> float:
    total = np.average(((p - np.eye(task.n_outputs)[y]) ** 2).sum(axis=1), weights=w)
    return float(total / 2 if task.kind == "binary" else total)


def mid_ranks(values: np.ndarray, w: Any) -> np.ndarray:
    """The weight below each value and half of that at it, in shares."""
    w = np.ones(len(values)) if w is None else w
    below, at = (values[None, :] < values[:, None]) @ w, (values[None, :] == values[:, None]) @ w
    return np.asarray((below + at / 2) / w.sum())


def correlation(a: np.ndarray, b: np.ndarray, w: Any) -> float:
    covariance = np.cov(a, b, aweights=w)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def gini(y: np.ndarray, p: np.ndarray, task: Task, w: Any) -> float:
    """Twice the AUC less 1; of values one less twice the area under the Lorenz curve, as if rows were a staircase."""
    if task.classes:
        return float(2 * sk.roc_auc_score(y == task.positive, p[:, task.positive], sample_weight=w) - 1)
    w = np.ones(len(y)) if w is None else w
    order = np.argsort(p[:, 0], kind="stable")
    people = np.r_[0.0, np.cumsum(w[order]) / w.sum()]
    # Rows of one prediction share what they have: a straight line between the ends of their tie.
    ends = np.r_[True, np.diff(p[order, 0]) != 0, True]
    income = np.r_[0.0, np.cumsum((w * y)[order]) / (w @ y)]
    return float(1 - 2 * np.trapezoid(income[ends], people[ends]))


def gini_normalized(y: np.ndarray, p: np.ndarray, task: Task, w: Any) -> float:
    best = 1.0 if task.classes else gini(y, y[:, None], task, w)
    return gini(y, p, task, w) / best


def weighted_median(y: np.ndarray, p: np.ndarray, task: Task, w: Any) -> float:
    errors, w = np.abs(y - p[:, 0]), np.ones(len(y)) if w is None else w
    lower = min(e for e in errors if w[errors <= e].sum() >= w.sum() / 2)
    upper = max(e for e in errors if w[errors >= e].sum() >= w.sum() / 2)
    return float(lower + upper) / 2


def place_of_true(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    ordered = np.argsort(p, axis=1, kind="mergesort")[:, ::-1]
    return np.asarray([row.tolist().index(code) for row, code in zip(ordered, y, strict=True)])


def balanced_log_loss(y: np.ndarray, p: np.ndarray, task: Task, w: Any) -> float:
    rows = -np.log(p[np.arange(len(y)), y])
    return float(
        np.mean([np.average(rows[y == c], weights=None if w is None else w[y == c]) for c in np.unique(y)])
    )


def pinball(y: np.ndarray, p: np.ndarray, task: Task, w: Any) -> float:
    pairs = zip(task.quantiles, p.T, strict=True)
    return float(np.mean([sk.mean_pinball_loss(y, one, alpha=a, sample_weight=w) for a, one in pairs]))


def weighted_interval_score(y: np.ndarray, p: np.ndarray, task: Task, w: Any) -> float:
    """Bracher and others (2021), equation 1, of the 90 % and the 50 % interval and the median."""
    total = 0.5 * np.abs(y - p[:, 2])
    for alpha, low, high in ((0.1, p[:, 0], p[:, 5]), (0.5, p[:, 1], p[:, 4])):
        beyond = np.maximum(low - y, 0.0) + np.maximum(y - high, 0.0)
        total += alpha / 2 * (high - low + 2 / alpha * beyond)
    return float(np.average(total / 2.5, weights=w))


def ranked_probability(y: np.ndarray, p: np.ndarray, task: Task, w: Any) -> float:
    """Twice the mean pinball loss over levels, each of which has the quantile of the nearest that is predicted."""
    grid = (np.arange(20_000) + 0.5) / 20_000
    nearest = np.abs(grid[:, None] - np.array(task.quantiles)).argmin(axis=1)
    shares = np.bincount(nearest) / len(grid)
    by_level = [
        sk.mean_pinball_loss(y, one, alpha=a, sample_weight=w)
        for a, one in zip(task.quantiles, p.T, strict=True)
    ]
    return float(2 * shares @ by_level)


NUMBERED = {"fbeta": "fbeta@0.5", "top_k": "top_k@2", "map": "map@3", "ndcg": "ndcg@10"}
"""One metric of each family, which stands for all."""

OF_LISTS = {"ndcg", "ndcg@10", "mrr"}
"""Those of rankings alone: `test_ranked_lists.py` holds them, for their rows cannot be drawn or judged one by one."""

ORACLES: dict[str, Oracle] = {
    "accuracy": of_labels(sk.accuracy_score),
    "balanced_accuracy": of_labels(sk.balanced_accuracy_score),
    "log_loss": lambda y, p, task, w: float(sk.log_loss(y, p, sample_weight=w)),
    "roc_auc": one_against_rest(sk.roc_auc_score),
    "average_precision": one_against_rest(sk.average_precision_score),
    "f1": of_labels(sk.f1_score, pos_label=TASKS["binary"].positive),
    "f1_macro": of_labels(sk.f1_score, average="macro"),
    "mcc": of_labels(sk.matthews_corrcoef),
    "brier": brier,
    "rmse": of_values(sk.root_mean_squared_error),
    "rmsle": of_values(sk.root_mean_squared_log_error),
    "mcrmse": of_values(sk.root_mean_squared_error),
    "arrmse": lambda y, p, task, w: float(
        np.sqrt(np.average((y - p[:, 0]) ** 2, weights=w) / np.cov(y, aweights=w, ddof=0))
    ),
    "mae": of_values(sk.mean_absolute_error),
    "r2": of_values(sk.r2_score),
    "pearson": lambda y, p, task, w: correlation(y, p[:, 0], w),
    "quadratic_weighted_kappa": of_labels(sk.cohen_kappa_score, weights="quadratic", labels=range(25)),
    "recall_macro": of_labels(sk.recall_score, average="macro"),
    "kappa": of_labels(sk.cohen_kappa_score),
    "log_loss_balanced": balanced_log_loss,
    "gini": gini,
    "gini_normalized": gini_normalized,
    "spearman": lambda y, p, task, w: correlation(mid_ranks(y, w), mid_ranks(p[:, 0], w), w),
    "mape": of_values(sk.mean_absolute_percentage_error),
    "smape": lambda y, p, task, w: float(
        np.average([2 * abs(a - b) / (abs(a) + abs(b)) for a, b in zip(y, p[:, 0], strict=True)], weights=w)
    ),
    "medae": weighted_median,
    "pinball": pinball,
    "wis": weighted_interval_score,
    "crps": ranked_probability,
    "coverage": lambda y, p, task, w: float(
        np.average([a <= b <= c for a, b, c in zip(p[:, 0], y, p[:, -1], strict=True)], weights=w)
    ),
    "interval_width": lambda y, p, task, w: float(np.average(np.ptp(p, axis=1), weights=w)),
    "explained_variance": of_values(sk.explained_variance_score),
    "fbeta@0.5": lambda y, p, task, w: of_labels(
        sk.fbeta_score,
        beta=0.5,
        **({"pos_label": task.positive} if task.kind == "binary" else {"average": "macro"}),
    )(y, p, task, w),
    "top_k@2": lambda y, p, task, w: float(
        sk.top_k_accuracy_score(y, p, k=2, sample_weight=w, labels=range(4))
    ),
    "map@3": lambda y, p, task, w: float(
        np.average([1 / (n + 1) if n < 3 else 0.0 for n in place_of_true(y, p)], weights=w)
    ),
}


def worst_error(y: np.ndarray, p: np.ndarray, task: Task, weight: Any) -> float:
    return float(np.quantile(np.abs(y - p), 0.9))


def cost(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    return float(1.0 + np.mean(y_true == y_pred) ** 2)


WITHOUT_OPTIONAL_FACTS = [
    Metric(
        name="worst_error",
        needs="value",
        greater_is_better=False,
        tasks=("regression",),
        function=worst_error,
    ),
    Metric(
        name="cubed",
        needs="value",
        greater_is_better=False,
        tasks=("regression",),
        row_values=lambda y, p, task: np.abs(y - p) ** 3,
    ),
    user_metric("mine:cost", cost, "binary"),
]


def names_of(kind: str) -> list[str]:
    """Return a kind's metrics, one of each family included."""
    return metric_names(kind) + [name for name in NUMBERED.values() if kind in METRICS[name].tasks]


EVERY = [
    pytest.param(METRICS[name], task, id=f"{kind}-{name}")
    for kind, task in TASKS.items()
    for name in names_of(kind)
] + [pytest.param(metric, TASKS[metric.tasks[0]], id=metric.name) for metric in WITHOUT_OPTIONAL_FACTS]
OPTIMISED = [one for one in EVERY if one.values[0].is_optimised]  # type: ignore[union-attr]


def rows(task: Task, n: int = 150, seed: int = 0, n_members: int = 3) -> tuple[np.ndarray, list[np.ndarray]]:
    """True values, whole numbers in regression, and predictions from good to bad, at least 0."""
    random = np.random.default_rng(seed)
    noise = np.linspace(0.6, 1.5, n_members)
    if not task.classes:
        y = random.integers(1, 7, n).astype(float)
        values = [np.maximum(y + s * random.normal(size=(1, n)), 0.0).T for s in noise]
        return y, [one if not task.quantiles else np.maximum(one + spread_of(task), 0.0) for one in values]
    y = random.integers(0, task.n_outputs, n)
    logits = [1.5 * np.eye(task.n_outputs)[y] + s * random.normal(size=(n, task.n_outputs)) for s in noise]
    return y, [np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in logits]


def spread_of(task: Task) -> np.ndarray:
    return np.asarray(0.3 * stats.norm.ppf(task.quantiles))


def weights_or_none(weighted: bool, n: int = 150) -> Any:
    return np.random.default_rng(1).uniform(0.2, 3.0, n) if weighted else None


def test_every_metric_has_an_independent_implementation() -> None:
    # Those of label sets have theirs in test_label_sets.
    of_sets = {name for name, metric in METRICS.items() if metric.tasks == ("multilabel",)}
    assert set(ORACLES) | OF_LISTS | of_sets == {*METRICS, *NUMBERED.values()}, (
        "add a row to ORACLES for each new metric"
    )
    assert set(NUMBERED) == set(METRICS.families), "add a row to NUMBERED for each new family"
    assert set(METRICS) == {name for kind in (*TASKS, "ranking", "multilabel") for name in metric_names(kind)}


@pytest.mark.parametrize("name", [*METRICS, *NUMBERED.values()])
def test_the_docs_have_a_row_for_it(name: str) -> None:
    metric, page = METRICS[name], Path(__file__).parents[2] / "docs" / "config.md"
    better = "greater" if metric.greater_is_better else "smaller"
    family = METRICS.families.get(name.partition("@")[0])
    row = f"| `{name if family is None else family.pattern}` | {', '.join(metric.tasks)} | {better} | "
    assert row in page.read_text("utf-8"), f"docs/config.md must have a row that begins with {row!r}"


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("metric", "task"), EVERY[: -len(WITHOUT_OPTIONAL_FACTS)])
def test_it_equals_an_independent_implementation(metric: Metric, task: Task, weighted: bool) -> None:
    y, predictions = rows(task)
    weight = weights_or_none(weighted)
    for prediction in predictions:
        expected = ORACLES[metric.name](y, prediction, task, weight)
        assert metric.score(y, prediction, task, weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("metric", "task"), OPTIMISED)
def test_better_predictions_score_better(metric: Metric, task: Task) -> None:
    y, predictions = rows(task)
    right = np.eye(task.n_outputs)[y] if task.classes else np.repeat(y[:, None], task.n_outputs, axis=1)
    losses = [
        metric.loss(y, one, task) for one in (right, predictions[0], np.roll(predictions[0], 1, axis=0))
    ]
    assert losses == sorted(losses) and losses[0] < losses[1] < losses[2]
    assert [metric.signed(metric.signed(loss)) for loss in losses] == losses


@pytest.mark.parametrize(("weighted", "stratified"), [(False, True), (True, False)])
@pytest.mark.parametrize(("metric", "task"), EVERY)
def test_its_bootstrap_equals_scoring_every_resample(
    metric: Metric, task: Task, weighted: bool, stratified: bool
) -> None:
    y, predictions = rows(task)
    weight, strata = weights_or_none(weighted), (y > 1).astype(int) if stratified else None
    found = metric.bootstrap(y, predictions, task, weight, 6, 3, strata)
    expected = [
        [metric.score(y[r], one[r], task, None if weight is None else weight[r]) for one in predictions]
        for r in draw_rows(len(y), 6, 3, strata)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("transform", ["none", "log1p"])
@pytest.mark.parametrize(("metric", "task"), EVERY)
def test_its_growing_averages_are_scored_as_whole_ones(
    metric: Metric, task: Task, transform: Any, weighted: bool
) -> None:
    y, predictions = rows(task)
    if transform == "log1p":
        if task.classes:
            return
        task = replace(task, transform=transform)
        y, predictions = np.log1p(y), [np.log1p(one) for one in predictions]
    weight = weights_or_none(weighted)
    scorer = metric.incremental_scorer(predictions, y, task, weight, seed=0)
    for picked in ([], [1], [1, 0], [1, 0, 0]):
        scorer.reset()
        for candidate in picked:
            scorer.add(candidate)
        means = [np.mean([predictions[i] for i in [*picked, j]], axis=0) for j in range(len(predictions))]
        target = task.to_target_scale(y)
        expected = np.array([metric.loss(target, task.to_target_scale(mean), task, weight) for mean in means])
        # Losses stand for those of the metric up to a monotone map: a root, or a shift.
        losses = scorer.losses(np.arange(len(predictions)))
        assert expected[int(losses.argmin())] == pytest.approx(expected.min(), rel=1e-9)
        for of_metric in (expected, expected**2, expected + 1.0):
            if np.allclose(losses, of_metric, rtol=1e-9):
                break
        else:
            pytest.fail(f"{losses} are no losses of {expected}")


@pytest.mark.parametrize(("metric", "task"), EVERY)
def test_its_decisions_are_no_worse_than_plain_ones(metric: Metric, task: Task) -> None:
    y, (prediction, *_) = rows(task)
    decided = Decision.fit(metric, y, prediction, task).apply(prediction)
    if metric.needs == "label":
        assert metric.loss(y, decided, task) <= metric.loss(y, prediction, task) + 1e-12
        assert Decision.fit(metric, y, prediction, task, "threshold").kind in ("threshold", "offsets", "cuts")
    else:
        with pytest.raises(UsageError, match="needs a label metric"):
            Decision.fit(metric, y, prediction, task, "threshold")


@pytest.mark.parametrize(("metric", "task"), OPTIMISED)
def test_votes_can_be_fitted_to_it_on_many_rows(metric: Metric, task: Task) -> None:
    y, predictions = rows(task, n=10_500, n_members=2)
    fitted = [
        greedy_selection(predictions, y, metric, task, picks=2, bags=1),
        fit_simplex_weights(predictions, y, metric, task),
    ]
    worst = max(metric.loss(y, one, task) for one in predictions)
    for weights in fitted:
        assert weights.sum() == pytest.approx(1.0)
        assert metric.loss(y, weights[0] * predictions[0] + weights[1] * predictions[1], task) <= worst


def test_metrics_of_ranking_ask_only_for_the_order() -> None:
    for kind, task in TASKS.items():
        y, (prediction, *_) = rows(task)
        for name in names_of(kind):
            if METRICS[name].ranking:
                ranks = stats.rankdata(prediction, axis=0) / (len(y) + 1)
                found = METRICS[name].score(y, ranks, task)
                assert found == pytest.approx(METRICS[name].score(y, prediction, task))
