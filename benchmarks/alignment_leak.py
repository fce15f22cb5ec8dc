"""Which maps between fold spaces copy labels? Digits with labels that mean nothing.

In:  a seed: it draws the rows, the labels, the folds and the nets.
Out: `leaks`: for every map the accuracy of a linear model on out-of-fold rows and on test rows, in points above
     chance. Labels are random, so a map without a leak is at chance on both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedKFold

from stackfeat.encodings import Geometry, align
from stackfeat.nets.build import NetSpec
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.tasks.task import Task

N_FOLDS = 5
N_TRAIN = 500
N_CLASSES = 4
WIDTH = 128
N_SHARED = 16
N_WHITENED = 64
TASK = Task("multiclass", tuple(range(N_CLASSES)))
TRAIN = TrainOptions(epochs=30, batch_size=64, lr=4e-3)

Map = Callable[[np.ndarray], np.ndarray]


def leaks(seed: int) -> dict[str, dict[str, float]]:
    """Train five nets on random labels and measure every map.

    Returns
    -------
    dict
        By map: oof, test (points of accuracy above chance); ``nets``: fitted, how many percent of their
        training rows' labels the nets learnt by heart.
    """
    rng = np.random.default_rng(seed)
    X = load_digits().data[rng.permutation(1796)].astype(np.float32) / 16
    # As many of each class in the training rows, and in the test rows: the greatest class must not pay.
    y = np.r_[rng.permutation(N_TRAIN), rng.permutation(len(X) - N_TRAIN)] % N_CLASSES
    train, test = np.arange(N_TRAIN), np.arange(N_TRAIN, len(X))
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(train, y[train])
    splits = [held_out for _, held_out in folds]
    spec = NetSpec(MLP, {"hidden": [WIDTH, WIDTH], "dropout": 0.0}, X.shape[1], N_CLASSES)
    spaces, fitted = [], []
    for fold, held_out in enumerate(splits):
        inside = np.setdiff1d(train, held_out)
        data = TrainingSet((X[inside],), y[inside], 1000 * seed + fold)
        net = fit_net(spec, data, Training(TRAIN, TASK, "cross_entropy"))
        said, caught = net.read((X,), ("penultimate",))
        fitted.append(float(np.mean(said[inside].argmax(axis=1) == y[inside])))
        spaces.append(caught["penultimate"].astype(np.float64))
    found = {"nets": {"fitted": 100 * float(np.mean(fitted))}}
    for name, maps in _maps(spaces, train, test, splits, y).items():
        mapped = [apply(rows) for apply, rows in zip(maps, spaces, strict=True)]
        found[name] = _above_chance(mapped, splits, test, y)
    return found


def _maps(
    spaces: list[np.ndarray], train: np.ndarray, test: np.ndarray, splits: list[np.ndarray], y: np.ndarray
) -> dict[str, list[Map]]:
    """A map for each fold's space, by name."""
    usable = [~np.isin(train, held_out) for held_out in splits]
    turned = align([rows[train] for rows in spaces], usable=usable)

    def aligned(fold: int) -> Map:
        return lambda rows: turned.transform(fold, rows)

    return {
        "geometry": [
            Geometry.fit(rows[train][mask], y[train][mask], TASK, seed=0).transform
            for rows, mask in zip(spaces, usable, strict=True)
        ],
        "aligned": [aligned(fold) for fold in range(N_FOLDS)],
        "ridge, test rows": _ridge([rows[test] for rows in spaces]),
        "ridge, training rows": _ridge([rows[train] for rows in spaces]),
        "cca, test rows": _canonical([rows[test] for rows in spaces]),
        "cca, training rows": _canonical([rows[train] for rows in spaces]),
    }


def _ridge(anchors: list[np.ndarray]) -> list[Map]:
    """Least squares with a small penalty, from every space to that of the first fold."""
    return [_least_squares(rows, anchors[0], 1e-3).predict for rows in anchors]


def _canonical(anchors: list[np.ndarray]) -> list[Map]:
    """Generalised canonical correlation (MAXVAR): the directions that all spaces share most on the anchors."""
    whitened = [
        np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[0][:, :N_WHITENED] for rows in anchors
    ]
    shared = np.linalg.svd(np.hstack(whitened), full_matrices=False)[0][:, :N_SHARED]
    return [_least_squares(rows, shared * np.sqrt(len(rows)), 1e-3).predict for rows in anchors]


def _least_squares(rows: np.ndarray, targets: np.ndarray, penalty: float) -> Ridge:
    """Ridge regression, the penalty in units of the rows' variance."""
    return Ridge(alpha=penalty * float(np.sum(rows.var(axis=0)))).fit(rows, targets)


def _above_chance(
    mapped: list[np.ndarray], splits: list[np.ndarray], test: np.ndarray, y: np.ndarray
) -> dict[str, float]:
    """Fit a linear model for every fold on the other folds' rows; score it on the fold's and on test rows."""
    targets = np.eye(N_CLASSES)[y]
    oof, on_test = [], []
    for fold, held_out in enumerate(splits):
        others = [other for other in range(N_FOLDS) if other != fold]
        rows = np.vstack([mapped[other][splits[other]] for other in others])
        labels = np.vstack([targets[splits[other]] for other in others])
        model = _least_squares(rows, labels, 0.05)
        oof.append(model.predict(mapped[fold][held_out]).argmax(axis=1) == y[held_out])
        on_test.append(model.predict(mapped[fold][test]).argmax(axis=1) == y[test])
    chance = 100 / N_CLASSES
    return {
        "oof": 100 * float(np.mean(np.concatenate(oof))) - chance,
        "test": 100 * float(np.mean(np.concatenate(on_test))) - chance,
    }
