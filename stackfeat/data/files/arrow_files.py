"""Parquet and feather files, which pandas reads with pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from stackfeat.data.files.format import IS_PART, Format
from stackfeat.data.files.parsing import parsing
from stackfeat.data.options import DataOptions

if TYPE_CHECKING:
    import pandas as pd


FIRST_ROWS = 10_000


class Parquet(Format):
    """A parquet file; an index with a name is a column."""

    suffixes = (".parquet",)
    needs = ("pyarrow", "parquet")
    reader: ClassVar[str] = "read_parquet"

    def frame(self, path: Path, options: DataOptions, most_bytes: int | None = None) -> pd.DataFrame:
        import pandas as pd

        is_cut = most_bytes is not None and path.stat().st_size > most_bytes
        with parsing(path, f"must be a readable {path.suffix[1:]} file", "write it again", states_sizes=True):
            frame: pd.DataFrame = self.first_rows(path) if is_cut else getattr(pd, self.reader)(path)
            with parsing(path, "must hold text that can be read", "write it again"):
                _check_texts(frame)
            frame.attrs[IS_PART] = is_cut
            return frame.reset_index(drop=all(name is None for name in frame.index.names))

    def first_rows(self, path: Path) -> pd.DataFrame:
        """Return the first rows of a file."""
        import pyarrow.parquet

        batches = pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=FIRST_ROWS)
        frame: pd.DataFrame = next(batches).to_pandas()
        return frame


class Feather(Parquet):
    """A feather file."""

    suffixes = (".feather",)
    reader = "read_feather"

    def first_rows(self, path: Path) -> pd.DataFrame:
        import pyarrow.ipc

        with pyarrow.memory_map(str(path)) as source:
            frame: pd.DataFrame = pyarrow.ipc.open_file(source).get_batch(0).slice(0, FIRST_ROWS).to_pandas()
            return frame


def _check_texts(frame: pd.DataFrame) -> None:
    """Look at every text now: a damaged one would raise where it is first used."""
    import pandas as pd
    import pyarrow

    for place, dtype in enumerate(frame.dtypes):
        if isinstance(dtype, pd.StringDtype):
            pyarrow.array(frame.iloc[:, place].array).validate(full=True)
