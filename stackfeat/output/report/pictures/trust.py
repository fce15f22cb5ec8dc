"""Pictures of how far predictions can be taken at their word: intervals or class sets, and calibrations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.engine.intervals import IntervalScore
from stackfeat.meta.calibration import Calibration
from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.pictures.classes import happened_by_tenth, legend
from stackfeat.output.report.pictures.picture import (
    ALL,
    NothingToShow,
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
from stackfeat.store import reading
from stackfeat.tasks.task import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CALIBRATED = 3
FIFTHS = ("narrowest fifth", "second fifth", "third fifth", "fourth fifth", "widest fifth")


class Intervals(Picture):
    """How many targets intervals of several levels hold, and how wide they are."""

    name = "intervals"
    title = "Coverage by level"
    size = (7.6, 3.4)

    def why_not(self, evidence: Evidence) -> str:
        return "" if evidence.intervals else "too few folds for intervals, or there was no time"

    def numbers(self, evidence: Evidence) -> Numbers:
        return table(
            [row for one in evidence.intervals for row in _rows(one, evidence.task)],
            ("level", "part", "coverage", "se", "size"),
        )

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        left, right = panels(figure, 2, top=0.12)
        whole = select(numbers, part=ALL)
        low = min([*numbers["level"], *(one for one in numbers["coverage"] if one is not None)])
        left.plot([low, 1], [low, 1], color=ink(), lw=0.7, ls=":")
        kind = "fifths by width" if FIFTHS[0] in numbers["part"] else "classes"
        for part in distinct(numbers["part"]):
            if part != ALL:
                of_part = select(numbers, part=part)
                coverage = of_part["coverage"].astype(np.float64)
                left.plot(of_part["level"], coverage, color="C0", lw=0.9, alpha=0.65, label=kind)
        left.errorbar(
            *(whole["level"], whole["coverage"], whole["se"]),
            color=ink(),
            fmt="o-",
            ms=3,
            lw=1.4,
            label="all rows",
        )
        legend(left)
        label(left, "level asked", "share of targets held")
        right.plot(whole["level"], whole["size"].astype(np.float64), "o-", color="C0", ms=3, lw=1.4)
        right.set_ylim(bottom=0)
        right.locator_params(axis="x", nbins=4)
        label(right, "level asked", "mean size")

    def caption(self, numbers: Numbers) -> str:
        parts = "fifths of rows by width" if FIFTHS[0] in numbers["part"] else "classes"
        return (
            "On the dotted line as many targets are held, out of fold, as was asked; above it intervals are wider "
            f"than need be. Thin lines are {parts}: what lies far below is surer than it should be."
        )

    def alt(self, numbers: Numbers) -> str:
        whole = select(numbers, part=ALL)
        said = [
            f"{100 * level:g} % asked, {100 * coverage:.1f} % held"
            for level, coverage in zip(whole["level"], whole["coverage"], strict=True)
        ]
        return f"Coverage of intervals out of fold: {'; '.join(said)}."


class Calibrations(Picture):
    """What predictions of calibrated members came to, before and after."""

    name = "calibrations"
    title = "Before and after calibration"
    is_judgement = True

    def is_for(self, evidence: Evidence) -> bool:
        return super().is_for(evidence) and any(evidence.calibrated)

    def numbers(self, evidence: Evidence) -> Numbers:
        rows: list[tuple[Any, ...]] = []
        task, labels = evidence.task, evidence.finished.train.labels
        for member, folds in _fits(evidence):
            if not folds:
                continue
            y = np.asarray(task.to_target_scale(np.concatenate([labels[numbers] for numbers, *_ in folds])))
            for when, part in (("before", 2), ("after", 1)):
                prediction = task.to_target_scale(np.concatenate([one[part] for one in folds]))
                said = task.said_and_came(y, prediction)
                rows += [(member, when, *row) for row in happened_by_tenth(*said)]
        if not rows:
            raise NothingToShow("every calibrated member was left as it is")
        return table(rows, ("member", "when", "said", "happened", "error", "rows"))

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        return max(4.8, 3.6 * len(distinct(numbers["member"])[:MOST_CALIBRATED])), 3.4

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        names = distinct(numbers["member"])[:MOST_CALIBRATED]
        for axes, name in zip(panels(figure, len(names), left=0.75), names, strict=True):
            part = select(numbers, member=name)
            ends = [float(min(part["said"])), float(max(part["said"]))]
            axes.plot(ends, ends, color=ink(), lw=0.7, ls=":")
            for when, colour in (("before", "C1"), ("after", "C0")):
                of_time = select(numbers, member=name, when=when)
                axes.errorbar(
                    *(of_time["said"], of_time["happened"], of_time["error"]),
                    color=colour,
                    fmt="o-",
                    ms=3,
                    lw=1.2,
                    label=when,
                )
            axes.set_title(short(name), size=9, parse_math=False)
            axes.locator_params(nbins=5)
            legend(axes)
            label(axes, "predicted", "observed")

    def caption(self, numbers: Numbers) -> str:
        n_more = len(distinct(numbers["member"])) - MOST_CALIBRATED
        more = f" {n_more} more are in the csv." if n_more > 0 else ""
        return (
            "Out-of-fold rows in ten equal groups by prediction, as members said it by themselves and after their "
            f"calibration; bars are standard errors. On the dotted line predictions mean what they say.{more}"
        )

    def alt(self, numbers: Numbers) -> str:
        said = []
        for name in distinct(numbers["member"])[:MOST_CALIBRATED]:
            before, after = (_gap(numbers, name, when) for when in ("before", "after"))
            said.append(f"{name}: predicted and observed differ by {before:.3g} before, {after:.3g} after")
        return f"Calibration of members. {'; '.join(said)}."


def part_names(task: Task) -> tuple[str, ...]:
    """Return what the parts of `IntervalScore` are called."""
    return task.columns if task.most_classes else FIFTHS


def _rows(score: IntervalScore, task: Task) -> Iterator[tuple[Any, ...]]:
    yield score.level, ALL, score.coverage, score.se, score.size
    for part, coverage in zip(part_names(task), score.parts, strict=True):
        yield score.level, part, coverage, None, None


def _fits(evidence: Evidence) -> Iterator[tuple[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]]:
    """Yield calibrated members; of each fold numbers of rows, predictions after and before it, where any is kept."""
    finished = evidence.finished
    plan, store, held_out = finished.plan, finished.store, [part for _, part in finished.folds.splits[0]]
    for score in evidence.calibrated:
        folds, kept = [], False
        for fold, place in enumerate(plan.oof_places(score.block, 0)):
            if place is not None:
                entry = store.read(plan.fits[score.name, 0, fold])
                with reading(entry):
                    calibration = Calibration.load(entry, finished.task)
                after = store.read(place[0]).array(place[1]).astype(np.float64)
                folds.append((held_out[fold], after, calibration.undo(after)))
                kept |= calibration.family is not None
        yield score.name, folds if kept else []


def _gap(numbers: Numbers, member: str, when: str) -> float:
    part = select(numbers, member=member, when=when)
    return float(np.average(np.abs(part["said"] - part["happened"]), weights=part["rows"].astype(float)))
