"""Rows as a caller gives them: a DataFrame, a dict of arrays, or a file.

In:  any of these, and how the data files of a run are read.
Out: a frame with a column for each name, the arrays beside it, and what messages call them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.data.files.tables import read_frame
from stackfeat.data.options import DataOptions
from stackfeat.errors import DataError, UsageError
from stackfeat.registry.resolve import quote_values

if TYPE_CHECKING:
    import pandas as pd

IN_MEMORY = "X"


@dataclass(frozen=True)
class GivenRows:
    """Rows that are to be read as the training file was.

    Attributes
    ----------
    frame : DataFrame
        Columns by name.
    path : Path or str
        The file, or a name that messages call rows in memory by.
    folder : Path
        What paths in the rows are relative to.
    arrays : mapping of str to ndarray or None
        Arrays by name; None where they are in the file or beside it.
    """

    frame: pd.DataFrame
    path: Path | str
    folder: Path
    arrays: Mapping[str, np.ndarray] | None = field(default=None, repr=False)

    @classmethod
    def of_file(cls, path: Path | str, options: DataOptions, folder: Path | None = None) -> GivenRows:
        """Read a data file."""
        return cls(read_frame(path, options, "test"), path, Path(path).parent if folder is None else folder)

    @classmethod
    def of(cls, X: Any, options: DataOptions) -> GivenRows:
        """Return rows of any form.

        Raises
        ------
        UsageError
            If they are of another form, or columns differ in length.
        DataError
            If there are none, or names of columns are not all different.
        """
        import pandas as pd

        if isinstance(X, str | Path):
            return cls.of_file(Path(X), options)
        arrays = None
        if isinstance(X, Mapping):
            arrays = {str(name): np.asarray(values) for name, values in X.items()}
            arrays = {name: np.atleast_1d(values) for name, values in arrays.items()}
            lengths = {len(values) for values in arrays.values()}
            if len(lengths) != 1:
                raise UsageError(
                    f"arrays of X must be of one length; got {sorted(lengths)[:5] or 'none'}; give one value a row"
                )
            frame = pd.DataFrame({name: values for name, values in arrays.items() if values.ndim == 1})
            frame = frame if frame.shape[1] else pd.DataFrame(index=range(lengths.pop()))
        elif isinstance(X, pd.DataFrame):
            frame = X.copy(deep=False)
            frame.columns = pd.Index([str(name) for name in X.columns], dtype=object)
        else:
            hint = "; name its columns: pd.DataFrame(X, columns=[...])" if isinstance(X, np.ndarray) else ""
            raise UsageError(
                f"X must be a DataFrame, a path or a dict of arrays; got {type(X).__name__}{hint}"
            )
        doubled = frame.columns[frame.columns.duplicated()].unique()
        if len(doubled):
            raise DataError(f"{IN_MEMORY}: names of columns must differ; got {quote_values(doubled)} twice")
        if not len(frame):
            raise DataError(f"{IN_MEMORY}: there must be rows; got none")
        return cls(frame, IN_MEMORY, Path(), arrays)

    def filled(self, names: list[str]) -> GivenRows:
        """Return the rows with further columns, in which every cell is missing."""
        return replace(self, frame=self.frame.assign(**dict.fromkeys(names, np.nan)))
