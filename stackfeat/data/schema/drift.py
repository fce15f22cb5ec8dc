"""New data beside the training data, column by column.

In:  what was read of the training file; later what was read of another one.
Out: a `TrainingSummary`, which a predictor keeps; of new rows a `ColumnDrift` for each column: what it held in
     training, what it holds now, and what is off.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stackfeat.data.files.cells import Cells, text_cells
from stackfeat.data.files.parsing import name_rows
from stackfeat.data.samples import ArrayInput, Table
from stackfeat.data.schema.columns import Column
from stackfeat.data.schema.summary import RARE, CategorySummary, Finding, NumberSummary, is_beyond_chance
from stackfeat.errors import DataWarning
from stackfeat.registry.resolve import name_values, quoted, suggest
from stackfeat.structure import structured

N_SHOWN = 20
"""Lines on columns that are off; the others are named in one more."""
LATER = ("range", "shift")
"""What is said of times that are later than all of training."""
_ARRAY_ROWS, _ARRAY_VALUES = 2_000, 500_000


@dataclass(frozen=True)
class ColumnDrift:
    """One column of new rows beside that of the training rows.

    Attributes
    ----------
    column, kind : str
        Its name, and its type in training; empty where it was not there.
    train, now : str
        What it held, and holds, in words.
    flag : str
        What is off, such as ``unseen`` or ``missing, scale``; empty where nothing is.
    text : str
        The same with counts, as a line; empty where nothing is off.
    """

    column: str
    kind: str
    train: str
    now: str
    flag: str = ""
    text: str = ""

    @classmethod
    def of(cls, column: str, kind: str, train: str, now: str, findings: Iterable[Finding]) -> ColumnDrift:
        """Put everything that is off about a column into one line."""
        found = list(findings)
        flag, text = ", ".join(one.flag for one in found), "; ".join(one.text for one in found)
        return cls(column, kind, train, now, flag, f"column {quoted(column)}: {text}" if found else "")


@dataclass(frozen=True)
class TrainingSummary:
    """What must be known of the training file to see how new rows differ from it.

    Attributes
    ----------
    names : tuple of str
        All columns of the file.
    numbers : tuple of NumberSummary
        Columns of numbers, truth values and dates; arrays, and the lengths of their rows.
    categories : tuple of CategorySummary
    """

    names: tuple[str, ...]
    numbers: tuple[NumberSummary, ...]
    categories: tuple[CategorySummary, ...]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        columns: Mapping[str, tuple[Column, np.ndarray]],
        arrays: Mapping[str, Table | ArrayInput],
    ) -> TrainingSummary:
        """Summarise what was read of the training file."""
        numbers, categories = [], []
        for name, (column, values) in columns.items():
            if column.levels:
                categories.append(CategorySummary.of(name, values, column.levels))
            else:
                numbers.append(NumberSummary.of(name, column.type, column.measured(values)))
        numbers += [summary for name, array in arrays.items() for summary, _ in _of_array(name, array)]
        return cls(tuple(names), tuple(numbers), tuple(categories))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object, where: str = "summary") -> TrainingSummary:
        """Return what `to_json` described; StructureError if it is not made so."""
        return structured(cls, values, where)

    @cached_property
    def _numbers(self) -> dict[str, NumberSummary]:
        return {one.name: one for one in self.numbers}

    @cached_property
    def _categories(self) -> dict[str, CategorySummary]:
        return {one.name: one for one in self.categories}

    def median(self, name: str) -> float:
        """Return the median of a column of numbers, in days since 1970 of dates; NaN where it held none."""
        summary = self._numbers.get(name)
        return summary.median if summary is not None and summary.values else float("nan")

    def most_frequent(self, name: str) -> str | None:
        """Return the most frequent category of a column; None where it held none."""
        summary = self._categories.get(name)
        return max(summary.counts, key=summary.counts.__getitem__, default=None) if summary else None

    def of_column(
        self, column: Column, values: np.ndarray, cells: Cells, *, is_time: bool = False
    ) -> ColumnDrift:
        """Compare a column of new rows: its cells, and what `column` read of them.

        Where it is `data.time` (`is_time`), new rows may be later than those of training.
        """
        if not column.levels:
            numbers = column.measured(values)
            summary = NumberSummary.of(column.name, column.type, numbers)
            unread = self._unread(column, numbers, cells) or (_untimed(numbers) if is_time else [])
            return self._of_numbers(summary, numbers, column, unread, LATER if is_time else ())
        then = self._categories[column.name]
        now = CategorySummary.of(column.name, values, column.levels)
        unseen: Counter[str] = Counter()
        if (values == -2).any():
            text = text_cells(cells, column.notation)
            codes, counts = np.unique(text.codes[values == -2], return_counts=True)
            unseen.update(dict(zip(text.block.texts[codes].tolist(), counts.tolist(), strict=True)))
        found = then.compared(now, unseen, column.levels)
        return ColumnDrift.of(column.name, then.kind, then.described, now.described, found)

    def of_arrays(self, arrays: Mapping[str, Table | ArrayInput]) -> Iterator[ColumnDrift]:
        """Yield the arrays of new rows, and the lengths of their rows, beside those of training."""
        for name, array in arrays.items():
            for summary, numbers in _of_array(name, array):
                yield self._of_numbers(summary, numbers)

    def of_names(self, names: Sequence[str], roles: Container[str]) -> Iterator[ColumnDrift]:
        """Yield the columns of a new file that the training file has not; `roles` may be absent from it."""
        known, here = set(self.names), set(names)
        gone = [name for name in self.names if name not in here and name not in roles]
        for name in names:
            if name not in known:
                text = f"training has no such column, so it is not read.{suggest(name, gone)}"
                yield ColumnDrift.of(name, "", "", "extra", [Finding("extra", text.removesuffix("."))])

    def _of_numbers(
        self,
        now: NumberSummary,
        numbers: np.ndarray,
        column: Column | None = None,
        unread: Sequence[Finding] = (),
        expected: Container[str] = (),
    ) -> ColumnDrift:
        then = self._numbers[now.name]
        written = _plain if column is None else column.written
        # What cannot be read is not missing for another reason, too.
        found = unread or [one for one in then.compared(now, numbers, written) if one.flag not in expected]
        return ColumnDrift.of(now.name, then.kind, then.described(written), now.described(written), found)

    def _unread(self, column: Column, numbers: np.ndarray, cells: Cells) -> list[Finding]:
        """Return how many cells hold something that is read as missing: what is no date in a column of dates."""
        is_missing = np.isnan(numbers)
        if column.type != "date" or not is_missing.any():
            return []
        text, then = text_cells(cells, column.notation), self._numbers[column.name].cells
        unread = is_missing & ~text.is_missing
        n_unread = int(unread.sum())
        if not is_beyond_chance(n_unread, len(numbers), then.n_missing, then.n_cells, RARE):
            return []
        example = quoted(text.block.texts[text.codes[unread][0]])
        said = f"{n_unread} of {len(numbers)} cells are no dates such as 2024-01-31 and count as missing"
        return [Finding("unread", f"{said}, such as {example}")]


def _plain(number: float) -> str:
    return f"{number:.6g}"


def _of_array(name: str, array: Table | ArrayInput) -> Iterator[tuple[NumberSummary, np.ndarray]]:
    """Yield a summary of values, and the values: of each column of a table, or of an array and its lengths."""
    if isinstance(array, Table):
        for place, column in enumerate(array.numeric_names):
            numbers = array.numeric[:, place]
            yield NumberSummary.of(column, "numeric", numbers), numbers
        return
    numbers = _some_values(array)
    n_rows = len(array)
    yield NumberSummary.of(name, array.kind, numbers, n_rows, str(array.dtype)), numbers
    if array.lengths is not None:
        lengths = array.lengths.astype(np.float64)
        yield NumberSummary.of(f"{name}.lengths", "lengths", lengths), lengths


def _some_values(array: ArrayInput) -> np.ndarray:
    """Return values of evenly spaced rows as float64 of one dimension, padding left out."""
    rows = np.unique(np.linspace(0, len(array) - 1, min(len(array), _ARRAY_ROWS)).astype(np.int64))
    step = max(1, len(rows) * int(np.prod(array.shape[1:])) // _ARRAY_VALUES)
    found = []
    for row in rows:
        values = np.asarray(array[row : row + 1])[0]
        real = values if array.lengths is None else values[: array.lengths[row]]
        found.append(real.ravel()[row % step :: step].astype(np.float64))
    return np.concatenate(found)


def drift_lines(drifts: Iterable[ColumnDrift]) -> list[str]:
    """Return a line for each column that is off, and one for those beyond the first `N_SHOWN`."""
    off = [drift for drift in drifts if drift.flag]
    lines = [drift.text for drift in off[:N_SHOWN]]
    if len(off) > N_SHOWN:
        lines.append(
            f"{len(off) - N_SHOWN} more columns are off: {name_values(one.column for one in off[N_SHOWN:])}"
        )
    return lines


def warn_of_drift(drifts: Iterable[ColumnDrift], where: str) -> None:
    """Warn of each column of new rows that is off, in a line of its own."""
    for line in drift_lines(drifts):
        warnings.warn(f"{where}: {line}", DataWarning, stacklevel=3)


def _untimed(numbers: np.ndarray) -> list[Finding]:
    """Return which rows have no time; every training row has one."""
    missing = np.isnan(numbers)
    if not missing.any():
        return []
    said = f"{int(missing.sum())} of {len(numbers)} cells hold no time, which every training row has"
    return [Finding("missing", f"{said}; members that read it do not know it in {name_rows(missing)}")]
