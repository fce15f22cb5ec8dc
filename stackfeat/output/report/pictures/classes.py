"""Pictures of how good probabilities are: confusion matrix, ROC, precision and recall, reliability."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stackfeat.metrics.decision_rule import Decision
from stackfeat.output.report.evidence import Evidence
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
    short,
    table,
    thinned,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 40
MOST_CURVES = 8
_POINTS = 150
_BINS = 10
_UPRIGHT = 4
"""With more classes names below a matrix stand upright."""


class Confusion(Picture):
    """True classes against predicted ones."""

    name = "confusion"
    title = "Confusion matrix"
    is_judgement = True

    def why_not(self, evidence: Evidence) -> str:
        n_classes = evidence.task.n_outputs
        return f"{n_classes} classes are too many for a matrix" if n_classes > MOST_CLASSES else ""

    def numbers(self, evidence: Evidence) -> Numbers:
        task, y = evidence.task, evidence.target
        decided = decided_by_fold(evidence)
        n, folds = task.n_outputs, evidence.folds
        n_folds = evidence.finished.folds.n_folds
        counts = np.zeros((n, n, n_folds), dtype=np.int64)
        np.add.at(counts, (y, decided, folds), 1)
        rows = [
            (
                task.columns[true],
                task.columns[said],
                int(counts[true, said].sum()),
                *counts[true, said].tolist(),
            )
            for true in range(n)
            for said in range(n)
        ]
        return table(rows, ("truth", "predicted", "rows", *(f"fold_{fold}" for fold in range(n_folds))))

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        side = min(max(3.6, 0.32 * len(distinct(numbers["truth"])) + 1.2), 7.0)
        return side, side

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        names = distinct(numbers["truth"])
        n = len(names)
        counts = np.asarray(numbers["rows"], dtype=np.float64).reshape(n, n)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        room = 0.3 + 0.065 * max(len(short(name, 16)) for name in names)
        axes = only_axes(figure, max(0.5, room + 0.2), max(0.5, room + 0.2) if n > _UPRIGHT else 0.5)
        heat_map(axes, shares)
        shown = [short(name, 16) for name in names]
        axes.set_xticks(range(n), shown, rotation=90 if n > _UPRIGHT else 0, parse_math=False)
        axes.set_yticks(range(n), shown, parse_math=False)
        if n <= 12:
            for true, said in np.ndindex(n, n):
                if counts[true, said]:
                    axes.text(said, true, f"{counts[true, said]:.0f}", ha="center", va="center", size=8)
        label(axes, "predicted", "truth")

    def caption(self, numbers: Numbers) -> str:
        right, total, worst = _confused(numbers)
        said = f" Most often taken for another: {worst}." if worst else ""
        return (
            f"Out-of-fold rows by true class (down) and decided class (across); a row's colours are its shares. "
            f"{right:,} of {total:,} are right.{said}"
        )

    def alt(self, numbers: Numbers) -> str:
        right, total, worst = _confused(numbers)
        return f"Confusion matrix: {right} of {total} rows are right. {worst}".strip()


class ClassShares(Picture):
    """How frequent classes are, and how probable they are called."""

    name = "class_shares"
    title = "Classes and predictions"
    is_judgement = True

    def why_not(self, evidence: Evidence) -> str:
        n_classes = evidence.task.n_outputs
        return f"{n_classes} classes are too many for a picture" if n_classes > MOST_CLASSES else ""

    def numbers(self, evidence: Evidence) -> Numbers:
        task, test = evidence.task, evidence.test_prediction
        rows = [task.perfect(evidence.target), evidence.prediction, *([] if test is None else [test])]
        means = [np.nanmean(values, axis=0) for values in rows]
        return table(
            [
                (name, what, float(share))
                for name, *shares in zip(task.columns, *means, strict=True)
                for what, share in zip(("truth", *PREDICTED), shares, strict=False)
            ],
            ("class", "what", "share"),
        )

    def size_of(self, numbers: Numbers) -> tuple[float, float]:
        return 4.8, 1.05 + 0.4 * max(2, len(distinct(numbers["class"])))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        names, kinds = distinct(numbers["class"]), distinct(numbers["what"])
        axes = only_axes(figure, 0.4 + 0.07 * max(len(short(name, 16)) for name in names), top=0.42)
        for number, what in enumerate(kinds):
            places = np.arange(len(names)) + (number - (len(kinds) - 1) / 2) * 0.27
            shares = select(numbers, what=what)["share"].astype(np.float64)
            axes.barh(places, shares, 0.25, color=("C7", "C0", "C1")[number], label=what)
        axes.set_yticks(range(len(names)), [short(name, 16) for name in names], parse_math=False)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.12, 1.0), ncol=3, frameon=False, fontsize=7)
        label(axes, "share", "")

    def caption(self, numbers: Numbers) -> str:
        return (
            "How frequent classes are in training rows, and their mean predicted probability out of fold and in test "
            f"rows. Test rows that are predicted otherwise are rows of another kind. {self._farthest(numbers)}"
        )

    def alt(self, numbers: Numbers) -> str:
        return f"Shares of classes, true and predicted. {self._farthest(numbers)}"

    def _farthest(self, numbers: Numbers) -> str:
        last = numbers["what"][-1]
        said, truth = (select(numbers, what=what)["share"].astype(np.float64) for what in (last, "truth"))
        worst = int(np.abs(said - truth).argmax())
        return (
            f"Farthest apart: {distinct(numbers['class'])[worst]}, {100 * truth[worst]:.1f} % of training rows and "
            f"{100 * said[worst]:.1f} % {last}."
        )


class Curves(Picture):
    """A curve for each fold and for all rows; of many classes one for each class."""

    is_judgement = True
    x: ClassVar[str]
    y: ClassVar[str]

    def curve(self, true: np.ndarray, proba: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """Return x, y and the area, an array of one number."""
        raise NotImplementedError

    def numbers(self, evidence: Evidence) -> Numbers:
        rows: list[tuple[Any, ...]] = []
        weights = evidence.finished.train.weight
        weight = None if weights is None else weights[evidence.rows]
        for code, fold, inside in _one_against_rest(evidence):
            true, proba = evidence.target[inside] == code, evidence.prediction[inside, code]
            if true.any() and not true.all():
                x, y, area = self.curve(true, proba, None if weight is None else weight[inside])
                kept = thinned(len(x), _POINTS)
                name = evidence.task.columns[code]
                rows += [
                    (name, fold, *map(float, point), float(area))
                    for point in zip(x[kept], y[kept], strict=True)
                ]
        return table(rows, ("class", "fold", self.x, self.y, "area"))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = only_axes(figure)
        self.diagonal(axes, numbers)
        names = distinct(numbers["class"])
        if len(names) == 1:
            draw_folds(axes, numbers, self.x, self.y)
        else:
            areas = [(float(select(numbers, **{"class": name})["area"][0]), name) for name in names]
            for area, name in sorted(areas)[:MOST_CURVES]:
                part = select(numbers, **{"class": name})
                axes.plot(part[self.x], part[self.y], lw=1.2, label=f"{short(name, 16)}: {area:.3f}")
            legend(axes, "class: area")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        label(axes, self.x, self.y)

    def diagonal(self, axes: Axes, numbers: Numbers) -> None:
        """Draw what guessing gives."""

    def areas(self, numbers: Numbers) -> str:
        """Say the areas under the curves."""
        names = distinct(numbers["class"])
        if not names:
            return "no class has rows of both kinds"
        if len(names) > 1:
            found = sorted((float(select(numbers, **{"class": name})["area"][0]), name) for name in names)
            shown = ", the lowest are shown" if len(names) > MOST_CURVES else ""
            return f"area {found[0][0]:.3f} ({found[0][1]}) to {found[-1][0]:.3f} ({found[-1][1]}){shown}"
        pooled = select(numbers, fold=ALL)["area"][0]
        by_fold = [
            float(select(numbers, fold=fold)["area"][0]) for fold in distinct(numbers["fold"]) if fold != ALL
        ]
        spread = f", by fold {min(by_fold):.3f} to {max(by_fold):.3f}" if by_fold else ""
        return f"area {pooled:.3f}{spread}, class {names[0]}"

    def alt(self, numbers: Numbers) -> str:
        return f"{self.title}: {self.areas(numbers)}."


class Roc(Curves):
    """Share of positives found against share of negatives taken for positives."""

    name = "roc"
    title = "ROC curve"
    x, y = "false positive rate", "true positive rate"

    def curve(self, true: np.ndarray, proba: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, ...]:
        from sklearn.metrics import auc, roc_curve

        false_positive, true_positive, _ = roc_curve(true, proba, sample_weight=weight)
        return false_positive, true_positive, np.asarray(auc(false_positive, true_positive))

    def diagonal(self, axes: Axes, numbers: Numbers) -> None:
        axes.plot([0, 1], [0, 1], color=ink(), lw=0.7, ls=":")

    def caption(self, numbers: Numbers) -> str:
        return (
            f"Each point is a threshold. The dotted line is guessing, the upper left corner is perfect; "
            f"{self.areas(numbers)}."
        )


class PrecisionRecall(Curves):
    """How many of those called positive are, against how many of the positives are called so."""

    name = "precision_recall"
    title = "Precision and recall"
    x, y = "recall", "precision"

    def curve(self, true: np.ndarray, proba: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, ...]:
        from sklearn.metrics import average_precision_score, precision_recall_curve

        precision, recall, _ = precision_recall_curve(true, proba, sample_weight=weight)
        average = average_precision_score(true, proba, sample_weight=weight)
        return recall[::-1], precision[::-1], np.asarray(average)

    def caption(self, numbers: Numbers) -> str:
        return (
            "Each point is a threshold: the share of rows called positive that are, against the share of positives "
            f"that are found. The area is the average precision; {self.areas(numbers)}."
        )


class Reliability(Picture):
    """Whether what is called likely happens as often as it is said."""

    name = "reliability"
    title = "Reliability"
    is_judgement = True

    def numbers(self, evidence: Evidence) -> Numbers:
        said, happened = evidence.task.said_and_came(evidence.target, evidence.prediction)
        # Of several labels each row counts once for each of them.
        folds = np.repeat(evidence.folds, len(said) // len(evidence.folds))
        rows: list[tuple[Any, ...]] = []
        for fold in (ALL, *range(evidence.finished.folds.n_folds)):
            inside = np.flatnonzero(folds == fold) if fold != ALL else np.arange(len(said))
            rows += [(str(fold), *row) for row in happened_by_tenth(said[inside], happened[inside])]
        return table(rows, ("fold", "said", "happened", "error", "rows"))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = only_axes(figure)
        axes.plot([0, 1], [0, 1], color=ink(), lw=0.7, ls=":")
        draw_folds(axes, numbers, "said", "happened")
        part = select(numbers, fold=ALL)
        axes.errorbar(part["said"], part["happened"], part["error"], color=ink(), fmt="o", ms=3, lw=1)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        label(axes, "predicted probability", "observed share")

    def caption(self, numbers: Numbers) -> str:
        return (
            "Rows in ten equal groups by predicted probability. On the dotted line probabilities mean what they say; "
            f"below it they are too high. Bars are standard errors, thin lines are folds. {self._gap(numbers)}"
        )

    def alt(self, numbers: Numbers) -> str:
        return f"Reliability of probabilities. {self._gap(numbers)}"

    def _gap(self, numbers: Numbers) -> str:
        part = select(numbers, fold=ALL)
        gap = np.average(np.abs(part["said"] - part["happened"]), weights=part["rows"])
        return f"Predicted probability and observed share differ by {gap:.3f} on average."


def decided_by_fold(evidence: Evidence) -> np.ndarray:
    """Return the class that is decided for each row: by the rule of its fold where the metric has one."""
    decided = evidence.task.decided(evidence.prediction)
    for fold, rule in evidence.chosen.fold_decisions.items():
        inside = evidence.folds == int(fold)
        if inside.any():
            decided[inside] = Decision.from_json(rule).apply(evidence.prediction[inside])
    return decided.astype(np.int64)


def heat_map(axes: Axes, shares: np.ndarray, colour: str = "#3b82d0") -> None:
    """Draw numbers between 0 and 1 as how much of a colour lies over the ground; NaN as nothing."""
    from matplotlib.colors import to_rgb

    image = np.empty((*shares.shape, 4))
    image[..., :3] = to_rgb(colour)
    image[..., 3] = 0.6 * np.clip(np.nan_to_num(shares), 0, 1)
    axes.imshow(image, interpolation="nearest", aspect="auto")


def draw_folds(axes: Axes, numbers: Numbers, x: str, y: str) -> None:
    """Draw a thin line for each fold and a strong one for all rows."""
    for fold in distinct(numbers["fold"]):
        if fold != ALL:
            part = select(numbers, fold=fold)
            axes.plot(part[x], part[y], color="C0", lw=0.9, alpha=0.65, label="folds")
    if ALL in numbers["fold"]:
        part = select(numbers, fold=ALL)
        axes.plot(part[x], part[y], color=ink(), lw=1.6, label="all rows")
    legend(axes)


def legend(axes: Axes, title: str = "") -> None:
    """Add a legend with each name once; names are no formulas."""
    handles, names = axes.get_legend_handles_labels()
    once = dict(zip(names, handles, strict=True))
    if not once:
        return
    box = axes.legend(
        once.values(), once.keys(), title=title or None, frameon=False, fontsize=8, title_fontsize=8
    )
    for text in box.get_texts():
        text.set_parse_math(False)


def _confused(numbers: Numbers) -> tuple[int, int, str]:
    cells = list(zip(numbers["truth"], numbers["predicted"], numbers["rows"], strict=True))
    right = sum(count for true, said, count in cells if true == said)
    wrong = [(count, true, said) for true, said, count in cells if true != said and count]
    count, true, said = max(wrong, key=lambda one: one[0], default=(0, "", ""))
    worst = f"{true} for {said} ({count:,} rows)" if count else ""
    return right, sum(numbers["rows"]), worst


def _one_against_rest(evidence: Evidence) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yield classes, folds and row numbers: of one class that counts every fold, of many classes all rows."""
    counted, everything = evidence.task.counted_classes, np.arange(len(evidence.rows))
    for code in counted:
        yield code, ALL, everything
    if len(counted) == 1:
        for fold in np.unique(evidence.folds):
            yield counted[0], str(fold), np.flatnonzero(evidence.folds == fold)


def happened_by_tenth(said: np.ndarray, happened: np.ndarray) -> Iterator[tuple[float, float, float, int]]:
    """Yield for ten equal groups by what was said its mean, that of what came of it with its error, and rows."""
    order = np.argsort(said, kind="stable")
    for part in np.array_split(order, min(_BINS, len(order)) or 1):
        if len(part):
            came = happened[part]
            error = float(np.std(came) / np.sqrt(len(part)))
            yield float(said[part].mean()), float(came.mean()), error, len(part)
