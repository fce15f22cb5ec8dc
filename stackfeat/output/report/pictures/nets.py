"""Pictures of how members learnt: losses by epoch or boosting round, and layers before and after alignment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.pictures.classes import legend
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
    thinned,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NETS = 6
MOST_LAYERS = 4
_ROWS_OF_FOLD = 150
_POINTS = 60
_FIRST_ROUNDS = 0.04
"""Share of the rounds that stand above the picture."""


class LearningCurves(Picture):
    """The loss of every fold's net epoch by epoch, and of boosting round by round where it stopped early."""

    name = "learning_curves"
    title = "Learning curves"

    def is_for(self, evidence: Evidence) -> bool:
        return any(score.options.has_layers for score in evidence.scores) or any(_curves(evidence))

    def why_not(self, evidence: Evidence) -> str:
        return "no member stored its losses by epoch" if not any(_curves(evidence)) else ""

    def numbers(self, evidence: Evidence) -> Numbers:
        return table(list(_curves(evidence)), ("member", "fold", "rows", "unit", "step", "loss"))

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        return _size(len(distinct(numbers["member"])[:MOST_NETS]))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        names = distinct(numbers["member"])[:MOST_NETS]
        for axes, name in zip(panels(figure, len(names)), names, strict=True):
            for rows, colour in (("training", "C0"), ("validation", ink())):
                of_net = select(numbers, member=name, rows=rows)
                for fold in distinct(of_net["fold"].tolist()):
                    inside = of_net["fold"] == fold
                    steps, values = of_net["step"][inside], of_net["loss"][inside]
                    axes.plot(steps, values, color=colour, lw=1, alpha=0.7, label=rows)
                    if rows == "validation":
                        best = int(np.argmin(values))
                        axes.plot(steps[best], values[best], "o", color=colour, ms=3)
            of_member = select(numbers, member=name)
            losses = np.asarray(of_member["loss"], dtype=np.float64)
            if losses.min() > 0 and losses.max() > 20 * losses.min():
                axes.set_yscale("log")
            if of_member["unit"][0] == "round":
                # The first rounds fall from so high that nothing else would be seen.
                late = losses[of_member["step"] > _FIRST_ROUNDS * of_member["step"].max()]
                axes.set_ylim(late.min() - 0.05 * np.ptp(late), late.max() + 0.05 * np.ptp(late) or None)
            axes.set_title(short(name), size=9, parse_math=False)
            legend(axes)
            label(axes, str(of_member["unit"][0]), "loss")

    def caption(self, numbers: Numbers) -> str:
        dots = "; dots are the lowest validation losses" if "validation" in numbers["rows"] else ""
        boosted = " Boosting shows the inner rows that stop it; it is then fitted on all rows, up to the dot."
        return (
            f"A line for each fold{dots}. Losses that still fall at the end ask for more epochs or rounds; "
            "validation losses that rise while training losses fall, for fewer, or for more regularisation."
            f"{boosted if 'round' in numbers['unit'] else ''}{_more(numbers, MOST_NETS)}"
        )

    def alt(self, numbers: Numbers) -> str:
        said = []
        for name in distinct(numbers["member"])[:MOST_NETS]:
            part = select(numbers, member=name)
            ends = [
                part["loss"][(part["fold"] == fold) & (part["rows"] == part["rows"][0])][-1]
                for fold in distinct(part["fold"].tolist())
            ]
            said.append(
                f"{name}, {part['rows'][0]} loss {np.mean(ends):.4g} after at most {part['step'].max()} "
                f"{part['unit'][0]}s"
            )
        return f"Losses by epoch or round, and fold: {'; '.join(said)}."


class Embeddings(Picture):
    """Held-out rows of all folds in a layer of their own fold's net, and in the common columns."""

    name = "embeddings"
    title = "Layers before and after alignment"

    def is_for(self, evidence: Evidence) -> bool:
        return bool(_layers(evidence))

    def numbers(self, evidence: Evidence) -> Numbers:
        rows: list[tuple[Any, ...]] = []
        for block, raw, aligned, fold_of in _spaces(evidence):
            for when, values in (("before", raw), ("after", aligned)):
                rows += [
                    (block, when, str(fold), *map(float, point))
                    for fold, point in zip(fold_of, _principal(values), strict=True)
                ]
        return table(rows, ("block", "when", "fold", "x", "y"))

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        return 6.8, 3.2 * max(1, len(distinct(numbers["block"])))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        blocks = distinct(numbers["block"])
        folds = distinct(numbers["fold"])
        for row, block in enumerate(blocks):
            for column, when in enumerate(("before", "after")):
                axes = figure.add_subplot(len(blocks), 2, 2 * row + column + 1)
                part = select(numbers, block=block, when=when)
                colours = [f"C{folds.index(fold) % 10}" for fold in part["fold"].tolist()]
                axes.scatter(part["x"], part["y"], c=colours, s=7, alpha=0.6, lw=0, rasterized=True)
                axes.set_title(f"{short(block, 30)}, {when}", size=8, parse_math=False)
                axes.set_xticks([])
                axes.set_yticks([])
        figure.subplots_adjust(0.02, 0.02, 0.98, 1 - 0.3 / figure.get_size_inches()[1], 0.05, 0.15)

    def caption(self, numbers: Numbers) -> str:
        return (
            "Held-out rows of all folds along two principal directions, coloured by fold. Before alignment every "
            "fold's net has axes of its own, and colours lie apart; afterwards they should be mixed."
        )

    def alt(self, numbers: Numbers) -> str:
        said = [
            f"{block}: folds make up {_between(numbers, block, 'before'):.0%} of the variance before alignment, "
            f"{_between(numbers, block, 'after'):.0%} after it"
            for block in distinct(numbers["block"])
        ]
        return f"Two principal directions of layers. {'; '.join(said)}."


def _curves(evidence: Evidence) -> Iterator[tuple[Any, ...]]:
    """Yield members, folds, rows, units, steps and losses; seeds, or inner splits, of a fold are averaged."""
    for (member, repeat, fold), info in evidence.finished.fits.items():
        curves = info.report.get("curves")
        if repeat or "-" in str(fold) or fold == "all" or not curves:
            continue
        unit = "round" if "rounds" in curves[0] else "epoch"
        for rows in ("training", "validation"):
            listed = [curve for curve in curves if curve.get(rows)]
            if listed:
                steps, means = _mean_curve(listed, rows)
                for place in thinned(len(steps), _POINTS).tolist():
                    yield member, str(fold), rows, unit, int(steps[place]), float(means[place])


def _mean_curve(curves: Sequence[Mapping[str, Any]], rows: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps, those of the shortest curve, and the mean of all curves there."""
    all_steps = [np.asarray(one.get("rounds", np.arange(1, 1 + len(one[rows])))) for one in curves]
    steps = min(all_steps, key=lambda one: int(one[-1]))
    losses = [np.interp(steps, own, one[rows]) for own, one in zip(all_steps, curves, strict=True)]
    return steps, np.mean(losses, axis=0)


def _layers(evidence: Evidence) -> dict[str, list[str]]:
    """Aligned blocks, and the arrays of their taps in the fits of the first net of each fold."""
    plan, store = evidence.finished.plan, evidence.finished.store
    found: dict[str, list[str]] = {}
    for block, (node, _) in plan.graph.blocks().items():
        if (block, 0) not in plan.aligns:
            continue
        report = store.read(plan.aligns[block, 0]).structure("report", dict[str, Any])
        parts = [f"oof/tap/{part}/0" for part in report["maps"]]
        fit = store.read(plan.fits[node.full_name, 0, plan.folds_of(node)[0]])
        if all(f"{part}.npy" in fit.files for part in parts):
            found[block] = parts
        if len(found) == MOST_LAYERS:
            break
    return found


def _spaces(evidence: Evidence) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield layers: rows as their own fold's net has them, the same rows aligned, and their folds."""
    plan, store = evidence.finished.plan, evidence.finished.store
    for block, parts in _layers(evidence).items():
        node = plan.graph.blocks()[block][0]
        raw, aligned, fold_of = [], [], []
        for fold, place in enumerate(plan.oof_places(block, 0)):
            if place is None or fold not in plan.folds_of(node):
                continue
            fit, mapped = store.read(plan.fits[node.full_name, 0, fold]), store.read(place[0]).array(place[1])
            kept = thinned(len(mapped), _ROWS_OF_FOLD)
            arrays = [fit.array(part)[kept] for part in parts]
            raw.append(np.hstack([values.reshape(len(kept), -1) for values in arrays]))
            aligned.append(mapped[kept])
            fold_of += [fold] * len(kept)
        if raw and len({values.shape[1] for values in raw}) == 1:
            yield block, np.vstack(raw), np.vstack(aligned), np.asarray(fold_of)


def _principal(values: np.ndarray) -> np.ndarray:
    """Rows along the two directions in which they vary most, rounded; signs are those of the largest entries."""
    centred = np.asarray(values, dtype=np.float64) - values.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = np.vstack([directions, np.zeros((2, values.shape[1]))])[:2]
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(2), largest])
    return np.asarray(np.round(centred @ (directions * np.where(signs == 0, 1, signs)[:, None]).T, 5) + 0.0)


def _between(numbers: Numbers, block: str, when: str) -> float:
    """Share of the variance that lies between folds."""
    part = select(numbers, block=block, when=when)
    points, folds = np.column_stack([part["x"], part["y"]]), part["fold"]
    centred = points - points.mean(axis=0)
    inside = [folds == fold for fold in np.unique(folds)]
    between = sum(float(one.sum() * (centred[one].mean(axis=0) ** 2).sum()) for one in inside)
    return between / max(float((centred**2).sum()), 1e-12)


def _size(n: int) -> tuple[float, float]:
    return max(4.4, 3.1 * n), 3.2


def _more(numbers: Numbers, most: int) -> str:
    n = len(distinct(numbers["member"]))
    return f" {n - most} more are in the csv." if n > most else ""
