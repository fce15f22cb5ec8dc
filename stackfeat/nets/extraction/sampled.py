"""Checksums of input rows: of all of them one after the other, and of some each by itself.

In:  columns as they are read, from the first row on.
Out: CRC-32 sums that do not depend on how rows are cut into chunks.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

MOST_ROWS = 128


@dataclass
class RowSample:
    """Rows 0, k, 2k, ... with a checksum each; k doubles when they become too many.

    Attributes
    ----------
    stride : int
    sums : dict of int to int
        CRC-32 over the columns of a row, by the number of the row.
    """

    stride: int = 1
    sums: dict[int, int] = field(default_factory=dict)

    @property
    def rows(self) -> list[int]:
        return sorted(self.sums)

    def add(self, start: int, columns: Sequence[Tensor]) -> None:
        """Take some of the rows from number `start` on."""
        stop = start + len(columns[0])
        row = -(-start // self.stride) * self.stride
        while row < stop:
            self.sums[row] = row_sum(columns, row - start)
            row += self.stride
            if len(self.sums) > MOST_ROWS:
                self.stride *= 2
                self.sums = {kept: value for kept, value in self.sums.items() if kept % self.stride == 0}
                row = -(-row // self.stride) * self.stride

    def agrees(self, columns: Sequence[Tensor]) -> bool:
        """Whether these are the rows of the sample, in order."""
        found = [row_sum(columns, index) for index in range(len(columns[0]))]
        return found == [self.sums[row] for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        return {"stride": self.stride, "sums": {str(row): value for row, value in self.sums.items()}}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RowSample:
        return cls(int(value["stride"]), {int(row): int(crc) for row, crc in value["sums"].items()})


def row_sum(columns: Sequence[Tensor], index: int) -> int:
    value = 0
    for column in columns:
        value = zlib.crc32(raw_bytes(column[index]), value)
    return value


def checksums(before: Sequence[int], columns: Sequence[Tensor]) -> list[int]:
    """Go on with the CRC-32 of each column: quick, and the same however rows are cut into chunks."""
    values = before or [0] * len(columns)
    return [zlib.crc32(raw_bytes(column), value) for column, value in zip(columns, values, strict=True)]


def raw_bytes(tensor: Tensor) -> memoryview:
    plain = tensor.detach().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else memoryview(b"")
