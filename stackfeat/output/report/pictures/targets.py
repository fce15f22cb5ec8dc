"""A picture of several targets or labels, each by itself: what was predicted of it, and what came of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.pictures.classes import happened_by_tenth
from stackfeat.output.report.pictures.picture import (
    Numbers,
    Picture,
    count,
    distinct,
    ink,
    select,
    short,
    table,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 12
_ACROSS = 4
_SURE = 2.0
"""Standard errors beyond which what was predicted and what came differ."""


class Targets(Picture):
    """Predicted against observed, a panel for each target: values, or probabilities and shares of rows."""

    name = "targets"
    title = "Target by target"
    is_judgement = True

    def is_for(self, evidence: Evidence) -> bool:
        return super().is_for(evidence) and evidence.task.n_targets > 1

    def numbers(self, evidence: Evidence) -> Numbers:
        task = evidence.task
        rows: list[tuple[Any, ...]] = []
        for place, (part, name) in enumerate(zip(task.parts, task.names, strict=True)):
            said = task.part_of_prediction(evidence.prediction, place)
            pair = part.said_and_came(task.part_of_y(evidence.target, place), said)
            rows += [(name, *row) for row in happened_by_tenth(*pair)]
        return table(rows, ("target", "said", "happened", "error", "rows"))

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        n = min(len(distinct(numbers["target"])), MOST_PANELS)
        return 1.9 * min(n, _ACROSS) + 0.5, 1.75 * -(-n // _ACROSS) + 0.55

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        names = _shown(numbers)
        for axes, name in zip(_grid(figure, len(names)), names, strict=True):
            part = select(numbers, target=name)
            both = np.r_[part["said"], part["happened"]].astype(np.float64)
            room = 0.06 * (np.ptp(both) or 1.0)
            ends = [float(both.min() - room), float(both.max() + room)]
            axes.plot(ends, ends, color=ink(), lw=0.7, ls=":")
            axes.errorbar(part["said"], part["happened"], part["error"], color="C0", fmt="o-", ms=2.5, lw=1)
            axes.set(xlim=ends, ylim=ends)
            axes.set_title(short(name, 22), size=8, parse_math=False)
            axes.locator_params(nbins=4)
            axes.tick_params(labelsize=7)
        figure.supxlabel("predicted", size=8)
        figure.supylabel("observed", size=8)

    def caption(self, numbers: Numbers) -> str:
        n_more = len(distinct(numbers["target"])) - len(_shown(numbers))
        more = f" Those farthest from it are shown; {n_more:,} more are in the csv." if n_more else ""
        return (
            "Of each target, or label, the out-of-fold rows in ten equal groups by what was predicted: its mean, and "
            "the mean of what came (of labels: the share of rows that have it), with its standard error. On the "
            f"dotted line predictions mean what they say.{more} {_farthest(numbers)}"
        )

    def alt(self, numbers: Numbers) -> str:
        n = len(distinct(numbers["target"]))
        return f"Predicted against observed, target by target, of {count(n, 'target')}. {_farthest(numbers)}"


def _grid(figure: Figure, n: int) -> list[Axes]:
    """Return axes row by row, four across, with room for a title above each."""
    width, height = figure.get_size_inches()
    across, down = min(n, _ACROSS), -(-n // _ACROSS)
    wide, high = (width - 0.4) / across, (height - 0.4) / down
    places = [(0.4 + wide * (one % across), 0.4 + high * (down - 1 - one // across)) for one in range(n)]
    return [
        figure.add_axes(
            ((x + 0.32) / width, (y + 0.2) / height, (wide - 0.42) / width, (high - 0.46) / height)
        )
        for x, y in places
    ]


def _off(numbers: Numbers, name: str) -> float:
    """Return the share of what varies in a target's groups that lies off the dotted line."""
    part = select(numbers, target=name)
    said, came, rows = (part[column].astype(np.float64) for column in ("said", "happened", "rows"))
    spread = np.average((came - np.average(came, weights=rows)) ** 2, weights=rows)
    return float(np.average((said - came) ** 2, weights=rows) / (spread or 1.0))


def _shown(numbers: Numbers) -> list[str]:
    """Return the targets that are drawn, in their order: of many those farthest from the dotted line."""
    names = distinct(numbers["target"])
    kept = sorted(names, key=lambda name: -_off(numbers, name))[:MOST_PANELS]
    return [name for name in names if name in kept]


def _farthest(numbers: Numbers) -> str:
    found = []
    for name in distinct(numbers["target"]):
        part = select(numbers, target=name)
        gap, error = (part["said"] - part["happened"]).astype(np.float64), part["error"].astype(np.float64)
        # Groups in which the same came of every row say nothing of an error.
        beyond = (error > 0) & (np.abs(gap) > _SURE * error)
        found.append((int(beyond.sum()), _off(numbers, name), name, len(gap)))
    n_beyond, _, name, n_groups = max(found)
    if not n_beyond:
        return "No group lies further from it than two standard errors."
    return f"Farthest from it: {name}, {n_beyond} of {count(n_groups, 'group')} by more than two standard errors."
