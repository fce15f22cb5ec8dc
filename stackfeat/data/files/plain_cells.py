"""Cells of a text file that are told apart by their bytes: numbers are parsed without the texts beside them.

In:  the bytes of a file without quotes, its separator and header.
Out: the bytes of its first column, to be compared with those of another file, and other columns as numbers; None
     where anything is written in another way, which is then read as all files are.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

SEPARATORS = (",", "\t")
ODD = (b'"', b"\r", b" ", b"\0")
"""Where one of these stands, a cell may be more, or less, than what is between two separators."""


@dataclass(frozen=True)
class PlainCells:
    """A file whose every row has as many separators as its header.

    Attributes
    ----------
    content : bytes
        With the end of a line behind the last row.
    separator : str
    header : tuple of str
    """

    content: bytes
    separator: str
    header: tuple[str, ...]

    @classmethod
    def of(cls, content: bytes, separator: str, header: Sequence[str]) -> PlainCells | None:
        """Return the cells of UTF-8 text; None where they are not plain."""
        if separator not in SEPARATORS or len(header) < 2 or any(odd in content for odd in ODD):
            return None
        found = cls(content if content.endswith(b"\n") else content + b"\n", separator, tuple(header))
        ends, separators = found._ends, found._separators
        n_between = len(header) - 1
        if len(ends) < 2 or len(separators) != n_between * len(ends):
            return None
        by_row = separators.reshape(len(ends), n_between)
        is_plain = (by_row[:, -1] < ends).all() and (by_row[1:, 0] > ends[:-1]).all()
        return found if is_plain else None

    @cached_property
    def _bytes(self) -> np.ndarray:
        return np.frombuffer(self.content, dtype=np.uint8)

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.flatnonzero(self._bytes == ord("\n"))

    @cached_property
    def _separators(self) -> np.ndarray:
        return np.flatnonzero(self._bytes == ord(self.separator))

    @cached_property
    def first_column(self) -> bytes:
        """The cells of the first column below the header, each with the end of the line before it."""
        starts = self._separators.reshape(len(self._ends), -1)[:, 0]
        # The line below the header begins where that of the header ends.
        turns = np.zeros(len(self._bytes), dtype=np.int8)
        turns[self._ends[:-1]] = 1
        turns[starts[1:]] = -1
        found: bytes = self._bytes[np.cumsum(turns, dtype=np.int8).view(np.bool_)].tobytes()
        return found

    def numbers(self, names: Sequence[str]) -> np.ndarray | None:
        """Return columns as float64 (n_rows, n_columns), each cell the nearest number; None where one is no number.

        Numbers that some option or rule may read in another way are none: infinite ones, and those beyond what a
        float holds exactly.
        """
        import pandas as pd

        from stackfeat.data.files.cells import EXACT

        # Later versions have no other precision.
        is_old = tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1)
        exact: dict[str, Any] = {"float_precision": "round_trip"} if is_old else {}
        try:
            frame = pd.read_csv(
                io.BytesIO(self.content),
                sep=self.separator,
                usecols=list(names),
                dtype=np.float64,
                na_filter=False,
                **exact,
            )
        except ValueError:
            return None
        found = frame[list(names)].to_numpy(dtype=np.float64)
        return found if (np.abs(found) < EXACT).all() else None
