"""Geometry: statistics of a row within its own fold's embedding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.covariance import empirical_covariance
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid, NearestNeighbors
from sklearn.preprocessing import normalize

from stackfeat.encodings import Geometry
from stackfeat.errors import MemberError, UsageError
from stackfeat.tasks.task import Task

CLASSES = Task("multiclass", ("a", "b", "c"))
VALUES = Task("regression")


def embedded(n=200, d=6, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    return (rng.normal(size=(3, d))[y] + rng.normal(size=(n, d))).astype(np.float32), y


def column(geometry, rows, name):
    return geometry.transform(rows)[:, geometry.columns.index(name)]


def test_class_shares_and_radius_agree_with_scikit_learn():
    rows, y = embedded()
    new, _ = embedded(40, seed=1)
    geometry = Geometry.fit(rows, y, CLASSES, seed=0)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, new)]
    for k in (10, 30):
        expected = KNeighborsClassifier(k).fit(unit[0], y).predict_proba(unit[1])
        got = np.column_stack([column(geometry, new, f"knn{k}:{label}") for label in "abc"])
        np.testing.assert_allclose(got, expected, atol=1e-6)
        near = NearestNeighbors(n_neighbors=k + 1, metric="cosine").fit(rows)
        usual = np.median(near.kneighbors(rows)[0][:, k])
        far = near.kneighbors(new)[0][:, k - 1]
        np.testing.assert_allclose(column(geometry, new, f"radius{k}"), far / usual, rtol=1e-4)


def test_distances_agree_with_their_formulas():
    rows, y = embedded()
    new, _ = embedded(20, seed=1)
    geometry = Geometry.fit(rows, y, CLASSES, seed=0)
    x = rows.astype(float)
    means = np.array([x[y == code].mean(axis=0) for code in range(3)])
    within = np.cov((x - means[y]).T, bias=True)
    covariance = 0.9 * within + 0.1 * np.trace(within) / 6 * np.eye(6)

    def distances(to, code):
        away = to - means[code]
        whitened = np.sqrt(np.einsum("ij,jk,ik->i", away, np.linalg.inv(covariance), away))
        return np.linalg.norm(away, axis=1), whitened

    for code, label in enumerate("abc"):
        for kind, expected, own in zip(
            ("centroid", "mahalanobis"), distances(new, code), distances(x, code), strict=True
        ):
            got = column(geometry, new, f"{kind}:{label}")
            np.testing.assert_allclose(got, expected / own.mean(), rtol=1e-5)


def test_a_space_that_is_wider_in_one_fold_gives_the_same_columns():
    """Units are the fold's own: stretching a net's layer changes nothing, so a row does not tell its fold."""
    rows, y = embedded()
    new, _ = embedded(20, seed=1)
    plain = Geometry.fit(rows, y, CLASSES, seed=0).transform(new)
    np.testing.assert_allclose(
        Geometry.fit(9 * rows, y, CLASSES, seed=0).transform(9 * new), plain, rtol=1e-4
    )
    assert np.median(Geometry.fit(rows, y, CLASSES, seed=0).transform(rows)[:, :6]) == pytest.approx(
        1, abs=0.3
    )


def test_regression_reads_out_neighbours_and_ridge():
    rows, _ = embedded(300)
    y = rows[:, 0] * 50 + 1000
    geometry = Geometry.fit(rows, y, VALUES, seed=0)
    x = rows - rows.mean(axis=0, dtype=float)
    gram = x.T @ x
    w = np.linalg.solve(gram + 0.1 * np.trace(gram) / 6 * np.eye(6), x.T @ (y - y.mean()))
    np.testing.assert_allclose(column(geometry, rows, "readout:0.1"), x @ w + y.mean(), rtol=1e-5)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    near = NearestNeighbors(n_neighbors=10).fit(unit).kneighbors(unit[:50])[1]
    np.testing.assert_allclose(column(geometry, rows[:50], "knn10:mean"), y[near].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(column(geometry, rows[:50], "knn10:sd"), y[near].std(axis=1), rtol=1e-3)


@pytest.mark.parametrize("task", [CLASSES, VALUES])
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), d=st.integers(2, 9))
def test_turning_the_embedding_changes_nothing(task, seed, d):
    rows, y = embedded(120, d, seed)
    turn = ortho_group.rvs(d, random_state=seed)
    plain = Geometry.fit(rows[:90], y[:90], task, seed=0).transform(rows[90:])
    turned = Geometry.fit(rows[:90] @ turn, y[:90], task, seed=0).transform(rows[90:] @ turn)
    np.testing.assert_allclose(turned, plain, atol=2e-3)


@pytest.mark.parametrize("task", [CLASSES, VALUES])
def test_row_order_does_not_matter_even_with_ties(task):
    rows, y = embedded(150)
    rows = np.vstack([rows, rows[:60], np.zeros((30, 6), np.float32)])
    y = np.r_[y, (y[:60] + 1) % 3, np.arange(30) % 3]
    order = np.random.default_rng(3).permutation(len(rows))
    plain = Geometry.fit(rows, y, task, seed=0).transform(rows)
    mixed = Geometry.fit(rows[order], y[order], task, seed=0).transform(rows[order])
    np.testing.assert_allclose(mixed, plain[order], atol=1e-5)


def test_the_label_of_a_held_out_row_does_not_touch_its_encoding():
    rows, y = embedded(100)
    fold_of = np.arange(100) % 5
    flipped = y.copy()
    flipped[7] = (y[7] + 1) % 3

    def out_of_fold(labels):
        held_out = fold_of == fold_of[7]
        return Geometry.fit(rows[~held_out], labels[~held_out], CLASSES, seed=0).transform(rows[[7]])

    assert out_of_fold(y).tobytes() == out_of_fold(flipped).tobytes()


def test_a_row_does_not_depend_on_its_company():
    rows, y = embedded(700)
    geometry = Geometry.fit(rows[:300], y[:300], CLASSES, seed=0)
    whole = geometry.transform(rows)
    parts = np.vstack([geometry.transform(part) for part in np.array_split(rows, [1, 130, 500])])
    assert whole.tobytes() == parts.tobytes()


@pytest.mark.parametrize("task", [CLASSES, VALUES])
def test_few_rows_dead_columns_and_missing_classes_are_fine(task):
    rng = np.random.default_rng(0)
    rows = np.hstack([rng.normal(size=(9, 20)), np.zeros((9, 5)), np.full((9, 1), 3.0)])
    for some in (rows, rows[:1], np.zeros((6, 26)), np.vstack([rows[:1]] * 5)):
        geometry = Geometry.fit(some, np.arange(len(some)) % 2, task, seed=0)
        out = geometry.transform(rng.normal(size=(4, 26)))
        assert out.shape == (4, len(geometry.columns))
        assert np.isfinite(out).all()
        assert out.dtype == np.float32
    assert geometry.transform(np.empty((0, 26))).shape == (0, len(geometry.columns))


def test_a_class_without_rows_is_as_far_as_the_farthest():
    rows, y = embedded()
    geometry = Geometry.fit(rows[y != 1], y[y != 1], CLASSES, seed=0)
    far = np.maximum(column(geometry, rows, "centroid:a"), column(geometry, rows, "centroid:c"))
    np.testing.assert_array_equal(column(geometry, rows, "centroid:b"), far)
    assert not column(geometry, rows, "knn10:b").any()


@pytest.mark.parametrize("task", [CLASSES, VALUES])
def test_arrays_bring_it_back(task):
    rows, y = embedded()
    geometry = Geometry.fit(rows, y, task, seed=0)
    again = Geometry.from_arrays(geometry.arrays(), task)
    assert again.transform(rows).tobytes() == geometry.transform(rows).tobytes()
    assert again.columns == geometry.columns


def test_bad_embeddings_are_named():
    rows, y = embedded()
    with pytest.raises(UsageError, match="same rows"):
        Geometry.fit(rows, y[1:], CLASSES, seed=0)
    geometry = Geometry.fit(rows, y, CLASSES, seed=0)
    with pytest.raises(UsageError, match=r"shape \(n, 6\); got \(200, 5\)"):
        geometry.transform(rows[:, :5])
    rows[3, 2] = np.nan
    with pytest.raises(MemberError, match="in 1 of 200 rows"):
        geometry.transform(rows)


RNG = np.random.default_rng(0)
Y = RNG.integers(3, size=300)
ROWS, NEW = (
    (RNG.normal(size=(3, 6))[Y] * 1.5 + RNG.normal(size=(300, 6))).astype(np.float32),
    RNG.normal(size=(50, 6)).astype(np.float32),
)


def test_readouts_of_classes_rank_them_as_scikit_learn_does():
    said = Geometry.readouts(Geometry.fit(ROWS, Y, CLASSES, seed=0).transform(NEW), CLASSES)
    assert list(said) == ["knn10", "knn30", "centroid", "mahalanobis"]
    for scores in said.values():
        assert scores.shape == (50, 3) and scores.dtype == np.float32
        np.testing.assert_allclose(scores.sum(axis=1), 0, atol=1e-4)
    for k in (10, 30):
        proba = KNeighborsClassifier(k).fit(normalize(ROWS), Y).predict_proba(normalize(NEW))
        smooth = np.log((k * proba + 1 / 3) / (k + 1))
        ours = said[f"knn{k}"]
        np.testing.assert_allclose(ours, smooth - smooth.mean(axis=1, keepdims=True), atol=1e-3)


def test_readouts_say_what_a_normal_density_says_up_to_the_units_of_each_class():
    said = Geometry.readouts(Geometry.fit(ROWS, Y, CLASSES, seed=0).transform(ROWS), CLASSES)
    nearest = NearestCentroid().fit(ROWS, Y).predict(ROWS)
    assert np.mean(said["centroid"].argmax(axis=1) == nearest) > 0.9
    within = empirical_covariance(ROWS - NearestCentroid().fit(ROWS, Y).centroids_[Y], assume_centered=True)
    white = ROWS @ np.linalg.cholesky(np.linalg.inv(0.9 * within + 0.1 * np.trace(within) / 6 * np.eye(6)))
    assert np.mean(said["mahalanobis"].argmax(axis=1) == NearestCentroid().fit(white, Y).predict(white)) > 0.9


def test_readouts_of_values_are_predictions_in_units_of_the_target():
    y = 100 + ROWS[:, 0].astype(float)
    geometry = Geometry.fit(ROWS, y, VALUES, seed=0)
    said = geometry.readouts(geometry.transform(NEW), VALUES)
    assert list(said) == ["knn10", "knn30", "readout0.1", "readout10"]
    theirs = KNeighborsRegressor(10).fit(normalize(ROWS), y).predict(normalize(NEW))
    np.testing.assert_allclose(said["knn10"][:, 0], theirs, rtol=1e-5)
    columns = geometry.columns
    for name, column in (("knn30", "knn30:mean"), ("readout0.1", "readout:0.1"), ("readout10", "readout:10")):
        np.testing.assert_array_equal(said[name][:, 0], geometry.transform(NEW)[:, columns.index(column)])
