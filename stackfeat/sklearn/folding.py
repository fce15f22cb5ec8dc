"""Fit estimators over folds: without each fold's rows, read on them, kept for new rows.

In:  estimators by name, X, y, folds, and what each estimator is read for.
Out: `FoldFits`: the estimators of every fold (and of all rows), their out-of-fold rows, and the encodings and
     alignments that new rows go through. The loop is `engine.crossfit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone

from stackfeat.data.splits.folds import Folds
from stackfeat.encodings.alignment import align_spaces, map_rows
from stackfeat.encodings.procrustes import Alignment, add_space
from stackfeat.encodings.relative import N_ANCHORS
from stackfeat.engine.blocks import anchors_of, usable_anchors
from stackfeat.engine.crossfit import cross_fit
from stackfeat.executors.pool import JoblibExecutor
from stackfeat.members.tap_encoders import Encoders, TapReader, encode, fit_encoders, tap_arrays
from stackfeat.nets.options import JOINT, TapOptions
from stackfeat.sklearn._compat import _enforce_prediction_order, _fit_single_estimator
from stackfeat.sklearn.emission import Emission, encodings_of, find_net, net_input
from stackfeat.sklearn.rows import spread, take, take_params
from stackfeat.tasks.task import Task

ALL = "all"


@dataclass(frozen=True)
class Reading:
    """What an estimator says of some rows: a prediction, and columns or activations by output name."""

    prediction: Any
    columns: dict[str, np.ndarray]


@dataclass(frozen=True)
class FoldFit:
    """One estimator fitted for one fold.

    Attributes
    ----------
    estimator : estimator
    encoders : tuple of Encoders
        Of every net.
    held_out : Reading or None
        None for the fit on all rows.
    anchors : dict of str to ndarray
        Activations of the rows that fold spaces are aligned on.
    """

    estimator: Any
    encoders: tuple[Encoders, ...]
    held_out: Reading | None
    anchors: dict[str, np.ndarray]


@dataclass(frozen=True)
class EncodeContext:
    """What encoders know besides their rows."""

    task: Task
    seed: int


@dataclass
class KeptResults:
    """Results in memory by key: the store of `cross_fit` where there is none on disk."""

    values: dict[str, Any] = field(default_factory=dict)

    def has(self, key: str) -> bool:
        return key in self.values

    def keep(self, key: str, value: Any) -> None:
        """Take a result."""
        self.values[key] = value

    def write_job(self, key: str, job: dict[str, Any]) -> None:
        """Nothing: workers have all they need."""

    def remove_job(self, key: str) -> None:
        """Nothing, as nothing was written."""


@dataclass(frozen=True)
class FoldJob:
    """One (estimator, fold), and its only step."""

    member: str
    fold: str

    @property
    def key(self) -> str:
        return f"{self.member}/{self.fold}"

    @property
    def label(self) -> str:
        return f"{self.member} {'all rows' if self.fold == ALL else f'fold {self.fold}'}"

    @property
    def steps(self) -> tuple[FoldJob, ...]:
        return (self,)

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "recipe": {"member": self.member, "fold": self.fold}}


@dataclass(frozen=True)
class FoldWorker:
    """A picklable function from a job's key to its `FoldFit`; `folds` is None for fits on all rows alone."""

    estimators: Mapping[str, Any]
    emissions: Mapping[str, Emission]
    params: Mapping[str, Mapping[str, Any]]
    X: Any
    y: Any
    folds: Folds | None
    task: Task | None
    n_classes: int | list[int]
    messages: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, key: str) -> FoldFit:
        name, _, fold = key.rpartition("/")
        train, held_out = (None, None) if fold == ALL else self._folds.splits[0][int(fold)]
        fitted = _fit_single_estimator(
            clone(self.estimators[name]),
            take(self.X, train),
            take(self.y, train),
            take_params(self.X, self.params.get(name, {}), train),
            message_clsname="Voting",
            message=self.messages.get(name) if fold == ALL else None,
        )
        emission = self.emissions[name]
        encoders = self._encoders(fitted, emission, train)
        anchors: dict[str, np.ndarray] = {}
        if emission.has(*JOINT):
            anchors = self._anchors(fitted, emission)
        reading = None
        if held_out is not None:
            reading = read(fitted, emission, encoders, take(self.X, held_out), self.n_classes)
        return FoldFit(fitted, encoders, reading, anchors)

    @property
    def _folds(self) -> Folds:
        assert self.folds is not None
        return self.folds

    def _encoders(self, fitted: Any, emission: Emission, train: np.ndarray | None) -> tuple[Encoders, ...]:
        net = find_net(fitted)
        if not emission.taps or net is None:
            return ()
        assert self.task is not None
        anchors = None
        if emission.has("relative"):
            rows = anchors_of(self._folds, N_ANCHORS)
            anchors = net.arrays(net_input(fitted, take(self.X, rows)))
        arrays = net.arrays(net_input(fitted, take(self.X, train)))
        y = np.asarray(take(self.y, train))
        context = EncodeContext(self.task, 0)
        return tuple(
            fit_encoders(one, emission.taps, arrays, y, anchors, context) for one in net.fitted_.nets
        )

    def _anchors(self, fitted: Any, emission: Emission) -> dict[str, np.ndarray]:
        net = find_net(fitted)
        assert net is not None
        arrays = net.arrays(net_input(fitted, take(self.X, anchors_of(self._folds))))
        reader = TapReader.of(emission.taps, JOINT)
        return tap_arrays(reader.taps, [reader.embed(one, arrays) for one in net.fitted_.nets])


def fit_folds(worker: FoldWorker, *, n_jobs: int | None, verbose: int = 0, whole: bool = True) -> KeptResults:
    """Fit every estimator for every fold, and (`whole`) once on all rows.

    Errors of estimators are raised as they are.
    """
    labels = [str(fold) for fold in range(worker.folds.n_folds if worker.folds else 0)]
    labels += [ALL] if whole else []
    jobs = [FoldJob(name, fold) for name in worker.estimators for fold in labels]
    results = KeptResults()
    with JoblibExecutor(n_jobs, results.keep, verbose=verbose) as executor:
        cross_fit(jobs, results, executor, worker)  # type: ignore[arg-type]
    return results


def read(
    fitted: Any, emission: Emission, encoders: Sequence[Encoders], X: Any, n_classes: int | list[int]
) -> Reading:
    """Return what a fitted estimator says of rows; activations that are aligned go by ``tap/PART/NET``."""
    prediction = None
    if emission.method is not None:
        prediction = in_order(fitted, getattr(fitted, emission.method)(X), emission.method, n_classes)
    net = find_net(fitted)
    if not emission.taps or net is None:
        return Reading(prediction, {})
    arrays = net.arrays(net_input(fitted, X))
    reader = TapReader.of(emission.taps)
    caught = [reader.embed(one, arrays) for one in net.fitted_.nets]
    return Reading(prediction, encode(reader.taps, encoders, caught))


def in_order(fitted: Any, values: Any, method: str, n_classes: int | list[int]) -> Any:
    """Give columns to classes that a fold's estimator never saw, as `cross_val_predict` does."""
    classes = getattr(fitted, "classes_", None)
    if method == "predict" or classes is None or n_classes == 0:
        return values
    if isinstance(n_classes, list):
        if isinstance(values, list):
            return [
                _enforce_prediction_order(classes[i], values[i], n, method) for i, n in enumerate(n_classes)
            ]
        return values
    return _enforce_prediction_order(np.asarray(classes), np.asarray(values), n_classes, method)


@dataclass(frozen=True)
class Views:
    """Fits of one estimator over the folds.

    Attributes
    ----------
    name : str
    emission : Emission
    folds : Folds
    fits : tuple of FoldFit
        One for each fold.
    whole : FoldFit or None
        Fitted on all rows.
    alignments : dict of str to Alignment
        By part of a tap; spaces of all folds, then of the fit on all rows.
    n_classes : int or list of int
    """

    name: str
    emission: Emission
    folds: Folds
    fits: tuple[FoldFit, ...]
    whole: FoldFit | None
    alignments: Mapping[str, Alignment]
    n_classes: int | list[int]

    @classmethod
    def of(
        cls,
        name: str,
        emission: Emission,
        folds: Folds,
        results: KeptResults,
        n_classes: int | list[int],
    ) -> Views:
        """Collect the fits of one estimator, and align the spaces of its nets."""
        fits = tuple(results.values[f"{name}/{fold}"] for fold in range(folds.n_folds))
        whole = results.values.get(f"{name}/{ALL}")
        alignments = {
            part: _align(part, tap, fits, whole, folds)
            for tap in emission.taps
            if any(encoding in JOINT for encoding in tap.encode)
            for part in tap.parts
        }
        return cls(name, emission, folds, fits, whole, alignments, n_classes)

    def oof_prediction(self) -> tuple[Any, np.ndarray]:
        """Return the prediction of every row by estimators that did not see it, and the rows that have one."""
        parts = [_held_out(fit).prediction for fit in self.fits]
        if not isinstance(parts[0], list):
            return spread(self.folds, [np.asarray(part) for part in parts])
        labels = [spread(self.folds, [part[i] for part in parts]) for i in range(len(parts[0]))]
        return [values for values, _ in labels], labels[0][1]

    def oof_features(self) -> dict[str, np.ndarray]:
        """Return the encoded taps of every row, float32 (n_rows, n_columns), by output name."""
        by_fold = [self._features(_held_out(fit).columns, fold) for fold, fit in enumerate(self.fits)]
        return {
            name: spread(self.folds, [columns[name] for columns in by_fold])[0].astype(np.float32)
            for name in by_fold[0]
        }

    def view(self, fold: int, X: Any) -> Reading:
        """Return what one fold's estimator says of other rows; ``fold=-1`` is the fit on all rows."""
        fit = self.fits[fold] if fold >= 0 else self.whole
        assert fit is not None
        reading = read(fit.estimator, self.emission, fit.encoders, X, self.n_classes)
        return Reading(reading.prediction, self._features(reading.columns, fold))

    def _features(self, columns: Mapping[str, np.ndarray], fold: int) -> dict[str, np.ndarray]:
        space = fold if fold >= 0 else len(self.fits)
        return {
            f"{tap.key}@{encoding}": self._aligned(tap, columns, space)
            if encoding in JOINT
            else columns[f"{tap.key}@{encoding}"]
            for tap, encoding in encodings_of(self.emission)
        }

    def _aligned(self, tap: TapOptions, columns: Mapping[str, np.ndarray], space: int) -> np.ndarray:
        parts = []
        for part in tap.parts:
            nets = [columns[f"tap/{part}/{i}"] for i in range(_n_nets(columns, part))]
            parts.append(map_rows(self.alignments[part], space, nets))
        return parts[0] if len(parts) == 1 else np.hstack(parts)


def _held_out(fit: FoldFit) -> Reading:
    assert fit.held_out is not None
    return fit.held_out


def _n_nets(columns: Mapping[str, np.ndarray], part: str) -> int:
    return sum(name.rpartition("/")[0] == f"tap/{part}" for name in columns)


def _align(
    part: str, tap: TapOptions, fits: Sequence[FoldFit], whole: FoldFit | None, folds: Folds
) -> Alignment:
    """Bring the spaces of all folds together; the refit's is turned to them without changing them."""
    n_nets = _n_nets(fits[0].anchors, part)
    spaces = [fit.anchors[f"tap/{part}/{i}"] for fit in fits for i in range(n_nets)]
    usable = usable_anchors(folds, 0)
    target = spaces[0] if folds.is_time else None
    alignment = align_spaces(spaces, usable, target=target, reduce=tap.reduce, seed=0)
    if whole is None:
        return alignment
    masks = [mask for mask in usable for _ in range(n_nets)]
    for i in range(n_nets):
        alignment = add_space(alignment, spaces, masks, whole.anchors[f"tap/{part}/{i}"], target)
    return alignment
