"""Some rows, read a second time among other rows: what no dry run over a few rows can show.

In:  the batches of an extraction, and what each gave.
Out: nothing, or an error: a net that moves only rows of a rare kind gives the rows around one of them other values
     than they have elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stackfeat.errors import TapError
from stackfeat.layers.activations.dry_run import ORDER_REMEDY
from stackfeat.layers.activations.probe import MOST_COLUMNS, some_columns
from stackfeat.layers.extraction.inputs import Columns

ROWS_AT_ONCE, MOST_ROWS = 16, 64
SHARE_OF_ROWS = 0.02
CLOSE = 0.05
"""Of the distance between two rows: rounding, and what flips with it, is less."""
OTHER_COLUMNS = 1
"""A seed: of wide rows others are compared than in the dry run."""
MULTIPLIER = 2654435761
"""Of Knuth's multiplicative hash."""


class MovedRowsError(TapError):
    """Rows had other values among other rows."""

    code = "moved-rows"


Read = Callable[[Columns], dict[str, Tensor]]


@dataclass(eq=False)
class Reread:
    """Rows from everywhere, 64 at most, compared with what they give in other company.

    Parameters
    ----------
    n_rows : int or None
        How many rows there are in all; None: not known.
    read : callable
        Gets columns, returns the rows of each tap.
    ignored : collection of str
        Keys that differ from pass to pass in any case.
    rounding : float
        How far values may be apart, relative to the largest.
    is_off : bool
        Whether nothing is to be compared, since each row has a pass of its own.
    """

    n_rows: int | None
    read: Read
    ignored: Collection[str] = ()
    rounding: float = 1e-3
    is_off: bool = False
    n_chosen: int = 0
    places: list[int] = field(default_factory=list)
    columns: Columns = field(default_factory=list)
    values: dict[str, Tensor] = field(default_factory=dict)
    chosen: list[tuple[Columns, dict[str, Tensor]]] = field(default_factory=list)

    def begin(self, start: int, columns: Columns) -> None:
        """Choose rows of a batch that begins with row `start`."""
        n_rows = len(columns[0])
        self.places = [row - start for row in self.rows_between(start, start + n_rows)]
        self.columns = [self.picked(column) for column in columns] if self.places else []
        self.values = {}

    def rows_between(self, start: int, stop: int) -> list[int]:
        """Return the numbers of the chosen rows, one in each block of so many, anywhere in it."""
        if self.is_off or self.n_chosen >= MOST_ROWS:
            return []
        if self.n_rows is None:
            block = 4 ** (self.n_chosen // ROWS_AT_ONCE)
        else:
            wanted = min(max(ROWS_AT_ONCE, int(SHARE_OF_ROWS * self.n_rows)), MOST_ROWS)
            block = max(1, self.n_rows // wanted)
        rows = (b * block + (b * MULTIPLIER >> 8) % block for b in range(start // block, stop // block + 1))
        return [row for row in rows if start <= row < stop][: MOST_ROWS - self.n_chosen]

    def take(self, key: str, rows: Tensor) -> None:
        """Keep what the chosen rows gave; the last call of a layer counts."""
        if self.places and key not in self.ignored:
            self.values[key] = compared(self.picked(rows))

    def picked(self, rows: Tensor) -> Tensor:
        """Return a copy of the chosen rows; they are few, and slices are sooner made than a list of numbers."""
        return torch.cat([rows[place : place + 1] for place in self.places])

    def end(self) -> None:
        """Compare as soon as there is a batch of rows."""
        if self.places and self.values:
            self.chosen.append((self.columns, self.values))
            self.n_chosen += len(self.places)
        if not self.places:
            return
        self.places = []
        if sum(len(columns[0]) for columns, _ in self.chosen) >= ROWS_AT_ONCE:
            self.compare()

    def compare(self) -> None:
        """Read the rows again.

        Raises
        ------
        MovedRowsError
            If some have other values now.
        """
        chosen, self.chosen = self.chosen, []
        shapes = [tuple(tuple(column.shape[1:]) for column in columns) for columns, _ in chosen]
        for shape in dict.fromkeys(shapes):
            alike = [pair for pair, own in zip(chosen, shapes, strict=True) if own == shape]
            self.compare_alike(alike)

    def compare_alike(self, chosen: Sequence[tuple[Columns, dict[str, Tensor]]]) -> None:
        columns = [torch.cat(parts) for parts in zip(*(columns for columns, _ in chosen), strict=True)]
        n_rows = len(columns[0])
        order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(n_rows))
        try:
            found = self.read([column[order.to(column.device)] for column in columns])
        except Exception:  # a net that does not take these rows at once
            return
        wrong: dict[str, int] = {}
        for key, rows in found.items():
            parts = [values[key] for _, values in chosen if key in values]
            if len({part.shape[1:] for part in (*parts, rows)}) == 1 and sum(map(len, parts)) == n_rows:
                n_wrong = count_apart(torch.cat(parts)[order.to(rows.device)], rows, self.rounding)
                wrong |= {key: n_wrong} if n_wrong else {}
        if wrong:
            where = ", ".join("the output" if key.startswith("<") else repr(key) for key in wrong)
            raise MovedRowsError(
                "a row's values must not depend on the rows around it; got others at "
                f"{where} for {max(wrong.values())} of {n_rows} rows that were read again among other rows: the net "
                "moves rows of a certain kind (sorts, groups or packs them), or lets them influence each other"
                f"{ORDER_REMEDY}"
            )


def compared(rows: Tensor) -> Tensor:
    """Return a copy of what is compared of rows: not all columns of wide ones."""
    flat = rows.flatten(1) if rows.ndim > 1 else rows[:, None]
    chosen = some_columns(flat.shape[1], MOST_COLUMNS, OTHER_COLUMNS)
    return (flat.clone() if chosen is None else flat[:, chosen.to(flat.device)]).float()


def count_apart(before: Tensor, after: Tensor, rounding: float) -> int:
    """Return how many rows have become others."""
    before, after = (torch.nan_to_num(rows.double()) for rows in (before, after))
    apart = (before - after).norm(dim=1)
    between = torch.cdist(before, before)
    typical = float(between[between > 0].median()) if bool((between > 0).any()) else 0.0
    size = float(before.norm(dim=1).max())
    return int((apart > max(CLOSE * typical, rounding * size) + 1e-6).sum())
