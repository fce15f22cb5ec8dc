"""Extracted features as files that other programs read.

In:  arrays by tap, usually float32 memmaps.
Out: one npz or mat file with all taps, or a parquet or csv file for each, written in pieces.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from stackfeat.errors import MissingExtraError, StructureError, UsageError
from stackfeat.output.files import explained, write_json
from stackfeat.registry.resolve import suggest
from stackfeat.store.disk import hash_file, safe_name
from stackfeat.structure import checked, parse_json

EXPORTED = ".exported.json"
"""Lists the files of a folder that `write_features` has written, with their hashes."""
FORMATS = ("npy", "npz", "mat", "parquet", "csv")
ROWS_AT_ONCE = 8192
MAT_BYTES = 2**31 - 1


def write_features(arrays: Mapping[str, np.ndarray], folder: Path, kind: str) -> list[Path]:
    """Write `arrays` as `kind`; ``npy`` files are there already.

    Returns
    -------
    list of Path

    Raises
    ------
    UsageError
        If the format cannot hold them, or a file is in the way that none of these calls has written.
    StoreError
        If the disk is full or the folder may not be written to.
    """
    writers: dict[str, Callable[[Path], None]] = {}
    if kind in WHOLE:
        writers[f"features.{kind}"] = partial(WHOLE[kind], arrays)
    elif kind in EACH:
        writers = {f"{safe_name(key)}.{kind}": partial(EACH[kind], flat(one)) for key, one in arrays.items()}
    with _explained(folder):
        exported = _refuse_foreign(folder, writers)
        write_json(folder / EXPORTED, {**exported, **dict.fromkeys(writers, "")})
        paths = [written(folder / name, write) for name, write in writers.items()]
        write_json(folder / EXPORTED, {**exported, **{path.name: hash_file(path) for path in paths}})
        return paths


def _refuse_foreign(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the hashes of the files that were written here; "" where a call was killed while it wrote."""
    try:
        exported = checked(dict[str, str], parse_json((folder / EXPORTED).read_bytes(), EXPORTED), EXPORTED)
    except (FileNotFoundError, StructureError):
        exported = {}
    for name in names:
        path = folder / name
        is_ours = exported.get(name) == "" or (path.is_file() and exported.get(name) == hash_file(path))
        if os.path.lexists(path) and not is_ours:
            raise UsageError(
                f"--output must be a folder without files of yours under the names of features; got {path}, which "
                "is not as extract has written it; choose another folder, or move the file: the same call goes on"
            )
    return cast(dict[str, str], exported)


def save_features(features: Mapping[str, Any], path: str | Path) -> list[Path]:
    """Save what `extract` or `tapped` gave, for other programs.

    Parameters
    ----------
    features : mapping of str to array or tensor of shape (n_rows, ...)
    path : path
        Its ending says the format: ``.npz`` and ``.mat`` hold all taps, ``.csv`` and ``.parquet``
        one, as (n_rows, n_columns); several go to ``STEM-TAP.csv``. In a mat file ``fc.1:input`` is called
        ``fc_1_input``.

    Returns
    -------
    list of Path

    Raises
    ------
    UsageError
        If there is no such format, or it cannot hold these arrays.
    StoreError
        If the disk is full or the file may not be written.

    Examples
    --------
    >>> save_features(extract(net, x, ["fc.1"]), "features.mat")  # doctest: +SKIP
    [PosixPath('features.mat')]
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".")
    if kind not in SAVED:
        raise UsageError(
            f"features are saved as {', '.join('.' + known for known in SAVED)}; got {path.name!r}."
            f"{suggest(kind, SAVED)} Give the file such an ending"
        )
    if not isinstance(features, Mapping) or not features:
        got = "an empty one" if isinstance(features, Mapping) else type(features).__name__
        raise UsageError(
            f"features must be a dict of arrays by tap; got {got}; give what extract returns, or {{'name': array}}"
        )
    arrays = {str(key): to_array(values) for key, values in features.items()}
    with _explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind in WHOLE:
            return [written(path, partial(WHOLE[kind], arrays))]
        places = {
            key: path if len(arrays) == 1 else path.with_stem(f"{path.stem}-{safe_name(key)}")
            for key in arrays
        }
        return [written(places[key], partial(EACH[kind], flat(arrays[key]))) for key in arrays]


def to_array(values: Any) -> np.ndarray:
    """Return an array of an array or tensor, also of one on a GPU or in half precision."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    array = np.asarray(values)
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        raise UsageError(
            f"features must be arrays of numbers with a row per sample; got {type(values).__name__} of "
            f"{array.dtype}, shape={array.shape}; choose a tap that gives one value, or say how to combine"
        )
    return array


def _explained(folder: Path) -> AbstractContextManager[None]:
    return explained(f"features must be written to {folder}", "Free disk space, or choose another folder")


def written(path: Path, write: Callable[[Path], None]) -> Path:
    """Write under another name first, so that a file with the right name is whole."""
    part = path.with_name(f"part.{path.name}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def write_npz(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]


def write_mat(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a MATLAB file; its variables have letters, digits and underscores only."""
    from scipy.io import savemat

    names = mat_names(list(arrays))
    for key, values in arrays.items():
        if values.nbytes > MAT_BYTES:
            raise UsageError(
                f"a mat file holds arrays below 2 GiB; got {values.nbytes} bytes for {key!r}; save it as npy"
            )
    savemat(
        path, {names[key]: values for key, values in arrays.items()}, appendmat=False, do_compression=False
    )


def mat_names(keys: list[str]) -> dict[str, str]:
    """Return a different legal variable name for each key.

    Examples
    --------
    >>> mat_names(["fc.1", "0:input"])
    {'fc.1': 'fc_1', '0:input': 'x0_input'}
    """
    names: dict[str, str] = {}
    for key in keys:
        name = re.sub(r"\W+", "_", key, flags=re.ASCII).strip("_")[:28] or "x"
        name = name if name[0].isalpha() else f"x{name}"
        taken, number = set(names.values()), 2
        base = name
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        names[key] = name
    return names


def flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1) if values.ndim != 2 else values


def column_names(n_columns: int) -> list[str]:
    width = len(str(max(n_columns - 1, 0)))
    return [f"f{index:0{width}d}" for index in range(n_columns)]


def write_parquet(values: np.ndarray, path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError(
            "--format parquet needs pyarrow; install it: pip install 'stackfeat[parquet]'"
        ) from None
    names = column_names(values.shape[1])
    schema = pa.schema([(name, pa.float32()) for name in names])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(values), ROWS_AT_ONCE):
            piece = np.asarray(values[start : start + ROWS_AT_ONCE])
            writer.write_table(pa.table([np.ascontiguousarray(c) for c in piece.T], schema=schema))


def write_csv(values: np.ndarray, path: Path) -> None:
    """Write numbers in the shortest form that reads back to the same float32."""
    with path.open("w", encoding="ascii", newline="") as file:
        file.write(",".join(column_names(values.shape[1])) + "\n")
        for start in range(0, len(values), ROWS_AT_ONCE):
            piece = np.asarray(values[start : start + ROWS_AT_ONCE], dtype=np.float32)
            file.writelines(",".join(map(str, row)) + "\n" for row in piece)


WHOLE = {"npz": write_npz, "mat": write_mat}
EACH = {"parquet": write_parquet, "csv": write_csv}
SAVED = (*WHOLE, *EACH)
