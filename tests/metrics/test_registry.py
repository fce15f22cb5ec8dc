"""A metric of one's own: what is wrong with it is said before the training, once, in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stackfeat.errors import UsageError
from stackfeat.metrics.registry import user_metric
from stackfeat.tasks.task import Task

BINARY = Task(kind="binary", classes=("no", "yes"), positive=1)
REGRESSION = Task(kind="regression")
CODES = np.array([0, 1] * 30)


def metric(result: Any, needs: str = "proba", task: str = "binary") -> Any:
    def quality(y_true: np.ndarray, y_pred: np.ndarray) -> Any:
        return result(y_true, y_pred) if callable(result) else result

    quality.needs = needs  # type: ignore[attr-defined]
    return user_metric("mine:quality", quality, task)


def fails(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    raise IndexError("no such\ncolumn")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            float("nan"),
            "must return a finite number; got nan for guesses of 60 training rows, before any training",
        ),
        (float("inf"), "must return a finite number; got inf"),
        (None, "must return one number; got NoneType"),
        (1j, "must return one number; got complex"),
        ("0.5", "must return one number; got str"),
        (np.zeros(2), r"must return one number; got ndarray of shape \(2,\)"),
        ({}, "must return one number; got dict"),
        (fails, "must return a number for 60 rows; it raised IndexError: no such; repair"),
        (lambda y, p: 1 / 0, "must return a number for 60 rows; it raised ZeroDivisionError"),
        (lambda y, p: exit(3), "must return a number for 60 rows; it raised SystemExit"),
        (lambda y, p: pytest.fail("odd"), "must return a number for 60 rows; it raised Failed: odd"),
    ],
)
def test_a_metric_that_cannot_be_used_is_found_by_a_trial(result: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"metric 'mine:quality' {message}") as told:
        metric(result).tried_on(CODES, BINARY, None)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("needs", ["label", "proba"])
def test_the_trial_gives_what_scoring_gives(needs: str) -> None:
    seen: list[Any] = []

    def look(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        seen.append((y_true, y_pred))
        return 1.0

    metric(look, needs).tried_on(CODES, BINARY, None)
    ((y_true, y_pred),) = seen
    assert set(y_true) == {"no", "yes"} and len(y_true) == len(y_pred) == 60
    assert set(y_pred) == {"no", "yes"} if needs == "label" else (y_pred.min() > 0 and y_pred.max() < 1)


def test_the_trial_of_values_is_on_the_scale_of_the_target() -> None:
    def look(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        assert y_pred.min() > 90 and y_pred.max() < 210
        return float(np.abs(y_true - y_pred).mean())

    metric(look, "value", "regression").tried_on(np.linspace(100, 200, 5000), REGRESSION, np.ones(5000))


def test_a_metric_that_changes_its_inputs_changes_copies() -> None:
    def greedy(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        y_pred[:] = 0
        y_true[:] = "no"
        return 1.0

    prediction = np.full((60, 2), 0.5)
    assert metric(greedy).score(CODES, prediction, BINARY, None) == 1.0
    assert (prediction == 0.5).all() and CODES.sum() == 30
