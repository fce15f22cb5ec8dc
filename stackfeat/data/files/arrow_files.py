"""Parquet and feather files, which pandas reads with pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from stackfeat.data.files.format import Format
from stackfeat.data.files.parsing import parsing
from stackfeat.data.options import DataOptions

if TYPE_CHECKING:
    import pandas as pd


class Parquet(Format):
    """A parquet file; an index with a name is a column."""

    suffixes = (".parquet",)
    needs = ("pyarrow", "parquet")
    reader: ClassVar[str] = "read_parquet"

    def frame(self, path: Path, options: DataOptions) -> pd.DataFrame:
        import pandas as pd

        with parsing(path, f"must be a readable {path.suffix[1:]} file", "write it again", states_sizes=True):
            frame: pd.DataFrame = getattr(pd, self.reader)(path)
            return frame.reset_index(drop=all(name is None for name in frame.index.names))


class Feather(Parquet):
    """A feather file."""

    suffixes = (".feather",)
    reader = "read_feather"
