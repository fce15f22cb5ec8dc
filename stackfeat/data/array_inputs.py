"""Named inputs that are arrays: from a file's values to what `Samples` holds.

In:  `InputOptions` with `array`, the data file, its columns; for later files the `ArraySchema` of training.
Out: a `Table` (two dimensions) or an `ArrayInput`, checked value by value, and the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from stackfeat.data.array_checks import (
    check_kind,
    check_lengths,
    check_values,
    guess_kind,
    place_of_channels,
    scaling_of,
)
from stackfeat.data.array_files import ArchiveFile, read_npy
from stackfeat.data.arrays import ArrayInput, Kind, Scaling
from stackfeat.data.lazy import LazyArray, is_large
from stackfeat.data.options import InputOptions
from stackfeat.data.parsing import parsing
from stackfeat.data.phrases import cut, quoted
from stackfeat.data.samples import Table
from stackfeat.errors import DataError
from stackfeat.registry.resolve import suggest


@dataclass(frozen=True)
class ArraySchema:
    """How an array of this kind is read; `shape` is that of a row as it is held (sequences: of a step)."""

    kind: Literal["table", "image", "sequence", "tokens", "array"]
    shape: tuple[int, ...]
    scaling: Scaling = "none"
    channels: Literal["none", "first", "last"] = "none"
    n_tokens: int = 0


@dataclass(frozen=True)
class ArraySource:
    """Where the arrays of one input are.

    Attributes
    ----------
    name : str
        Of the input.
    given : InputOptions
    path : Path
        The data file: a npz file that holds the arrays, or any file with npy files beside it.
    frame : DataFrame
        Its columns, a row per sample.
    """

    name: str
    given: InputOptions
    path: Path
    frame: pd.DataFrame

    @property
    def where(self) -> str:
        return f"{self.path}: data.inputs.{self.name}"

    def read(self, array: str, option: str, *, mapped: bool | None) -> np.ndarray:
        """Return a named array, of the npz file or of a npy file beside the data file."""
        what = f"data.inputs.{self.name}.{option}"
        if array.endswith(".npy"):
            return read_npy(npy_path(self.path, array), what, mapped=mapped)
        if self.path.suffix.lower() != ".npz":
            raise DataError(
                f"{self.path}: {what} names an array of a npz file; got {quoted(array)}; use a npz file, or "
                f"a npy file beside this one: {array}.npy, or '{{name}}_{array}.npy' where {{name}} stands for "
                f"{self.path.stem}"
            )
        return ArchiveFile.open(self.path).read(array, what, mapped=mapped)

    def lengths(self) -> np.ndarray | None:
        """Return how many steps of each row are real, int64."""
        option = self.given.lengths
        if option is None:
            return None
        if option in self.frame.columns:
            values: np.ndarray = pd.to_numeric(self.frame[option], errors="coerce").to_numpy()
        elif self.path.suffix.lower() == ".npz" or option.endswith(".npy"):
            values = self.read(option, "lengths", mapped=False)
        else:
            raise DataError(
                f"{self.where}.lengths must be a column of the file; got {quoted(option)}."
                f"{suggest(option, map(str, self.frame.columns))}"
            )
        return check_lengths(values, len(self.frame), f"{self.where}.lengths")


def npy_path(path: Path, array: str) -> Path:
    """Return the npy file beside a data file; ``{name}`` stands for the data file's name without suffix."""
    return path.parent / array.replace("{name}", path.stem)


def read_array_input(
    source: ArraySource, schema: ArraySchema | None = None
) -> tuple[Table | ArrayInput, ArraySchema]:
    """Read one input.

    Parameters
    ----------
    source : ArraySource
    schema : ArraySchema, optional
        Of the training file; without it this is the training file.

    Raises
    ------
    DataError
        If there is no such array, or its rows, shape, type or values do not fit.
    """
    given, where = source.given, f"{source.where}: array {source.given.array!r}"
    values = source.read(str(given.array), "array", mapped=given.stream)
    lengths = source.lengths()
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        raise DataError(
            f"{where} must hold numbers of at most 64 bits; got dtype {cut(str(values.dtype))}; convert it"
        )
    if values.ndim == 0:
        raise DataError(f"{where} must have a row per sample; got one number; name another array")
    values = with_rows(
        values.astype(values.dtype.newbyteorder("="), copy=False), lengths, len(source.frame), where
    )
    kind = schema.kind if schema is not None else guess_kind(values, given, lengths is not None)
    check_kind(values, kind, lengths is not None, where)
    if kind == "table":
        return _read_table(source, values, schema, where)
    values, channels = arranged(values, kind, given, schema, where)
    check_values(values, kind, lengths, where)
    found = ArraySchema(
        kind=kind,
        shape=tuple(values.shape[2:] if kind in ("sequence", "tokens") else values.shape[1:]),
        scaling=scaling_of(given, kind, values, where) if schema is None else schema.scaling,
        channels=channels,
        n_tokens=_count_tokens(values, lengths) if kind == "tokens" and schema is None else 0,
    )
    if schema is not None:
        _check_like_training(found, schema, where)
    return as_input(values, schema or found, lengths, given.stream), schema or found


def as_input(
    values: np.ndarray, schema: ArraySchema, lengths: np.ndarray | None, stream: bool | None
) -> ArrayInput:
    """Return the values as an input; they stay on disk where they are large, or `stream` says so."""
    assert schema.kind != "table"
    kind: Kind = schema.kind
    is_lazy = is_large(len(values), values.shape[1:]) if stream is None else stream
    held = LazyArray(values) if is_lazy else np.ascontiguousarray(values)
    return ArrayInput(held, kind, schema.scaling, lengths, schema.n_tokens)


def with_rows(values: np.ndarray, lengths: np.ndarray | None, n_rows: int, where: str) -> np.ndarray:
    """Return values with a row per sample; sequences written end to end are padded with zeros."""
    if len(values) == n_rows:
        if lengths is not None and values.ndim > 1 and lengths.max(initial=0) > values.shape[1]:
            row = int(np.argmax(lengths))
            raise DataError(
                f"{where} must have as many steps as its lengths say; got {values.shape[1]} steps and length "
                f"{lengths[row]} in row {row + 1}; correct the lengths"
            )
        return values
    if lengths is None or lengths.sum() != len(values):
        total = f", and lengths that sum to {lengths.sum()}" if lengths is not None else ""
        raise DataError(
            f"{where} must have a row for each of {n_rows} samples; got {len(values)} rows{total}; write them in "
            "the order of the samples"
        )
    shape = (n_rows, int(lengths.max(initial=1)), *values.shape[1:])
    with parsing(where, f"sequences must fit into memory when padded to shape {shape}", "cut the longest"):
        padded = np.zeros(shape, dtype=values.dtype)
    is_real = np.arange(padded.shape[1]) < lengths[:, None]
    padded[is_real] = values
    return padded


def arranged(
    values: np.ndarray, kind: Kind, given: InputOptions, schema: ArraySchema | None, where: str
) -> tuple[np.ndarray, Literal["none", "first", "last"]]:
    """Return values with the axes that `ArrayInput` has, as a view, and where channels were."""
    if kind == "image":
        if values.ndim == 3:
            return values[:, None], "none"
        known = None if schema is None else schema.channels
        place = place_of_channels(values.shape, given, where) if known in (None, "none") else known
        return (np.moveaxis(values, -1, 1), "last") if place == "last" else (values, "first")
    if kind == "sequence" and values.ndim == 2:
        return values[:, :, None], "none"
    if kind == "tokens" and values.ndim == 1:
        return values[:, None], "none"
    return values, "none"


def _count_tokens(values: np.ndarray, lengths: np.ndarray | None) -> int:
    is_real = True if lengths is None else np.arange(values.shape[1]) < lengths[:, None]
    return int(values.max(initial=0, where=is_real)) + 1


def _check_like_training(found: ArraySchema, schema: ArraySchema, where: str) -> None:
    if found.shape != schema.shape:
        what = "steps" if schema.kind in ("sequence", "tokens") else "rows"
        raise DataError(
            f"{where} must have {what} like the training file's, of shape {schema.shape}; got shape {found.shape}; "
            "write it in the same way"
        )


def _read_table(
    source: ArraySource, values: np.ndarray, schema: ArraySchema | None, where: str
) -> tuple[Table, ArraySchema]:
    if values.ndim > 2:
        raise DataError(
            f"{where} must be 2-D (rows, columns) to be a table; got shape {values.shape}; name another kind"
        )
    columns = values.reshape(len(values), -1)
    check_values(columns, "table", None, where)
    width = columns.shape[1]
    if schema is not None and schema.shape != (width,):
        raise DataError(
            f"{where} must have {schema.shape[0]} columns like the training file's; got {width}; write it in "
            "the same way"
        )
    table = Table(
        numeric=columns.astype(np.float64),
        numeric_names=tuple(f"{source.name}_{j}" for j in range(width)),
        codes=np.zeros((len(values), 0), dtype=np.int32),
        code_names=(),
        levels=(),
    )
    return table, ArraySchema("table", (width,))
