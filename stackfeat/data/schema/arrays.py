"""Named inputs that are arrays: what their axes mean, and whether a net can learn from their values.

In:  `InputOptions` with `array`, the data file, its columns; for later files the `ArraySchema` of training.
Out: a `Table` (two dimensions) or an `ArrayInput`, checked value by value, and the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from stackfeat.data.files.array_files import ArchiveFile, read_npy
from stackfeat.data.files.lazy import LazyArray, chunk_rows, is_large
from stackfeat.data.files.parsing import parsing
from stackfeat.data.messages import name_rows
from stackfeat.data.options import InputOptions
from stackfeat.data.samples import ArrayInput, Kind, Scaling, Table
from stackfeat.errors import DataError
from stackfeat.registry.resolve import cut, quoted, suggest

AnyKind = Literal["table", "image", "sequence", "tokens", "array"]

COLOURS = (1, 3, 4)

_DIMENSIONS: dict[str, tuple[int, ...]] = {"image": (3, 4), "sequence": (2, 3), "tokens": (1, 2)}


def guess_kind(values: np.ndarray, given: InputOptions, has_lengths: bool) -> AnyKind:
    """Return the kind of an array; ``auto`` goes by its dimensions and type.

    Two dimensions are a table, of signed whole numbers from 0 tokens; three are sequences (rows, steps,
    channels), of uint8 grey images; four are images. With lengths they are sequences, or tokens.
    """
    is_tokens = values.dtype.kind == "i" and values.ndim <= 2 and bool((values >= 0).all())
    kind: AnyKind
    if given.kind != "auto":
        kind = given.kind
    elif has_lengths:
        kind = "tokens" if is_tokens else "sequence"
    elif values.ndim <= 2:
        kind = "tokens" if is_tokens and values.ndim == 2 else "table"
    elif values.ndim == 3:
        kind = "image" if values.dtype == np.uint8 else "sequence"
    else:
        kind = "image" if values.ndim == 4 else "array"
    return kind


def check_kind(values: np.ndarray, kind: AnyKind, has_lengths: bool, where: str) -> None:
    """Refuse an array whose dimensions or type are not those of its kind."""
    wanted = _DIMENSIONS.get(kind)
    if wanted is not None and values.ndim not in wanted:
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


def place_of_channels(shape: tuple[int, ...], given: InputOptions, where: str) -> Literal["first", "last"]:
    """Return where four-dimensional images have their channels.

    Raises
    ------
    DataError
        If it cannot be told from the shape.
    """
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


def check_lengths(values: np.ndarray, n_rows: int, where: str) -> np.ndarray:
    """Return lengths as int64.

    Raises
    ------
    DataError
        If there is not one for each row, or one is no whole number from 1 on.
    """
    if values.shape != (n_rows,) or values.dtype.kind not in "iuf":
        raise DataError(
            f"{where} must hold one number for each of {n_rows} rows; got shape {values.shape}, dtype "
            f"{values.dtype}; correct it"
        )
    wrong = ~(np.isfinite(values) & (values >= 1) & (values == np.floor(values)) & (values < 2**31))
    if wrong.any():
        raise DataError(
            f"{where} must be whole numbers from 1 on; got {values[wrong][0]} in {name_rows(wrong)}; remove "
            "empty sequences"
        )
    return values.astype(np.int64)


def check_values(values: np.ndarray, kind: AnyKind, lengths: np.ndarray | None, where: str) -> None:
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
    if wrong.any():
        what = {"tokens": "tokens of 0 or more", "table": "finite or missing values"}.get(
            kind, "finite values (no NaN, no infinity)"
        )
        raise DataError(
            f"{where} must hold {what}; got others in {name_rows(wrong)}; repair or remove these rows"
        )


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
