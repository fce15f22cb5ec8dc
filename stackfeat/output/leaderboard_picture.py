"""Cross-validation against the leaderboard, as a picture: one point for each run that has a public score.

In:  scores out of fold, with their standard errors, and public scores.
Out: an SVG of the same bytes every time, and a csv file of its numbers beside it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stackfeat.errors import UsageError, one_line
from stackfeat.output.files import write_bytes, write_csv
from stackfeat.registry.resolve import cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NAMED = 25


@dataclass(frozen=True)
class PublicPoints:
    """Scores of runs over the same data, best out of fold first."""

    metric: str
    greater_is_better: bool
    runs: tuple[str, ...]
    scores: tuple[float, ...]
    errors: tuple[float, ...]
    public: tuple[float, ...]
    private: tuple[float | None, ...]


def write_picture(path: Path, points: PublicPoints) -> list[Path]:
    """Write the picture, and its numbers beside it; return both files.

    Raises
    ------
    UsageError
        If the file is not to be an SVG.
    StoreError
        If it cannot be written.
    """
    if path.suffix.lower() != ".svg":
        raise UsageError(
            f"--picture must be a file that ends in .svg; got {path}; name one such as cv_lb.svg"
        )
    table = path.with_suffix(".csv")
    columns = [points.runs, points.scores, points.errors, points.public, points.private]
    write_bytes(path, _svg(points).encode())
    write_csv(table, ("run", "score", "se", "public", "private"), columns)
    return [path, table]


def _svg(points: PublicPoints) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "stackfeat", "svg.fonttype": "none", "font.size": 9})
        figure = Figure(figsize=(5.4, 4.2))
        FigureCanvasSVG(figure)
        _draw(points, figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _draw(points: PublicPoints, figure: Figure) -> None:
    axes = figure.add_axes((0.15, 0.13, 0.82, 0.83))
    axes.errorbar(
        points.scores, points.public, xerr=points.errors, fmt="o", ms=5, lw=1, color="C0", ecolor="0.6"
    )
    # Where both scores would be equal.
    low = max(min(points.scores), min(points.public))
    high = min(max(points.scores), max(points.public))
    if low < high:
        axes.plot([low, high], [low, high], ls=":", lw=1, color="0.5")
    for run, x, y in list(zip(points.runs, points.scores, points.public, strict=True))[:_MOST_NAMED]:
        name = cut(one_line(run), 30)
        axes.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7, parse_math=False)
    better = "higher" if points.greater_is_better else "lower"
    axes.set_xlabel(f"{one_line(points.metric)} out of fold ± se ({better} is better)", parse_math=False)
    axes.set_ylabel("public leaderboard", parse_math=False)
