"""Draw pictures: numbers to a matplotlib figure, or to SVG of the same bytes every time, for light and dark pages.

In:  a picture and its numbers.
Out: a Figure in the colours of the person's own matplotlib; or the text of an SVG whose ink follows the scheme of
     the page that shows it.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stackfeat.output.report.pictures.picture import Numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _LINE, _GROUND = "#010203", "#040506", "#070809"
"""Stand for colours that the scheme of the page decides."""
_SCHEMES = (
    "<style>:root{--ink:#1c1e21;--line:#b9c0c8;--ground:#fff}"
    "@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--line:#59616a;--ground:#16181b}}"
    "@media print{:root{--ink:#000;--line:#999;--ground:#fff}}</style>"
)
_COLOURS = (
    *("#3b82d0", "#d9792b", "#3f9a4f", "#d0504a", "#8f6fd0"),
    *("#9a7353", "#d06fa8", "#808790", "#97962a", "#2aa0ab"),
)
"""In the middle between a light and a dark ground."""
_DPI = 110
_MOST_INCHES = 40.0


class Drawn(Protocol):
    """What can be drawn: a `Picture` of the report, or another that says how large it is and draws its numbers."""

    def size_of(self, numbers: Numbers) -> tuple[float, float]: ...

    def draw(self, numbers: Numbers, figure: Figure) -> None: ...


def svg_of(picture: Drawn, numbers: Numbers) -> str:
    """Return the picture as the text of an SVG: the same bytes every time, in the colours of the page's scheme."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_style())
        figure = Figure(figsize=inches_of(picture, numbers))
        FigureCanvasSVG(figure)
        picture.draw(numbers, figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return _themed(file.getvalue())


def is_drawn(path: Path) -> bool:
    """Whether a file is an SVG that `svg_of` gave."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return _SCHEMES in file.read(4096)
    except OSError:
        return False


def figure_of(picture: Drawn, numbers: Numbers) -> Figure:
    """Return the picture as a figure, which notebooks show."""
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=inches_of(picture, numbers))
    picture.draw(numbers, figure)
    # A notebook shows what a cell returns; a figure that pyplot keeps it shows twice.
    pyplot.close(figure)
    return figure


def inches_of(picture: Drawn, numbers: Numbers) -> tuple[float, float]:
    """Return the size of a picture, within bounds whatever its numbers are."""
    width, height = picture.size_of(numbers)
    return min(width, _MOST_INCHES), min(height, _MOST_INCHES)


def _style() -> Any:
    from cycler import cycler

    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "stackfeat",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.prop_cycle": cycler(color=_COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.formatter.useoffset": False,
        "figure.dpi": _DPI,
        "savefig.dpi": _DPI,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), _INK),
        **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), _LINE),
        "axes.facecolor": _GROUND,
        **dict.fromkeys(("figure.facecolor", "savefig.facecolor"), "none"),
    }


def _themed(text: str) -> str:
    """Return an SVG without what only files need, and with ink that follows the scheme."""
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", "sans-serif", text)
    text = text.replace(_INK, "var(--ink)").replace(_LINE, "var(--line)").replace(_GROUND, "var(--ground)")
    text = re.sub(r">\s*\n\s*<", "><", text)
    start = text.index(">") + 1
    return text[:start] + _SCHEMES + text[start:].strip()
