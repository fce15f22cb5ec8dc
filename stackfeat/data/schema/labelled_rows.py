"""Labels of new rows: their target and roles, where the file has them.

In:  rows that were read as the training file was, and the file or frame that they came from.
Out: the rows with labels, weights, groups and times.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stackfeat.data.options import DataOptions
from stackfeat.data.samples import Samples
from stackfeat.data.schema.column_types import RoleCells
from stackfeat.data.schema.columns import Schema
from stackfeat.data.schema.given_rows import GivenRows
from stackfeat.data.schema.load import NAMES, ROLE_READERS
from stackfeat.data.schema.number_texts import NumberTexts
from stackfeat.data.schema.roles import read_known_targets
from stackfeat.registry.resolve import quoted


def with_labels(samples: Samples, rows: GivenRows, schema: Schema, options: DataOptions) -> Samples | None:
    """Return rows with what else their file holds of them; None where it holds no target.

    Raises
    ------
    DataError
        If some of them have no label, or one that is no class of the training file.
    """
    frame, where, targets = rows.frame, str(rows.path), schema.targets
    if any(target not in frame.columns or frame[target].isna().all() for target in targets):
        return None
    roles = {role: name for role, name in schema.roles.items() if name in frame.columns and role != "fold"}
    amounts = [name for role, name in roles.items() if role not in NAMES]
    amounts += [*targets] if schema.task.has_amounts else []
    cells = RoleCells(NumberTexts(frame, options), [*targets, *roles.values()], amounts, where)
    y = read_known_targets(cells.read, schema.task, options, where)
    given: dict[str, Any] = {
        role: ROLE_READERS[role](cells.read(name), f"{where}: column {quoted(name)}")
        for role, name in roles.items()
    }
    return replace(samples, y=y, **given).with_lists(where)
