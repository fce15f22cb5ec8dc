"""Similarity of layers: against kernels written out, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group, spearmanr

import stackfeat as sf
from stackfeat.errors import UsageError


def hsic(a: np.ndarray, b: np.ndarray) -> float:
    centring = np.eye(len(a)) - 1 / len(a)
    return float(np.trace(a @ a.T @ centring @ b @ b.T @ centring))


@pytest.mark.parametrize("widths", [(4, 7), (60, 3), (60, 80)])
def test_cka_is_that_of_kernels_written_out(widths: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(40, widths[0])) + 2
    b = np.hstack([a[:, :2], rng.normal(size=(40, widths[1] - 2))])
    expected = hsic(a, b) / (hsic(a, a) * hsic(b, b)) ** 0.5
    assert sf.similarity(a, b) == pytest.approx(expected)
    assert 0 < expected < 1


def test_rsa_correlates_distances_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(30, 4))
    b = a @ rng.normal(size=(4, 3))
    pairs = [(i, j) for i in range(30) for j in range(i)]
    far = [[float(np.linalg.norm(x[i] - x[j])) for i, j in pairs] for x in (a, b)]
    assert sf.similarity(a, b, method="rsa") == pytest.approx(spearmanr(*far).statistic)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    scale=st.floats(0.01, 100),
    shift=st.floats(-10, 10),
    method=st.sampled_from(["cka", "rsa"]),
)
def test_a_turned_shifted_scaled_layer_is_the_same_layer(
    seed: int, scale: float, shift: float, method: str
) -> None:
    rows = np.random.default_rng(seed).normal(size=(50, 5))
    turned = scale * rows @ ortho_group.rvs(5, random_state=seed) + shift
    assert sf.similarity(rows, turned, method=method) == pytest.approx(1, abs=1e-6)


def test_unrelated_layers_are_unlike_and_dicts_give_a_table() -> None:
    rng = np.random.default_rng(0)
    layers = {"a": rng.normal(size=(2500, 3)), "b": rng.normal(size=(2500, 2, 2))}
    for method in ("cka", "rsa"):
        table = sf.similarity(layers, layers, method=method)
        assert list(table.index) == list(table.columns) == ["a", "b"]
        assert table.loc["a", "a"] == pytest.approx(1) and abs(table.loc["a", "b"]) < 0.05
        np.testing.assert_allclose(table, table.T)
    assert sf.similarity(layers, layers["a"]).shape == (2, 1)


@pytest.mark.parametrize("method", ["cka", "rsa"])
def test_a_layer_that_does_not_vary_is_like_none(method: str) -> None:
    assert np.isnan(sf.similarity(np.ones((5, 2)), np.arange(10.0).reshape(5, 2), method=method))


@pytest.mark.parametrize(
    ("first", "second", "options", "said"),
    [
        (np.zeros((4, 2)), np.zeros((5, 2)), {}, "the same rows; got \\[4, 5\\]"),
        (np.zeros((2, 2)), np.zeros((2, 2)), {}, "at least 3 rows"),
        (np.full((4, 2), np.nan), np.zeros((4, 2)), {}, "finite; values is not"),
        ({}, np.zeros((4, 2)), {}, "got none"),
        (np.float64(3), np.zeros((4, 2)), {}, "a row for each sample"),
        (np.zeros((4, 2)), np.zeros((4, 2)), {"method": "cca"}, "one of cka, rsa; got 'cca'"),
    ],
)
def test_each_misuse_is_named(first: object, second: object, options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sf.similarity(first, second, **options)
