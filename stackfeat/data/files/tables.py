"""One file in, one DataFrame out; the suffix says the format, and `FORMATS` which formats there are.

In:  a path, or ``sklearn:NAME``.
Out: a DataFrame with distinct, named columns. Text formats give every cell as text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from stackfeat.data.files.array_files import Npy, Npz
from stackfeat.data.files.arrow_files import Feather, Parquet
from stackfeat.data.files.csv_file import Csv
from stackfeat.data.files.format import Format, Holds
from stackfeat.data.files.packing import PACKINGS, unpacked_name
from stackfeat.data.options import DataOptions, InputOptions
from stackfeat.errors import DataError
from stackfeat.registry.resolve import quote_values, quoted, suggest

if TYPE_CHECKING:
    import pandas as pd

FORMATS: dict[str, Format] = {
    suffix: format_ for format_ in (Csv(), Parquet(), Feather(), Npz(), Npy()) for suffix in format_.suffixes
}
"""Formats of data files by suffix."""

Part = Literal["train", "test"]
BUILTIN = "sklearn:"
BUILTIN_SETS = ("digits", "iris", "wine", "breast_cancer", "diabetes")


def find_file(name: str, folder: Path) -> Path | str:
    """Return a path relative to the folder; names of built-in sets stay as they are."""
    return name if name.startswith(BUILTIN) else Path(folder) / name


def format_of(name: str | Path) -> Format | None:
    """Return the format that a file's name says, packed or not; None where it is called like none."""
    bare = unpacked_name(name)
    format_ = FORMATS.get(bare.suffix.lower())
    return format_ if format_ is None or format_.may_be_packed or bare == Path(name) else None


def holds(name: str | Path, *kinds: Holds) -> bool:
    """Whether a file of this name holds a ``table``, ``arrays`` by name, or one ``array``."""
    format_ = format_of(name)
    return format_ is not None and format_.holds in kinds


def is_called_like_data(path: Path) -> bool:
    """Whether a file's name says that it holds columns, and nothing else may be called so."""
    format_ = format_of(path)
    suffix = unpacked_name(path).suffix.lower()
    return format_ is not None and format_.holds != "array" and suffix not in format_.ambiguous


def suffixes_of(*kinds: Holds) -> tuple[str, ...]:
    """Return the suffixes of files that hold one of these."""
    return tuple(suffix for suffix, format_ in FORMATS.items() if format_.holds in kinds)


def files_beside(path: Path, given: InputOptions) -> Iterator[tuple[str, Path]]:
    """Yield the options of an input that name a file of one array, and these files, which lie beside a data file."""
    for option in ("array", "lengths"):
        name = getattr(given, option)
        if name is not None and holds(name, "array"):
            yield option, beside(path, name)


def beside(path: Path, name: str) -> Path:
    """Return the file beside a data file; ``{name}`` stands for the data file's name without suffixes."""
    return path.parent / name.replace("{name}", unpacked_name(path).stem)


def read_frame(
    path: Path | str, options: DataOptions, part: Part = "train", most_bytes: int | None = None
) -> pd.DataFrame:
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
    most_bytes : int, optional
        Of a larger file the first rows are enough.

    Returns
    -------
    DataFrame
        Text formats: dtype ``str`` everywhere.

    Raises
    ------
    DataError
        If the file cannot be read, is empty, or has duplicate column names.
    MissingExtraError
        If what its format needs is not installed.
    """
    import pandas as pd

    if str(path).startswith(BUILTIN):
        return _read_builtin(str(path), options, part)
    path = Path(path)
    frame = table_format(path).frame(path, options, most_bytes)
    frame.columns = pd.Index([str(name) for name in frame.columns], dtype=object)
    doubled = frame.columns[frame.columns.duplicated()].unique()
    if len(doubled):
        raise DataError(
            f"{path}: column names must differ; got more than one {quote_values(doubled)}; rename them"
        )
    is_of_arrays = any(given.array is not None for given in (options.inputs or {}).values())
    if len(frame) == 0 or (frame.shape[1] == 0 and not is_of_arrays):
        raise DataError(
            f"{path}: the file must have rows; got {len(frame)} rows, {frame.shape[1]} columns; check the path"
        )
    return frame


def table_format(path: Path) -> Format:
    """Return the format of a file of columns, after a look at whether there is one that can be read."""
    format_ = format_of(path)
    if format_ is None or format_.holds == "array":
        legal, got = ", ".join(suffixes_of("table", "arrays")), "".join(path.suffixes[-2:]).lower()
        packed = ", ".join(f".csv{suffix}" for suffix in PACKINGS)
        raise DataError(
            f"{path}: the suffix must be one of {legal}, or of packed text ({packed}); got {quoted(got)}; "
            "convert the file"
        )
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or device"
        raise DataError(f"{path}: data must be a regular file; got {what}; name a file")
    if not path.is_file():
        near = [other.name for other in path.parent.glob("*")] if path.parent.is_dir() else []
        raise DataError(f"{path}: there is no such file.{suggest(path.name, near)}")
    format_.check_installed(path)
    return format_


def _read_builtin(name: str, options: DataOptions, part: Part) -> pd.DataFrame:
    import pandas as pd
    from sklearn import datasets

    known = name.removeprefix(BUILTIN)
    if known not in BUILTIN_SETS:
        raise DataError(
            f"{name}: must be one of sklearn:{', sklearn:'.join(BUILTIN_SETS)}.{suggest(known, BUILTIN_SETS)}"
        )
    bunch = getattr(datasets, f"load_{known}")()
    frame = pd.DataFrame(bunch.data, columns=[str(feature) for feature in bunch.feature_names])
    if len(options.targets) > 1:
        raise DataError(f"{name}: has one target; got data.target {list(options.targets)}; name one column")
    frame[options.targets[0]] = bunch.target
    if options.id is not None:
        frame.insert(0, options.id, np.arange(len(frame)))
    # RandomState's permutation is frozen by numpy's compatibility policy; Generator's is not.
    shuffled = np.random.RandomState(0).permutation(len(frame))
    n_train = round(0.75 * len(frame))
    rows = np.sort(shuffled[:n_train] if part == "train" else shuffled[n_train:])
    return frame.iloc[rows].reset_index(drop=True)
