"""One file in, one DataFrame out; the format is told by the suffix.

In:  a path to csv, tsv, txt, parquet, feather or npz, or ``sklearn:NAME``.
Out: a DataFrame with distinct, named columns. Text formats give every cell as text, so ids such as
     ``007`` stay as they are; typing is the work of `columns`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from stackfeat.data.array_files import array_inputs_of, read_npz_frame
from stackfeat.data.csv_text import read_csv
from stackfeat.data.options import DataOptions
from stackfeat.data.parsing import parsing
from stackfeat.data.phrases import quote_values, quoted
from stackfeat.errors import DataError, MissingExtraError
from stackfeat.registry.resolve import suggest

if TYPE_CHECKING:
    from collections.abc import Callable

Part = Literal["train", "test"]

BUILTIN = "sklearn:"
BUILTIN_SETS = ("digits", "iris", "wine", "breast_cancer", "diabetes")


def read_frame(path: Path | str, options: DataOptions, part: Part = "train") -> pd.DataFrame:
    """Read one file.

    Parameters
    ----------
    path : Path or str
        A file, or ``sklearn:digits`` (iris, wine, breast_cancer, diabetes): 75 % of its rows are the
        training part, 25 % the test part, always the same ones.
    options : DataOptions
        `encoding` and `separator` of text files; `id` and `target` name the columns of npz files and
        built-in sets.
    part : {"train", "test"}
        Which part of a built-in set.

    Returns
    -------
    DataFrame
        Text formats: dtype ``str`` everywhere.

    Raises
    ------
    DataError
        If the file cannot be read, is empty, or has duplicate column names.
    MissingExtraError
        If parquet or feather is read without pyarrow.
    """
    if str(path).startswith(BUILTIN):
        return _read_builtin(str(path), options, part)
    path = Path(path)
    readers: dict[str, Callable[[Path, DataOptions], pd.DataFrame]] = {
        ".csv": read_csv,
        ".tsv": read_csv,
        ".txt": read_csv,
        ".parquet": _read_arrow,
        ".feather": _read_arrow,
        ".npz": read_npz_frame,
    }
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise DataError(
            f"{path}: the suffix must be one of {', '.join(readers)}; got {quoted(suffix)}; convert the file"
        )
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or device"
        raise DataError(f"{path}: data must be a regular file; got {what}; name a file")
    if not path.is_file():
        near = [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
        raise DataError(f"{path}: there is no such file.{suggest(path.name, near)}")
    frame = readers[suffix](path, options)
    frame.columns = pd.Index([str(name) for name in frame.columns], dtype=object)
    doubled = frame.columns[frame.columns.duplicated()].unique()
    if len(doubled):
        raise DataError(
            f"{path}: column names must differ; got more than one {quote_values(doubled)}; rename them"
        )
    with parsing(path, "must hold text that can be read", "write it again"):
        _check_texts(frame)
    if len(frame) == 0 or (frame.shape[1] == 0 and not array_inputs_of(options)):
        raise DataError(
            f"{path}: the file must have rows; got {len(frame)} rows, {frame.shape[1]} columns; check the "
            "path"
        )
    return frame


def _read_arrow(path: Path, options: DataOptions) -> pd.DataFrame:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError(
            f"{path}: reading {path.suffix[1:]} needs pyarrow; install it with: pip install "
            "'stackfeat[parquet]'"
        )
    with parsing(path, f"must be a readable {path.suffix[1:]} file", "write it again", states_sizes=True):
        frame = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else pd.read_feather(path)
        named = [name for name in frame.index.names if name is not None]
        return frame.reset_index() if named else frame.reset_index(drop=True)


def _check_texts(frame: pd.DataFrame) -> None:
    """Look at every text now: a damaged one would raise where it is first used."""
    if importlib.util.find_spec("pyarrow") is None:
        return
    import pyarrow

    for name, dtype in frame.dtypes.items():
        if isinstance(dtype, pd.StringDtype):
            pyarrow.array(frame[name].array).validate(full=True)


def _read_builtin(name: str, options: DataOptions, part: Part) -> pd.DataFrame:
    from sklearn import datasets

    known = name.removeprefix(BUILTIN)
    if known not in BUILTIN_SETS:
        raise DataError(
            f"{name}: must be one of sklearn:{', sklearn:'.join(BUILTIN_SETS)}.{suggest(known, BUILTIN_SETS)}"
        )
    bunch = getattr(datasets, f"load_{known}")()
    frame = pd.DataFrame(bunch.data, columns=[str(feature) for feature in bunch.feature_names])
    frame[options.target] = bunch.target
    if options.id is not None:
        frame.insert(0, options.id, np.arange(len(frame)))
    # RandomState's permutation is frozen by numpy's compatibility policy; Generator's is not.
    shuffled = np.random.RandomState(0).permutation(len(frame))
    n_train = round(0.75 * len(frame))
    rows = np.sort(shuffled[:n_train] if part == "train" else shuffled[n_train:])
    return frame.iloc[rows].reset_index(drop=True)
