"""The picture of which columns and members matter, where `explain` has measured it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stackfeat.output.explanation import Explanation
from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.pictures.picture import (
    Numbers,
    Picture,
    distinct,
    ink,
    label,
    panels,
    select,
    short,
    table,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLUMNS = 20


class Importance(Picture):
    """How much worse predictions of held-out rows become when a column, or a member, is shuffled."""

    name = "importance"
    title = "Importance of columns and members"

    def why_not(self, evidence: Evidence) -> str:
        if evidence.explained is not None:
            return self.why_not_of(evidence.explained)
        return "not measured yet: stackfeat explain RUN measures it, stackfeat report RUN then shows it"

    def numbers(self, evidence: Evidence) -> Numbers:
        assert evidence.explained is not None
        return self.of(evidence.explained)

    def why_not_of(self, explained: Explanation) -> str:
        """Return why nothing can be drawn of an explanation; empty where it can."""
        return (
            "" if self.of(explained)["name"] else "no importance has a standard error: too few rows or groups"
        )

    def of(self, explained: Explanation) -> Numbers:
        """Return what is drawn of an explanation: what is known with a standard error."""
        lists = {"column": explained.columns, "member": explained.members}
        rows = [
            (what, one.name, one.importance, one.se)
            for what, listed in lists.items()
            for one in listed
            if one.se is not None
        ]
        return table(rows, ("what", "name", "importance", "se"))

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        most = max(len(part["name"]) for part in _parts(numbers).values())
        return 4.6 * len(_parts(numbers)), 1.0 + 0.24 * max(3, most)

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        parts = _parts(numbers)
        longest = max(len(short(name, 24)) for part in parts.values() for name in part["name"])
        beside = panels(figure, len(parts), left=0.3 + 0.07 * longest)
        for axes, (what, part) in zip(beside, parts.items(), strict=True):
            places = np.arange(len(part["name"]))
            values = part["importance"].astype(np.float64)
            errors = np.nan_to_num(part["se"].astype(np.float64))
            axes.barh(places, values, color="C0", alpha=0.7)
            axes.errorbar(values, places, xerr=errors, fmt="none", ecolor=ink(), lw=1)
            axes.axvline(0, color=ink(), lw=0.7)
            axes.set_yticks(places, [short(name, 24) for name in part["name"]], parse_math=False)
            axes.set_ylim(len(places) - 0.5, -0.5)
            axes.locator_params(axis="x", nbins=4)
            axes.set_title(f"{what}s", size=9)
            label(axes, "how much worse", "")

    def caption(self, numbers: Numbers) -> str:
        n_more = numbers["what"].count("column") - MOST_COLUMNS
        more = f" {n_more} more columns are in the csv." if n_more > 0 else ""
        return (
            "How much worse held-out rows are predicted when they get other rows' values of a column, or other rows' "
            f"predictions of a member, with standard errors. Columns that say the same share their importance.{more}"
        )

    def alt(self, numbers: Numbers) -> str:
        said = [
            f"{what}s, the first are {', '.join(part['name'][:5])}" for what, part in _parts(numbers).items()
        ]
        return f"Importance of {'; of '.join(said)}."


def _parts(numbers: Numbers) -> dict[str, dict[str, np.ndarray]]:
    """What is shown, by what it is of."""
    return {
        what: {name: column[:MOST_COLUMNS] for name, column in select(numbers, what=what).items()}
        for what in distinct(numbers["what"])
    }
