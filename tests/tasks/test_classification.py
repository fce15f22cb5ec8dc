"""What members predict is checked before it is clipped."""

from __future__ import annotations

import numpy as np
import pytest

from stackfeat.errors import MemberError
from stackfeat.nets.outputs import Head
from stackfeat.tasks.classification import checked_probabilities
from stackfeat.tasks.rows import checked_finite


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.5, np.inf], [0.5, 0.5]], "finite numbers; got 1 rows with NaN or infinity"),
        ([[0.5, -np.inf], [0.5, 0.5]], "finite numbers"),
        ([[np.nan, 0.5], [np.nan, 0.5]], "got 2 rows"),
        ([[-0.2, 1.2], [0.5, 0.5]], "between 0 and 1; got -0.2, in 1 rows"),
        ([[1.0001, 0.0], [0.5, 0.5]], "between 0 and 1; got 1.0001"),
        ([[3.0, 4.0], [0.5, 0.5]], "If these are scores before the logistic or soft-max"),
        ([[0.2, 0.2], [0.5, 0.5]], "sum to 1 in each row; got a sum of 0.4, 1 rows"),
        ([[0.0, 0.0], [0.5, 0.5]], "sum to 1"),
        ([[0.5 + 0j, 0.5]], "real numbers; got dtype=complex128"),
        ([["a", "b"]], "real numbers"),
    ],
)
def test_what_are_no_probabilities_is_said(values: list[list[object]], message: str) -> None:
    with pytest.raises(MemberError, match=message):
        checked_probabilities(np.array(values), "Odd")


def test_rounding_is_taken_away() -> None:
    found = checked_probabilities(np.array([[-1e-9, 1.0], [1 + 1e-7, 0.0], [0.5, 0.499]]), "Net")
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-15)


def test_values_may_be_anything_finite() -> None:
    assert checked_finite(np.array([[1], [-1000]]), "Net").dtype == np.float64
    with pytest.raises(MemberError, match="Net must predict finite numbers"):
        checked_finite(np.array([[1.0], [np.inf]]), "Net")


@pytest.mark.parametrize(
    ("head", "output"),
    [
        (Head("proba"), [[1.5, -0.5]]),
        (Head("proba"), [[np.nan, 0.5]]),
        (Head("proba", one_column=True), [[1.5]]),
        (Head("proba", one_column=True), [[-0.5]]),
        (Head("logits"), [[np.nan, 0.5]]),
        (Head("logits"), [[np.inf, 0.5]]),
        (Head("value"), [[np.inf]]),
    ],
)
def test_outputs_of_nets_are_checked_too(head: Head, output: list[list[float]]) -> None:
    with pytest.raises(MemberError, match="Tiny must predict"):
        head.predictions(np.array(output, dtype=np.float32), "Tiny")


def test_a_logit_of_minus_infinity_is_a_probability_of_zero() -> None:
    assert Head("logits").predictions(np.array([[-np.inf, 0.5]])).tolist() == [[0.0, 1.0]]
