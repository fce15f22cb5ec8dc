"""Finished: what the fits of a member of a finished run chose, for a config in which nothing is left to choose.

In:  the reports of a member's fits, and what the member read.
Out: values of one option over several fits: their median, or the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class FinishedFits:
    """What the fits of one member chose, and what it is wired to.

    Attributes
    ----------
    name : str
        ``level/member``.
    folds : sequence of mapping
        Reports of the fits of the folds, of every repeat.
    whole : mapping or None
        Report of the fit to all out-of-fold rows, or to all rows; None where there is none.
    n_rows : int
        Rows that the fit of a fold was given.
    raw, blocks : tuple of str
        What it read.
    features : frozenset of str
        Which of the blocks are no predictions.
    outputs : frozenset of str
        What others read of it, and what is submitted.
    is_nested : bool
        Whether it was trained on predictions of models that saw neither fold.
    """

    name: str
    folds: Sequence[Mapping[str, Any]]
    whole: Mapping[str, Any] | None
    n_rows: int
    raw: tuple[str, ...]
    blocks: tuple[str, ...]
    features: frozenset[str]
    outputs: frozenset[str]
    is_nested: bool = False

    @property
    def inputs(self) -> list[str]:
        """Names of raw inputs and blocks."""
        return [*self.raw, *self.blocks]

    @property
    def deciding(self) -> list[Mapping[str, Any]]:
        """The report of the fit to all rows where there is one, else those of the folds."""
        return list(self.folds) if self.whole is None else [self.whole]

    def inputs_with(self, accepted: Mapping[str, Any] | Sequence[str]) -> list[str]:
        """Return the inputs less the feature blocks that were not accepted."""
        return [name for name in self.inputs if name not in self.features or name in accepted]


def middle(values: Sequence[Any]) -> Any:
    """Return the median of numbers, whole where they are; the first of anything else.

    Examples
    --------
    >>> middle([3, 9, 4]), middle([0.5, 0.25]), middle([False, False])
    (4, 0.375, False)
    """
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return values[0]
    found = median(values)
    return int(found) if all(isinstance(value, int) for value in values) else float(found)
