"""A splitter of one's own: made with the arguments that it wants, and watched while it splits.

In:  a class, factory or object that the config names, `FoldOptions`, training `Samples`, a seed.
Out: (training rows, predicted rows) of each fold, as int64 arrays; whatever is wrong is one ConfigError.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.blame import first_line
from stackfeat.data.samples import Samples
from stackfeat.errors import ConfigError, Problem, StackfeatError
from stackfeat.registry.resolve import suggest

if TYPE_CHECKING:
    from stackfeat.data.options import FoldOptions

MOST_FOLDS = 1_000
"""A generator that never ends is stopped here."""


def make_splitter(found: Any, options: FoldOptions) -> Any:
    """Return the splitter: `found` called with those of the folds' facts that its signature names.

    Raises
    ------
    ConfigError
        If it takes no such arguments, or fails.
    """
    if not callable(found):
        if options.params:
            raise _wrong(
                options, f"is an object and takes no params; got folds.params={options.params}", "params"
            )
        return found
    try:
        named = inspect.signature(found).parameters
    except (TypeError, ValueError):
        named = {}  # type: ignore[assignment]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in named.values())
    unknown = [name for name in options.params if name not in named and not takes_all]
    if unknown:
        raise _wrong(
            options,
            f"must take folds.params; got {unknown[0]!r}, its arguments are "
            f"{', '.join(named) or 'none'}.{suggest(unknown[0], named)}",
            f"params.{unknown[0]}",
        )
    facts = {name: value for name, value in _facts(options).items() if name in named}
    if takes_all and not facts.keys() & {"n_splits", "n_folds", "n"}:
        facts["n_splits"] = options.n
    with _said(options, "be made"):
        return found(**{**facts, **options.params})


def _facts(options: FoldOptions) -> dict[str, Any]:
    """What a splitter may want to know, by the names that scikit-learn and others have for it."""
    sizes = {
        "gap": options.gap or None,
        "test_size": options.test_size,
        "max_train_size": options.max_train_size,
    }
    return {
        **dict.fromkeys(("n_splits", "n_folds", "n"), options.n),
        **dict.fromkeys(("random_state", "seed"), options.seed),
        "shuffle": True,
        **{name: size for name, size in sizes.items() if size is not None},
    }


def own_splits(
    splitter: Any, options: FoldOptions, samples: Samples, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
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
    with _said(options, f"split {samples.n_rows} rows"):
        folds = list(islice(iter(splitter.split(rows, y, group)), MOST_FOLDS + 1))
    if len(folds) > MOST_FOLDS:
        raise _wrong(options, f"must end after at most {MOST_FOLDS} folds; got more; see that its loop ends")
    if len(folds) < 2:
        raise _wrong(options, f"must yield at least 2 folds; got {len(folds)}; see that it yields them")
    return [_pair(pair, fold, options, samples.n_rows) for fold, pair in enumerate(folds)]


def _pair(pair: Any, fold: int, options: FoldOptions, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise _wrong(
            options,
            f"must yield pairs of (rows to train on, rows to predict); got {_shown(pair)} as fold {fold}",
        )
    train, predicted = (_rows(part, fold, options, n_rows) for part in pair)
    return train, predicted


def _rows(part: Any, fold: int, options: FoldOptions, n_rows: int) -> np.ndarray:
    with _said(options, "yield arrays"):
        rows = np.asarray(part)
    if rows.size == 0:
        return np.zeros(0, dtype=np.int64)
    if rows.dtype.kind not in "iu" or rows.ndim != 1:
        hint = "; write numpy.flatnonzero(mask)" if rows.dtype.kind == "b" else ""
        raise _wrong(
            options,
            f"must yield row numbers, arrays of integers of one dimension; got {_shown(rows)} in fold {fold}{hint}",
        )
    if rows.min() < 0 or rows.max() >= n_rows:
        raise _wrong(
            options,
            f"must yield row numbers from 0 to {n_rows - 1}; got {rows.min()} to {rows.max()} in fold {fold}",
        )
    return rows.astype(np.int64)


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, shape={value.shape}"
    return f"{type(value).__name__}" + (
        f" of {len(value)}" if isinstance(value, tuple | list | Mapping) else ""
    )


@contextmanager
def _said(options: FoldOptions, what: str) -> Iterator[None]:
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
