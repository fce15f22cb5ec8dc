"""The picture of which columns matter, where `explain` has measured it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stackfeat.output.explanation import Ranked
from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.pictures.picture import Numbers, Picture, ink, label, only_axes, short, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLUMNS = 20


class Importance(Picture):
    """How much worse predictions of held-out rows become when a column is shuffled."""

    name = "importance"
    title = "Importance of columns"

    def why_not(self, evidence: Evidence) -> str:
        return "" if _columns(evidence) else "nobody has asked for it: stackfeat explain RUN measures it"

    def numbers(self, evidence: Evidence) -> Numbers:
        rows = [(one.name, one.importance, one.se) for one in _columns(evidence)]
        return table(rows, ("column", "importance", "se"))

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        return 5.2, 0.7 + 0.24 * max(3, min(MOST_COLUMNS, len(numbers["column"])))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        names = numbers["column"][:MOST_COLUMNS]
        places = np.arange(len(names))
        axes = only_axes(figure, 0.3 + 0.07 * max(len(short(name, 24)) for name in names))
        axes.barh(places, numbers["importance"][: len(names)], color="C0", alpha=0.7)
        axes.errorbar(
            numbers["importance"][: len(names)],
            places,
            xerr=numbers["se"][: len(names)],
            fmt="none",
            ecolor=ink(),
            lw=1,
        )
        axes.axvline(0, color=ink(), lw=0.7)
        axes.set_yticks(places, [short(name, 24) for name in names], parse_math=False)
        axes.set_ylim(len(names) - 0.5, -0.5)
        label(axes, "loss added when shuffled", "")

    def caption(self, numbers: Numbers) -> str:
        n_more = len(numbers["column"]) - MOST_COLUMNS
        more = f" {n_more} more are in the csv." if n_more > 0 else ""
        return (
            "How much worse held-out rows are predicted when a column is shuffled, by the pipeline that has not seen "
            f"them, with standard errors. Columns that say the same share their importance.{more}"
        )

    def alt(self, numbers: Numbers) -> str:
        first = ", ".join(numbers["column"][:5])
        return f"Importance of columns, the first are {first}."


def _columns(evidence: Evidence) -> Sequence[Ranked]:
    """Return the columns, the most important first; none where nothing is known of how sure they are."""
    found = () if evidence.explained is None else evidence.explained.columns
    return () if any(one.se is None for one in found) else found
