"""Sets of labels: what rows of any number of labels hold, as a column of 0 and 1 for each, or as lists in one column.

In:  cells of these columns; what stands between the labels of a list.
Out: the task with the names of its labels, and y of shape (n_rows, n_labels), 1 where a row has the label.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from stackfeat.data.files.cells import BOOLEANS, Cells, TextCells, text_cells
from stackfeat.data.files.parsing import name_rows, refuse_rows, unknown_name
from stackfeat.data.options import DataOptions
from stackfeat.data.schema.guesses import Guess
from stackfeat.errors import DataError, LackError, in_quotes
from stackfeat.registry.resolve import name_values, quote_values, quoted
from stackfeat.tasks.multilabel import of_label_sets
from stackfeat.tasks.task import Task

MOST_LABELS = 2_000
SEPARATORS = (";", ",", "|", "/", "\t", " ", "-", "+")
"""What often stands between labels, the likeliest first."""
_LIKELY_SHARE = 0.05
"""Of rows in which it must stand."""
_BRACKETS = re.compile(r"\s*\[.*\]\s*", re.DOTALL)
_FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, **{text: int(value) for text, value in BOOLEANS.items()}}


def read_label_sets(
    cells_of: Callable[[str], Cells], options: DataOptions, where: str
) -> tuple[Task, np.ndarray]:
    """Return the task and y, int64, of the training file.

    Raises
    ------
    DataError
        If a cell is neither 0 nor 1, there are too few labels or too many, or no row has one.
    """
    separator, targets = options.label_separator, options.targets
    if separator is None:
        if len(targets) < 2:
            raise DataError(
                f"{where}: labels must be columns of 0 and 1, or a list in one column; got {quoted(targets[0])} "
                "alone; name all columns, or set data.label_separator to what stands between the labels of a list"
            )
        y = np.column_stack([_read_flags(cells_of(name), _place(where, name)) for name in targets])
        names: Sequence[str] = targets
    else:
        lists = _read_lists(cells_of(targets[0]), separator, _place(where, targets[0]))
        names = sorted({label for labels in lists for label in labels})
        if not 2 <= len(names) <= MOST_LABELS:
            likely = likely_separator(names, _as_counts(lists, names), separator)
            hint = f"; try data.label_separator: {in_quotes(likely)}" if likely else ""
            raise LackError(
                f"{_place(where, targets[0])}: there must be from 2 to {MOST_LABELS} labels; got {len(names)}, such "
                f"as {quote_values(names)}; check data.label_separator ({separator!r}){hint}"
            )
        y = _as_table(lists, names)
    if not y.any() or y.all():
        raise LackError(f"{where}: some rows must have a label and others not; got the same in all rows")
    _refuse_constant(y, names, where)
    return of_label_sets(y, names), y


def _refuse_constant(y: np.ndarray, names: Sequence[str], where: str) -> None:
    """Raise DataError where a label says nothing: every training row has it, or none does."""
    shares = y.mean(axis=0)
    for value in (0, 1):
        same = [name for name, share in zip(names, shares, strict=True) if share == value]
        if same:
            raise LackError(
                f"{where}: some rows must have each label and others not; got {value} in every row of "
                f"{name_values(same)}; check data.target, or leave such labels out"
            )


def read_known_label_sets(
    cells_of: Callable[[str], Cells], task: Task, options: DataOptions, where: str
) -> np.ndarray:
    """Return y of rows that are read beside the training file, int64; DataError for a label that it has not."""
    if options.label_separator is None:
        return np.column_stack([_read_flags(cells_of(name), _place(where, name)) for name in task.names])
    place = _place(where, options.targets[0])
    lists = _read_lists(cells_of(options.targets[0]), options.label_separator, place)
    for label in sorted({label for labels in lists for label in labels}.difference(task.names)):
        must = f"{place}: labels must be those of the training file ({name_values(task.names)})"
        raise DataError(str(unknown_name(must, label, task.names)))
    return _as_table(lists, task.names)


def likely_separator(names: Sequence[str], counts: Sequence[int], separator: str) -> str | None:
    """Return what seems to stand between the labels, where each whole cell became one; None where nothing does.

    It stands in one cell of twenty at least, and makes fewer labels of these names; of several, the fewest.

    Parameters
    ----------
    names : sequence of str
        Labels as they were read.
    counts : sequence of int
        Rows of each.
    separator : str
        What was taken to stand between them.

    Examples
    --------
    >>> likely_separator(["a", "a, b", "a, b, c", "b", "b, c"], [1, 1, 1, 1, 1], ";")
    ','
    """
    found: dict[str, int] = {}
    for mark in SEPARATORS:
        n_rows = sum(count for name, count in zip(names, counts, strict=True) if mark in name)
        if mark != separator and n_rows >= max(1.0, _LIKELY_SHARE * sum(counts)):
            parts = {part for name in names for text in name.split(mark) if (part := text.strip())}
            found |= {mark: len(parts)} if len(parts) < len(names) else {}
    return min(found, key=lambda mark: found[mark], default=None)


def of_label_sets_found(task: Task, y: np.ndarray, options: DataOptions) -> Iterator[Guess]:
    """Yield which labels there are, and how many of them rows have; and that a separator stands in no cell."""
    if not task.has_label_sets:
        return
    separator = options.label_separator
    if separator is not None and y.sum(axis=1).max() <= 1:
        likely = likely_separator(task.names, y.sum(axis=0).tolist(), separator)
        if likely is not None:
            n_rows = sum(int(y[:, place].sum()) for place, name in enumerate(task.names) if likely in name)
            yield Guess(
                f"data.label_separator ({separator!r}) stands in no cell of {quoted(options.targets[0])}, so that "
                f"each whole cell is one label; {likely!r} stands in {n_rows} of {len(y)}",
                f"if that stands between labels: data.label_separator: {in_quotes(likely)}",
                is_doubtful=True,
            )
    n_none = int((~y.any(axis=1)).sum())
    without = f", none in {n_none} rows" if n_none else ""
    shown = name_values(map(quoted, task.names))
    yield Guess(f"{len(task.names)} labels: {shown}; {y.sum(axis=1).mean():.3g} a row{without}")


def _place(where: str, name: str) -> str:
    return f"{where}: column {quoted(name)}"


def _read_flags(values: Cells, where: str) -> np.ndarray:
    """Return cells that are 0 or 1, or true or false, as int64."""
    cells = text_cells(values)
    refuse_rows(cells.is_missing, f"{where}: every training row must say 0 or 1", "fill these cells in")
    flags = [_FLAGS.get(text, -1) for text in cells.texts]
    found = np.asarray(cells.looked_up(flags, -1)).astype(np.int64)
    if (found < 0).any():
        wrong = [text for text, flag in zip(cells.texts, flags, strict=True) if flag < 0]
        raise DataError(
            f"{where}: a label must be 0 or 1, or true or false; got {quote_values(wrong)} in "
            f"{name_rows(found < 0)}; convert the column, or name another"
        )
    return found


def _read_lists(values: Cells, separator: str, where: str) -> list[tuple[str, ...]]:
    """Return the labels of each row; a missing cell is a list of none."""
    cells = text_cells(values) if not isinstance(values, TextCells) else values
    plain = [text for text in cells.texts if not _BRACKETS.fullmatch(text)]
    if 0 < len(plain) < len(cells.texts) / 2:
        raise DataError(
            f"{where}: lists must be written in one way; got {len(cells.texts) - len(plain)} different ones in "
            f"brackets, and {quote_values(plain)} without; write them all as JSON lists, or none"
        )
    are_json = bool(cells.texts) and not plain
    of_text = (lambda text: _of_json(text, where)) if are_json else (lambda text: text.split(separator))
    split = [
        tuple(dict.fromkeys(label for part in of_text(text) if (label := part.strip())))
        for text in cells.texts
    ]
    places = np.asarray(cells.looked_up(list(range(len(split))), -1)).astype(np.int64)
    return [split[place] if place >= 0 else () for place in places.tolist()]


def _of_json(text: str, where: str) -> list[str]:
    """Return the labels of a list that is written as JSON."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list) and all(type(label) in (str, int) for label in found):
        return list(map(str, found))
    raise DataError(
        f"{where}: lists in brackets must be JSON lists of labels, such as "
        f'["drama", "war"]; got {quoted(text)}; write them so, or without brackets and quotes'
    )


def _as_counts(lists: Sequence[Sequence[str]], names: Sequence[str]) -> list[int]:
    counts = Counter(label for labels in lists for label in labels)
    return [counts[name] for name in names]


def _as_table(lists: Sequence[Sequence[str]], names: Sequence[str]) -> np.ndarray:
    place_of = {name: place for place, name in enumerate(names)}
    y = np.zeros((len(lists), len(names)), dtype=np.int64)
    for row, labels in enumerate(lists):
        y[row, [place_of[label] for label in labels]] = 1
    return y
