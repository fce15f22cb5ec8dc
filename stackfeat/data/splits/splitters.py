"""Splitters: which kind of folds a config means, and one function per kind.

In:  the kind, `FoldOptions`, training `Samples`, a seed; a user's own splitter, which is watched while it splits.
Out: a pair of sorted int64 index arrays per fold. Checks that concern one kind only are here;
     what must hold for all kinds is checked in `folds`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from stackfeat.data.options import FoldOptions
from stackfeat.data.samples import Samples
from stackfeat.data.splits.label_sets import deal_label_sets
from stackfeat.errors import ConfigError, DataError, Problem, StackfeatError, first_line
from stackfeat.registry.resolve import name_values, quoted, suggest
from stackfeat.tasks.task import Kind, task_class

Split = tuple[np.ndarray, np.ndarray]
MOST_FOLDS = 1_000
"""A generator that never ends is stopped here."""


@dataclass(frozen=True)
class _Kind:
    """What is true of one kind of folds; custom and given folds are judged on their rows."""

    splitter: str = ""
    needs: str = ""
    ignores: tuple[str, ...] = ()
    without_classes: str = ""


_KINDS = {
    "kfold": _Kind("KFold", ignores=("group", "time")),
    "stratified": _Kind("StratifiedKFold", ignores=("group", "time"), without_classes="kfold"),
    "group": _Kind("GroupKFold", needs="group", ignores=("time",)),
    "stratified_group": _Kind("StratifiedGroupKFold", "group", ("time",), without_classes="group"),
    "time": _Kind(needs="time"),
    "column": _Kind(needs="fold"),
    "custom": _Kind(),
}
"""The class of scikit-learn, the role of a column, roles that are not respected, the same kind for values."""


def resolve_kind(
    options: FoldOptions, task_kind: Kind, has_group: bool, has_time: bool, has_fold: bool
) -> str:
    """Return the kind of folds, ``auto`` resolved.

    ``auto`` is: given column, else time, else group (stratified_group for classes), else stratified
    or kfold. Time folds drop training rows of a predicted row's group, so time and group go together.

    Parameters
    ----------
    options : FoldOptions
    task_kind : {"binary", "multiclass", "regression"}
    has_group, has_time, has_fold : bool
        Whether ``data.group``, ``data.time``, ``data.fold`` name a column.

    Returns
    -------
    str
        kfold, stratified, group, stratified_group, time, column or custom (``pkg.mod:Splitter``).

    Raises
    ------
    ConfigError
        If the kind needs a column that is not named, or ignores one without ``allow_leak``.
    """
    classes = task_class(task_kind).is_stratified
    has = {"group": has_group, "time": has_time, "fold": has_fold}
    if options.kind == "auto":
        if has_fold or has_time:
            return "column" if has_fold else "time"
        if has_group:
            return "stratified_group" if classes else "group"
        return "stratified" if classes else "kfold"
    name = "custom" if ":" in options.kind else options.kind
    kind, problems = _KINDS[name], []
    if kind.needs and not has[kind.needs]:
        problems.append(f"needs a column; got no data.{kind.needs}; name it as data.{kind.needs}")
    if kind.without_classes and not classes:
        problems.append(f"needs classes; got task={task_kind}; use kind: {kind.without_classes}")
    if task_class(task_kind).has_lists and "group" in kind.ignores:
        problems.append("ignores data.query, and rows of a list must stay together; use kind: auto")
        has["group"] = False
    problems += [
        f"ignores data.{role}, so scores would look better than new data will be; use kind: auto, remove data."
        f"{role}, or set folds.allow_leak: true"
        for role in kind.ignores
        if has[role] and not options.allow_leak
    ]
    if problems:
        raise ConfigError([Problem("folds.kind", f"kind: {name} {problem}") for problem in problems])
    return name


def is_time_kind(kind: str, has_time: bool, allow_leak: bool) -> bool:
    """Return whether folds follow time: later rows never train a model of earlier ones.

    A user's splitter does where there is a time column, because its splits are checked against it.
    """
    return kind == "time" or (kind == "custom" and has_time and not allow_leak)


def make_splitter(found: Any, options: FoldOptions) -> Any:
    """Return the splitter: `found` called with those of the folds' facts that its signature names.

    Raises
    ------
    ConfigError
        If it takes no such arguments, or fails.
    """
    if not callable(found):
        if options.params:
            raise _wrong(options, f"is an object without params; got folds.params={options.params}", "params")
        return found
    try:
        named = inspect.signature(found).parameters
    except (TypeError, ValueError):
        named = {}  # type: ignore[assignment]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in named.values())
    unknown = [name for name in options.params if name not in named and not takes_all]
    if unknown:
        got = f"{unknown[0]!r}, its arguments are {', '.join(named) or 'none'}.{suggest(unknown[0], named)}"
        raise _wrong(options, f"must take folds.params; got {got}", f"params.{unknown[0]}")
    facts = {name: value for name, value in _facts(options).items() if name in named}
    if takes_all and not facts.keys() & {"n_splits", "n_folds", "n"}:
        facts["n_splits"] = options.n
    with _blaming(options, "be made"):
        return found(**{**facts, **options.params})


def _facts(options: FoldOptions) -> dict[str, Any]:
    """What a splitter may want to know, by the names that scikit-learn and others have for it."""
    sizes = {name: getattr(options, name) for name in ("gap", "test_size", "max_train_size")}
    return {
        **dict.fromkeys(("n_splits", "n_folds", "n"), options.n),
        **dict.fromkeys(("random_state", "seed"), options.seed),
        "shuffle": True,
        **{name: size for name, size in sizes.items() if size},
    }


def user_splits(splitter: Any, options: FoldOptions, samples: Samples, seed: int) -> list[Split]:
    """Return (training rows, predicted rows) of each fold.

    Raises
    ------
    ConfigError
        If the splitter fails, or gives anything but pairs of arrays of row numbers.
    """
    if not callable(getattr(splitter, "split", None)):
        raise _wrong(options, f"must have split(X, y, groups); got {splitter!r}; name such a class")
    if seed != options.seed:
        splitter = copy.copy(splitter)
        for name in ("random_state", "seed"):
            if hasattr(splitter, name):
                setattr(splitter, name, seed)
    rows = np.arange(samples.n_rows).reshape(-1, 1)
    y, group = (None if values is None else values.copy() for values in (samples.y, samples.group))
    with _blaming(options, f"split {samples.n_rows} rows"):
        folds = list(islice(iter(splitter.split(rows, y, group)), MOST_FOLDS + 1))
    if len(folds) > MOST_FOLDS:
        raise _wrong(options, f"must end after at most {MOST_FOLDS} folds; got more; see that its loop ends")
    if len(folds) < 2:
        raise _wrong(options, f"must yield at least 2 folds; got {len(folds)}; see that it yields them")
    return [_pair(pair, fold, options, samples.n_rows) for fold, pair in enumerate(folds)]


def _pair(pair: Any, fold: int, options: FoldOptions, n_rows: int) -> Split:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        must = "must yield pairs of (rows to train on, rows to predict)"
        raise _wrong(options, f"{must}; got {_shown(pair)} as fold {fold}")
    return _rows(pair[0], fold, options, n_rows), _rows(pair[1], fold, options, n_rows)


def _rows(part: Any, fold: int, options: FoldOptions, n_rows: int) -> np.ndarray:
    with _blaming(options, "yield arrays"):
        rows = np.asarray(part)
    if rows.size == 0:
        return np.zeros(0, dtype=np.int64)
    if rows.dtype.kind not in "iu" or rows.ndim != 1:
        hint = "; write numpy.flatnonzero(mask)" if rows.dtype.kind == "b" else ""
        must = "must yield row numbers, arrays of integers of one dimension"
        raise _wrong(options, f"{must}; got {_shown(rows)} in fold {fold}{hint}")
    if rows.min() < 0 or rows.max() >= n_rows:
        got = f"{rows.min()} to {rows.max()} in fold {fold}"
        raise _wrong(options, f"must yield row numbers from 0 to {n_rows - 1}; got {got}")
    return rows.astype(np.int64)


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, shape={value.shape}"
    size = f" of {len(value)}" if isinstance(value, tuple | list | Mapping) else ""
    return f"{type(value).__name__}{size}"


@contextmanager
def _blaming(options: FoldOptions, what: str) -> Iterator[None]:
    """Say of every error of the splitter whose it is."""
    try:
        yield
    except (StackfeatError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:
        got = f"it raised {type(error).__name__}: {first_line(error)}"
        raise _wrong(options, f"must {what}; {got}; repair it, or set folds.params", "params") from error


def _wrong(options: FoldOptions, text: str, where: str = "kind") -> ConfigError:
    return ConfigError([Problem(f"folds.{where}", f"splitter {options.kind!r} {text}")])


def split_rows(
    kind: str, options: FoldOptions, samples: Samples, seed: int, splitter: object | None = None
) -> tuple[Split, ...]:
    """Return (training rows, predicted rows) of each fold, for a kind that `resolve_kind` returned."""
    check_rows(kind, options, samples)
    if kind == "time":
        pairs: Iterable[Split] = _time_splits(options, samples)
    elif kind == "column":
        pairs = _given_splits(samples)
    elif kind == "custom":
        pairs = user_splits(splitter, options, samples, seed)
    else:
        pairs = _sklearn_splits(kind, options, samples, seed)
    return tuple(
        (np.sort(train).astype(np.int64), np.sort(predicted).astype(np.int64)) for train, predicted in pairs
    )


def check_rows(kind: str, options: FoldOptions, samples: Samples) -> None:
    """Raise DataError where there are fewer rows than folds."""
    if samples.n_rows < options.n and kind != "column":
        raise DataError(
            f"there must be a row for each fold; got {samples.n_rows} rows, folds.n={options.n}; use fewer folds"
        )


def ensure_splittable(kind: str, options: FoldOptions, samples: Samples) -> None:
    """Raise DataError where rows cannot be split, as far as that can be told without a splitter's package."""
    check_rows(kind, options, samples)
    if kind in ("time", "column"):
        for _ in _time_splits(options, samples) if kind == "time" else _given_splits(samples):
            pass
    elif kind != "custom":
        check_counts(kind, options, samples)


def _sklearn_splits(kind: str, options: FoldOptions, samples: Samples, seed: int) -> Iterable[Split]:
    from sklearn import model_selection

    check_counts(kind, options, samples)
    if "stratified" in kind and samples.task.has_label_sets:
        fold_of = deal_label_sets(samples.labels, options.n, seed, samples.group if "group" in kind else None)
        return [(np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(options.n)]
    found = getattr(model_selection, _KINDS[kind].splitter)
    splitter = found(n_splits=options.n, shuffle=True, random_state=seed)
    pairs: Iterable[Split] = splitter.split(np.zeros(samples.n_rows), samples.y, samples.group)
    return pairs


def check_counts(kind: str, options: FoldOptions, samples: Samples) -> None:
    """Raise DataError where there are too few groups, or rows of a class, for folds of a kind."""
    n_groups = options.n if "group" not in kind else len(np.unique(samples.group))  # type: ignore[arg-type]
    if n_groups < options.n:
        one, several = _words_of_groups(samples, n_groups)
        if n_groups < 2:
            raise DataError(
                f"there must be at least 2 {several}, as a fold holds whole ones; got 1 in {samples.n_rows} rows; "
                f"add rows of another {one}, or check data.{one}"
            )
        raise DataError(
            f"there must be a {one} for each fold; got {n_groups} {several}, folds.n={options.n}; use "
            f"folds.n={n_groups} or less"
        )
    if "stratified" in kind and samples.task.most_classes:
        _check_class_counts(samples, options.n, by_group="group" in kind)


def _words_of_groups(samples: Samples, n_groups: int) -> tuple[str, str]:
    """Return what one group is called, and several: lists are the groups where no others are named."""
    are_lists = samples.query is not None and len(np.unique(samples.query)) == n_groups
    return ("query", "queries") if are_lists else ("group", "groups")


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
            f"time folds must leave rows to train on before the first fold; got {samples.n_rows} rows, folds.n="
            f"{options.n}, test_size={size}, gap={options.gap}; use fewer folds or a smaller test_size or gap"
        )
    starts = np.searchsorted(ordered, ordered[first + size * np.arange(options.n)], side="left")
    for start, end in zip(starts, [*starts[1:], samples.n_rows], strict=True):
        train = order[: max(start - options.gap, 0)]
        if options.max_train_size is not None:
            train = train[-options.max_train_size :]
        predicted = order[start:end]
        yield of_other_groups(samples, train, predicted), predicted


def of_other_groups(samples: Samples, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the rows whose group is none of those of the others; all where there are no groups."""
    return rows if samples.group is None else rows[~np.isin(samples.group[rows], samples.group[others])]


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
