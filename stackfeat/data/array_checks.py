"""What the axes of an array mean, and whether its values can be learnt from.

In:  values, the options of their input, lengths of sequences.
Out: kind, place of channels, scaling; a `DataError` that names the input, the rows and what to do.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from stackfeat.data.arrays import Scaling
from stackfeat.data.lazy import chunk_rows
from stackfeat.data.options import InputOptions
from stackfeat.data.phrases import name_rows
from stackfeat.errors import DataError

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
