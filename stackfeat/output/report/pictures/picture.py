"""A picture of the report: its numbers, how they are drawn, and what a person is told about them.

In:  the evidence of a run, or numbers that an earlier report wrote.
Out: columns of plain values, which become a csv file; a matplotlib figure; a caption and a text for those who
     cannot see it. A subclass owns all of this for one picture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stackfeat.output.report.evidence import Evidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = dict[str, list[Any]]
"""Columns of equal length by name."""
ALL = "all"
"""Stands in the column `fold` for all rows together."""


PREDICTED = ("predicted out of fold", "predicted of test rows")


class NothingToShow(Exception):
    """Raised by `Picture.numbers` where only they tell that a picture would be empty; its text says why."""


class Picture(ABC):
    """One picture.

    Attributes
    ----------
    name : str
        Of its csv file, and behind ``plot_`` of its method.
    title : str
    size : tuple of float
        Width and height in inches, where they do not depend on the numbers.
    is_judgement : bool
        Whether it shows how good predictions are, so that the kind of task says whether it makes sense.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    size: ClassVar[tuple[float, float]] = (4.8, 3.8)
    is_judgement: ClassVar[bool] = False

    def is_for(self, evidence: Evidence) -> bool:
        """Whether a run like this one has something to show; if not, nobody misses it."""
        return not self.is_judgement or self.name in evidence.task.pictures

    def why_not(self, evidence: Evidence) -> str:
        """Return why a run that could have such a picture has none; empty where it has."""
        return ""

    @abstractmethod
    def numbers(self, evidence: Evidence) -> Numbers:
        """Return what is drawn, or raise NothingToShow."""

    @abstractmethod
    def draw(self, numbers: Numbers, figure: Figure) -> None:
        """Draw into an empty figure."""

    @abstractmethod
    def caption(self, numbers: Numbers) -> str:
        """Say what is seen, and how to read it."""

    @abstractmethod
    def alt(self, numbers: Numbers) -> str:
        """Say in a sentence what the picture shows, to those who cannot see it."""

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        """Return width and height in inches."""
        return self.size


def only_axes(figure: Figure, left: float = 0.62, bottom: float = 0.52, top: float = 0.12) -> Axes:
    """Return axes that fill a figure but for margins in inches."""
    width, height = figure.get_size_inches()
    return figure.add_axes(
        (left / width, bottom / height, 1 - (left + 0.3) / width, 1 - (bottom + top) / height)
    )


def panels(figure: Figure, n: int, left: float = 0.62, top: float = 0.3) -> list[Axes]:
    """Return axes side by side, with room for a title above each."""
    width, height = figure.get_size_inches()
    wide, bottom = width / n, 0.52
    return [
        figure.add_axes(
            (
                (number * wide + left) / width,
                bottom / height,
                (wide - left - 0.12) / width,
                1 - (bottom + top) / height,
            )
        )
        for number in range(n)
    ]


def ink() -> Any:
    """Return the colour of text."""
    import matplotlib

    return matplotlib.rcParams["text.color"]


def ground() -> Any:
    """Return the colour of what is drawn on."""
    import matplotlib

    return matplotlib.rcParams["axes.facecolor"]


def label(axes: Axes, x: str, y: str) -> None:
    """Name the axes; names are no formulas."""
    axes.set_xlabel(x, parse_math=False)
    axes.set_ylabel(y, parse_math=False)


def select(numbers: Numbers, **wanted: Any) -> dict[str, np.ndarray]:
    """Return the columns, as arrays, of the rows in which columns have the wanted values.

    Examples
    --------
    >>> select({"fold": ["0", "all"], "x": [1.0, 2.0]}, fold="all")["x"].tolist()
    [2.0]
    """
    first = next(iter(numbers.values()))
    kept = np.ones(len(first), dtype=bool)
    for name, value in wanted.items():
        kept &= np.asarray([one == value for one in numbers[name]], dtype=bool)
    return {name: np.asarray(column)[kept] for name, column in numbers.items()}


def distinct(column: Sequence[Any]) -> list[Any]:
    """Return the values of a column, each once, in their order."""
    return list(dict.fromkeys(column))


def table(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Numbers:
    """Return rows as columns."""
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def short(text: str, most: int = 34) -> str:
    """Return a name, its middle left out where it is long.

    Examples
    --------
    >>> short("meta/per:mlp_wide.penultimate@geometry", 20)
    'meta/per:…t@geometry'
    """
    if len(text) <= most:
        return text
    return f"{text[: (most - 1) // 2]}…{text[-(most - 1 - (most - 1) // 2) :]}"


def count(n: int, noun: str) -> str:
    """Return a number and its noun.

    Examples
    --------
    >>> count(1, "pick"), count(1200, "pick")
    ('1 pick', '1,200 picks')
    """
    return f"{n:,} {noun}{'s' * (n != 1)}"


def thinned(n: int, most: int) -> np.ndarray:
    """Return numbers of evenly spaced items, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))
