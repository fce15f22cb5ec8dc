"""Schema: all that must be known of the training file to read a later file the same way.

In:  what `describe` found in the training file.
Out: a value that goes to JSON and back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from stackfeat.structure import must, structured
from stackfeat.task import Task

if TYPE_CHECKING:
    from stackfeat.data.array_inputs import ArraySchema
    from stackfeat.data.columns import Column

LabelType = Literal["int", "float", "bool", "str"]


@dataclass(frozen=True)
class Schema:
    """How a file of this kind is read.

    Attributes
    ----------
    task : Task
        With the label classes.
    label_type : {"int", "float", "bool", "str"}
        Type of the labels in the training file; "float" for regression.
    id : str or None
        Column that names rows; None where rows are numbered.
    target : str
    roles : dict of str to str
        Columns of group, time, weight and fold, where given.
    columns : tuple of Column
        Typed columns that are read.
    inputs : dict of str to tuple of str
        Names of the columns of each input.
    left_out : dict of str to str
        Columns that are not read, and why.
    arrays : dict of str to ArraySchema
        How each input that is an array or made of image files is read.
    """

    task: Task
    label_type: LabelType
    id: str | None
    target: str
    roles: dict[str, str]
    columns: tuple[Column, ...]
    inputs: dict[str, tuple[str, ...]]
    left_out: dict[str, str]
    arrays: dict[str, ArraySchema] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "task": self.task.to_json()}

    @classmethod
    def from_json(cls, values: object, where: str = "schema") -> Schema:
        """Return the schema that `to_json` described; StructureError if it is not made so."""
        from stackfeat.data.array_inputs import ArraySchema
        from stackfeat.data.columns import Column

        schema = structured(cls, values, where, {"ArraySchema": ArraySchema, "Column": Column})
        schema.task.check(f"{where}.task")
        known = {column.name for column in schema.columns}
        for name, columns in schema.inputs.items():
            absent = [column for column in columns if column not in known]
            must(not absent, f"{where}.inputs[{name!r}]", "name columns that are read", absent[:1])
        return schema
