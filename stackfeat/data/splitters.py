"""Splitters: one function per kind of folds, from `Samples` to (training rows, predicted rows).

In:  the kind, `FoldOptions`, training `Samples`, a seed.
Out: a pair of sorted int64 index arrays per fold. Checks that concern one kind only are here;
     what must hold for all kinds is checked in `folds`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.data.own_splitter import own_splits
from stackfeat.data.phrases import name_values, quoted
from stackfeat.data.samples import Samples
from stackfeat.errors import DataError

if TYPE_CHECKING:
    from stackfeat.data.options import FoldOptions

Split = tuple[np.ndarray, np.ndarray]


def split_rows(
    kind: str, options: FoldOptions, samples: Samples, seed: int, splitter: object | None = None
) -> tuple[Split, ...]:
    """Return (training rows, predicted rows) of each fold, for a kind that `resolve_kind` returned."""
    if samples.n_rows < options.n and kind != "column":
        raise DataError(
            f"there must be a row for each fold; got {samples.n_rows} rows, folds.n={options.n}; use fewer "
            "folds"
        )
    if kind == "time":
        pairs: Iterable[Split] = _time_splits(options, samples)
    elif kind == "column":
        pairs = _given_splits(samples)
    elif kind == "custom":
        pairs = own_splits(splitter, options, samples, seed)
    else:
        pairs = _sklearn_splits(kind, options, samples, seed)
    return tuple((_index(train), _index(predicted)) for train, predicted in pairs)


def _index(rows: Any) -> np.ndarray:
    return np.sort(np.asarray(rows, dtype=np.int64))


def _sklearn_splits(kind: str, options: FoldOptions, samples: Samples, seed: int) -> Iterable[Split]:
    from sklearn import model_selection

    if "group" in kind:
        _check_group_count(samples, options.n)
    if "stratified" in kind:
        _check_class_counts(samples, options.n, by_group="group" in kind)
    name = {
        "kfold": "KFold",
        "stratified": "StratifiedKFold",
        "group": "GroupKFold",
        "stratified_group": "StratifiedGroupKFold",
    }[kind]
    splitter = getattr(model_selection, name)(n_splits=options.n, shuffle=True, random_state=seed)
    pairs: Iterable[Split] = splitter.split(np.zeros(samples.n_rows), samples.y, samples.group)
    return pairs


def _check_group_count(samples: Samples, n_folds: int) -> None:
    assert samples.group is not None
    n_groups = len(np.unique(samples.group))
    if n_groups < n_folds:
        raise DataError(
            f"there must be a group for each fold; got {n_groups} groups, folds.n={n_folds}; use "
            f"folds.n={max(n_groups, 2)} or less"
        )


def _check_class_counts(samples: Samples, n_folds: int, by_group: bool) -> None:
    """Each class needs a row for every fold; with groups, rows in at least two groups."""
    classes = samples.task.classes
    if by_group:
        pairs = np.unique(np.stack([samples.labels, samples.group]), axis=1)  # type: ignore[list-item]
        counts, least, unit = np.bincount(pairs[0], minlength=len(classes)), 2, "groups"
    else:
        counts, least, unit = np.bincount(samples.labels, minlength=len(classes)), n_folds, "rows"
    rare = [f"{quoted(classes[c])} ({counts[c]})" for c in np.flatnonzero(counts < least)]
    if rare:
        raise DataError(
            f"each class must have at least {least} {unit} for folds.n={n_folds}; "
            f"got class {name_values(rare)}; use fewer folds, or join rare classes"
        )


def _time_splits(options: FoldOptions, samples: Samples) -> Iterable[Split]:
    """Expanding windows over rows in order of time, as scikit-learn's TimeSeriesSplit, with two differences.

    Rows of one time are never divided, and training rows of a predicted row's group are left out.
    """
    time = samples.time
    assert time is not None
    order = np.argsort(time, kind="stable")
    ordered = time[order]
    size = options.test_size or samples.n_rows // (options.n + 1)
    first = samples.n_rows - options.n * size
    if size < 1 or first - options.gap < 1:
        raise DataError(
            f"time folds must leave rows to train on before the first fold; got {samples.n_rows} rows, "
            f"folds.n={options.n}, "
            f"test_size={size}, gap={options.gap}; use fewer folds or a smaller test_size or gap"
        )
    starts = np.searchsorted(ordered, ordered[first + size * np.arange(options.n)], side="left")
    for start, end in zip(starts, [*starts[1:], samples.n_rows], strict=True):
        train = order[: max(start - options.gap, 0)]
        if options.max_train_size is not None:
            train = train[-options.max_train_size :]
        predicted = order[start:end]
        if samples.group is not None:
            train = train[~np.isin(samples.group[train], samples.group[predicted])]
        yield train, predicted


def _given_splits(samples: Samples) -> Iterable[Split]:
    fold = samples.fold
    assert fold is not None
    if fold.min() < 0:
        raise DataError(
            f"given folds must be numbered 0, 1, ...; got -1 in {int((fold < 0).sum())} rows; -1 marks rows to "
            "hold out: set stack.holdout: column, or give these rows a fold"
        )
    for k in range(int(fold.max()) + 1):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)
