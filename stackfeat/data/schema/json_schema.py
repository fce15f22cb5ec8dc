"""JSON Schema (draft 2020-12) of the rows that a run reads, for programs that send rows to its predictor.

In:  the schema of the training file, and the options that name its inputs.
Out: plain JSON values that describe one row as an object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from stackfeat.data.options import DataOptions
from stackfeat.data.samples import ArraySchema
from stackfeat.data.schema.columns import Column, Schema

DRAFT = "https://json-schema.org/draft/2020-12/schema"
CATEGORIES = "x-categories"
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def input_schema(schema: Schema, data: DataOptions) -> dict[str, Any]:
    """Return the JSON Schema of a row.

    Every column that is read is required; a cell without a value is null. Categories that training had are listed
    under ``x-categories``; others are read as unknown ones. Columns that are not described are not read.
    """
    properties = dict(_properties(schema, data))
    values: dict[str, Any] = {"$schema": DRAFT, "title": "A row to predict", "type": "object"}
    required = list(properties)
    if schema.id is not None and schema.id not in properties:
        properties[schema.id] = {
            "type": ["string", "number"],
            "description": "Names the row in files; not read by models.",
        }
    return {**values, "properties": properties, "required": required, "additionalProperties": True}


def _properties(schema: Schema, data: DataOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    for column in schema.columns:
        yield column.name, _of_column(column)
    for name, array in schema.arrays.items():
        given = data.array_inputs[name]
        if given.column is not None:
            yield given.column, {"type": "string", "description": f"Path of an image file ({name})."}
        else:
            place = given.array or name
            yield place, {**_of_array(array), "description": f"The array of input {name}."}
        if given.lengths is not None:
            yield given.lengths, {"type": "integer", "minimum": 0, "description": "How long the row is."}


def _of_column(column: Column) -> dict[str, Any]:
    match column.type:
        case "numeric":
            return {"type": ["number", "null"]}
        case "boolean":
            return {"type": ["boolean", "null"]}
        case "date":
            formats = [{"format": "date"}, {"format": "date-time"}]
            return {"type": ["string", "null"], "anyOf": formats}
        case "text":
            return {"type": ["string", "null"]}
    are_numbers = all(_NUMBER.fullmatch(level) for level in column.levels)
    types = ["string", *(["number"] if are_numbers else []), "null"]
    return {"type": types, CATEGORIES: list(column.levels)}


def _of_array(array: ArraySchema) -> dict[str, Any]:
    """Return nested lists of numbers of the shape of a row; of sequences any number of steps."""
    found: dict[str, Any] = {"type": "integer" if array.kind == "tokens" else "number"}
    # Images are held with their channels first, however the file has them.
    shape = (*array.shape[1:], array.shape[0]) if array.channels == "last" else array.shape
    for size in reversed(shape):
        found = {"type": "array", "minItems": size, "maxItems": size, "items": found}
    if array.kind in ("sequence", "tokens"):
        found = {"type": "array", "items": found}
    return found
