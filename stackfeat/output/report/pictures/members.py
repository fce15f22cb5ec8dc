"""Pictures of the members side by side: scores by fold, how alike their errors are, who reads whom, greedy picks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.output.digits import significant
from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.pictures.classes import heat_map, legend
from stackfeat.output.report.pictures.picture import (
    NothingToShow,
    Numbers,
    Picture,
    count,
    distinct,
    ground,
    ink,
    label,
    only_axes,
    select,
    short,
    table,
)
from stackfeat.output.scores import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_MEMBERS = 60
_MOST_PICKS = 15
_LEAST_GAIN = 0.01
"""In standard errors of a score: less is no gain."""
_MOST_CANDIDATES = 30
_BETTER = 0.75
"""Share of the members that a picture has room for."""
_FAR = 2.0


class FoldScores(Picture):
    """The score of each member in each fold."""

    name = "folds"
    title = "Scores by fold"

    def numbers(self, evidence: Evidence) -> Numbers:
        rows = [
            (score.name, str(fold), value, score.score, score.se)
            for score in evidence.scores[:MOST_MEMBERS]
            for fold, value in enumerate(score.folds)
            if value is not None
        ]
        return table(rows, ("member", "fold", "score", "pooled", "se"))

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        return 6.4, 0.7 + 0.24 * max(2, len(distinct(numbers["member"])))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        names = distinct(numbers["member"])
        axes = only_axes(figure, 0.3 + 0.07 * max(len(short(name)) for name in names))
        low, high = _shown_range(numbers["score"])
        for place, name in enumerate(names):
            part = select(numbers, member=name)
            scores, pooled = np.clip(part["score"], low, high), np.clip(part["pooled"][0], low, high)
            axes.plot(scores, [place] * len(scores), "o", color="C0", ms=4, alpha=0.6, mew=0)
            axes.errorbar(pooled, place, xerr=part["se"][0], color=ink(), fmt="|", ms=9, lw=1)
        axes.set_xlim(*_with_margin(low, high))
        axes.set_yticks(range(len(names)), [short(name) for name in names], parse_math=False)
        axes.set_ylim(len(names) - 0.5, -0.5)
        label(axes, "score", "")

    def caption(self, numbers: Numbers) -> str:
        return (
            "Dots are folds, the bar is the score of all rows with its standard error; the best member is on top. "
            f"Where dots of all members move together, folds differ and members do not.{_beyond(numbers['score'])}"
        )

    def alt(self, numbers: Numbers) -> str:
        best = numbers["member"][0]
        part, n = select(numbers, member=best)["score"], len(distinct(numbers["member"]))
        return f"Scores of {n} members by fold; {best} from {part.min():.4g} to {part.max():.4g}."


class HeldOut(Picture):
    """Scores of members out of fold, and on rows that no level has seen."""

    name = "holdout"
    title = "Out of fold and held out"

    def is_for(self, evidence: Evidence) -> bool:
        return evidence.finished.held is not None

    def why_not(self, evidence: Evidence) -> str:
        return (
            ""
            if any(score.holdout for score in evidence.scores)
            else "the metric is not defined on held-out rows"
        )

    def numbers(self, evidence: Evidence) -> Numbers:
        rows = [
            (score.name, score.node.level, score.score, score.se, score.holdout.score, score.holdout.se)
            for score in evidence.scores[:MOST_MEMBERS]
            if score.holdout is not None
        ]
        return table(rows, ("member", "level", "score", "se", "holdout", "holdout_se"))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = only_axes(figure, 0.8)
        low, high = _shown_range([*zip(numbers["score"], numbers["holdout"], strict=True)])
        ends = _with_margin(low, high)
        axes.plot(ends, ends, color=ink(), lw=0.7, ls=":")
        for number, level in enumerate(distinct(numbers["level"])):
            part = select(numbers, level=level)
            x, y = (np.clip(part[name], low, high) for name in ("score", "holdout"))
            x_error, y_error = (np.nan_to_num(part[name].astype(np.float64)) for name in ("se", "holdout_se"))
            name, colour = short(str(level), 16), f"C{number % 10}"
            axes.errorbar(x, y, y_error, x_error, fmt="o", color=colour, ms=4, lw=0.8, label=name)
        axes.set(xlim=ends, ylim=ends)
        axes.locator_params(nbins=5)
        legend(axes)
        label(axes, "score out of fold", "score on held-out rows")

    def caption(self, numbers: Numbers) -> str:
        return (
            "Every member, coloured by level, with standard errors. Members of a level that lie off the dotted line "
            "on the worse side, while lower levels do not, fit the out-of-fold rows too closely, or leak. A shift of "
            "all members together says that held-out rows are easier or harder. "
            f"{self._shift(numbers)}{_beyond(numbers['score'])}"
        )

    def alt(self, numbers: Numbers) -> str:
        return f"Scores of members out of fold and on held-out rows. {self._shift(numbers)}"

    def _shift(self, numbers: Numbers) -> str:
        gaps = np.asarray(numbers["holdout"], dtype=np.float64) - np.asarray(
            numbers["score"], dtype=np.float64
        )
        gap = float(np.median(gaps))
        word = "higher" if gap > 0 else "lower"
        return f"In the median held-out scores are {significant(abs(gap), 2)} {word} than those out of fold."


class Correlation(Picture):
    """How alike the errors of members are."""

    name = "correlation"
    title = "Correlation of members' errors"

    def why_not(self, evidence: Evidence) -> str:
        return "there is one member" if len(evidence.scores) < 2 else ""

    def numbers(self, evidence: Evidence) -> Numbers:
        members = evidence.scores[:MOST_MEMBERS]
        truth = evidence.task.perfect(evidence.target)
        errors = [(evidence.predicted(member) - truth).ravel() for member in members]
        known = np.isfinite(errors).all(axis=0)
        found = np.atleast_2d(_correlation(np.stack(errors)[:, known]))
        rows = [
            (one.name, other.name, None if np.isnan(found[i, j]) else round(float(found[i, j]), 6))
            for i, one in enumerate(members)
            for j, other in enumerate(members)
        ]
        return table(rows, ("member", "other", "correlation"))

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        n = len(distinct(numbers["member"]))
        side = min(1.9 + max(1.8, 0.26 * n), 9.0)
        return side + 0.6, side

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        names = distinct(numbers["member"])
        n = len(names)
        found = np.array([np.nan if one is None else one for one in numbers["correlation"]]).reshape(n, n)
        room = 0.25 + 0.068 * max(len(short(name, 24)) for name in names)
        axes = only_axes(figure, room, room)
        low = float(np.nanmin(found)) if np.isfinite(found).any() else 0.0
        heat_map(axes, (found - low) / max(1 - low, 1e-9))
        size = 8 if n <= 16 else 6
        if n <= 14:
            for i, j in np.ndindex(n, n):
                if np.isfinite(found[i, j]):
                    axes.text(j, i, f"{found[i, j]:.2f}", ha="center", va="center", size=size - 1)
        shown = [short(name, 24) for name in names]
        axes.set_xticks(range(n), shown, rotation=90, size=size, parse_math=False)
        axes.set_yticks(range(n), shown, size=size, parse_math=False)

    def caption(self, numbers: Numbers) -> str:
        return (
            "Correlation of out-of-fold errors, the best member first. An average gains most from members that are "
            f"good and whose errors are unlike. {self._extremes(numbers)}"
        )

    def alt(self, numbers: Numbers) -> str:
        return f"Correlation of the errors of members. {self._extremes(numbers)}"

    def _extremes(self, numbers: Numbers) -> str:
        pairs = member_pairs(numbers)
        if not pairs:
            return ""
        (low, a, b), (high, c, d) = pairs[0], pairs[-1]
        return f"Most unlike: {a} and {b} ({low:.2f}); most alike: {c} and {d} ({high:.2f})."


class GreedyPath(Picture):
    """What an average gains as it takes up one member after another."""

    name = "greedy_path"
    title = "Greedy path"

    def why_not(self, evidence: Evidence) -> str:
        return "there is one member" if len(_averaged(evidence)) < 2 else ""

    def numbers(self, evidence: Evidence) -> Numbers:
        finished, task = evidence.finished, evidence.task
        members = _averaged(evidence)[:_MOST_CANDIDATES]
        predictions = [task.to_member_scale(evidence.predicted(member)) for member in members]
        kept = np.isfinite(np.hstack(predictions)).all(axis=1)
        weight = None if finished.train.weight is None else finished.train.weight[evidence.rows][kept]
        scorer = finished.metric.incremental_scorer(
            [values[kept] for values in predictions],
            finished.train.labels[evidence.rows][kept],
            task,
            weight,
            0,
        )
        everything = np.arange(len(members))
        y, total = evidence.target[kept], np.zeros_like(predictions[0][kept])
        best = scorer.best_alone(everything, 1)[0]
        least = _LEAST_GAIN * float(np.nan_to_num(evidence.chosen.se))
        rows: list[tuple[Any, ...]] = []
        while len(rows) < _MOST_PICKS:
            scorer.add(best)
            total += predictions[best][kept]
            average = task.to_target_scale(total / (len(rows) + 1))
            score = finished.metric.score(y, average, task, weight)
            if rows and finished.metric.signed(score) >= finished.metric.signed(rows[-1][2]) - least:
                break
            rows.append((len(rows) + 1, members[best].name, score))
            best = scorer.best(everything)[0]
        if len(rows) == 1:
            raise NothingToShow(f"no average with {rows[0][1]} is better than that member alone")
        return table(rows, ("pick", "member", "score"))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = only_axes(figure, 0.8)
        axes.plot(numbers["pick"], numbers["score"], "o-", color="C0", ms=4)
        places = numbers["pick"]
        axes.set_xticks(places, [str(place) for place in places])
        for pick, name, score in zip(*(numbers[key] for key in ("pick", "member", "score")), strict=True):
            axes.annotate(
                short(name, 22),
                (pick, score),
                (4, 4),
                textcoords="offset points",
                size=7,
                rotation=25,
                parse_math=False,
            )
        axes.margins(y=0.25)
        width = max(1, len(places) - 1) / 0.66  # the last name takes the room on the right
        axes.set_xlim(1 - 0.06 * width, 1 + 0.94 * width)
        label(axes, "picks", "score of the average")

    def caption(self, numbers: Numbers) -> str:
        return (
            "One average over all out-of-fold rows that takes, again and again, the member that helps most, until "
            f"none does: {self._words(numbers)}. The votes of the run choose for each fold by the others; this "
            "picture does not, so the end of the line is a little too good."
        )

    def alt(self, numbers: Numbers) -> str:
        return f"Score of a greedily grown average: {self._words(numbers)}."

    def _words(self, numbers: Numbers) -> str:
        first, last, n = numbers["score"][0], numbers["score"][-1], len(numbers["pick"])
        start, end = significant(first, 4), significant(last, 4)
        return f"from {start} with {numbers['member'][0]} to {end} after {count(n, 'pick')}"


class StackGraph(Picture):
    """Who reads whom."""

    name = "stack"
    title = "The stack"

    def numbers(self, evidence: Evidence) -> Numbers:
        weights = {
            (member, block): one.whole
            for member, found in evidence.finished.weights.items()
            for block, one in found.items()
        }
        nodes = evidence.finished.plan.graph.nodes
        used = {evidence.chosen.name}
        for node in reversed(nodes):
            reads = (block for block in node.blocks if weights.get((node.full_name, block)) != 0)
            used |= set(map(_source, reads)) if node.full_name in used else set()
        rows = [
            (
                node.level,
                node.full_name,
                block,
                _source(block),
                weights.get((node.full_name, block)),
                node.full_name in used and weights.get((node.full_name, block)) != 0,
            )
            for node in nodes
            for block in (*node.raw, *node.blocks)
        ]
        return table(rows, ("level", "member", "reads", "from", "weight", "is_used"))

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        columns = _columns(numbers)
        most = max(len(column) for column in columns)
        return max(4.0, 2.05 * len(columns)), 0.5 + 0.3 * max(3, most)

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        columns = _columns(numbers)
        tallest = max(map(len, columns))
        axes.set(xlim=(-0.02, len(columns)), ylim=(tallest + 0.3, -1.0))
        place = {
            name: (x, (row + 0.5) * tallest / len(column))
            for x, column in enumerate(columns)
            for row, name in enumerate(column)
        }
        used = {name for name, is_used in zip(numbers["member"], numbers["is_used"], strict=True) if is_used}
        used |= {name for name, is_used in zip(numbers["from"], numbers["is_used"], strict=True) if is_used}
        edges = zip(numbers["member"], numbers["from"], numbers["weight"], numbers["is_used"], strict=True)
        for member, source, weight, is_used in dict.fromkeys(edges):
            (x0, y0), (x1, y1) = place[source], place[member]
            strength = 0.5 if weight is None else 0.15 + 0.85 * min(1.0, abs(weight) * 2)
            axes.plot(
                [x0 + 0.78, x1],
                [y0, y1],
                color="C0" if is_used else "C7",
                lw=0.5 + 1.5 * strength * is_used,
                alpha=0.25 + 0.6 * strength * is_used,
            )
        for name, (x, y) in place.items():
            _box(axes, x, y, name, name in used)
        for x, column in enumerate(columns):
            level = column[0].rpartition("/")[0] or "data"
            axes.text(x + 0.39, -0.6, level, ha="center", size=8, weight="bold", parse_math=False)

    def caption(self, numbers: Numbers) -> str:
        return (
            "Members by level; a line says that one reads the other, a stronger one that its weight is higher. What "
            "the submission is made of is blue, the rest grey."
        )

    def alt(self, numbers: Numbers) -> str:
        members = distinct(numbers["member"])
        used = {name for name, is_used in zip(numbers["member"], numbers["is_used"], strict=True) if is_used}
        levels = distinct(numbers["level"])
        return (
            f"Graph of {len(members)} members in {len(levels)} levels; {len(used)} are behind the submission."
        )


def _shown_range(scores: Sequence[Any]) -> tuple[float, float]:
    """Return between which scores a picture shows members, the best of which come first.

    Few that are far behind do not press all others together.
    """
    values = np.asarray(scores, dtype=np.float64)
    better = values[: max(1, round(_BETTER * len(values)))]
    inner, outer = (float(better.min()), float(better.max())), (float(values.min()), float(values.max()))
    return inner if outer[1] - outer[0] > _FAR * (inner[1] - inner[0]) > 0 else outer


def _beyond(scores: Sequence[Any]) -> str:
    low, high = _shown_range(scores)
    return " Members far behind stand at the edge." if min(scores) < low or max(scores) > high else ""


def _with_margin(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def member_pairs(numbers: Numbers) -> list[tuple[float, str, str]]:
    """Return every pair of members by the correlation of their errors, the most unlike first."""
    place = {name: number for number, name in enumerate(distinct(numbers["member"]))}
    rows = zip(numbers["correlation"], numbers["member"], numbers["other"], strict=True)
    return sorted((value, a, b) for value, a, b in rows if value is not None and place[a] < place[b])


def _correlation(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.corrcoef(values))


def _averaged(evidence: Evidence) -> list[Score]:
    """Return the members that a fitted vote averages, best the submitted one; else those of the first level."""
    weights = evidence.finished.weights
    vote = evidence.chosen.name if evidence.chosen.name in weights else next(iter(weights), "")
    read = {_source(block) for block in weights.get(vote, {})}
    return [score for score in evidence.scores if (score.name in read if read else score.node.is_base)]


def _source(block: str) -> str:
    """The member that gives a block; a raw input gives itself."""
    return block.rpartition("/")[0] or block


def _columns(numbers: Numbers) -> list[list[str]]:
    """Names by where they stand, from left to right: inputs, then every level."""
    members = distinct(numbers["member"])
    inputs = [name for name in distinct(numbers["from"]) if name not in members]
    levels: dict[str, list[str]] = {}
    for level, name in zip(numbers["level"], numbers["member"], strict=True):
        if name not in levels.setdefault(level, []):
            levels[level].append(name)
    return [column for column in (inputs, *levels.values()) if column]


def _box(axes: Axes, x: float, y: float, name: str, is_used: bool) -> None:
    from matplotlib.patches import Rectangle

    colour, place = "C0" if is_used else "C7", (x, y - 0.36)
    # Lines go behind a box, whose own colour is thin.
    axes.add_patch(Rectangle(place, 0.78, 0.72, facecolor=ground(), lw=0, zorder=3))
    axes.add_patch(Rectangle(place, 0.78, 0.72, facecolor=colour, alpha=0.25, lw=0, zorder=4))
    text = short(name.rpartition("/")[2], 25)
    axes.text(x + 0.03, y, text, va="center", size=7, parse_math=False, zorder=5)
