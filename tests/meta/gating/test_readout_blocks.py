"""What geometry says of the target, against scikit-learn's own classifiers on the same embedding."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import empirical_covariance
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.preprocessing import normalize

from stackfeat.encodings import Geometry
from stackfeat.meta.gating.readout_blocks import readout_scores
from stackfeat.tasks.task import Task

CLASSES = Task("multiclass", ("a", "b", "c"))
VALUES = Task("regression")
RNG = np.random.default_rng(0)
Y = RNG.integers(3, size=300)
ROWS, NEW = (
    (RNG.normal(size=(3, 6))[Y] * 1.5 + RNG.normal(size=(300, 6))).astype(np.float32),
    RNG.normal(size=(50, 6)).astype(np.float32),
)


def test_scores_of_classes_rank_them_as_scikit_learn_does():
    said = readout_scores("geometry", Geometry.fit(ROWS, Y, CLASSES, seed=0).transform(NEW), CLASSES)
    assert list(said) == ["knn10", "knn30", "centroid", "mahalanobis"]
    for scores in said.values():
        assert scores.shape == (50, 3) and scores.dtype == np.float32
        np.testing.assert_allclose(scores.sum(axis=1), 0, atol=1e-4)
    for k in (10, 30):
        proba = KNeighborsClassifier(k).fit(normalize(ROWS), Y).predict_proba(normalize(NEW))
        smooth = np.log((k * proba + 1 / 3) / (k + 1))
        ours = said[f"knn{k}"]
        np.testing.assert_allclose(ours, smooth - smooth.mean(axis=1, keepdims=True), atol=1e-3)


def test_distances_say_what_a_normal_density_says_up_to_the_units_of_each_class():
    said = readout_scores("geometry", Geometry.fit(ROWS, Y, CLASSES, seed=0).transform(ROWS), CLASSES)
    nearest = NearestCentroid().fit(ROWS, Y).predict(ROWS)
    assert np.mean(said["centroid"].argmax(axis=1) == nearest) > 0.9
    within = empirical_covariance(ROWS - NearestCentroid().fit(ROWS, Y).centroids_[Y], assume_centered=True)
    white = ROWS @ np.linalg.cholesky(np.linalg.inv(0.9 * within + 0.1 * np.trace(within) / 6 * np.eye(6)))
    assert np.mean(said["mahalanobis"].argmax(axis=1) == NearestCentroid().fit(white, Y).predict(white)) > 0.9


def test_values_are_predictions_in_units_of_the_target():
    y = 100 + ROWS[:, 0].astype(float)
    geometry = Geometry.fit(ROWS, y, VALUES, seed=0)
    said = readout_scores("geometry", geometry.transform(NEW), VALUES)
    assert list(said) == ["knn10", "knn30", "readout0.1", "readout10"]
    theirs = KNeighborsRegressor(10).fit(normalize(ROWS), y).predict(normalize(NEW))
    np.testing.assert_allclose(said["knn10"][:, 0], theirs, rtol=1e-5)
    columns = geometry.columns
    for name, column in (("knn30", "knn30:mean"), ("readout0.1", "readout:0.1"), ("readout10", "readout:10")):
        np.testing.assert_array_equal(said[name][:, 0], geometry.transform(NEW)[:, columns.index(column)])


@pytest.mark.parametrize("encoding", ["aligned", "raw", "relative", "reference", None])
def test_other_encodings_say_nothing_by_themselves(encoding):
    assert readout_scores(encoding, NEW, CLASSES) == {}
