"""Member: the protocol of anything that learns, and what a fit knows besides its rows.

A member is fitted on some rows and then predicts other rows; nets also give the encodings and activations of their
taps. Nets, estimators and votes all follow it, so there is one loop over folds for all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from stackfeat.data.splits.holdout import InnerSplits
from stackfeat.members.settings import FitSettings
from stackfeat.meta.columns import Rows
from stackfeat.store import Entry, EntryWriter, Scratch
from stackfeat.tasks.task import Task

OfKind = TypeVar("OfKind", bound=FitSettings, covariant=True)


class Inner(Protocol):
    """Divides the rows of a fit; `stackfeat.data.splits.holdout.InnerSplits`."""

    def __call__(self, fraction: float, draw: int = 0, /) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class FitContext(Generic[OfKind]):
    """What a fit knows besides its rows.

    Attributes
    ----------
    y : ndarray of shape (n_rows,), or (n_rows, n_targets)
        int64 class codes, or float64 targets on the members' scale.
    fold_of : ndarray of shape (n_rows,) or None
        Above the first level: the fold each row belongs to, for choices made by
        cross-validation grouped on folds.
    clusters : ndarray of shape (n_rows,) or None
        Numbers of groups, or of blocks of time: rows that standard errors do not count apart.
    inner : callable
        ``inner(fraction)`` gives (fit positions, validation positions) inside these rows,
        split the same way as the folds; ``inner(fraction, 1)`` another such split.
    settings : FitSettings
        Those of its kind, as in the recipe of the fit.
    anchors : Rows or None
        Rows that are the same in every fold, without labels, for encodings that name columns by them.
    scratch : Scratch or None
        Where a long fit notes how far it is; what it finds there must not change what it gives.
    repeat : int
    fold : int or str
        Which fold is left out; ``all`` for a fit on all rows.
    sources : mapping of str to Entry
        Entries of files that the member is made of, by role.
    """

    task: Task
    y: np.ndarray
    weight: np.ndarray | None
    fold_of: np.ndarray | None
    inner: Inner
    seed: int
    settings: OfKind
    anchors: Rows | None = None
    scratch: Scratch | None = None
    repeat: int = 0
    fold: int | str = "all"
    sources: Mapping[str, Entry] = field(default_factory=dict)
    clusters: np.ndarray | None = None

    def parts(self) -> Iterator[FitContext[OfKind]]:
        """Yield what a fit of each target knows: this itself where there is one."""
        parts = self.task.parts
        for place, part in enumerate(parts):
            own = replace(self, task=part, y=self.task.part_of_y(self.y, place))
            yield self if len(parts) == 1 else own

    def take(self, rows: np.ndarray) -> FitContext[OfKind]:
        """Return what a fit knows on a part of these rows, given by ascending positions; of no extra rows."""
        assert isinstance(self.inner, InnerSplits)
        return replace(
            self,
            y=self.y[rows],
            weight=None if self.weight is None else self.weight[rows],
            fold_of=None if self.fold_of is None else self.fold_of[rows],
            inner=self.inner.take(rows),
            scratch=None,
            clusters=None if self.clusters is None else self.clusters[rows],
        )


class FittedMember(Protocol):
    """A member after `fit`."""

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        """Return arrays by output name; ``tap/NAME/SEED`` are activations kept for alignment."""

    def save(self, writer: EntryWriter) -> None:
        """Write the state, so that `load` gives an equal member. Raises if it cannot be saved."""

    def report(self) -> dict[str, Any]:
        """Return JSON: what was chosen in the fit."""


class Tapped(Protocol):
    """A fitted member whose layers are read."""

    def activations(self, rows: Rows) -> dict[str, np.ndarray]:
        """Return ``tap/NAME/SEED`` for the taps whose fold spaces are aligned."""


@runtime_checkable
class Narrowable(Protocol):
    """A fitted member that need not give all that it emits."""

    def narrowed(self, wanted: Collection[str]) -> FittedMember:
        """Return the same member, which emits no features but those of these outputs."""


class Member(Protocol):
    """Something that learns, before `fit`."""

    def fit(self, rows: Rows, context: FitContext[Any]) -> FittedMember: ...

    def load(self, entry: Entry, task: Task, settings: Any) -> FittedMember: ...
