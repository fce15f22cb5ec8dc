"""Every named input of a file, in the order of the config: tables of columns, arrays, image files.

In:  the columns of a file, read values, `DataOptions`, schemas of array inputs (later files).
Out: `Table` and `ArrayInput` by name, each with a row per sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stackfeat.data.files.images import read_images
from stackfeat.data.options import DataOptions, InputOptions
from stackfeat.data.samples import ArrayInput, Input, Table
from stackfeat.data.schema.arrays import (
    ArraySchema,
    ArraySource,
    as_input,
    npy_path,
    read_array_input,
    scaling_of,
)
from stackfeat.data.schema.columns import Column
from stackfeat.data.schema.roles import build_table
from stackfeat.errors import DataError
from stackfeat.registry.resolve import suggest

Arrays = dict[str, Table | ArrayInput]


def array_options(options: DataOptions) -> dict[str, InputOptions]:
    """Return the inputs that are arrays or image files."""
    return {name: given for name, given in (options.inputs or {}).items() if given.columns is None}


def paths_named(options: DataOptions, path: Path) -> Iterator[tuple[str, Path]]:
    """Yield every file and folder that inputs make the reader open beside a data file, and the option's place."""
    for name, given in array_options(options).items():
        if given.column is not None:
            yield f"data.inputs.{name}.root", path.parent / (given.root or ".")
        for option in ("array", "lengths"):
            value = getattr(given, option)
            if value is not None and value.endswith(".npy"):
                yield f"data.inputs.{name}.{option}", npy_path(path, value)


def read_arrays(
    frame: pd.DataFrame,
    options: DataOptions,
    path: Path | str,
    folder: Path,
    schemas: Mapping[str, ArraySchema] | None = None,
) -> tuple[Arrays, dict[str, ArraySchema]]:
    """Read the inputs that are arrays or image files.

    Parameters
    ----------
    frame : DataFrame
        Columns of the data file, a row per sample.
    path : Path or str
        The data file.
    folder : Path
        What `root` of image files is relative to.
    schemas : mapping, optional
        Those of the training file; without them this is the training file.

    Raises
    ------
    DataError
        Naming every input that cannot be read.
    """
    arrays: Arrays = {}
    found: dict[str, ArraySchema] = {}
    problems = []
    for name, given in array_options(options).items():
        schema = None if schemas is None else schemas[name]
        try:
            if given.array is None:
                arrays[name], found[name] = _read_files(name, given, frame, f"{path}", folder, schema)
            elif not isinstance(path, Path):
                raise DataError(
                    f"data.inputs.{name}: arrays are read from files; got data.train: {path}; name a file"
                )
            else:
                arrays[name], found[name] = read_array_input(ArraySource(name, given, path, frame), schema)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return arrays, found


def _read_files(
    name: str,
    given: InputOptions,
    frame: pd.DataFrame,
    path: str,
    folder: Path,
    schema: ArraySchema | None,
) -> tuple[ArrayInput, ArraySchema]:
    where = f"{path}: data.inputs.{name}"
    if given.column not in frame.columns:
        raise DataError(
            f"{where}.column must be a column of the file; got {given.column!r}."
            f"{suggest(str(given.column), map(str, frame.columns))}"
        )
    if given.size is None:
        raise DataError(f"{where} must have a size, in pixels; got none; add size: 64")
    pixels = read_images(frame[given.column], given, folder / (given.root or "."), where)
    schema = schema or ArraySchema(
        "image", tuple(pixels.shape[1:]), scaling_of(given, "image", pixels, where), "first"
    )
    return as_input(pixels, schema, None, given.stream), schema


def combined(
    chosen: Mapping[str, Sequence[str]],
    columns: Sequence[Column],
    values: Mapping[str, np.ndarray],
    arrays: Arrays,
    options: DataOptions,
    n_rows: int,
) -> dict[str, Input]:
    """Return all inputs in the order of the config.

    Parameters
    ----------
    chosen : mapping of str to sequence of str
        Columns of each input that is a table.
    columns, values
        Typed columns and what they hold.

    Raises
    ------
    DataError
        If a table has no column that can be learnt from.
    """
    inputs: dict[str, Input] = {}
    for name in options.inputs or ("table",):
        if name in arrays:
            inputs[name] = arrays[name]
            continue
        if not chosen[name]:
            raise DataError(
                f"data.inputs.{name}: an input must have a column; got none but constants and text; add one"
            )
        wanted = set(chosen[name])
        inputs[name] = build_table([column for column in columns if column.name in wanted], values, n_rows)
    return inputs


def describe_arrays(inputs: Mapping[str, Input]) -> list[str]:
    """Return a note on each input that is an array."""
    notes = []
    for name, values in inputs.items():
        if isinstance(values, ArrayInput):
            shape = " x ".join(map(str, values.shape[1:]))
            padded = ", padded" if values.lengths is not None else ""
            tokens = f", {values.n_tokens} tokens" if values.kind == "tokens" else ""
            place = ", left on disk" if values.is_lazy else ""
            notes.append(f"input {name}: {values.kind} {shape}, {values.dtype}{padded}{tokens}{place}")
    return notes
