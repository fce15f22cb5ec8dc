"""Rows set aside, the way the folds are drawn: held out of all levels, or for validation inside a fold.

In:  `Samples`; the share of rows, the kind of folds, a seed.
Out: `Holdout`: which rows of the training file are kept, which are held out, and (time, groups) which are neither;
     or (rows to fit on, validation rows) of a fold's training rows, for early stopping, gates and calibration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import hash_samples, warn_of_duplicates
from stackfeat.data.splits.splitters import Split, of_other_groups
from stackfeat.errors import DataError
from stackfeat.registry.resolve import name_values, quoted
from stackfeat.seeds import derive_seed
from stackfeat.store.entry import Entry, EntryWriter

FEWEST_ROWS = 10
_GROUP_DRAWS = 20
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
        kept, held = np.flatnonzero(samples.fold != HELD_OUT), np.flatnonzero(samples.fold == HELD_OUT)
        if not len(held):
            raise DataError(
                f"stack.holdout: column needs rows whose given fold is {HELD_OUT}; got none in data.fold; mark the "
                "rows to hold out, or remove stack.holdout"
            )
    elif options["kind"] == "time":
        kept, held = _latest(samples, options["share"], options["gap"])
    else:
        if samples.group is not None and len(np.unique(samples.group)) < 2:
            raise DataError("stack.holdout holds out whole groups; got one group in data.group; remove it")
        every = np.arange(samples.n_rows)
        kept, held = inner_split(samples, every, options["kind"], options["share"], options["seed"])
    _check_sizes(samples, kept, held, options["share"])
    if samples.task.most_classes:
        _check_classes(samples, kept, held)
    hashes = hash_samples(samples)
    share = float(np.isin(hashes[held], hashes[kept], kind="sort").mean())
    warn_of_duplicates(
        samples, share, "held-out rows have an equal feature row among those trained on", "holdout"
    )
    return Holdout(kept, held, samples.ids)


def _latest(samples: Samples, share: float, gap: int) -> Split:
    """The latest rows, rows of one time together; less the gap and the groups that are held out."""
    time = samples.time
    assert time is not None
    order = np.argsort(time, kind="stable")
    n_held = min(max(round(share * samples.n_rows), 1), samples.n_rows)
    start = int(np.searchsorted(time[order], time[order[-n_held]], side="left"))
    held = order[start:]
    kept = of_other_groups(samples, order[: max(start - gap, 0)], held)
    if not len(kept):
        raise DataError(
            f"stack.holdout must leave earlier rows to train on; got none before the latest {len(held)} of "
            f"{samples.n_rows} rows (rows of one time stay together"
            + (", groups whole" if samples.group is not None else "")
            + (f", folds.gap={gap}" if gap else "")
            + "); use a smaller stack.holdout, or set it to 0"
        )
    return np.sort(kept), np.sort(held)


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
            "the rows of stack.holdout must hold at least 2 classes; got only "
            f"{quoted(classes[samples.labels[held[0]]])} in {len(held)} rows; use a larger one, or set it to 0"
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


def save_holdout(holdout: Holdout, writer: EntryWriter) -> None:
    """Write which rows are which into a store entry, beside the held-out rows themselves."""
    writer.array("kept", holdout.kept)
    writer.array("held", holdout.held)
    writer.array("file_ids", holdout.ids)


def load_holdout(entry: Entry) -> Holdout:
    """Read what `save_holdout` wrote."""
    return Holdout(entry.array("kept"), entry.array("held"), entry.array("file_ids"))


@dataclass(frozen=True)
class InnerSplits:
    """Inner splits of the rows of one fit, as positions among these rows.

    Attributes
    ----------
    samples : Samples
    rows : ndarray of int64
        Sorted; no other row is looked at.
    kind : str
        Of the folds.
    seed : int
        Of the first draw; each further one has a seed of its own. By time there is one split, however often drawn.
    """

    samples: Samples
    rows: np.ndarray
    kind: str
    seed: int

    def __call__(self, fraction: float, draw: int = 0) -> Split:
        """Return the positions of rows to fit on and of validation rows; raises as `inner_split`."""
        seed = self.seed if draw == 0 else derive_seed(self.seed, "inner split", draw)
        fit, validation = inner_split(self.samples, self.rows, self.kind, fraction, seed)
        return np.searchsorted(self.rows, fit), np.searchsorted(self.rows, validation)

    def take(self, positions: np.ndarray) -> InnerSplits:
        """Return the inner splits of a part of these rows, given by ascending positions."""
        return replace(self, rows=self.rows[positions])


def inner_split(samples: Samples, rows: np.ndarray, kind: str, fraction: float, seed: int) -> Split:
    """Divide `rows` into rows to fit on and validation rows.

    Groups are kept whole wherever `samples` has them. Time folds validate on the last rows, rows of
    one time together. Otherwise classes are represented in proportion, and every class keeps a row to
    fit on (unless no class has two).

    Parameters
    ----------
    samples : Samples
    rows : ndarray of shape (n,), int
        The rows that may be used; no other row is looked at.
    kind : str
        What `resolve_kind` returned.
    fraction : float
        Share of validation rows, between 0 and 1.
    seed : int

    Returns
    -------
    tuple of ndarray, int64
        Sorted; together exactly `rows`, except that time folds with groups leave out rows to fit on
        whose group is validated.

    Raises
    ------
    DataError
        If there are not two rows, groups or times to divide.
    """
    rows = np.sort(np.asarray(rows, dtype=np.int64))
    if len(rows) < 2:
        raise DataError(f"an inner split must have at least 2 rows; got {len(rows)}; use fewer folds")
    if kind == "time":
        return _last_rows(samples, rows, fraction)
    labels = samples.task.strata(samples.labels[rows])
    rng = np.random.default_rng(seed)
    if samples.group is not None:
        chosen = _whole_groups(samples.group[rows], labels, fraction, rng)
    else:
        chosen = _proportional(labels, fraction, rng)
    return rows[~chosen], rows[chosen]


def _last_rows(samples: Samples, rows: np.ndarray, fraction: float) -> Split:
    assert samples.time is not None
    time = samples.time[rows]
    n_validation = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
    chosen = time >= np.sort(time)[len(rows) - n_validation]
    if chosen.all():
        # The share falls into the first time of all: validate on every later time instead.
        chosen = time > time.min()
    if not chosen.any():
        raise DataError("an inner split by time must have at least 2 times; got one; use fewer folds")
    fit = of_other_groups(samples, rows[~chosen], rows[chosen])
    if not len(fit):
        raise DataError(
            "an inner split by time must leave rows to fit on whose group is not validated; got none; use fewer "
            "folds, or remove data.group"
        )
    return fit, rows[chosen]


def _proportional(labels: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Choose a share of every class, to within one row, and the same share of all rows."""
    shuffled = rng.permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    steps = np.floor(np.arange(len(labels) + 1) * fraction + rng.random())
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order[np.diff(steps) > 0]] = True
    kept = np.bincount(labels[~chosen], minlength=labels.max() + 1)
    emptied = np.flatnonzero((kept == 0) & (np.bincount(labels, minlength=len(kept)) > 0))
    for label in emptied:
        chosen[np.flatnonzero(labels == label)[0]] = False
    if not chosen.any():
        counts = np.bincount(labels)
        chosen[order[np.flatnonzero(counts[labels[order]] == counts.max())[-1]]] = True
    return chosen


def _whole_groups(
    groups: np.ndarray, labels: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw sets of groups, and keep the draw with the fewest classes lost and the best proportions."""
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise DataError("an inner split by group must have at least 2 groups; got one; use fewer folds")
    n_classes = int(labels.max()) + 1
    counts = np.bincount(group * n_classes + labels, minlength=len(names) * n_classes).reshape(-1, n_classes)
    total, sizes = counts.sum(axis=0), counts.sum(axis=1)
    draws = []
    for _ in range(_GROUP_DRAWS):
        order = rng.permutation(len(names))
        nearest = int(np.argmin(np.abs(np.cumsum(sizes[order])[:-1] - fraction * len(groups))))
        picked = order[: nearest + 1]
        validated = counts[picked].sum(axis=0)
        lost = int(((total > 0) & (validated == total)).sum())
        distance = float(np.abs(validated / len(groups) - fraction * total / len(groups)).sum())
        draws.append((lost, distance, picked))
    _, _, best = min(draws, key=lambda draw: draw[:2])
    return np.isin(group, best)
