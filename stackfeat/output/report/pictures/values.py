"""Pictures of how good predicted values are: predicted against true, and residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.pictures.classes import draw_folds, legend
from stackfeat.output.report.pictures.picture import (
    ALL,
    PREDICTED,
    Numbers,
    Picture,
    distinct,
    ink,
    label,
    only_axes,
    select,
    table,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELLS = 40
_TENTHS = 10
_OUTER = 0.002
SHARES = (5, 25, 50, 75, 95)


class Predicted(Picture):
    """Where rows lie, and the mean truth of rows that are predicted alike."""

    name = "predicted"
    title = "Predicted against true"
    is_judgement = True

    def numbers(self, evidence: Evidence) -> Numbers:
        said, true, folds = _values(evidence)
        low, high = np.quantile(np.r_[said, true], (_OUTER, 1 - _OUTER))
        edges = np.linspace(low, high if high > low else low + 1, _CELLS + 1)
        counts, _, _ = np.histogram2d(np.clip(said, low, high), np.clip(true, low, high), bins=(edges, edges))
        middles = (edges[:-1] + edges[1:]) / 2
        rows: list[tuple[Any, ...]] = [
            ("rows", "", float(middles[x]), float(middles[y]), int(counts[x, y]))
            for x, y in np.argwhere(counts)
        ]
        for fold, inside in _folds(folds):
            here, truth = said[inside], true[inside]
            rows += [
                ("mean", fold, float(here[part].mean()), float(truth[part].mean()), len(part))
                for part in _tenths(here)
            ]
        return table(rows, ("what", "fold", "predicted", "truth", "rows"))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = only_axes(figure, left=0.95)
        cells = select(numbers, what="rows")
        places = np.unique(np.r_[cells["predicted"], cells["truth"]].astype(np.float64))
        step = np.min(np.diff(places)) if len(places) > 1 else 1.0
        low, high = places[0] - step / 2, places[-1] + step / 2
        n = min(round((high - low) / step), 4 * _CELLS)
        grid = np.zeros((n, n))
        x, y = (((cells[name].astype(float) - low) / step).astype(int) for name in ("predicted", "truth"))
        grid[y, x] = np.log1p(cells["rows"].astype(float))
        from matplotlib.colors import to_rgb

        image = np.empty((n, n, 4))
        image[..., :3] = to_rgb("#3b82d0")
        image[..., 3] = grid / max(grid.max(), 1e-12)
        axes.imshow(
            image, origin="lower", extent=(low, high, low, high), interpolation="nearest", aspect="auto"
        )
        axes.plot([low, high], [low, high], color=ink(), lw=0.7, ls=":")
        means = {name: column.tolist() for name, column in select(numbers, what="mean").items()}
        draw_folds(axes, means, "predicted", "truth")
        axes.set(xlim=(low, high), ylim=(low, high))
        axes.locator_params(nbins=5)
        label(axes, "predicted", "truth")

    def caption(self, numbers: Numbers) -> str:
        return (
            "Out-of-fold rows (darker: more of them) and the mean truth of ten equal groups by prediction: "
            "all rows and folds. On the dotted line predictions are right on average; values beyond the outermost "
            "thousandths are drawn at the edge."
        )

    def alt(self, numbers: Numbers) -> str:
        part = select({k: list(v) for k, v in select(numbers, what="mean").items()}, fold=ALL)
        pairs = ", ".join(
            f"{said:.4g} predicted: {true:.4g}"
            for said, true in zip(part["predicted"], part["truth"], strict=True)
        )
        return f"Predicted values against true ones. Mean truth by tenths, {pairs}."


class Distribution(Picture):
    """How targets are spread, and predictions of them."""

    name = "distribution"
    title = "Target and predictions"
    is_judgement = True

    def numbers(self, evidence: Evidence) -> Numbers:
        test = evidence.test_prediction
        parts = {"truth": evidence.target, PREDICTED[0]: evidence.prediction}
        parts |= {} if test is None else {PREDICTED[1]: test}
        low, high = np.nanquantile(
            np.concatenate([np.ravel(part) for part in parts.values()]), (_OUTER, 1 - _OUTER)
        )
        edges = np.linspace(low, high if high > low else low + 1, _CELLS + 1)
        rows: list[tuple[Any, ...]] = []
        for what, values in parts.items():
            known = np.ravel(values)[np.isfinite(np.ravel(values))]
            counts, _ = np.histogram(np.clip(known, low, high), edges)
            rows += [
                (what, float(edges[place]), float(edges[place + 1]), float(count / max(len(known), 1)))
                for place, count in enumerate(counts)
            ]
        return table(rows, ("what", "from", "to", "share"))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = only_axes(figure, left=0.8)
        for what, colour in zip(distinct(numbers["what"]), ("C7", "C0", "C1"), strict=False):
            part = select(numbers, what=what)
            edges = np.r_[part["from"].astype(np.float64), float(part["to"][-1])]
            shares = part["share"].astype(np.float64)
            if what == "truth":
                axes.stairs(shares, edges, fill=True, color=colour, alpha=0.35, label=what)
            else:
                axes.stairs(shares, edges, color=colour, lw=1.3, label=what)
        axes.locator_params(axis="x", nbins=5)
        legend(axes)
        label(axes, "value", "share of rows")

    def caption(self, numbers: Numbers) -> str:
        return (
            "How many training rows have a value, and how many are predicted so out of fold and in test rows. "
            "Predictions are less spread than targets; test rows that are predicted otherwise than out of fold are "
            "other rows. Values beyond the outermost thousandths are drawn at the edge."
        )

    def alt(self, numbers: Numbers) -> str:
        said = []
        for what in distinct(numbers["what"]):
            part = select(numbers, what=what)
            middles = (part["from"].astype(np.float64) + part["to"].astype(np.float64)) / 2
            said.append(f"{what} {np.average(middles, weights=part['share'].astype(np.float64)):.4g}")
        return f"Distribution of the target and of predictions; means: {', '.join(said)}."


class Residuals(Picture):
    """How errors are spread along what is predicted."""

    name = "residuals"
    title = "Residuals"
    is_judgement = True

    def numbers(self, evidence: Evidence) -> Numbers:
        said, true, folds = _values(evidence)
        error = true - said
        rows: list[tuple[Any, ...]] = []
        for fold, inside in _folds(folds):
            for part in _tenths(said[inside]):
                spread = np.percentile(error[inside][part], SHARES).tolist()
                rows.append((fold, float(said[inside][part].mean()), *spread, len(part)))
        return table(rows, ("fold", "predicted", *(f"{share} %" for share in SHARES), "rows"))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = only_axes(figure, left=0.95)
        part = select(numbers, fold=ALL)
        axes.fill_between(part["predicted"], part["5 %"], part["95 %"], color="C0", alpha=0.2, lw=0)
        axes.fill_between(part["predicted"], part["25 %"], part["75 %"], color="C0", alpha=0.3, lw=0)
        axes.axhline(0, color=ink(), lw=0.7, ls=":")
        draw_folds(axes, numbers, "predicted", "50 %")
        axes.locator_params(axis="x", nbins=5)
        label(axes, "predicted", "truth less predicted")

    def caption(self, numbers: Numbers) -> str:
        return (
            "True minus predicted value, for ten equal groups of rows by prediction: the median of all rows and of "
            "folds, half of the rows in the dark band, nine of ten in the light one. A band that widens says where "
            "predictions are less sure."
        )

    def alt(self, numbers: Numbers) -> str:
        part = select(numbers, fold=ALL)
        wide = part["95 %"] - part["5 %"]
        return (
            f"Residuals by predicted value: the median lies between {part['50 %'].min():.4g} and "
            f"{part['50 %'].max():.4g}; nine of ten rows lie in a band {wide.min():.4g} to {wide.max():.4g} wide."
        )


def _values(evidence: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return predicted values, true ones and folds; several targets in units of their spreads."""
    said, true = evidence.prediction, evidence.task.whole(evidence.target)
    if said.shape[1] > 1:
        spread = true.std(axis=0)
        unit = np.where(spread > 0, spread, 1.0)
        said, true = ((values - true.mean(axis=0)) / unit for values in (said, true))
    return said.ravel(), true.ravel(), np.repeat(evidence.folds, said.shape[1])


def _folds(folds: np.ndarray) -> list[tuple[str, np.ndarray]]:
    found = [(ALL, np.arange(len(folds)))]
    found += [(str(fold), np.flatnonzero(folds == fold)) for fold in np.unique(folds)]
    return found


def _tenths(said: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(said, kind="stable")
    return [part for part in np.array_split(order, min(_TENTHS, max(1, len(order) // 5))) if len(part)]
