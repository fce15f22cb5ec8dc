"""Format: what files of one format are called, what they hold, what reading them needs.

In:  the path of a file, `DataOptions`.
Out: its columns, their names alone, or an array; an error that names the file.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from stackfeat.data.options import DataOptions
from stackfeat.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas as pd

    from stackfeat.data.files.plain_cells import PlainCells

IS_PART = "stackfeat.part"
"""Which attribute of a frame says that it holds the first rows of its file only."""
Holds = Literal["table", "arrays", "array"]


class Format:
    """One format of data files; a file is known by its suffix, and its fingerprint is that of its bytes.

    Attributes
    ----------
    suffixes : tuple of str
        In lower case, with the point.
    holds : {"table", "arrays", "array"}
        Named columns; arrays by name, of which those of one dimension are columns; one array.
    needs : tuple of (str, str)
        A package that reading needs, and the extra of stackfeat that brings it.
    ambiguous : tuple of str
        Suffixes that other texts than data have too.
    may_be_packed : bool
        Whether files may be packed (``.csv.gz``): then `frame` and `names` read their bytes by `packing.content_of`.
    """

    suffixes: ClassVar[tuple[str, ...]]
    holds: ClassVar[Holds] = "table"
    needs: ClassVar[tuple[str, str] | None] = None
    ambiguous: ClassVar[tuple[str, ...]] = ()
    may_be_packed: ClassVar[bool] = False

    def frame(self, path: Path, options: DataOptions, most_bytes: int | None = None) -> pd.DataFrame:
        """Return the columns as the file has them; ids such as ``007`` stay as they are.

        Of a file of more than `most_bytes` the first rows are enough, about so many bytes of it.
        """
        raise NotImplementedError

    def names(self, path: Path, options: DataOptions) -> list[str]:
        """Return the names of the columns; where a format has them at its beginning, no more is read."""
        return [str(name) for name in self.frame(path, options).columns]

    def plain(self, path: Path) -> PlainCells | None:
        """Return cells that are told apart by their bytes; None where they are not, and in other formats."""
        return None

    def array(self, path: Path, name: str, what: str, *, mapped: bool | None) -> np.ndarray:
        """Return an array; memory-mapped with `mapped`, or where it is large with None."""
        raise NotImplementedError

    def check_installed(self, path: Path) -> None:
        """Raise MissingExtraError unless what reading needs is installed."""
        if self.needs is not None and importlib.util.find_spec(self.needs[0]) is None:
            package, extra = self.needs
            remedy = f"install it with: pip install 'stackfeat[{extra}]'"
            raise MissingExtraError(f"{path}: reading {path.suffix[1:]} needs {package}; {remedy}")
