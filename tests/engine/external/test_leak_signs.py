"""Suspicions are raised on what is wrong and not on what is sound."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from stackfeat.engine.external.leak_signs import (
    better_order,
    far_above,
    likeness,
    order_text,
)
from stackfeat.tasks.task import Task

THREE = Task("multiclass", ("a", "b", "c"))
VALUES = Task("regression")


def drawn(n_rows: int = 300, strength: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n_rows)
    scores = rng.normal(size=(n_rows, 3)) + strength * np.eye(3)[y]
    proba = np.exp(scores)
    return y, proba / proba.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_best_order_is_found_as_by_trying_all(order: tuple[int, ...]) -> None:
    y, proba = drawn()
    mixed = proba[:, list(order)]
    found = better_order(y, mixed)
    if order == (0, 1, 2):
        assert found is None
        return
    assert found is not None
    best = min(permutations(range(3)), key=lambda tried: log_loss(y, mixed[:, list(tried)]))
    assert tuple(found) == best
    assert np.array_equal(mixed[:, found], proba)
    # The text names the classes of the columns as they stand in the file.
    assert f"[{', '.join(THREE.classes[code] for code in order)}]" in order_text(found, THREE)


def test_noise_suggests_no_other_order() -> None:
    alarms = sum(better_order(*drawn(strength=0.0, seed=seed)) is not None for seed in range(40))
    assert alarms == 0


def test_chance_is_told_from_skill() -> None:
    y, proba = drawn()
    assert not THREE.is_near_chance(y, proba, None)
    assert THREE.is_near_chance(y, np.random.default_rng(1).permutation(proba), None)
    values = np.random.default_rng(0).normal(size=300)
    noisy = (values + np.random.default_rng(1).normal(size=300))[:, None]
    assert not VALUES.is_near_chance(values, noisy, None)
    assert VALUES.is_near_chance(values, np.random.default_rng(2).permutation(noisy), None)


def test_rows_that_were_seen_are_surer_and_alike_rows_are_not() -> None:
    _, test = drawn(seed=1)
    _, alike = drawn(seed=2)
    _, sure = drawn(seed=3, strength=6.0)
    auc, surer = likeness(alike, test, THREE, 0)
    assert 0.4 < auc < 0.6 and abs(surer) < 3
    auc, surer = likeness(sure, test, THREE, 0)
    assert auc > 0.6 and surer > 3


@pytest.mark.parametrize(
    ("imported", "own", "error", "greater", "expected"),
    [
        (0.02, 0.5, 0.02, False, True),
        (0.40, 0.5, 0.01, False, False),  # sure, but not far
        (0.02, 0.5, 0.20, False, False),  # far, but not sure
        (0.999, 0.90, 0.005, True, True),
        (0.92, 0.90, 0.001, True, False),
    ],
)
def test_far_above_is_sure_and_far(
    imported: float, own: float, error: float, greater: bool, expected: bool
) -> None:
    assert far_above(imported, own, abs(imported - own), error, greater) is expected
