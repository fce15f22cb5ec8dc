"""Pictures of where a line is drawn through rows in the order of a probability: scores by threshold, gains and lift.

In:  two classes, and the out-of-fold probability of the one that counts.
Out: precision, recall, F1 and MCC by threshold; the share of positives among the likeliest rows. Standard errors are
     those of resampled rows, or groups, or blocks of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.engine.judged import clusters_of
from stackfeat.metrics.decision_rule import Decision
from stackfeat.metrics.metric import drawn_weights
from stackfeat.output.digits import significant, with_error
from stackfeat.output.report.evidence import Evidence
from stackfeat.output.report.pictures.classes import draw_folds, legend
from stackfeat.output.report.pictures.picture import (
    ALL,
    NothingToShow,
    Numbers,
    Picture,
    ink,
    label,
    only_axes,
    panels,
    select,
    table,
    thinned,
)
from stackfeat.seeds import derive_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES = ("precision", "recall", "F1", "MCC")
_RESAMPLES = 100
_THRESHOLDS = 80
_SHARES = 50
_LOW, _HIGH = 0.1, 0.2
"""Shares of rows that the caption tells of; from the first on lift is drawn, which few rows say little of."""


@dataclass(frozen=True)
class Ranked:
    """Rows by falling probability: how many, and how many positive ones, each prefix holds; resamples in rows.

    Attributes
    ----------
    proba : array (n,)
        Falling.
    rows, positives : array (n_draws, n + 1)
        Sums of weights of the first 0 to n rows.
    """

    proba: np.ndarray
    rows: np.ndarray
    positives: np.ndarray

    @classmethod
    def of(cls, true: np.ndarray, proba: np.ndarray, weights: np.ndarray) -> Ranked:
        """Return rows of which `weights` (n_draws, n) says how much each counts."""
        order = np.argsort(-proba, kind="stable")
        weights = weights[:, order]
        start = np.zeros((len(weights), 1))
        rows = np.concatenate([start, np.cumsum(weights, axis=1)], axis=1)
        positives = np.concatenate([start, np.cumsum(weights * true[order], axis=1)], axis=1)
        return cls(proba[order], rows, positives)

    def scores(self, thresholds: np.ndarray) -> dict[str, np.ndarray]:
        """Return what scores are where rows above a threshold are called positive, (n_draws, n_thresholds) each."""
        ends = len(self.proba) - np.searchsorted(self.proba[::-1], thresholds, side="right")
        called, hits = self.rows[:, ends], self.positives[:, ends]
        n, positive = self.rows[:, -1:], self.positives[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = np.sqrt(called * (n - called) * positive * (n - positive))
            mcc = np.where(apart > 0, (hits * n - called * positive) / apart, 0.0)
            return {
                "called": called / n,
                "precision": hits / called,
                "recall": hits / positive,
                "F1": 2 * hits / (called + positive),
                "MCC": mcc,
            }

    def gains(self, shares: np.ndarray) -> np.ndarray:
        """Return which share of the positives is among the likeliest rows, (n_draws, n_shares).

        Of rows with the same probability any may come first: between its ends the curve is straight.
        """
        ends = np.r_[0, np.flatnonzero(np.diff(self.proba)) + 1, len(self.proba)]
        return np.stack(
            [
                np.interp(shares, rows[ends] / rows[-1], found[ends] / found[-1])
                for rows, found in zip(self.rows, self.positives, strict=True)
            ]
        )


def weights_of(evidence: Evidence) -> np.ndarray:
    """Return how much each row counts: as it is, then in resamples of whole groups or blocks of time."""
    finished, n = evidence.finished, len(evidence.rows)
    weight = finished.train.weight
    own = np.ones(n) if weight is None else weight[evidence.rows].astype(np.float64)
    clusters = clusters_of(finished.train, evidence.fold_of, finished.folds.is_time)
    units = None if clusters is None else clusters[evidence.rows]
    return np.stack([own, *drawn_weights(n, _RESAMPLES, derive_seed(0, "thresholds"), None, units, own)])


def _ranked(evidence: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which rows are positive, their probability of it, and their weights with resamples."""
    true = evidence.target == evidence.task.positive
    if true.all() or not true.any():
        raise NothingToShow("all rows are of one class")
    return true, evidence.task.counted(evidence.prediction), weights_of(evidence)


class ThresholdScores(Picture):
    """Precision, recall, F1 and MCC by the threshold above which a row is called positive."""

    name = "threshold_scores"
    title = "Scores by threshold"
    size = (5.6, 3.8)
    is_judgement = True

    def numbers(self, evidence: Evidence) -> Numbers:
        true, proba, weights = _ranked(evidence)
        chosen = chosen_threshold(evidence)
        middles = np.unique(proba)
        middles = (middles[:-1] + middles[1:]) / 2
        tenths = np.arange(1, 20) / 20
        tenths = tenths[(tenths >= proba.min()) & (tenths < proba.max())]
        thresholds = np.unique(np.r_[middles[thinned(len(middles), _THRESHOLDS)], tenths, chosen])
        found = Ranked.of(true, proba, weights).scores(thresholds)
        columns: Numbers = {
            "class": [evidence.task.columns[evidence.task.positive]] * len(thresholds),
            "threshold": thresholds.tolist(),
            "is_chosen": (thresholds == chosen).tolist(),
            "called": found["called"][0].tolist(),
        }
        for name in SCORES:
            columns[name] = found[name][0].tolist()
            columns[f"{name}_se"] = np.std(found[name][1:], axis=0, ddof=1).tolist()
        return columns

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        axes = only_axes(figure)
        x = np.asarray(numbers["threshold"], dtype=np.float64)
        for place, name in enumerate(SCORES):
            y, se = (np.asarray(numbers[one], dtype=np.float64) for one in (name, f"{name}_se"))
            axes.plot(x, y, color=f"C{place}", lw=1.3, label=name)
            axes.fill_between(x, y - se, y + se, color=f"C{place}", alpha=0.2, lw=0)
        axes.axvline(_chosen(numbers)["threshold"], color=ink(), lw=0.9, ls="--", label="threshold in use")
        axes.set(xlim=(min(0.0, x[0]), max(1.0, x[-1])), ylim=(min(-0.02, axes.get_ylim()[0]), 1.02))
        legend(axes)
        label(axes, "threshold", "score")

    def caption(self, numbers: Numbers) -> str:
        at = _chosen(numbers)
        best = int(np.nanargmax(np.asarray(numbers["MCC"], dtype=np.float64)))
        return (
            f"Rows are called {at['class']} above the threshold; bands are one standard error. The dashed line is "
            f"the threshold that decides new rows: at {significant(at['threshold'], 3)}, {100 * at['called']:.1f} % "
            f"of rows are called {at['class']}, with {_told(at)}. The highest MCC, "
            f"{with_error(numbers['MCC'][best], numbers['MCC_se'][best])}, is at "
            f"{significant(numbers['threshold'][best], 3)}; it was looked for on these very rows, so it is a little "
            "too high."
        )

    def alt(self, numbers: Numbers) -> str:
        at = _chosen(numbers)
        return f"Scores by threshold: at {significant(at['threshold'], 3)} {_told(at)}."


class CumulativeGains(Picture):
    """How many of the positives are found among the rows that are likeliest to be positive."""

    name = "cumulative_gains"
    title = "Cumulative gains and lift"
    size = (7.4, 3.6)
    is_judgement = True

    def numbers(self, evidence: Evidence) -> Numbers:
        true, proba, weights = _ranked(evidence)
        shares = np.arange(1, _SHARES + 1) / _SHARES
        rows = []
        for fold in (ALL, *np.unique(evidence.folds).tolist()):
            inside = np.ones(len(true), dtype=bool) if fold == ALL else evidence.folds == fold
            if true[inside].all() or not true[inside].any():
                continue
            # The errors of folds are not drawn: their spread says it.
            part = weights[:, inside] if fold == ALL else weights[:1, inside]
            found = Ranked.of(true[inside], proba[inside], part).gains(shares)
            error = np.std(found[1:], axis=0, ddof=1) if fold == ALL else np.full(len(shares), np.nan)
            perfect = np.minimum(shares / np.average(true[inside], weights=part[0]), 1.0)
            columns = (shares, found[0], error, found[0] / shares, error / shares, perfect)
            rows += [(str(fold), *map(float, row)) for row in zip(*columns, strict=True)]
        return table(rows, ("fold", "rows", "found", "found_se", "lift", "lift_se", "perfect"))

    def draw(self, numbers: Numbers, figure: Figure) -> None:
        gains, lift = panels(figure, 2)
        part = select(numbers, fold=ALL)
        shown = {name: part[name].astype(np.float64) for name in part if name != "fold"}
        gains.plot([0, 1], [0, 1], color=ink(), lw=0.7, ls=":", label="random order")
        gains.plot(
            np.r_[0, shown["rows"]], np.r_[0, shown["perfect"]], color="C2", lw=0.9, label="perfect order"
        )
        draw_folds(gains, numbers, "rows", "found")
        gains.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), title="found")
        label(gains, "share of rows, likeliest first", "share of positives found")
        kept = np.asarray(numbers["rows"], dtype=np.float64) >= _LOW - 1e-9
        many = {name: np.asarray(column)[kept].tolist() for name, column in numbers.items()}
        draw_folds(lift, many, "rows", "lift")
        lift.axhline(1.0, color=ink(), lw=0.7, ls=":")
        lift.set(xlim=(-0.01, 1.01), title="lift")
        label(lift, "share of rows, likeliest first", "times as many as in random order")

    def caption(self, numbers: Numbers) -> str:
        return (
            "Rows in the order of their out-of-fold probability, the likeliest first. Left: which share of all "
            "positives is among them; the dotted line is a random order. Right: how many times as many positives "
            f"they hold as the same number of rows drawn at random. Thin lines are folds. {self._told(numbers)}"
        )

    def alt(self, numbers: Numbers) -> str:
        return f"Cumulative gains and lift. {self._told(numbers)}"

    def _told(self, numbers: Numbers) -> str:
        part = select(numbers, fold=ALL)
        said = []
        for share in (_LOW, _HIGH):
            place = int(np.abs(part["rows"].astype(np.float64) - share).argmin())
            found, lift = (
                with_error(*(float(part[name][place]) for name in (one, f"{one}_se")))
                for one in ("found", "lift")
            )
            said.append(
                f"the likeliest {100 * share:.0f} % of rows hold {found} of the positives, a lift of {lift}"
            )
        text = "; ".join(said)
        return f"{text[:1].upper()}{text[1:]}."


def chosen_threshold(evidence: Evidence) -> float:
    """Return the probability of the positive class above which new rows are called positive."""
    rule = None if evidence.chosen.decision is None else Decision.from_json(evidence.chosen.decision)
    if rule is None or rule.kind != "threshold":
        return 0.5
    return rule.numbers[0] if rule.positive == evidence.task.positive else 1 - rule.numbers[0]


def threshold_rows(numbers: Numbers, most: int) -> list[int]:
    """Return places of rows to print: evenly spread ones, and that of the threshold in use."""
    return sorted({*thinned(len(numbers["threshold"]), most).tolist(), numbers["is_chosen"].index(True)})


def _chosen(numbers: Numbers) -> dict[str, Any]:
    place = numbers["is_chosen"].index(True)
    return {name: column[place] for name, column in numbers.items()}


def _told(at: dict[str, Any]) -> str:
    return ", ".join(f"{name} {with_error(at[name], at[f'{name}_se'])}" for name in SCORES)
