"""Contributions are Shapley values: exact where they must be, near enumeration elsewhere."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pytest

from stackfeat.engine.contributions import contributions
from stackfeat.errors import UsageError


def enumerated(worth: np.ndarray, n: int) -> np.ndarray:
    """Shapley values by their definition; `worth` by the number whose bits are the set."""
    values = np.zeros(n)
    for j in range(n):
        others = [k for k in range(n) if k != j]
        for size in range(n):
            share = factorial(size) * factorial(n - size - 1) / factorial(n)
            for chosen in combinations(others, size):
                number = sum(1 << k for k in chosen)
                values[j] += share * (worth[number | 1 << j] - worth[number])
    return values


def test_a_sum_of_columns_is_taken_apart_exactly() -> None:
    weights = np.array([2.0, -1.0, 0.0, 0.5])
    values, errors = contributions(lambda sets: sets @ weights, 4, 4, seed=0)
    np.testing.assert_allclose(values, weights, atol=1e-12)
    np.testing.assert_allclose(errors, 0.0, atol=1e-12)


def test_a_product_is_shared_equally_by_orders_and_their_reverses() -> None:
    values, errors = contributions(lambda sets: sets.all(axis=1).astype(float)[:, None], 2, 4, seed=3)
    np.testing.assert_allclose(values, [[0.5], [0.5]])
    np.testing.assert_allclose(errors, 0.0)


def test_any_function_is_near_enumeration_within_the_errors_that_are_told() -> None:
    n, rng = 5, np.random.default_rng(0)
    table = rng.normal(size=(2**n, 3))
    exact = np.stack([enumerated(table[:, k], n) for k in range(3)], axis=1)

    def worth(sets: np.ndarray) -> np.ndarray:
        assert len(np.unique(sets, axis=0)) == len(sets)
        return np.asarray(table[sets @ (1 << np.arange(n))])

    values, errors = contributions(worth, n, 400, seed=1)
    assert (np.abs(values - exact) < 4 * errors).all() and errors.max() < 0.1
    # In every draw they add up.
    for seed in range(3):
        few, _ = contributions(worth, n, 4, seed=seed)
        np.testing.assert_allclose(few.sum(axis=0), table[-1] - table[0])


@pytest.mark.parametrize("n_permutations", [0, 2, 7])
def test_a_number_of_orders_without_pairs_is_refused(n_permutations: int) -> None:
    with pytest.raises(UsageError, match="n_permutations must be even and at least 4; got n_permutations="):
        contributions(lambda sets: sets.sum(axis=1), 3, n_permutations, seed=0)
