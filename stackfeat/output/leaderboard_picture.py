"""Cross-validation against the leaderboard, as a picture: one point for each run that has a public score.

In:  scores out of fold, with their standard errors, and public scores.
Out: an SVG of the same bytes every time, and a csv file of its numbers beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stackfeat.errors import UsageError, one_line
from stackfeat.output.files import write_bytes, write_csv
from stackfeat.output.output_file import has_columns, refuse_output
from stackfeat.output.report.drawing import is_drawn, svg_of
from stackfeat.output.report.pictures.picture import Numbers, ink, label, only_axes, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NAMED = 25
COLUMNS = ("run", "score", "se", "public", "private")


def refuse_picture(path: Path, *, force: bool) -> None:
    """Raise UsageError where a picture, or the file of its numbers, would replace something else, or is no SVG."""
    if path.suffix.lower() != ".svg":
        raise UsageError(
            f"--picture must be a file that ends in .svg; got {path}; name one such as cv_lb.svg"
        )
    refuse_output(path, is_drawn, force=force, option="--picture")
    refuse_output(path.with_suffix(".csv"), has_columns(COLUMNS), force=force, option="--picture")


@dataclass(frozen=True)
class PublicScores:
    """Scores of runs over the same data.

    Attributes
    ----------
    metric : str
    greater_is_better : bool
    numbers : dict of str to list
        By `COLUMNS`; best score first.
    """

    metric: str
    greater_is_better: bool
    numbers: Numbers

    def write(self, path: Path) -> list[Path]:
        """Write the picture, and its numbers beside it; return both files.

        Raises
        ------
        StoreError
            If a file cannot be written.
        """
        table = path.with_suffix(".csv")
        write_bytes(path, svg_of(self, self.numbers).encode())
        write_csv(table, list(self.numbers), list(self.numbers.values()))
        return [path, table]

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        """Return width and height in inches."""
        return 5.4, 4.2

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        """Draw a point for each run, and where both scores would be equal."""
        axes = only_axes(figure, left=0.8)
        scores, public = numbers["score"], numbers["public"]
        errors = [error or 0.0 for error in numbers["se"]]
        axes.errorbar(scores, public, xerr=errors, fmt="o", ms=5, lw=0.8, color="C0", ecolor="C7")
        low, high = max(min(scores), min(public)), min(max(scores), max(public))
        if low < high:
            axes.plot([low, high], [low, high], ls=":", lw=1, color=ink(), label="equal scores")
            axes.legend(frameon=False, fontsize=7)
        for run, x, y in list(zip(numbers["run"], scores, public, strict=True))[:_MOST_NAMED]:
            name = short(one_line(run), 30)
            axes.annotate(
                name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7, parse_math=False
            )
        better = "higher" if self.greater_is_better else "lower"
        label(axes, f"{one_line(self.metric)} out of fold ± se ({better} is better)", "public leaderboard")
