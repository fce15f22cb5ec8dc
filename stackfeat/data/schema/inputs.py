"""Every named input of a file, in the order of the config: tables of columns, arrays, image files.

In:  the columns of a file, read values, `DataOptions`; for later files the `ArraySchema` of each array in training.
Out: `Table` and `ArrayInput` by name, each with a row per sample, checked value by value; the schemas of arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from stackfeat.data.files.images import read_images
from stackfeat.data.files.parsing import parsing, read_each, refuse_rows, unknown_name
from stackfeat.data.files.tables import beside, files_beside, format_of, holds
from stackfeat.data.options import DataOptions, InputOptions
from stackfeat.data.samples import (
    AnyKind,
    ArrayInput,
    ArraySchema,
    Input,
    LazyRows,
    Scaling,
    Table,
    chunk_rows,
    is_large,
)
from stackfeat.data.schema.columns import Schema
from stackfeat.data.schema.given_rows import GivenRows
from stackfeat.data.schema.roles import build_table
from stackfeat.errors import DataError
from stackfeat.registry.resolve import cut, quoted

Read = tuple[Table | ArrayInput, ArraySchema]
COLOURS = (1, 3, 4)
_DIMENSIONS = {"image": (3, 4), "sequence": (2, 3), "tokens": (1, 2)}


def paths_named(options: DataOptions, path: Path) -> Iterator[tuple[str, Path]]:
    """Yield every file and folder that inputs make the reader open beside a data file, and the option's place."""
    for name, given in options.array_inputs.items():
        if given.column is not None:
            yield f"data.inputs.{name}.root", path.parent / (given.root or ".")
        for option, file in files_beside(path, given):
            yield f"data.inputs.{name}.{option}", file


def read_arrays(
    rows: GivenRows, options: DataOptions, schemas: Mapping[str, ArraySchema] | None = None
) -> dict[str, Read]:
    """Read the inputs that are arrays or image files.

    Parameters
    ----------
    schemas : mapping, optional
        Those of the training file; without them this is the training file.

    Raises
    ------
    DataError
        Naming every input that cannot be read.
    """

    def read(name: str, given: InputOptions) -> Read:
        schema = None if schemas is None else schemas[name]
        source = InputSource(name, given, Path(rows.path), rows.frame, rows.arrays)
        if given.array is None:
            return source.images(rows.folder, schema)
        if isinstance(rows.path, str) and rows.arrays is None:
            raise DataError(
                f"data.inputs.{name}: arrays must be in a file or a dict; got {rows.path}, which is neither"
            )
        return source.array(schema)

    return read_each(options.array_inputs.items(), read)


@dataclass(frozen=True)
class InputSource:
    """Where the values of one input are.

    Attributes
    ----------
    name : str
        Of the input.
    given : InputOptions
    path : Path
        The data file: it holds the arrays, or files of one array lie beside it.
    frame : DataFrame
        Its columns, a row per sample.
    held : mapping of str to ndarray or None
        Arrays that were given in memory, in the place of a file.
    """

    name: str
    given: InputOptions
    path: Path
    frame: pd.DataFrame
    held: Mapping[str, np.ndarray] | None = None

    @property
    def where(self) -> str:
        return f"{self.path}: data.inputs.{self.name}"

    def images(self, folder: Path, schema: ArraySchema | None) -> Read:
        """Read image files; the schema is that of the training file, or None where this is it."""
        given, where = self.given, self.where
        if given.column not in self.frame.columns:
            raise unknown_name(
                f"{where}.column must be a column of the file", given.column, self.frame.columns
            )
        if given.size is None:
            raise DataError(f"{where} must have a size, in pixels; got none; add size: 64")
        pixels = read_images(self.frame[given.column], given, folder / (given.root or "."), where)
        if schema is None:
            scaling = scaling_of(given, "image", pixels, where)
            schema = ArraySchema("image", tuple(pixels.shape[1:]), scaling, "first")
        return _as_input(pixels, schema, None, given.stream), schema

    def array(self, schema: ArraySchema | None) -> Read:
        """Read an array; the schema is that of the training file, or None where this is it.

        Raises
        ------
        DataError
            If there is no such array, or its rows, shape, type or values do not fit.
        """
        given, where = self.given, f"{self.where}: array {self.given.array!r}"
        values = self._stored(str(given.array), "array", mapped=given.stream)
        lengths = self._lengths()
        if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
            raise DataError(
                f"{where} must hold numbers of at most 64 bits; got dtype {cut(str(values.dtype))}; convert it"
            )
        if values.ndim == 0:
            raise DataError(f"{where} must have a row per sample; got one number; name another array")
        values = with_rows(
            values.astype(values.dtype.newbyteorder("="), copy=False), lengths, len(self.frame), where
        )
        kind = schema.kind if schema is not None else guess_kind(values, given, lengths is not None)
        _check_kind(values, kind, lengths is not None, where)
        if kind == "table":
            return _read_table(self.name, values, schema, where)
        values, channels = _arranged(values, kind, given, schema, where)
        _check_values(values, kind, lengths, where)
        shape = tuple(values.shape[2:] if kind in ("sequence", "tokens") else values.shape[1:])
        if schema is None:
            n_tokens = _count_tokens(values, lengths) if kind == "tokens" else 0
            schema = ArraySchema(kind, shape, scaling_of(given, kind, values, where), channels, n_tokens)
        elif shape != schema.shape:
            what = "steps" if kind in ("sequence", "tokens") else "rows"
            raise DataError(
                f"{where} must have {what} like the training file's, of shape {schema.shape}; got shape {shape}; "
                "write it in the same way"
            )
        return _as_input(values, schema, lengths, given.stream), schema

    def _stored(self, array: str, option: str, *, mapped: bool | None) -> np.ndarray:
        """Return a named array: of the data file, or of a file of its own beside it."""
        what = f"data.inputs.{self.name}.{option}"
        if self.held is not None:
            if array not in self.held:
                raise unknown_name(f"{self.path}: {what} must be one of the arrays", array, list(self.held))
            return self.held[array]
        path = beside(self.path, array) if holds(array, "array") else self.path
        format_ = format_of(path)
        if format_ is None or format_.holds == "table":
            raise DataError(
                f"{self.path}: {what} names an array of a npz file; got {quoted(array)}; use one, or a npy file "
                f"beside this one: {array}.npy, or '{{name}}_{array}.npy' where {{name}} stands for {self.path.stem}"
            )
        return format_.array(path, array, what, mapped=mapped)

    def _lengths(self) -> np.ndarray | None:
        """Return how many steps of each row are real, int64."""
        option, where, n_rows = self.given.lengths, f"{self.where}.lengths", len(self.frame)
        if option is None:
            return None
        if option in self.frame.columns:
            values: np.ndarray = pd.to_numeric(self.frame[option], errors="coerce").to_numpy()
        elif self.held is not None or holds(self.path, "arrays") or holds(option, "array"):
            values = self._stored(option, "lengths", mapped=False)
        else:
            raise unknown_name(f"{where} must be a column of the file", option, self.frame.columns)
        if values.shape != (n_rows,) or values.dtype.kind not in "iuf":
            raise DataError(
                f"{where} must hold one number for each of {n_rows} rows; got shape {values.shape}, dtype "
                f"{values.dtype}; correct it"
            )
        is_length = np.isfinite(values) & (values >= 1) & (values == np.floor(values)) & (values < 2**31)
        refuse_rows(~is_length, f"{where} must be whole numbers from 1 on", "remove empty sequences", values)
        return values.astype(np.int64)


def guess_kind(values: np.ndarray, given: InputOptions, has_lengths: bool) -> AnyKind:
    """Return the kind of an array; ``auto`` goes by its dimensions and type.

    Two dimensions are a table, of signed whole numbers from 0 tokens; three are sequences (rows, steps,
    channels), of uint8 grey images; four are images. With lengths they are sequences, or tokens.
    """
    if given.kind != "auto":
        return given.kind
    is_tokens = values.dtype.kind == "i" and values.ndim <= 2 and bool((values >= 0).all())
    if has_lengths:
        return "tokens" if is_tokens else "sequence"
    if values.ndim <= 2:
        return "tokens" if is_tokens and values.ndim == 2 else "table"
    if values.ndim == 3:
        return "image" if values.dtype == np.uint8 else "sequence"
    return "image" if values.ndim == 4 else "array"


def _check_kind(values: np.ndarray, kind: AnyKind, has_lengths: bool, where: str) -> None:
    """Refuse an array whose dimensions or type are not those of its kind."""
    wanted = _DIMENSIONS.get(kind, (values.ndim,))
    if values.ndim not in wanted:
        raise DataError(
            f"{where} must have {' or '.join(map(str, wanted))} dimensions to be of kind {kind}; got shape "
            f"{values.shape}; name another kind, or reshape it"
        )
    if kind == "tokens" and values.dtype.kind not in "iu":
        raise DataError(
            f"{where} must hold whole numbers to be tokens; got dtype {values.dtype}; convert it, or use "
            "kind: sequence"
        )
    if has_lengths and kind not in ("sequence", "tokens"):
        raise DataError(
            f"{where}: only sequences and tokens have lengths; got kind {kind}; remove lengths or set kind"
        )


def _place_of_channels(shape: tuple[int, ...], given: InputOptions, where: str) -> Literal["first", "last"]:
    """Return where four-dimensional images have their channels; DataError if the shape does not tell."""
    if given.channels != "auto":
        return given.channels
    first, last = shape[1] in COLOURS, shape[3] in COLOURS
    if first == last:
        raise DataError(
            f"{where}: the channels of images must be told by the shape; got {shape}, where "
            f"{'both the second and the last axis' if first else 'no axis'} may be; set channels: first or last"
        )
    return "first" if first else "last"


def scaling_of(given: InputOptions, kind: AnyKind, values: np.ndarray, where: str) -> Scaling:
    """Return how numbers are scaled; ``auto``: images and sequences by channel, on each fold's own rows."""
    if given.normalize == "auto":
        return "standard" if kind in ("image", "sequence") else "none"
    scaling: Scaling = given.normalize
    if kind == "tokens" and scaling != "none":
        raise DataError(f"{where}: tokens are names, not amounts; got normalize: {scaling}; remove it")
    if scaling == "imagenet":
        if kind != "image" or values.shape[1] != 3:
            raise DataError(
                f"{where}: normalize: imagenet is for images of 3 channels; got kind {kind}, row shape "
                f"{values.shape[1:]}; use standard"
            )
        if values.dtype != np.uint8 and (values.dtype.kind != "f" or values.max() > 1 or values.min() < 0):
            raise DataError(
                f"{where}: normalize: imagenet needs uint8, or numbers from 0 to 1; got dtype {values.dtype} from "
                f"{values.min()} to {values.max()}; use standard"
            )
    if scaling == "unit" and values.dtype.kind not in "ub":
        raise DataError(
            f"{where}: normalize: unit divides unsigned whole numbers by their largest; got dtype "
            f"{values.dtype}; use standard or none"
        )
    return scaling


def _check_values(values: np.ndarray, kind: AnyKind, lengths: np.ndarray | None, where: str) -> None:
    """Refuse what no net can read: NaN (except in tables), infinity, negative tokens; padding is not looked at."""
    if 0 in values.shape[1:]:
        raise DataError(f"{where} must have values in every row; got shape {values.shape}; check the array")
    if values.dtype.kind not in "f" and not (kind == "tokens" and values.dtype.kind == "i"):
        return
    wrong = np.zeros(len(values), dtype=bool)
    size = chunk_rows(values.shape[1:])
    for start in range(0, len(values), size):
        chunk = np.asarray(values[start : start + size])
        bad = chunk < 0 if kind == "tokens" else np.isinf(chunk) if kind == "table" else ~np.isfinite(chunk)
        if lengths is not None:
            is_real = np.arange(chunk.shape[1]) < lengths[start : start + size, None]
            bad &= is_real.reshape(*is_real.shape, *(1,) * (chunk.ndim - 2))
        wrong[start : start + size] = bad.reshape(len(chunk), -1).any(axis=1)
    what = {"tokens": "tokens of 0 or more", "table": "finite or missing values"}.get(
        kind, "finite values (no NaN, no infinity)"
    )
    refuse_rows(wrong, f"{where} must hold {what}", "repair or remove these rows", "others")


def _as_input(
    values: np.ndarray, schema: ArraySchema, lengths: np.ndarray | None, stream: bool | None
) -> ArrayInput:
    """Return the values as an input; they stay on disk where they are large, or `stream` says so."""
    assert schema.kind != "table"
    is_lazy = is_large(len(values), values.shape[1:]) if stream is None else stream
    held = LazyRows(values) if is_lazy else np.ascontiguousarray(values)
    return ArrayInput(held, schema.kind, schema.scaling, lengths, schema.n_tokens)


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
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = values
    return padded


def _arranged(
    values: np.ndarray, kind: AnyKind, given: InputOptions, schema: ArraySchema | None, where: str
) -> tuple[np.ndarray, Literal["none", "first", "last"]]:
    """Return values with the axes that `ArrayInput` has, as a view, and where channels were."""
    if kind == "image" and values.ndim == 4:
        known = "none" if schema is None else schema.channels
        place = _place_of_channels(values.shape, given, where) if known == "none" else known
        return (np.moveaxis(values, -1, 1), "last") if place == "last" else (values, "first")
    if kind == "image" or (kind == "tokens" and values.ndim == 1):
        return values[:, None], "none"
    return values[:, :, None] if kind == "sequence" and values.ndim == 2 else values, "none"


def _count_tokens(values: np.ndarray, lengths: np.ndarray | None) -> int:
    is_real = True if lengths is None else np.arange(values.shape[1]) < lengths[:, None]
    return int(values.max(initial=0, where=is_real)) + 1


def _read_table(name: str, values: np.ndarray, schema: ArraySchema | None, where: str) -> Read:
    if values.ndim > 2:
        raise DataError(
            f"{where} must be 2-D (rows, columns) to be a table; got shape {values.shape}; name another kind"
        )
    columns = values.reshape(len(values), -1)
    _check_values(columns, "table", None, where)
    width = columns.shape[1]
    if schema is not None and schema.shape != (width,):
        raise DataError(
            f"{where} must have {schema.shape[0]} columns like the training file's; got {width}; write it in "
            "the same way"
        )
    names = tuple(f"{name}_{j}" for j in range(width))
    codes = np.zeros((len(values), 0), dtype=np.int32)
    return Table(columns.astype(np.float64), names, codes, (), ()), ArraySchema("table", (width,))


def all_inputs(
    schema: Schema,
    values: Mapping[str, np.ndarray],
    arrays: Mapping[str, Read],
    options: DataOptions,
    n_rows: int,
) -> dict[str, Input]:
    """Return all inputs in the order of the config: tables of read columns, and arrays.

    Raises
    ------
    DataError
        If a table has no column that can be learnt from.
    """
    inputs: dict[str, Input] = {}
    for name in options.inputs or ("table",):
        if name in arrays:
            inputs[name] = arrays[name][0]
            continue
        if not schema.inputs[name]:
            raise DataError(f"data.inputs.{name} must have a column; got only constants and text; add one")
        wanted = set(schema.inputs[name])
        columns = [column for column in schema.columns if column.name in wanted]
        inputs[name] = build_table(columns, values, n_rows)
    return inputs
