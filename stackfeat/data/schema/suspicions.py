"""Suspicions: what can be read, and is probably not what is meant: a copy of the target, groups of one row.

In:  columns with what they hold, the target, groups; the labels of a test file.
Out: warnings in words, each with its remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from stackfeat.data.schema.columns import Column
from stackfeat.registry.resolve import name_values, quote_values, quoted
from stackfeat.tasks.task import Task

_FEWEST_ROWS = 20


def of_copies(columns: Mapping[str, tuple[Column, np.ndarray]], y: np.ndarray) -> Iterator[str]:
    """Yield a warning of columns that are the target under another name or on another scale."""
    if len(y) < _FEWEST_ROWS:
        return
    targets = [(one, np.unique(one, return_inverse=True)[1]) for one in y.reshape(len(y), -1).T]
    same = []
    for name, (column, values) in columns.items():
        numbers = np.unique(values, return_inverse=True)[1] if column.type == "text" else values
        flat = np.asarray(numbers, dtype=np.float64).reshape(len(y), -1)
        is_number = column.type != "date" and flat.shape[1] == 1
        if is_number and any(_says_the_same(flat[:, 0], *target) for target in targets):
            same.append(name)
    if same:
        yield (
            f"{name_values(same)}: every value goes with one value of the target, as in a copy of it; if it is not "
            f"known when you predict: data.drop: [{name_values(same)}]"
        )


def _says_the_same(values: np.ndarray, y: np.ndarray, target: np.ndarray) -> bool:
    """Whether each value stands beside one value of the target and the reverse, or both are in the same order."""
    n_values = int(target.max()) + 1
    if n_values < 2 or np.isnan(values).any():
        return False
    if 2 * n_values > len(y):
        return np.array_equal(np.argsort(values, kind="stable"), np.argsort(y, kind="stable"))
    # One value of the column for each of the target, and as many of them.
    of_target = np.full(n_values, np.nan)
    of_target[target] = values
    return bool(np.array_equal(of_target[target], values)) and len(np.unique(of_target)) == n_values


def of_group(name: str | None, group: np.ndarray | None) -> Iterator[str]:
    """Yield a warning of groups that hold one row each."""
    if group is not None and len(np.unique(group)) == len(group) > 1:
        yield (
            f"data.group: {name!r} differs in every row, so it keeps no rows together; remove it, or name the column "
            "that rows share"
        )


def of_unseen(task: Task, target: str, labels: Iterable[str]) -> Iterator[str]:
    """Yield a warning of classes in a test file that no training row has."""
    known = {str(label) for label in task.classes}
    unseen = [label for label in labels if label not in known]
    if task.most_classes and unseen:
        yield f"classes of {quoted(target)} that only the test file has cannot be learnt: {quote_values(unseen)}"
