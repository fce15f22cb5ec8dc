"""Pictures of how good predicted quantiles are: beside those of the truth, and how many targets lie below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.pictures.picture import (
    Numbers,
    Picture,
    distinct,
    ink,
    label,
    only_axes,
    select,
    table,
)
from stackfeat.tasks.quantile import nearest_to_median

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TENTHS, _FIFTHS = 10, 5
_FEWEST = 5


class Quantiles(Picture):
    """Predicted quantiles of rows that are predicted alike, and the quantiles of their targets."""

    name = "quantiles"
    title = "Predicted quantiles against true"
    is_judgement = True

    def numbers(self, evidence: Evidence) -> Numbers:
        said, true, levels = evidence.prediction, evidence.target, evidence.task.quantiles
        middle = said[:, nearest_to_median(levels)]
        rows: list[tuple[Any, ...]] = []
        for number, part in enumerate(_parts(middle, _TENTHS)):
            truth = np.quantile(true[part], levels)
            for name, predicted, own in zip(evidence.task.columns, said[part].T, truth, strict=True):
                rows.append((number + 1, name, float(np.median(predicted)), float(own), len(part)))
        return table(rows, ("tenth", "quantile", "predicted", "truth", "rows"))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = only_axes(figure, left=0.95)
        for place, name in enumerate(distinct(numbers["quantile"])):
            part = select(numbers, quantile=name)
            axes.plot(part["tenth"], part["predicted"], color=f"C{place % 10}", lw=1.2, label=name)
            axes.plot(part["tenth"], part["truth"], color=f"C{place % 10}", lw=0, marker="o", ms=3.5)
        axes.legend(frameon=False, fontsize="small")
        label(axes, "tenth of the rows, by prediction", "target")

    def caption(self, numbers: Numbers) -> str:
        return (
            "Out-of-fold rows in ten equal groups by the quantile nearest to the median: lines are the medians of "
            "what is predicted, dots the quantiles of the targets. Dots may lie further apart: rows differ."
        )

    def alt(self, numbers: Numbers) -> str:
        parts = [
            f"{name} from {part['predicted'][0]:.4g} (targets: {part['truth'][0]:.4g}) to "
            f"{part['predicted'][-1]:.4g} ({part['truth'][-1]:.4g})"
            for name, part in (
                (name, select(numbers, quantile=name)) for name in distinct(numbers["quantile"])
            )
        ]
        return f"Predicted quantiles and those of targets, from the lowest tenth to the highest: {'; '.join(parts)}."


class Coverage(Picture):
    """What share of targets lies below each quantile, where it is sure and where it is not."""

    name = "coverage"
    title = "Targets below each quantile"
    is_judgement = True

    def numbers(self, evidence: Evidence) -> Numbers:
        said, true, task = evidence.prediction, evidence.target, evidence.task
        # Of a single quantile nothing says how sure it is.
        order = said[:, -1] - said[:, 0] if said.shape[1] > 1 else said[:, 0]
        rows: list[tuple[Any, ...]] = []
        for number, part in enumerate(_parts(order, _FIFTHS)):
            for place, (name, level) in enumerate(zip(task.columns, task.quantiles, strict=True)):
                share = float(np.mean(true[part] <= said[part, place]))
                rows.append((number + 1, name, float(level), share, float(order[part].mean()), len(part)))
        return table(rows, ("fifth", "quantile", "level", "below", "width", "rows"))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = only_axes(figure, left=0.95)
        for place, name in enumerate(distinct(numbers["quantile"])):
            part = select(numbers, quantile=name)
            axes.plot(
                part["fifth"], part["below"], color=f"C{place % 10}", lw=1.2, marker="o", ms=3, label=name
            )
            axes.axhline(part["level"][0], color=ink(), lw=0.7, ls=":")
        axes.set(ylim=(0, 1), xticks=distinct(numbers["fifth"]))
        axes.legend(frameon=False, fontsize="small")
        label(axes, "fifth of the rows, narrow predictions first", "share of targets below")

    def caption(self, numbers: Numbers) -> str:
        return (
            "Out-of-fold rows in five equal groups by how far the outer quantiles lie apart: the share of targets "
            "not above each quantile. Dotted lines are what is wanted: a point above its line says that the quantile "
            "lies too high there."
        )

    def alt(self, numbers: Numbers) -> str:
        parts = [
            f"{name} {100 * part['below'].min():.1f} to {100 * part['below'].max():.1f} %"
            for name, part in (
                (name, select(numbers, quantile=name)) for name in distinct(numbers["quantile"])
            )
        ]
        return f"Share of targets below each quantile in fifths of the rows: {'; '.join(parts)}."


def _parts(order: np.ndarray, n_parts: int) -> list[np.ndarray]:
    """Return the rows in equal groups by a value, the lowest first."""
    rows = np.argsort(order, kind="stable")
    return [part for part in np.array_split(rows, min(n_parts, max(1, len(rows) // _FEWEST))) if len(part)]
