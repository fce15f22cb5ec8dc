"""Holdout: rows of the training file that no level of a stack learns from.

In:  the whole training `Samples`; the share of rows, the kind of folds, the gap and a seed.
Out: `Holdout`, which rows are kept, which are held out, and (time, groups) which are neither.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.data.messages import name_values
from stackfeat.data.samples import ArrayReader, ArrayWriter, Samples
from stackfeat.data.splits.duplicates import hash_rows
from stackfeat.data.splits.splitters import Split
from stackfeat.data.splits.validation_split import inner_split
from stackfeat.errors import DataError, LeakWarning
from stackfeat.registry.resolve import quoted

FEWEST_ROWS = 10
MOST_DUPLICATES = 0.01
HELD_OUT = -1
"""What a given fold column holds for rows that are held out."""


@dataclass(frozen=True)
class Holdout:
    """How the rows of the training file are divided.

    Attributes
    ----------
    kept, held : ndarray of int64
        Positions in the file, sorted: rows that the stack is made of, and rows held out. Rows of
        neither are those of the time gap, and those whose group is held out with later rows.
    ids : ndarray of shape (n_rows,), str
        Ids of all rows of the file.
    """

    kept: np.ndarray
    held: np.ndarray
    ids: np.ndarray


def draw_holdout(samples: Samples, options: Mapping[str, Any]) -> Holdout:
    """Choose the rows to hold out, the way the folds are drawn.

    Parameters
    ----------
    samples : Samples
        All rows of the training file.
    options : mapping
        ``share``: a share of the rows, or ``column`` for those whose given fold is -1; and for a share
        ``kind`` (``time`` holds out the latest rows), ``gap``, ``seed``. Groups are held out whole;
        otherwise classes are represented in proportion.

    Returns
    -------
    Holdout

    Raises
    ------
    DataError
        If too few rows are held out, more than half of them are, a class is missing from the rows
        that are kept, or rows cannot be divided so.

    Warns
    -----
    LeakWarning
        If more than 1 % of the held-out rows have an equal feature row among those kept.
    """
    if options["share"] == "column":
        kept, held = _given(samples)
    elif options["kind"] == "time":
        kept, held = _latest(samples, options["share"], options["gap"])
    else:
        _check_groups(samples)
        every = np.arange(samples.n_rows)
        kept, held = inner_split(samples, every, options["kind"], options["share"], options["seed"])
    _check_sizes(samples, kept, held, options["share"])
    if samples.task.is_stratified:
        _check_classes(samples, kept, held)
    _warn_of_duplicates(samples, kept, held)
    return Holdout(kept, held, samples.ids)


def _given(samples: Samples) -> Split:
    fold = samples.fold
    assert fold is not None
    if not (fold == HELD_OUT).any():
        raise DataError(
            f"stack.holdout: column needs rows whose given fold is {HELD_OUT}; got none in data.fold; "
            "mark the rows to hold out, or remove stack.holdout"
        )
    return np.flatnonzero(fold != HELD_OUT), np.flatnonzero(fold == HELD_OUT)


def _latest(samples: Samples, share: float, gap: int) -> Split:
    """The latest rows, rows of one time together; less the gap and the groups that are held out."""
    time = samples.time
    assert time is not None
    order = np.argsort(time, kind="stable")
    n_held = min(max(round(share * samples.n_rows), 1), samples.n_rows)
    start = int(np.searchsorted(time[order], time[order[-n_held]], side="left"))
    kept, held = order[: max(start - gap, 0)], order[start:]
    if samples.group is not None:
        kept = kept[~np.isin(samples.group[kept], samples.group[held])]
    if not len(kept):
        raise DataError(
            f"stack.holdout must leave earlier rows to train on; got none before the latest {len(held)} of "
            f"{samples.n_rows} rows (rows of one time stay together"
            + (", groups whole" if samples.group is not None else "")
            + (f", folds.gap={gap}" if gap else "")
            + "); use a smaller stack.holdout, or set it to 0"
        )
    return np.sort(kept), np.sort(held)


def _check_groups(samples: Samples) -> None:
    if samples.group is not None and len(np.unique(samples.group)) < 2:
        raise DataError(
            "stack.holdout holds out whole groups; got one group in data.group; remove stack.holdout"
        )


def _check_sizes(samples: Samples, kept: np.ndarray, held: np.ndarray, share: float | str) -> None:
    if len(held) < FEWEST_ROWS:
        raise DataError(
            f"stack.holdout must hold out at least {FEWEST_ROWS} rows; got {len(held)} of {samples.n_rows} "
            f"(stack.holdout={share}); use a larger share, or set it to 0"
        )
    if 2 * len(held) > samples.n_rows:
        raise DataError(
            f"stack.holdout must leave half of the rows to train on; got {len(held)} of {samples.n_rows} held "
            f"out (stack.holdout={share}): rows of one group, or of one time, stay together; set it to 0"
        )
    for part, rows in (("kept", kept), ("held out", held)):
        if samples.weight is not None and not samples.weight[rows].any():
            raise DataError(
                f"some weight must be above 0 on either side of stack.holdout; got 0 in all {len(rows)} rows "
                f"{part}; set stack.holdout to 0, or remove data.weight"
            )


def _check_classes(samples: Samples, kept: np.ndarray, held: np.ndarray) -> None:
    classes = samples.task.classes
    absent = np.flatnonzero(np.bincount(samples.labels[kept], minlength=len(classes)) == 0)
    if len(absent):
        raise DataError(
            "each class must have a row outside stack.holdout; got none of class "
            f"{name_values(repr(classes[c]) for c in absent)}; use a smaller stack.holdout, or join rare classes"
        )
    if len(np.unique(samples.labels[held])) < 2:
        raise DataError(
            f"the rows of stack.holdout must hold at least 2 classes; got only "
            f"{quoted(classes[samples.labels[held[0]]])} in {len(held)} rows; "
            "use a larger stack.holdout, or set it to 0"
        )


def _warn_of_duplicates(samples: Samples, kept: np.ndarray, held: np.ndarray) -> None:
    hashes = hash_rows(samples.inputs)
    share = float(np.isin(hashes[held], hashes[kept]).mean())
    if share > MOST_DUPLICATES:
        warnings.warn(
            f"{share:.1%} of the held-out rows have an equal feature row among those trained on, so holdout "
            "scores may look better than new data will be; remove the duplicates, or name what they share "
            "as data.group",
            LeakWarning,
            stacklevel=3,
        )


def describe_holdout(holdout: Holdout, samples: Samples, options: Mapping[str, Any]) -> str:
    """Return a line on which rows are held out."""
    n_rows, n_held = len(holdout.ids), len(holdout.held)
    if options["share"] == "column":
        how = f"those whose given fold is {HELD_OUT}"
    elif options["kind"] == "time":
        how = "the latest"
    elif samples.group is not None:
        how = f"{len(np.unique(samples.group[holdout.held]))} whole groups"
    else:
        how = "classes in proportion" if samples.task.is_stratified else "drawn at random"
    neither = n_rows - n_held - len(holdout.kept)
    rest = f"; {neither} rows before them or of their groups are left out" if neither else ""
    return f"held out of all levels: {n_held} of {n_rows} rows ({n_held / n_rows:.1%}), {how}{rest}"


def save_holdout(holdout: Holdout, writer: ArrayWriter) -> None:
    """Write which rows are which into a store entry, beside the held-out rows themselves."""
    writer.array("kept", holdout.kept)
    writer.array("held", holdout.held)
    writer.array("file_ids", holdout.ids)


def load_holdout(entry: ArrayReader) -> Holdout:
    """Read what `save_holdout` wrote."""
    return Holdout(entry.array("kept"), entry.array("held"), entry.array("file_ids"))
