"""Weights of a fit have mean 1, whatever the file's scale."""

from __future__ import annotations

import numpy as np
import pytest

from stackfeat.data.prepare.weights import mean_one
from stackfeat.errors import MemberError


@pytest.mark.parametrize("value", [1.0, 1 / 5000, 0.1, 1e300, 5e-324, 7])
def test_equal_weights_are_exactly_one(value: float) -> None:
    assert mean_one(np.full(37, value)).tolist() == [1.0] * 37


@pytest.mark.parametrize("factor", [1e-300, 1 / 3, 1e6, 1e300])
def test_a_factor_of_all_weights_changes_nothing(factor: float) -> None:
    weight = np.random.default_rng(0).uniform(0, 3, 50)
    np.testing.assert_allclose(mean_one(weight * factor), weight / weight.mean(), rtol=1e-12)


def test_rows_of_no_weight_cannot_be_fitted() -> None:
    with pytest.raises(
        MemberError, match=r"must have a weight above 0; got 0 in all 4 rows; use fewer folds"
    ):
        mean_one(np.zeros(4))
