"""Five fold nets on the built-in digits, their spaces and encodings, and what is measured of them.

In:  a seed: it draws the test rows, the folds and the nets.
Out: `FoldSpaces`, and `encoded` blocks of out-of-fold rows and of test rows in five views.
     `comparability` and `stacks` measure blocks; `alignment_pictures.py` draws and writes them down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.neighbors import KNeighborsClassifier

from stackfeat.encodings import ENCODINGS, PER_FOLD, align, anchor_rows, default_width
from stackfeat.encodings.diagnostics import fold_id_accuracy, probe_losses, two_sample_auc
from stackfeat.encodings.relative import N_ANCHORS
from stackfeat.meta.gating.blocks import Block
from stackfeat.meta.gating.gated_linear import GatedLinear
from stackfeat.nets.build import NetSpec
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.fit import TrainingSet, fit_net, untrained_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.tasks.task import Task

N_FOLDS = 5
N_TEST = 1197  # many, because few of them are predicted wrong
WIDTH = 128
TASK = Task("multiclass", tuple(range(10)))
TRAIN = TrainOptions(epochs=15, batch_size=64, lr=4e-3)
GATE_SE = 0.5


@dataclass(frozen=True)
class FoldSpaces:
    """What five fold nets say of all rows.

    Attributes
    ----------
    y, y_test : int64 arrays of shape (n,), (m,)
    fold_of : int64 array of shape (n,)
        The fold each training row is held out in.
    train, test : lists of float32 arrays of shape (n, d), (m, d)
        Penultimate activations of every fold net, for all training and all test rows.
    proba, proba_test : lists of float64 arrays of shape (n, 10), (m, 10)
    untrained : float32 array of shape (n, d)
        Training rows in a net of the same shape that has seen no label.
    """

    y: np.ndarray
    y_test: np.ndarray
    fold_of: np.ndarray
    train: list[np.ndarray]
    test: list[np.ndarray]
    proba: list[np.ndarray]
    proba_test: list[np.ndarray]
    untrained: np.ndarray

    def out_of_fold(self, values: list[np.ndarray]) -> np.ndarray:
        """Return each row as the net says it that did not see the row."""
        return np.stack(values)[self.fold_of, np.arange(len(self.y))]


@dataclass(frozen=True)
class Encoded:
    """A block: out-of-fold rows (n, c), and test rows (m, c) in the view of every fold net."""

    oof: np.ndarray
    views: list[np.ndarray]


def digits_spaces(seed: int) -> FoldSpaces:
    """Train five nets, each without one fold, and read them for all rows."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=N_TEST, stratify=y, random_state=seed)
    X, X_test = X.astype(np.float32), X_test.astype(np.float32)
    fold_of = np.empty(len(y), dtype=np.int64)
    for fold, (_, held_out) in enumerate(
        StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(X, y)
    ):
        fold_of[held_out] = fold
    spec = NetSpec(MLP, {"hidden": [WIDTH, WIDTH]}, X.shape[1], len(TASK.classes))
    whole = np.vstack([X, X_test])
    proba, spaces = [], []
    for fold in range(N_FOLDS):
        inside = fold_of != fold
        data = TrainingSet((X[inside],), y[inside], 1000 * seed + fold)
        net = fit_net(spec, data, Training(TRAIN, TASK, "cross_entropy"))
        said, caught = net.read((whole,), ("penultimate",))
        proba.append(said)
        spaces.append(caught["penultimate"])
    plain = untrained_net(spec, (X,), task=TASK, seed=1000 * seed + N_FOLDS)
    n = len(y)
    return FoldSpaces(
        y, y_test, fold_of,
        [rows[:n] for rows in spaces], [rows[n:] for rows in spaces],
        [rows[:n] for rows in proba], [rows[n:] for rows in proba],
        plain.embed((X,), ("penultimate",))["penultimate"],
    )  # fmt: skip


def encoded(spaces: FoldSpaces, name: str) -> Encoded:
    """Encode by name, exactly as a run does: encoders are fitted on the fold's training rows."""
    transform = _transforms(spaces)[name]()
    return Encoded(
        spaces.out_of_fold([transform(fold, rows) for fold, rows in enumerate(spaces.train)]),
        [transform(fold, rows) for fold, rows in enumerate(spaces.test)],
    )


Transform = Callable[[int, np.ndarray], np.ndarray]


def _transforms(spaces: FoldSpaces) -> dict[str, Callable[[], Transform]]:
    inside = [spaces.fold_of != fold for fold in range(N_FOLDS)]

    def own(name: str) -> Transform:
        fitted = [
            PER_FOLD[name].fit(rows[mask], spaces.y[mask], TASK, seed=fold, anchors=rows[few])
            for fold, (rows, mask) in enumerate(zip(spaces.train, inside, strict=True))
        ]
        return lambda fold, rows: fitted[fold].transform(rows)

    def joint(target: np.ndarray | None) -> Transform:
        # With so few rows every training row is an anchor; a fold's map is fitted on those its net was trained on.
        reduce = default_width(min(int(mask.sum()) for mask in inside))
        return align(spaces.train, usable=inside, target=target, reduce=reduce).transform

    few = anchor_rows(len(spaces.y), N_ANCHORS)
    return {
        "raw": lambda: lambda fold, rows: rows,
        "relative": lambda: own("relative"),
        "reference": lambda: joint(spaces.untrained),
        "aligned": lambda: joint(None),
        "geometry": lambda: own("geometry"),
    }


def comparability(spaces: FoldSpaces, block: Encoded, seed: int) -> dict[str, float]:
    """Measure whether folds, and out-of-fold and test rows, are alike in a block.

    Returns
    -------
    dict
        fold_linear, fold_near: accuracy of guessing the fold by a linear model and by ten neighbours; grouped,
        random: probe loss in fold-grouped and in random cross-validation, as a share of the target's
        variance; late, early: two-sample AUC of out-of-fold rows against single views, and against their mean.
    """
    losses = probe_losses(block.oof, spaces.y, spaces.fold_of, task=TASK, group=None, seed=seed)
    assert losses is not None
    splits = StratifiedKFold(3, shuffle=True, random_state=seed)
    near = cross_val_predict(KNeighborsClassifier(10), block.oof, spaces.fold_of, cv=splits)
    return {
        "fold_linear": fold_id_accuracy(block.oof, spaces.fold_of, seed),
        "fold_near": float(balanced_accuracy_score(spaces.fold_of, near)),
        "grouped": float(losses[0].mean()),
        "random": float(losses[1].mean()),
        "late": two_sample_auc(block.oof, block.views, seed),
        "early": two_sample_auc(block.oof, block.views, seed, "early"),
    }


def centred_log_proba(proba: np.ndarray) -> np.ndarray:
    """Return logarithms of probabilities, 1e-7 at least, less the mean of their row."""
    logs = np.log(np.maximum(proba, 1e-7))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


def stacks(spaces: FoldSpaces, blocks: dict[str, Encoded], seed: int) -> dict[str, dict[str, float]]:
    """Stack probabilities with one block at a time, once behind the gate and once without it.

    Returns
    -------
    dict
        By block: gain and se (what the gate measured), scale (0: kept out), gated and ungated (log-loss of
        test rows, views averaged last); ``proba``: the loss of the stack of probabilities alone, and of the mean of
        the nets.
    """
    base = centred_log_proba(spaces.out_of_fold(spaces.proba))
    views = [centred_log_proba(rows) for rows in spaces.proba_test]

    def fit(columns: np.ndarray, offered: list[Block]) -> GatedLinear:
        votes = {"net": np.eye(columns.shape[1], len(TASK.classes))}  # its columns come first
        return GatedLinear().fit(
            columns, offered, spaces.y, spaces.fold_of, TASK, gate_se=GATE_SE, votes=votes, seed=seed
        )

    def loss(predictions: list[np.ndarray]) -> float:
        return float(log_loss(spaces.y_test, np.mean(predictions, axis=0), labels=list(TASK.classes)))

    alone = fit(base, [])
    found = {
        "proba": {
            "loss": loss([alone.predict(rows, []) for rows in views]),
            "nets": loss(spaces.proba_test),
        }
    }
    for name, block in blocks.items():
        gated = fit(base, [Block.encoded(name, block.oof, ENCODINGS[name], TASK)])
        step = max(gated.report()["steps"], key=lambda tried: tried["gain"])
        forced = fit(np.hstack([base, block.oof]), [])
        found[name] = {
            "gain": step["gain"],
            "se": step["standard_error"],
            "scale": gated.report()["scales"][name],
            "gated": loss(
                [
                    gated.predict(rows, [Block.encoded(name, view, ENCODINGS[name], TASK)])
                    for rows, view in zip(views, block.views, strict=True)
                ]
            ),
            "ungated": loss(
                [
                    forced.predict(np.hstack([rows, view]), [])
                    for rows, view in zip(views, block.views, strict=True)
                ]
            ),
        }
    return found
