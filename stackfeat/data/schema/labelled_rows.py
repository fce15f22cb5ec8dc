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
from stackfeat.data.schema.number_texts import NumberTexts
from stackfeat.data.schema.roles import read_known_targets


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
    cells = RoleCells.of_roles(NumberTexts(frame, options), targets, roles, schema.task, where)
    y = read_known_targets(cells.read, schema.task, options, where)
    given: dict[str, Any] = cells.read_roles()
    return replace(samples, y=y, **given).with_lists(where)
