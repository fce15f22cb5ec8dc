"""The data page: columns with their types, missing cells, levels, and how test rows differ from training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples, Table
from stackfeat.data.schema.columns import Column
from stackfeat.data.schema.drift import TrainingSummary
from stackfeat.data.schema.summary import CategorySummary, Finding, NumberSummary
from stackfeat.output.report.evidence import Evidence

MOST_COLUMNS = 300
_TEST_ROWS = 20_000
"""Test rows that are compared with training rows: as many as tell a difference that matters."""


def data_tables(evidence: Evidence) -> dict[str, Any]:
    """Return what is known of columns, of inputs that are arrays, and of columns that are not read."""
    schema, finished = evidence.schema, evidence.finished
    numbers = {one.name: one for one in evidence.summary.numbers}
    categories = {one.name: one for one in evidence.summary.categories}
    drift = dict(_drift(evidence.summary, schema.columns, finished.test))
    columns = []
    for column in schema.columns[:MOST_COLUMNS]:
        known = categories.get(column.name) or numbers.get(column.name)
        columns.append(
            {
                "column": column.name,
                "type": column.type,
                "missing": None if known is None else known.cells.missing_share,
                "levels": len(column.levels) or None,
                "training": _described(column, known),
                "test": drift.get(column.name, ""),
            }
        )
    return {
        "columns": columns,
        "n_columns": len(schema.columns),
        "arrays": [
            {"input": name, "kind": array.kind, "shape": list(array.shape)}
            for name, array in schema.arrays.items()
        ],
        "left_out": dict(list(schema.left_out.items())[:MOST_COLUMNS]),
        "has_test": finished.test is not None,
    }


def _described(column: Column, known: NumberSummary | CategorySummary | None) -> str:
    if known is None:
        return ""
    return known.described(column.written) if isinstance(known, NumberSummary) else known.described


def _drift(
    summary: TrainingSummary, columns: tuple[Column, ...], test: Samples | None
) -> Iterator[tuple[str, str]]:
    """Yield what is off about columns of the test rows, in words."""
    if test is None or not test.n_rows:
        return
    numbers = {one.name: one for one in summary.numbers}
    categories = {one.name: one for one in summary.categories}
    rows = np.unique(np.linspace(0, test.n_rows - 1, min(test.n_rows, _TEST_ROWS)).astype(np.int64))
    tables = [one for one in test.inputs.values() if isinstance(one, Table)]
    for column in columns[:MOST_COLUMNS]:
        found: list[Finding] = []
        for table in tables:
            if column.name in table.code_names and column.name in categories:
                codes = table.codes[rows, table.code_names.index(column.name)]
                unseen = Counter(
                    {"a level that training has not": n} if (n := int((codes == -2).sum())) else {}
                )
                now = CategorySummary.of(column.name, codes, column.levels)
                found = list(categories[column.name].compared(now, unseen, column.levels))
            elif column.name in table.text_names and column.name in numbers:
                values = column.measured(table.texts[rows, table.text_names.index(column.name)])
                of_test = NumberSummary.of(column.name, column.type, values)
                found = list(numbers[column.name].compared(of_test, values, column.written))
            elif column.numeric_names and set(column.numeric_names) <= set(table.numeric_names):
                places = [table.numeric_names.index(name) for name in column.numeric_names]
                values = column.measured(table.numeric[rows][:, places])
                if column.name in numbers:
                    of_test = NumberSummary.of(column.name, column.type, values)
                    found = list(numbers[column.name].compared(of_test, values, column.written))
        if found:
            yield column.name, "; ".join(one.text for one in found)
