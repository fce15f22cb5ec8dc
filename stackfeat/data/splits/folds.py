"""Folds: which rows train a model and which rows it predicts, for every repeat.

In:  `FoldOptions` and the training `Samples` (labels, group, time, given folds).
Out: `Folds`, index arrays per repeat and fold, after the checks that keep scores honest.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from stackfeat.data.options import FoldOptions
from stackfeat.data.samples import ArrayInput, Input, Samples, Table, chunk_rows, to_bytes
from stackfeat.data.splits.splitters import Split, is_time_kind, resolve_kind, split_rows
from stackfeat.errors import DataError, DataWarning, LeakWarning
from stackfeat.registry.resolve import name_values, quoted
from stackfeat.seeds import derive_seed
from stackfeat.store.entry import Entry, EntryWriter, reading
from stackfeat.structure import must

logger = logging.getLogger(__name__)

MOST_DUPLICATES = 0.01
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_SHIFT = np.uint64(31)


@dataclass(frozen=True)
class Folds:
    """Training rows and predicted rows of every fold.

    Attributes
    ----------
    kind : str
        What `resolve_kind` says; never ``auto``.
    splits : tuple of tuple of (ndarray, ndarray)
        ``splits[repeat][fold]`` is (training rows, predicted rows), int64, sorted. Training rows are
        those of the splitter, not the complement of the predicted rows.
    n_rows : int
    """

    kind: str
    splits: tuple[tuple[Split, ...], ...]
    n_rows: int

    @property
    def n_repeats(self) -> int:
        return len(self.splits)

    @property
    def n_folds(self) -> int:
        return len(self.splits[0])

    @property
    def is_time(self) -> bool:
        """Whether later folds may train on earlier rows only."""
        return self.kind == "time"

    def fold_of(self, repeat: int) -> np.ndarray:
        """Return the (first) fold that predicts each row, int64 of shape (n_rows,); -1 where none does."""
        fold_of = np.full(self.n_rows, -1, dtype=np.int64)
        for fold, (_, predicted) in reversed([*enumerate(self.splits[repeat])]):
            fold_of[predicted] = fold
        return fold_of


def make_folds(options: FoldOptions, samples: Samples, splitter: object | None = None) -> Folds:
    """Split training rows into folds.

    Parameters
    ----------
    options : FoldOptions
    samples : Samples
        Training rows, with `y`.
    splitter : object, optional
        An object with ``split(X, y, groups)``, for ``kind: pkg.mod:Splitter``. Given an `X` of row
        numbers. Its `random_state`, if any, is changed from the second repeat on.

    Returns
    -------
    Folds

    Raises
    ------
    ConfigError
        If the kind does not fit the columns there are.
    DataError
        If the rows cannot be split so: too few rows of a class, too few groups, gaps in given folds, ...

    Warns
    -----
    LeakWarning
        If more than 1 % of the rows have an equal row in another fold.
    DataWarning
        If a class is missing from the training rows of a fold.
    """
    has = {f"has_{role}": getattr(samples, role) is not None for role in ("group", "time", "fold")}
    kind = resolve_kind(options, samples.task.kind, **has)
    n_draws = options.repeats if options.repeats_as == "stacks" else 1
    seeds = [options.seed, *(derive_seed(options.seed, "folds", repeat) for repeat in range(1, n_draws))]
    drawn = [_checked_split(kind, options, samples, seed, splitter) for seed in seeds]
    runs_in_time = is_time_kind(kind, samples.time is not None, options.allow_leak)
    splits = tuple(drawn * (options.repeats // n_draws))
    folds = Folds(kind="time" if runs_in_time else kind, splits=splits, n_rows=samples.n_rows)
    if kind in ("time", "column") and options.repeats > 1:
        logger.info(
            "folds of kind %s are the same in all %d repeats; only seeds differ", kind, options.repeats
        )
    share = share_of_split_duplicates(samples, folds.fold_of(0))
    warn_of_duplicates(samples, share, "rows have an equal feature row in another fold", "out-of-fold")
    return folds


def _checked_split(
    kind: str, options: FoldOptions, samples: Samples, seed: int, splitter: object | None
) -> tuple[Split, ...]:
    splits = split_rows(kind, options, samples, seed, splitter)
    _check_shape(splits, samples.n_rows)
    _check_lists(splits, samples)
    if not options.allow_leak:
        _check_groups(splits, samples)
        if kind == "custom" and samples.time is None:
            _check_covered(splits, samples)
        elif kind == "custom":
            _check_time(splits, samples)
    if samples.task.most_classes:
        _check_classes(splits, samples)
    return splits


def _check_shape(splits: tuple[Split, ...], n_rows: int) -> None:
    """Every fold trains and predicts, on different rows, and no row is predicted twice."""
    if len(splits) < 2:
        raise DataError(f"there must be at least 2 folds; got {len(splits)}; choose another folds.kind")
    times_predicted = np.zeros(n_rows, dtype=np.int64)
    for fold, (train, predicted) in enumerate(splits):
        rows = np.concatenate([train, predicted])
        if len(train) == 0 or len(predicted) == 0:
            raise DataError(
                f"every fold must have rows to train on and to predict; fold {fold} has {len(train)} and "
                f"{len(predicted)}; use fewer folds (folds.n)"
            )
        if rows.min() < 0 or rows.max() >= n_rows or len(np.unique(rows)) < len(rows):
            raise DataError(
                f"training and predicted rows of a fold must be different rows of 0 to {n_rows - 1}; "
                f"fold {fold} breaks this; repair the splitter"
            )
        times_predicted[predicted] += 1
    if times_predicted.max() > 1:
        raise DataError(
            f"a row must be predicted by one fold of a repeat; got {int((times_predicted > 1).sum())} rows predicted "
            "more often; use a splitter that partitions rows, with folds.repeats for repetition"
        )


def _check_lists(splits: tuple[Split, ...], samples: Samples) -> None:
    """Lists are whole whatever is allowed to leak: a part of one is another list, with other scores."""
    for fold, (train, predicted) in enumerate(splits if samples.query is not None else ()):
        both = np.intersect1d(samples.query[train], samples.query[predicted])  # type: ignore[index]
        if len(both):
            raise DataError(
                f"rows of a query must stand on one side of a fold; fold {fold} has {len(both)} queries on both; "
                "change the folds"
            )


def _check_groups(splits: tuple[Split, ...], samples: Samples) -> None:
    if samples.group is None:
        return
    for fold, (train, predicted) in enumerate(splits):
        both = np.intersect1d(samples.group[train], samples.group[predicted])
        if len(both):
            ids = samples.ids[predicted[np.isin(samples.group[predicted], both)]]
            raise DataError(
                f"rows of one group must stand on one side of a fold; fold {fold} has {len(both)} groups on both, "
                f"such as those of ids {name_values(ids)}; change the folds, or set folds.allow_leak: true"
            )


def _check_covered(splits: tuple[Split, ...], samples: Samples) -> None:
    """A splitter of one's own may leave rows out only where it follows time."""
    missing = np.setdiff1d(np.arange(samples.n_rows), np.concatenate([predicted for _, predicted in splits]))
    if len(missing):
        raise DataError(
            f"every row must be predicted by a fold; got {len(missing)} rows that none predicts, such as those of "
            f"ids {name_values(samples.ids[missing])}; repair the splitter, name data.time if it follows time, "
            "or set folds.allow_leak: true"
        )


def _check_time(splits: tuple[Split, ...], samples: Samples) -> None:
    assert samples.time is not None
    for fold, (train, predicted) in enumerate(splits):
        if samples.time[train].max() >= samples.time[predicted].min():
            raise DataError(
                f"training rows must be earlier than predicted rows where data.time is given; fold {fold} trains on "
                "rows as late as those it predicts; change the splitter, or set folds.allow_leak: true"
            )


def _check_classes(splits: tuple[Split, ...], samples: Samples) -> None:
    classes = samples.task.classes
    absent = []
    for fold, (train, _) in enumerate(splits):
        counts = np.bincount(samples.labels[train], minlength=len(classes))
        if np.count_nonzero(counts) < 2:
            raise DataError(
                f"training rows of a fold must hold at least 2 classes; fold {fold} has one; "
                "use fewer folds (folds.n) or another folds.kind"
            )
        absent += [f"{quoted(classes[c])} in fold {fold}" for c in np.flatnonzero(counts == 0)]
    if absent:
        warnings.warn(
            f"classes without a training row: {name_values(absent)}; their probability there will be 0; "
            "use fewer folds (folds.n), or join rare classes",
            DataWarning,
            stacklevel=4,
        )


def warn_of_duplicates(samples: Samples, share: float, where: str, scores: str) -> None:
    """Warn where more than a few rows are predicted from memory: an equal one was trained on."""
    if share <= MOST_DUPLICATES:
        return
    remedy = "remove the duplicates, or name what they share as data.group"
    if samples.group is not None:
        remedy = "remove the duplicates, or check data.group, which does not keep them together"
    elif samples.fold is not None:
        remedy = "remove the duplicates, or give equal rows the same data.fold"
    warnings.warn(
        f"{share:.1%} of the {where}, so {scores} scores may look better than new data will be; {remedy}",
        LeakWarning,
        stacklevel=4,
    )


def share_of_split_duplicates(samples: Samples, fold_of: np.ndarray) -> float:
    """Return the share of predicted rows with an equal row in another fold."""
    predicted = fold_of >= 0
    _, copy_of = np.unique(hash_samples(samples)[predicted], return_inverse=True)
    n_folds = fold_of.max() + 1
    pairs = np.unique(copy_of * n_folds + fold_of[predicted])
    return float(np.mean((np.bincount(pairs // n_folds) > 1)[copy_of]))


def hash_samples(samples: Samples) -> np.ndarray:
    """Return a uint64 per row; equal for rows that are equal in every input and in what no input reads."""
    hashes = hash_rows(samples.inputs)
    return hashes if samples.unread is None else _mix(hashes, samples.unread.astype(np.uint64))


def hash_rows(inputs: Mapping[str, Input]) -> np.ndarray:
    """Return a uint64 per row; rows with equal values (missing ones included) get equal hashes."""
    n_rows = next(len(v.numeric) if isinstance(v, Table) else len(v) for v in inputs.values())
    hashes = np.zeros(n_rows, dtype=np.uint64)
    for values in inputs.values():
        if isinstance(values, Table):
            for part in (values.numeric, values.codes):
                for j in range(part.shape[1]):
                    hashes = _mix(hashes, same_zero_and_nan(part[:, j].astype(np.float64)).view(np.uint64))
            for column in values.texts.T:
                hashes = _mix(hashes, _hash_texts(column))
        else:
            hashes = _mix(hashes, _hash_array(values))
    return hashes


def _mix(hashes: np.ndarray, values: np.ndarray) -> np.ndarray:
    mixed = (hashes ^ values) * _MIX + _STEP
    return np.asarray(mixed ^ (mixed >> _SHIFT))


def same_zero_and_nan(values: np.ndarray) -> np.ndarray:
    """Turn -0.0 into 0.0, and every NaN into the bits of one NaN."""
    values = values + values.dtype.type(0)
    values[np.isnan(values)] = np.nan
    return values


def _hash_texts(texts: np.ndarray) -> np.ndarray:
    digests = [hashlib.blake2b(to_bytes(text), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _hash_array(values: ArrayInput | np.ndarray) -> np.ndarray:
    """Return a uint64 per row of an array of any shape: padding is left out, lengths count."""
    hashes = np.zeros(len(values), dtype=np.uint64)
    lengths = values.lengths if isinstance(values, ArrayInput) else None
    size = chunk_rows(values.shape[1:])
    for start in range(0, len(values), size):
        chunk = np.ascontiguousarray(values[start : start + size])
        chunk = same_zero_and_nan(chunk) if chunk.dtype.kind == "f" else chunk
        for i, row in enumerate(chunk):
            real = row if lengths is None else row[: lengths[start + i]]
            digest = hashlib.blake2b(np.ascontiguousarray(real).data, digest_size=8).digest()
            hashes[start + i] = int.from_bytes(digest, "little")
    return hashes


@dataclass(frozen=True)
class _Described:
    """What `save_folds` writes beside the row numbers."""

    kind: str
    n_rows: int
    sizes: tuple[tuple[tuple[int, int], ...], ...]


def save_folds(folds: Folds, writer: EntryWriter) -> None:
    """Write folds into a store entry: all index arrays end to end, and their lengths."""
    flat = [split for repeat in folds.splits for split in repeat]
    writer.array("train", np.concatenate([train for train, _ in flat]))
    writer.array("predicted", np.concatenate([predicted for _, predicted in flat]))
    sizes = tuple(tuple((len(train), len(predicted)) for train, predicted in one) for one in folds.splits)
    writer.json("folds", asdict(_Described(folds.kind, folds.n_rows, sizes)))


def load_folds(entry: Entry) -> Folds:
    """Read folds written by `save_folds`."""
    described: _Described = entry.structure("folds", _Described)
    rows = [entry.array(name) for name in ("train", "predicted")]
    with reading(entry):
        sizes = np.array([size for repeat in described.sizes for size in repeat], dtype=np.int64)
        for part, numbers in enumerate(rows):
            is_whole = numbers.ndim == 1 and len(numbers) == sizes[:, part].sum() and (sizes >= 0).all()
            must(bool(is_whole), "its rows", "be those of each fold", numbers.shape)
            is_inside = numbers.dtype.kind == "i" and ((numbers >= 0) & (numbers < described.n_rows)).all()
            must(bool(is_inside), "its rows", "be row numbers", numbers.dtype.str)
        train, predicted = (
            np.split(numbers, np.cumsum(sizes[:-1, part])) for part, numbers in enumerate(rows)
        )
        flat = iter(zip(train, predicted, strict=True))
        splits = tuple(tuple(next(flat) for _ in repeat) for repeat in described.sizes)
    return Folds(kind=described.kind, splits=splits, n_rows=described.n_rows)
