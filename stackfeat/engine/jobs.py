"""Jobs, each one (member, repeat, fold), and what their keys are made from: the values of a plan.

Which rows a fit was given is kept beside its results, one bit for each training row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from stackfeat.engine.recipes import ExtraReference, Fold, Recipe
from stackfeat.members.options import MemberOptions
from stackfeat.members.settings import RunSettings
from stackfeat.meta.votes.averaging import Average
from stackfeat.store import Entry, EntryWriter
from stackfeat.structure import plain, structured

Chain = Literal["fold", "all"]

AveragingMode = Literal["late", "early", "refit"]


@dataclass(frozen=True)
class Job:
    """Entries to be made that share what they hold in memory; in order, each skipped if stored.

    `block` is what is aligned, where something is.
    """

    member: str
    repeat: int
    fold: Fold
    steps: tuple[Recipe, ...]
    what: Literal["fit", "reference", "align", "score", "diagnose", "select", "interval", "holdout"] = "fit"
    block: str = ""

    @property
    def key(self) -> str:
        return self.steps[0].key

    @property
    def label(self) -> str:
        fold = "all folds" if self.fold == "all" else f"fold {self.fold}"
        repeat = f"repeat {self.repeat} " if self.repeat else ""
        return f"{self.member} {repeat}{fold if self.what == 'fit' else self.what}"


@dataclass(frozen=True)
class Sources:
    """Keys of the rows and folds that a plan is for, and what else keys depend on.

    Attributes
    ----------
    samples, test : str
        Keys of training and test rows; `test` is None without a test file.
    holdout : str or None
        Key of the held-out rows, which go through the stack as test rows do.
    extra : ExtraReference or None
        Rows that only train.
    n_folds, n_repeats : int
    seed : int
        Root seed.
    source_hash : callable
        Hash of the source of user code by name; None for code of known packages.
    files : callable
        Keys of the entries of files that a job (options of a member, repeat, fold) reads, by role.
    n_rows : int or None
        Training rows, where they are known: members may be nested on few rows.
    averaging : {"late", "early", "refit"}
        What members above the first level see of test rows. OOF rows are the same in all three.
    """

    samples: str
    test: str | None
    folds: str
    n_folds: int
    n_repeats: int
    is_time: bool
    seed: int
    n_rows: int | None = field(default=None, kw_only=True)
    averaging: AveragingMode = field(default="late", kw_only=True)
    holdout: str | None = field(default=None, kw_only=True)
    extra: ExtraReference | None = field(default=None, kw_only=True)
    settings: RunSettings
    source_hash: Callable[[str], str | None]
    files: Callable[[MemberOptions, int, Fold], dict[str, str]] = field(default=lambda *job: {}, kw_only=True)

    @property
    def n_known_rows(self) -> int:
        """Training rows, of a plan that was made when these had been read."""
        assert self.n_rows is not None
        return self.n_rows


@dataclass(frozen=True)
class Averaging:
    """How pipelines become one prediction: `stack` of a config, resolved.

    Attributes
    ----------
    average : {"mean", "logit", "rank"}
    chain : {"fold", "all"}
        Whether test view k went through the meta-learners fitted without fold k, or on all rows.
    last_view : bool
        Use the last pipeline alone (time folds).
    averaging : {"late", "early", "refit"}
        Whether pipelines stay apart to the end; otherwise `chain` is ``all``.
    """

    average: Average
    chain: Chain
    last_view: bool
    averaging: AveragingMode = "late"

    @property
    def keeps_scale(self) -> bool:
        """Whether an average is a prediction on the scale of the pipelines, and no order of rows."""
        return self.average in ("mean", "logit")

    def ranks_within_folds(self, is_time: bool) -> bool:
        """Whether one pipeline, or one refit, alone predicts later rows, so that they are ranked among its own."""
        return self.last_view or (is_time and self.averaging == "refit")

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        return values

    @classmethod
    def from_json(cls, values: object, where: str = "averaging") -> Averaging:
        """Return what `to_json` described; StructureError if it is not made so."""
        return structured(cls, values, where)


def pair_name(one: int, other: int) -> str:
    """Return the name of the fit that leaves two folds out."""
    return f"{min(one, other)}-{max(one, other)}"


NAME = "rows/fitted"

EXTRA_ROWS = "rows/extra"
"""Where a fit notes which extra rows it was given, packed."""


def write_fitted_rows(writer: EntryWriter, rows: np.ndarray, n_rows: int) -> None:
    """Note in the entry of a fit which rows (and so which labels) it was given."""
    writer.array(NAME, pack_rows(rows, n_rows))


def read_fitted_rows(entry: Entry) -> np.ndarray | None:
    """Return the packed rows of a fit; None in entries made before they were noted."""
    return entry.array(NAME) if entry.has(f"{NAME}.npy") else None


def pack_rows(rows: Any, n_rows: int) -> np.ndarray:
    """Turn row numbers, or a mask, into uint8 of shape (ceil(n_rows / 8),)."""
    mask = np.zeros(n_rows, dtype=bool)
    mask[rows] = True
    return np.packbits(mask)


def unpack_rows(packed: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the mask of `pack_rows`, bool of shape (n_rows,)."""
    return np.unpackbits(packed, count=n_rows).astype(bool)
