"""The JSON Schema of the rows that a predictor reads."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

import stackfeat as sf
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import ArraySchema
from stackfeat.data.schema.columns import Column, Schema
from stackfeat.data.schema.json_schema import input_schema
from stackfeat.engine.predictor import INPUT
from stackfeat.errors import DataError
from stackfeat.tasks.task import Task
from tests.projects import Project

ROW = {"a": 0.5, "b": None, "c": 1, "d": -2.5, "colour": "a"}


def schema_of(*columns: Column, arrays: dict[str, ArraySchema] | None = None, **data: Any) -> dict[str, Any]:
    schema = Schema(
        task=Task("binary", (0, 1)),
        label_type="int",
        id=None,
        target="y",
        roles={},
        columns=columns,
        inputs={"table": tuple(column.name for column in columns)},
        left_out={},
        arrays=arrays or {},
    )
    return input_schema(schema, DataOptions(train="train.csv", target="y", **data))


def accepts(schema: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether a row is one that the schema describes, by what it uses of the draft."""
    if set(schema["required"]) - row.keys():
        return False
    return all(_fits(schema["properties"][name], value) for name, value in row.items())


_TYPES: dict[str, Any] = {
    **{"null": type(None), "boolean": bool, "string": str, "array": list, "integer": int},
    "number": (int, float),
}


def _fits(described: dict[str, Any], value: Any) -> bool:
    types = described["type"] if isinstance(described["type"], list) else [described["type"]]
    is_bool = isinstance(value, bool)
    if not any(isinstance(value, _TYPES[one]) and is_bool == (one == "boolean") for one in types):
        return False
    if not isinstance(value, list):
        return True
    has_size = described.get("minItems", 0) <= len(value) <= described.get("maxItems", len(value))
    return has_size and all(_fits(described["items"], item) for item in value)


def test_the_schema_of_a_run_describes_its_rows(plain: Project) -> None:
    schema = sf.load(plain.run_folder).input_schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["a", "b", "c", "d", "colour"]
    assert schema["properties"]["colour"] == {"type": ["string", "null"], "x-categories": ["a", "b", "c"]}
    assert schema["properties"]["a"] == {"type": ["number", "null"]}
    assert accepts(schema, ROW)
    assert accepts(schema, {**ROW, "row_id": "601"})
    assert not accepts(schema, {**ROW, "a": "much"})
    assert not accepts(schema, {name: value for name, value in ROW.items() if name != "c"})


def test_the_draft_itself_agrees(plain: Project) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = sf.load(plain.run_folder).input_schema
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(ROW)
    assert not validator.is_valid({**ROW, "a": "much"})


def test_dates_truth_values_and_categories_of_numbers_are_told_apart() -> None:
    schema = schema_of(
        Column("when", "date", parts=("year",)),
        Column("is_new", "boolean"),
        Column("code", "categorical", levels=("1", "2.5")),
    )["properties"]
    assert schema["when"]["type"] == ["string", "null"]
    assert schema["when"]["anyOf"] == [{"format": "date"}, {"format": "date-time"}]
    assert schema["is_new"] == {"type": ["boolean", "null"]}
    assert schema["code"]["type"] == ["string", "number", "null"]


def test_arrays_have_the_shape_of_the_file() -> None:
    schema = schema_of(
        arrays={
            "image": ArraySchema("image", (3, 4, 5), channels="last"),
            "steps": ArraySchema("sequence", (2,)),
            "words": ArraySchema("tokens", (), n_tokens=9),
            "photo": ArraySchema("image", (3, 8, 8)),
        },
        inputs={
            "image": {"array": "X"},
            "steps": {"array": "S", "lengths": "n"},
            "words": {"array": "W"},
            "photo": {"column": "path", "size": 8},
        },
    )
    image = [[[0.0] * 3 for _ in range(5)] for _ in range(4)]
    row = {"X": image, "S": [[1.0, 2.0]] * 7, "n": 7, "W": [1, 2, 3], "path": "a.png"}
    assert accepts(schema, row)
    assert not accepts(schema, {**row, "X": image[:3]})
    assert not accepts(schema, {**row, "S": [[1.0]]})
    assert not accepts(schema, {**row, "W": [1.5]})


def test_the_file_beside_the_models_is_the_same_and_is_exported(plain: Project, tmp_path: Path) -> None:
    model = sf.load(plain.run_folder)
    assert json.loads((plain.run_folder / "predictor" / INPUT).read_text()) == model.input_schema
    assert plain.cli("export", plain.run_folder, "-o", tmp_path / "model.zip").code == 0
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert json.loads(archive.read(f"predictor/{INPUT}")) == model.input_schema


def test_a_schema_that_was_changed_is_found(plain: Project) -> None:
    path = plain.run_folder / "predictor" / INPUT
    path.write_text(path.read_text().replace('"colour"', '"color"'))
    with pytest.raises(DataError, match=r"input\.schema\.json must be as it was written"):
        sf.load(plain.run_folder)
