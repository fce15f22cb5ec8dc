"""Changes: what a new training file has otherwise than the one that a run was trained on.

In:  the frame of the new file, the schema of the old one, and how the old one was read.
Out: a line for each change, with what to do about it. Levels of categories and the range of numbers may change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from stackfeat.data.files.cells import Cells, TextCells, column_cells, text_cells
from stackfeat.data.files.notation import notation_of
from stackfeat.data.options import DataOptions
from stackfeat.data.schema.column_types import NO_VALUES, notation_told, type_columns
from stackfeat.data.schema.columns import Column, Schema, infer_type
from stackfeat.data.schema.number_texts import NumberTexts
from stackfeat.data.schema.roles import labels_like
from stackfeat.registry.patterns import matches
from stackfeat.registry.resolve import name_values, quote_values, quoted, suggest

_AGAIN = "run the config again on these rows, which chooses anew"


def schema_changes(frame: pd.DataFrame, schema: Schema, options: DataOptions, where: str) -> list[str]:
    """Return what must not change without a word, and did; empty where there is nothing.

    Parameters
    ----------
    frame : DataFrame
        The new training file, as it was read.
    schema : Schema
        Of the old one.
    options : DataOptions
        With which the old one was read.

    Raises
    ------
    DataError
        If a column whose type the options name cannot be read as that.
    """
    comparison = _Comparison(frame, schema, options, where)
    return [*comparison.of_names(), *comparison.of_types(), *comparison.of_target()]


@dataclass(frozen=True)
class _Comparison:
    frame: pd.DataFrame
    schema: Schema
    options: DataOptions
    where: str

    @property
    def _roles(self) -> list[str]:
        schema = self.schema
        return [*schema.targets, *([] if schema.id is None else [schema.id]), *schema.roles.values()]

    def of_names(self) -> Iterator[str]:
        read = [column.name for column in self.schema.columns]
        beside = [
            name
            for given in self.options.array_inputs.values()
            for name in (given.column, given.lengths)
            if name is not None
        ]
        needed = [*read, *self._roles]
        known = {*needed, *self.schema.left_out, *beside}
        new = [
            name
            for name in self.frame.columns
            if name not in known
            and not name.startswith("Unnamed: ")
            and not any(matches(pattern, name) for pattern in self.options.drop)
        ]
        absent = [name for name in needed if name not in self.frame.columns]
        if absent:
            near = suggest(absent[0], new)
            yield f"columns are missing: {name_values(absent)}.{near} Add or rename them, or {_AGAIN}"
        if new and self.options.inputs is None:
            yield f"columns are new: {name_values(new)}. Take them out of the file, or {_AGAIN}"

    def of_types(self) -> Iterator[str]:
        columns = {one.name: one for one in self.schema.columns if one.name in self.frame.columns}
        if not columns:
            return
        types = {name: kind for name, kind in self.options.types.items() if name in columns}
        options = self.options.model_copy(update={"types": types, "drop": (), "inputs": None})
        texts = NumberTexts(self.frame, options)
        typed = type_columns(self.frame, list(columns), options, self.where, texts)
        cells = dict(column_cells(self.frame[list(columns)], {n: c.notation for n, c in columns.items()}))
        for name, column in columns.items():
            if name in typed.columns:
                now: str = typed.columns[name][0].type
            elif typed.left_out[name] in ("constant", NO_VALUES):
                yield (
                    f"column {quoted(name)} has no two values in these rows and would be left out. Give more rows, "
                    f"or {_AGAIN}"
                )
                continue
            else:
                now = infer_type(cells[name])
            if now != column.type and not _is_the_same(column, cells[name]):
                yield (
                    f"column {quoted(name)} was {column.type} and is {now} now. Write it as before, or {_AGAIN}"
                )

    def of_target(self) -> Iterator[str]:
        # Sets of labels are read anew, and what is no label is said then.
        for target in () if self.schema.task.has_label_sets else self.schema.targets:
            if target in self.frame.columns:
                yield from self._of_one_target(target)

    def _of_one_target(self, target: str) -> Iterator[str]:
        task = self.schema.task
        place = f"target {quoted(target)}"
        cells = dict(column_cells(self.frame[[target]], {target: notation_of(self.options, target)}))[target]
        if not task.most_classes:
            now = infer_type(cells)
            if now != "numeric" and notation_told(self.frame, target, self.options) is None:
                yield f"{place} was numeric and is {now} now. Write it as before, or {_AGAIN}"
            return
        present = cells.dropna() if isinstance(cells, pd.Series) else cells
        labels, label_type = labels_like(present, task.classes)
        known = [str(label) for label in task.classes]
        new = [label for label in labels if label not in known]
        gone = [label for label in known if label not in labels]
        if new:
            yield f"{place} has new classes: {quote_values(new)}. Take these rows out, or {_AGAIN}"
        if gone:
            yield f"{place} has no row of {quote_values(gone)}. Add such rows (old ones will do), or {_AGAIN}"
        if not new and not gone and label_type != self.schema.label_type:
            was = self.schema.label_type
            yield f"{place} held labels of type {was} and holds {label_type} now. Write them as before, or {_AGAIN}"


def _is_the_same(column: Column, cells: Cells) -> bool:
    """Whether categories only look like something else now: some of the old ones are still there."""
    if column.type != "categorical":
        return False
    texts = (cells if isinstance(cells, TextCells) else text_cells(cells, column.notation)).texts
    return not set(column.levels).isdisjoint(texts)
