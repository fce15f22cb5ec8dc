"""Calibration: numbers against oracles, what is kept and what is not, and what a damaged entry says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, softmax
from scipy.stats import linregress
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss

from stackfeat.errors import StructureError
from stackfeat.meta.calibration import Calibration, choose_calibration
from stackfeat.meta.calibration_families import (
    FAMILIES,
    UNMOVED,
    ByLabel,
    ClassScaling,
    Linear,
    Shift,
    Temperature,
)
from stackfeat.store import MemoryStore
from stackfeat.tasks.quantile import of_quantiles
from stackfeat.tasks.task import TASKS, Task, task_class

BINARY, THREE, VALUE = Task("binary", ("no", "yes")), Task("multiclass", ("a", "b", "c")), Task("regression")


def drawn(n_classes: int = 2, n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Class scores whose soft-max is the law of the labels, and labels."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(n, n_classes)) * 1.5
    labels = (random.random((n, 1)) > softmax(scores, axis=1).cumsum(axis=1)).sum(axis=1)
    return scores, labels


def folds(n: int) -> np.ndarray:
    return np.arange(n) % 4


def chosen(prediction: np.ndarray, y: np.ndarray, task: Task, **given: Any) -> Calibration:
    return choose_calibration(prediction, y, folds(len(y)), task, **given)


def test_every_family_that_a_task_names_is_there_and_every_one_is_named() -> None:
    named = [name for kind in TASKS for name in task_class(kind).calibrations]
    assert set(named) == set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("n_outputs", [2, 3, 7])
def test_undoing_gives_back_what_was_calibrated(name: str, n_outputs: int) -> None:
    random, family = np.random.default_rng(2), FAMILIES[name]
    shape = family.shape(n_outputs)
    factors = random.uniform(0.3, 3.0, (max(1, shape[0] // 2), shape[1]))
    numbers = np.vstack([factors, random.normal(size=factors.shape)])[: shape[0]]
    prediction = softmax(2.0 * random.normal(size=(500, n_outputs)), axis=1)
    if name == "shift":
        # Quantiles that do not cross, before and after.
        numbers, prediction = np.sort(numbers), np.sort(prediction)
    again = family.undo(numbers, family.apply(numbers, prediction))
    np.testing.assert_allclose(again, prediction, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("factor", [3.0, 0.4])
@pytest.mark.parametrize("task", [BINARY, THREE])
def test_a_wrong_temperature_is_found(task: Task, factor: float) -> None:
    scores, y = drawn(len(task.classes))
    found = chosen(softmax(factor * scores, axis=1), y, task)
    assert found.found["family"] == "temperature"
    assert found.found["parameters"]["temperature"] == pytest.approx(factor, rel=0.1)
    assert found.found["gain"] > 3 * found.found["se"] > 0
    lost, own = (
        log_loss(y, p) for p in (found.apply(softmax(factor * scores, axis=1)), softmax(scores, axis=1))
    )
    assert lost == pytest.approx(own, rel=0.01)


def test_two_classes_are_scaled_as_logistic_regression_on_both_logarithms_does() -> None:
    """Beta calibration is a logistic regression on the logarithms of both probabilities."""
    scores, _ = drawn(2, 4000)
    p = expit(scores[:, 0])
    y = (np.random.default_rng(1).random(len(p)) < expit(1.6 * np.log(p) - 0.6 * np.log(1 - p) + 0.5)).astype(
        int
    )
    prediction = np.column_stack([1 - p, p])
    columns = np.column_stack([np.log(p), -np.log(1 - p)])
    oracle = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000).fit(columns, y).predict_proba(columns)
    numbers = ClassScaling.fit(prediction, y, np.full(len(y), 1 / len(y)))
    np.testing.assert_allclose(ClassScaling.apply(numbers, prediction), oracle, atol=0.004)
    assert chosen(prediction, y, BINARY).found["family"] == "class_scaling"


def test_a_class_that_is_said_too_seldom_gets_an_offset() -> None:
    scores, y = drawn(3)
    found = chosen(softmax(scores - np.array([0.0, 0.0, 1.0]), axis=1), y, THREE)
    offsets = np.array(found.found["parameters"]["offsets"])
    assert found.family is ClassScaling
    np.testing.assert_allclose(offsets - offsets[0], [0, 0, 1], atol=0.2)


def test_values_are_put_on_a_line_as_least_squares_does() -> None:
    random = np.random.default_rng(0)
    x, weight = random.normal(size=500), random.random(500)
    y = 3 * x + 5 + random.normal(size=500)
    oracle = LinearRegression().fit(x[:, None], y, weight)
    numbers = Linear.fit(x[:, None], y, weight / weight.sum())
    np.testing.assert_allclose(numbers[:, 0], [oracle.coef_[0], oracle.intercept_])
    found = chosen(x[:, None], y, VALUE, weight=weight)
    np.testing.assert_allclose(found.apply(x[:, None])[:, 0], oracle.predict(x[:, None]))


def test_each_of_several_targets_gets_a_line_of_its_own() -> None:
    x = np.random.default_rng(0).normal(size=(200, 2))
    numbers = Linear.fit(x, x * [2, 4] + [1, -1], np.full(200, 1 / 200))
    np.testing.assert_allclose(numbers, [[2, 4], [1, -1]])


def test_the_order_of_rows_never_turns_round() -> None:
    x = np.linspace(-1, 1, 50)[:, None]
    assert (np.diff(Linear.apply(Linear.fit(x, -x[:, 0], np.full(50, 0.02)), x)[:, 0]) > 0).all()
    p = np.column_stack([1 - expit(x[:, 0]), expit(x[:, 0])])
    y = (x[:, 0] < 0).astype(np.int64)
    for family in (Temperature, ClassScaling):
        assert (np.diff(family.apply(family.fit(p, y, np.full(50, 0.02)), p)[:, 1]) > 0).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("task", [BINARY, THREE])
def test_calibrated_predictions_stay_as_they_are_to_the_bit(task: Task, seed: int) -> None:
    scores, y = drawn(len(task.classes), 2000, seed + 10)
    prediction = softmax(scores, axis=1)
    found = chosen(prediction, y, task)
    # One standard error lets one try in six in; what comes in then does next to nothing.
    if found.family is None:
        assert found.apply(prediction) is prediction and found.found["family"] == "none"
        assert found.found["gain"] == 0
    else:
        assert abs(found.apply(prediction) - prediction).max() < 0.05
    assert any(not trial["kept"] for trial in found.found["trials"])


@pytest.mark.parametrize("family", ["temperature", "class_scaling"])
def test_a_family_that_is_given_is_kept_whatever_it_gains(family: str) -> None:
    scores, y = drawn(3, 400, seed=5)
    prediction = softmax(scores, axis=1)
    found = choose_calibration(prediction, y, np.arange(400) % 4, THREE, given=family)
    assert found.family is FAMILIES[family] and found.found["family"] == family
    assert [(trial["family"], trial["kept"]) for trial in found.found["trials"]] == [(family, True)]
    numbers = FAMILIES[family].fit(prediction, y, np.full(400, 1 / 400))
    np.testing.assert_allclose(found.numbers, numbers)


def test_groups_are_the_unit_of_the_standard_error() -> None:
    """Rows that stand for each other a hundred times over count once."""
    scores, y = drawn(2, 40, seed=3)
    prediction, times = softmax(1.35 * scores, axis=1), 100
    groups = np.repeat(np.arange(40), times)
    many = np.repeat(prediction, times, axis=0), np.repeat(y, times)
    inside = groups % 4
    alone = choose_calibration(*many, inside, BINARY)
    grouped = choose_calibration(*many, inside, BINARY, clusters=groups)
    by_group = [found.found["trials"][0]["se"] for found in (grouped, alone)]
    assert by_group[0] == pytest.approx(10 * by_group[1], rel=0.05)


def test_weights_count_as_repetitions_do() -> None:
    scores, y = drawn(2, 600)
    prediction = softmax(2 * scores, axis=1)
    weight = np.random.default_rng(0).integers(1, 4, len(y))
    numbers = Temperature.fit(prediction, y, weight / weight.sum())
    rows = np.repeat(np.arange(len(y)), weight)
    repeated = Temperature.fit(prediction[rows], y[rows], np.full(len(rows), 1 / len(rows)))
    np.testing.assert_allclose(numbers, repeated, rtol=1e-4)


def test_a_class_that_was_never_predicted_breaks_nothing() -> None:
    prediction, y = np.array([[1.0, 0.0], [0.0, 1.0]] * 30), np.array([0, 1, 1] * 20)
    found = chosen(prediction, y, BINARY)
    assert np.isfinite(found.apply(prediction)).all() and found.found["gain"] > 0


SETS = Task("multilabel", n_targets=4, targets=("right", "sure", "rare", "nobody"))


def labelled(n: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-odds of four labels, labels drawn by them, and log-odds as somebody says them who is wrong about two."""
    random = np.random.default_rng(7)
    scores = random.normal(size=(n, 4)) * 1.5 - np.array([0.0, 0.0, 1.0, 0.0])
    y = (random.random(scores.shape) < expit(scores)).astype(np.int64)
    y[:, 3] = 0
    return scores, y, np.column_stack([scores[:, 0], 3 * scores[:, 1], scores[:, 2] + 1.0, scores[:, 3]])


def test_labels_are_calibrated_one_by_one_and_those_that_are_right_stay_to_the_bit() -> None:
    _, y, said = labelled()
    prediction = expit(said)
    found = chosen(prediction, y, SETS)
    assert found.family is ByLabel and set(found.found["parameters"]) == {"sure", "rare"}
    after = found.apply(prediction)
    # A label that nobody has would be called ever less likely: nothing is known of it.
    np.testing.assert_array_equal(after[:, [0, 3]], prediction[:, [0, 3]])
    sure = found.found["parameters"]["sure"]
    oracle = LogisticRegression(C=1e8, fit_intercept=False).fit(said[:, 1:2], y[:, 1])
    assert 1 / sure["temperature"] == pytest.approx(oracle.coef_[0, 0], rel=0.01)
    np.testing.assert_allclose(after[:, 1], oracle.predict_proba(said[:, 1:2])[:, 1], atol=0.002)
    oracle = LogisticRegression(C=1e8).fit(said[:, 2:3], y[:, 2])
    np.testing.assert_allclose(after[:, 2], oracle.predict_proba(said[:, 2:3])[:, 1], atol=0.02)
    lost = [np.mean([log_loss(y[:, j], p[:, j]) for j in range(3)]) for p in (prediction, after)]
    assert found.found["gain"] * 4 / 3 == pytest.approx(lost[0] - lost[1], rel=0.05)
    np.testing.assert_allclose(found.undo(after), prediction, rtol=1e-6, atol=1e-9)


def test_labels_that_are_right_keep_no_family() -> None:
    scores, y, _ = labelled()
    found = choose_calibration(expit(scores[:, :2]), y[:, :2], folds(len(y)), Task("multilabel", n_targets=2))
    assert found.family is None and found.apply(scores) is scores and found.found["family"] == "none"
    (trial,) = found.found["trials"]
    assert trial == {"family": "by_label", "gain": 0.0, "se": 0.0, "kept": False}


def test_the_error_of_the_slope_of_labels_is_that_of_all_of_them_together() -> None:
    """The curvature of the log-likelihood of one slope beside an offset of each label, by differences."""
    scores, y, _ = labelled(1500)
    scores, y = scores[:, :3], y[:, :3]

    def loss(slope: float) -> float:
        def of(offsets: np.ndarray) -> float:
            return float(np.logaddexp(0.0, np.where(y > 0, -1, 1) * (slope * scores + offsets)).sum())

        return float(minimize(of, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).fun)

    curvature = (loss(1.1) - 2 * loss(1.0) + loss(0.9)) / 0.01
    found = chosen(expit(scores), y, Task("multilabel", n_targets=3))
    assert found.found["slope_se"] == pytest.approx(curvature**-0.5, rel=0.1)


def test_the_calibration_of_labels_is_stored_and_no_other_shape_is_read() -> None:
    _, y, said = labelled()
    found, store = chosen(expit(said), y, SETS), MemoryStore()
    with store.write("a" * 64, "fit", {}) as writer:
        found.save(writer)
    loaded = Calibration.load(store.read("a" * 64), SETS)
    np.testing.assert_array_equal(loaded.apply(expit(said)), found.apply(expit(said)))
    with store.write("b" * 64, "fit", {}) as writer:
        writer.json("calibration", {"family": "by_label", "report": {}})
        writer.array("calibration/numbers", UNMOVED[:, None])
    with pytest.raises(StructureError, match=r"must be the numbers of by_label; got \(4, 1\)"):
        Calibration.load(store.read("b" * 64), SETS)


@pytest.mark.parametrize("task", [BINARY, THREE, VALUE])
def test_what_is_stored_comes_back(task: Task) -> None:
    if task is VALUE:
        prediction, y = np.arange(40.0)[:, None], 2 * np.arange(40.0) + 1
    else:
        scores, y = drawn(len(task.classes))
        prediction = softmax(3 * scores, axis=1)
    found = chosen(prediction, y, task)
    store = MemoryStore()
    with store.write("a" * 64, "fit", {}) as writer:
        found.save(writer)
    loaded = Calibration.load(store.read("a" * 64), task)
    np.testing.assert_array_equal(loaded.apply(prediction), found.apply(prediction))
    assert loaded.found == found.found and loaded.family is not None


@pytest.mark.parametrize(
    ("family", "numbers", "message"),
    [
        ("linear", np.ones((1, 1)), r"family must be one of temperature, class_scaling; got 'linear'"),
        ("temperature", np.ones((2, 2)), r"must be the numbers of temperature; got \(2, 2\)"),
        ("temperature", np.full((1, 1), np.nan), r"must be the numbers of temperature"),
    ],
)
def test_what_no_run_wrote_is_refused(family: str, numbers: np.ndarray, message: str) -> None:
    store = MemoryStore()
    with store.write("a" * 64, "fit", {}) as writer:
        writer.json("calibration", {"family": family, "report": {}})
        writer.array("calibration/numbers", numbers)
    with pytest.raises(StructureError, match=message):
        Calibration.load(store.read("a" * 64), BINARY)


@pytest.mark.parametrize("task", [BINARY, THREE])
def test_the_error_of_the_slope_is_that_of_a_likelihood(task: Task) -> None:
    """The curvature of the log-likelihood of a slope beside free offsets, by differences."""
    scores, y = drawn(len(task.classes), 1500)
    prediction = softmax(scores, axis=1)
    logs, one_hot = np.log(prediction), np.eye(len(task.classes))[y]

    def loss(slope: float) -> float:
        def of(offsets: np.ndarray) -> float:
            said = softmax(slope * logs + np.r_[0.0, offsets], axis=1)
            return -float(np.log((said * one_hot).sum(axis=1)).sum())

        return float(minimize(of, np.zeros(len(task.classes) - 1), method="BFGS", options={"gtol": 1e-8}).fun)

    curvature = (loss(1.1) - 2 * loss(1.0) + loss(0.9)) / 0.01
    assert chosen(prediction, y, task).found["slope_se"] == pytest.approx(curvature**-0.5, rel=0.1)


def test_the_error_of_the_slope_of_values_is_that_of_least_squares() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=400)
    y = x + random.normal(size=400)
    assert chosen(x[:, None], y, VALUE).found["slope_se"] == pytest.approx(linregress(x, y).stderr, rel=0.1)
    twice = chosen(np.column_stack([x, 9 * x]), np.column_stack([y, 9 * y]), Task("regression", n_targets=2))
    assert twice.found["slope_se"] == pytest.approx(linregress(x, y).stderr, rel=0.1)


def test_constant_predictions_have_no_slope() -> None:
    assert chosen(np.full((40, 2), 0.5), np.arange(40) // 3 % 2, BINARY).found["slope_se"] is None
    assert chosen(np.full((40, 1), 0.5), np.arange(40.0), VALUE).found["slope_se"] is None


def test_a_shift_makes_new_targets_lie_below_each_quantile_as_often_as_its_level_says() -> None:
    rng, levels = np.random.default_rng(0), (0.1, 0.5, 0.9)
    task = of_quantiles(levels)
    y = rng.normal(size=4000)
    prediction = np.tile([-0.3, 0.1, 0.6], (4000, 1))
    found = choose_calibration(prediction[:2000], y[:2000], np.arange(2000) % 5, task)
    assert found.family is Shift and found.found["slope_se"] is None
    above = y[:2000, None] - prediction[:2000]
    oracle = [np.quantile(above[:, j], level, method="weibull") for j, level in enumerate(levels)]
    np.testing.assert_allclose(found.numbers, [oracle])
    below = (y[2000:, None] <= found.apply(prediction[2000:])).mean(axis=0)
    np.testing.assert_allclose(below, levels, atol=0.03)
    assert (np.diff(found.apply(rng.normal(size=(50, 3))), axis=1) >= 0).all()


@pytest.mark.parametrize(("scale", "is_kept"), [(1.0, False), (0.96, True), (0.9, True)])
def test_a_shift_is_kept_unless_it_raises_the_loss_by_two_standard_errors(
    scale: float, is_kept: bool
) -> None:
    """The targets' own quantiles, which nothing betters, a little less, where it costs 1.2 errors, and too narrow."""
    task, y = of_quantiles((0.25, 0.75)), np.random.default_rng(1).normal(size=600)
    said = np.tile(scale * np.quantile(y, [0.25, 0.75]), (600, 1))
    found = choose_calibration(said, y, np.arange(600) % 5, task)
    assert (found.family is not None) == is_kept


def test_a_shift_that_folds_disagree_about_is_refused() -> None:
    task, y = of_quantiles((0.25, 0.75)), np.random.default_rng(1).normal(size=600)
    right = np.tile(np.quantile(y, [0.25, 0.75]), (600, 1))
    drifting = right + 2.0 * (np.arange(600) % 2)[:, None]
    refused = choose_calibration(drifting, y, np.arange(600) % 2, task)
    assert refused.family is None and refused.apply(drifting) is drifting


def test_shifts_mend_quantiles_that_are_a_little_too_narrow() -> None:
    """Fitted without the fold that they are said of, which makes each shift look worse than it is on new rows."""
    levels = np.array([0.1, 0.5, 0.9])
    task, random = of_quantiles(tuple(levels)), np.random.default_rng(2)
    new, before, after = random.normal(size=(20_000, 1)), [], []
    for _ in range(20):
        y, fold_of = random.normal(size=800), np.arange(800) % 4
        apart = np.array([np.quantile(y[fold_of != fold], levels) for fold in range(4)])
        found = choose_calibration(0.95 * apart[fold_of], y, fold_of, task)
        said = 0.95 * np.quantile(y, levels)[None, :]
        for shares, row in ((before, said), (after, found.apply(said))):
            shares.append(((row[0, 0] <= new) & (new <= row[0, 2])).mean())
    assert np.mean(before) < 0.78 < 0.785 < np.mean(after) < 0.81
