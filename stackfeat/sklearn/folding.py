"""Fit estimators over folds: without each fold's rows, read on them, kept for new rows.

In:  estimators by name, X, y, a splitter, and what each estimator is read for.
Out: `FoldFits`: the estimators of every fold (and of all rows), their out-of-fold rows, and the encodings and
     alignments that new rows go through. The loop is `engine.crossfit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import TimeSeriesSplit
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping

from stackfeat.data.splits.folds import Folds
from stackfeat.encodings import CROSS_FOLD
from stackfeat.encodings.alignment import (
    AlignmentReport,
    FoldSpaces,
    add_refit_space,
    align_fold_spaces,
    alignment_report,
    map_parts,
)
from stackfeat.encodings.diagnostics import diagnose
from stackfeat.encodings.procrustes import Alignment
from stackfeat.encodings.relative import N_ANCHORS
from stackfeat.engine.blocks import anchors_of, spread, usable_anchors
from stackfeat.engine.crossfit import cross_fit
from stackfeat.errors import LayerNotFoundError
from stackfeat.executors.job import JoblibExecutor
from stackfeat.members.net import FittedNets
from stackfeat.members.tap_encoders import TapReader
from stackfeat.registry.resolve import suggest
from stackfeat.sklearn._compat import _fit_single_estimator
from stackfeat.sklearn.column_names import with_taken_names
from stackfeat.sklearn.emission import METHODS, Emission, Reading, find_net, net_input, read
from stackfeat.sklearn.fold_progress import FoldProgress
from stackfeat.sklearn.inputs import count, is_dict, refuse_metadata, take, take_params
from stackfeat.sklearn.nets import BaseNet
from stackfeat.sklearn.targets import for_targets, unfitted
from stackfeat.tasks.task import Task

ALL = "all"


def split_folds(cv: Any, X: Any, y: Any, metadata: Mapping[str, Any]) -> Folds:
    """Ask a splitter for its folds.

    Rows may be predicted several times (repeated splitters) or never (over time). All splits stand in
    one repeat, so the K models of every repeat are pipelines beside each other.

    Raises
    ------
    ValueError
        If the splitter gives fewer than two folds, or a fold predicts rows it trains on.
    """
    rows = np.arange(count(X)) if is_dict(X) else X
    splits = tuple(
        (np.asarray(train, dtype=np.int64), np.asarray(test, dtype=np.int64))
        for train, test in cv.split(rows, y, **metadata)
    )
    if len(splits) < 2:
        raise ValueError(f"cv must give at least 2 folds; got {len(splits)}; use more splits")
    for number, (train, test) in enumerate(splits):
        both = np.intersect1d(train, test)
        if len(both):
            raise ValueError(
                f"a fold of cv must not predict rows that it trains on; got {len(both)} such rows in fold "
                f"{number}; repair the splitter"
            )
    kind = "time" if isinstance(cv, TimeSeriesSplit) else "custom"
    return Folds(kind=kind, splits=(splits,), n_rows=count(X))


@dataclass(frozen=True)
class FoldFit:
    """One estimator fitted for one fold.

    Attributes
    ----------
    estimator : estimator
    tapped : FittedNets or None
        The nets of the estimator with the encoders of its taps, where there are any.
    held_out : Reading or None
        None for the fit on all rows.
    anchors : dict of str to ndarray
        ``tap/PART/NET``: activations of the rows that fold spaces are aligned on.
    """

    estimator: Any
    tapped: FittedNets | None
    held_out: Reading | None
    anchors: dict[str, np.ndarray]


class KeptResults(dict[str, FoldFit]):
    """Results in memory by key: the store of `cross_fit` where there is none on disk."""

    has = dict.__contains__
    keep = dict.__setitem__

    def write_job(self, key: str, job: dict[str, Any]) -> None:
        """Nothing: workers have all they need."""

    def remove_job(self, key: str) -> None:
        """Nothing, as nothing was written."""


class FoldJob(NamedTuple):
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
        return {}


@dataclass(frozen=True)
class FoldWorker:
    """A picklable function from a job's key to its `FoldFit`.

    Attributes
    ----------
    estimators, emissions : mapping of str to estimator, Emission
    params : mapping of str to mapping
        What the `fit` of each estimator is given besides X and y.
    folds : Folds
        Without any for fits on all rows alone.
    task : Task
    messages : mapping of str to str
        Printed when the fits on all rows are done.
    """

    estimators: Mapping[str, Any]
    emissions: Mapping[str, Emission]
    params: Mapping[str, Mapping[str, Any]]
    X: Any
    y: Any
    folds: Folds
    task: Task
    messages: Mapping[str, str] = field(default_factory=dict)

    def run(self, *, n_jobs: int | None, verbose: int = 0, whole: bool = True) -> dict[str, FoldFits]:
        """Fit every estimator for every fold and, with `whole`, on all rows; align the spaces of its nets."""
        labels = [str(fold) for fold in range(self.folds.n_folds)]
        jobs = [FoldJob(name, fold) for name in self.estimators for fold in labels + [ALL] * whole]
        results = KeptResults()
        progress = FoldProgress() if verbose > 0 else None
        with progress or nullcontext(), JoblibExecutor(n_jobs, results.keep, verbose=verbose - 1) as executor:
            cross_fit(jobs, results, executor, self, progress=progress)  # type: ignore[arg-type]
        fits = {name: tuple(results[f"{name}/{fold}"] for fold in labels) for name in self.estimators}
        return {name: FoldFits.of(self, name, fits[name], results.get(f"{name}/{ALL}")) for name in fits}

    def __call__(self, key: str) -> FoldFit:
        name, _, fold = key.rpartition("/")
        train, held_out = (None, None) if fold == ALL else self.folds.splits[0][int(fold)]
        copy = unfitted(self.estimators[name])
        # Layers are those of one net.
        estimator = for_targets(copy, self.task, at_once=find_net(copy) is not None)
        fitted = _fit_single_estimator(
            estimator,
            with_taken_names(estimator, take(self.X, train)),
            take(self.y, train),
            take_params(self.X, self.params[name], train),
            message_clsname="Voting",
            message=self.messages.get(name) if fold == ALL else None,
        )
        emission, net = self.emissions[name], find_net(fitted)
        tapped, reading, anchors = None, None, {}
        if net is not None and emission.taps:
            tapped = self._tapped(fitted, net, emission, train)
            if TapReader.of(emission.taps, CROSS_FOLD).taps:
                rows = net.rows(net_input(fitted, take(self.X, anchors_of(self.folds))))
                anchors = tapped.activations(rows)
        if held_out is not None:
            reading = read(fitted, emission, tapped, take(self.X, held_out), self.task)
        return FoldFit(fitted, tapped, reading, anchors)

    def _tapped(self, fitted: Any, net: BaseNet, emission: Emission, train: np.ndarray | None) -> FittedNets:
        """Return the nets of a fitted estimator as a member of a run would have them: taps encoded in this fold."""
        options = net.fitted_.options.model_copy(update={"emit": emission.taps})
        nets = replace(net.fitted_, options=options, task=self.task, predicts=False)
        anchors = None
        if any(encoding.needs_anchors for encoding in emission.encodings):
            anchors = net.arrays(net_input(fitted, take(self.X, anchors_of(self.folds, N_ANCHORS))))
        arrays = net.arrays(net_input(fitted, take(self.X, train)))
        try:
            return nets.with_encoders(arrays, np.asarray(take(self.y, train)), anchors, 0)
        except LayerNotFoundError as error:
            # What is no word of `emit` is taken for a layer.
            words = [*METHODS, "penultimate"]
            near = next((text for tap in emission.taps if (text := suggest(tap.tap, words))), "")
            raise LayerNotFoundError(f"{error}.{near}" if near else str(error)) from error


@dataclass(frozen=True)
class FoldFits:
    """Fits of one estimator over the folds.

    Attributes
    ----------
    emission : Emission
    folds : Folds
    task : Task
    fits : tuple of FoldFit
        One for each fold.
    whole : FoldFit or None
        Fitted on all rows.
    alignments : mapping of str to mapping of str to Alignment
        By tap and part; spaces of all folds, then of the fit on all rows.
    reports : mapping of str to AlignmentReport
        By tap what its alignment measured.
    """

    emission: Emission
    folds: Folds
    task: Task
    fits: tuple[FoldFit, ...]
    whole: FoldFit | None
    alignments: Mapping[str, Mapping[str, Alignment]]
    reports: Mapping[str, AlignmentReport]

    @classmethod
    def of(cls, worker: FoldWorker, name: str, fits: tuple[FoldFit, ...], whole: FoldFit | None) -> FoldFits:
        """Bring the spaces of all folds together; that of the fit on all rows is turned to them."""
        emission, folds = worker.emissions[name], worker.folds
        alignments, reports = {}, {}
        for tap in TapReader.of(emission.taps, CROSS_FOLD).taps:
            anchors, usable = [fit.anchors.__getitem__ for fit in fits], usable_anchors(folds, 0)
            spaces = FoldSpaces(anchors, _n_nets(fits[0]), None, usable, folds.is_time)
            found = align_fold_spaces(spaces, tap.parts, tap.reduce, 0)
            reports[tap.key] = alignment_report(spaces, found)
            if whole is not None:
                found = add_refit_space(spaces, found, whole.anchors.__getitem__)
            alignments[tap.key] = found
        return cls(emission, folds, worker.task, fits, whole, alignments, reports)

    def oof(self) -> Reading:
        """Return what the estimators say of all rows, each of those it did not see.

        NaN in rows that no fold predicts; columns are float32.
        """
        readings = [fit.held_out for fit in self.fits if fit.held_out is not None]
        said, prediction = [reading.prediction for reading in readings], None
        if said[0] is not None:
            prediction = spread(self.folds, 0, [np.asarray(part) for part in said])[0]
        by_fold = [self._columns(reading, fold) for fold, reading in enumerate(readings)]
        columns = {
            name: spread(self.folds, 0, [columns[name] for columns in by_fold])[0].astype(np.float32)
            for name in self.emission.outputs
        }
        return Reading(prediction, columns)

    def read(self, X: Any, fold: int = -1) -> Reading:
        """Return what one fold's estimator says of other rows; ``fold=-1`` is the fit on all rows."""
        fit = self.fits[fold] if fold >= 0 else self.whole
        assert fit is not None
        reading = read(fit.estimator, self.emission, fit.tapped, X, self.task)
        return Reading(reading.prediction, self._columns(reading, fold if fold >= 0 else len(self.fits)))

    def _columns(self, reading: Reading, space: int) -> dict[str, np.ndarray]:
        """Return the columns of all taps, those of one space mapped to the common ones."""
        found = reading.columns
        return {
            name: map_parts(self.alignments[tap.key], space, _n_nets(self.fits[0]), found.__getitem__)
            if encoding in CROSS_FOLD
            else found[name]
            for name, (tap, encoding) in self.emission.outputs.items()
        }

    def diagnose(
        self,
        columns: Mapping[str, np.ndarray],
        y: np.ndarray,
        fold_of: np.ndarray,
        group: Any,
    ) -> dict[str, dict[str, Any]]:
        """Measure each tap's out-of-fold columns as a run does; predictions are no feature block.

        Returns
        -------
        dict of str to dict
            As `encodings.diagnostics.diagnose`.
        """
        return {
            name: diagnose(
                name,
                columns[name],
                np.asarray(y),
                fold_of,
                n_folds=self.folds.n_folds,
                is_time=self.folds.is_time,
                task=self.task,
                group=None if group is None else np.asarray(group),
                alignment=self.reports[tap.key] if encoding in CROSS_FOLD else None,
                seed=0,
            )
            for name, (tap, encoding) in self.emission.outputs.items()
        }


def _n_nets(fit: FoldFit) -> int:
    assert fit.tapped is not None
    return len(fit.tapped.nets)


class FoldEnsemble(BaseEstimator):
    """What stacks and votes share: estimators by name that are fitted over folds."""

    def _live(self, fit_params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the estimators that are not dropped, once they and the names of the metadata are checked."""
        refuse_metadata(self, fit_params)
        pairs = zip(*self._validate_estimators(), strict=True)
        return {name: estimator for name, estimator in pairs if estimator != "drop"}

    def _note_estimators(self, X: Any) -> None:
        """Name the fitted estimators, and the columns of X where one of them knows names."""
        self.named_estimators_ = Bunch()
        fitted = iter(self.estimators_)
        for name, given in self.estimators:
            named = given if isinstance(given, str) else next(fitted)
            self.named_estimators_[name] = named
            if hasattr(named, "feature_names_in_"):
                # Those of X, where the estimator was given other ones.
                names = list(getattr(X, "columns", ()))
                own = names and all(isinstance(name, str) for name in names)
                self.feature_names_in_ = np.array(names, dtype=object) if own else named.feature_names_in_

    def get_metadata_routing(self) -> MetadataRouter:
        """Say who asks for which metadata, the splitter included."""
        return add_splitter(super().get_metadata_routing(), self.cv, "fit")


def add_splitter(router: MetadataRouter, cv: Any, *callers: str) -> MetadataRouter:
    """Let a splitter ask for metadata of these methods, if it is one."""
    # Of a number or an iterable nothing can be asked, and a generator would be used up here.
    if hasattr(cv, "split"):
        mapping = MethodMapping()
        for caller in callers:
            mapping.add(caller=caller, callee="split")
        router.add(splitter=cv, method_mapping=mapping)
    return router
