"""What came out, as markdown: the key table, the two verdicts, the gates.

In:  a `Results` for each data set.
Out: lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.encodings.compare import Difference, difference, score

REFERENCE = "linear"
USUAL = "penalised"
AGAINST = (
    (USUAL, "the usual stack of probabilities (`LogisticRegression`, `Ridge`)"),
    (REFERENCE, "`gated_linear` on probabilities alone"),
)
ROWS: tuple[tuple[str, str], ...] = (
    ("mlp", "the net alone, folds averaged"),
    ("gbm", "LightGBM alone, folds averaged"),
    ("soft", "soft vote of the two (fold bagging, no meta-learner)"),
    ("greedy", "Caruana greedy over the two"),
    ("sklearn", "scikit-learn's stacking of its own net and LightGBM"),
    (USUAL, "linear, predictions: `LogisticRegression` / `Ridge`, penalty by folds"),
    ("gated", "**linear, predictions + gated geometry and aligned**"),
    ("gated_geometry", "linear, predictions + gated geometry"),
    ("gated_aligned", "linear, predictions + gated aligned"),
    ("gated_raw", "linear, predictions + gated raw activations"),
    ("one_open_late", "linear, predictions + geometry and aligned, no gate"),
    ("one_raw_late", "linear, predictions + raw activations, no gate"),
    ("one_raw_refit", "the same, test rows of one refitted net"),
    ("one_gated_late", "gated linear, one fit: late"),
    ("one_gated_early", "the same fit: early"),
    ("one_gated_refit", "the same fit: refit"),
    ("trees", "LightGBM, predictions"),
    ("trees_gated", "LightGBM, predictions + gated geometry and aligned"),
    ("trees_gated_columns", "the same + raw columns"),
    ("trees_open", "LightGBM, predictions + geometry and aligned, no gate"),
    ("one_trees_late", "LightGBM over predictions, one fit: late"),
    ("one_trees_early", "the same fit: early"),
    ("one_trees_refit", "the same fit: refit"),
    ("one_trees_open_late", "LightGBM over predictions, geometry, aligned, one fit: late"),
    ("one_trees_open_early", "the same fit: early"),
    ("one_trees_open_refit", "the same fit: refit"),
    ("one_trees_raw_late", "LightGBM over predictions and raw activations, one fit: late"),
    ("one_trees_raw_early", "the same fit: early"),
    ("one_trees_raw_refit", "the same fit: refit"),
    ("greedy_all", "Caruana greedy over bases and meta-learners"),
)
SAID_OF_GATED = (
    "less the usual stack (se over rows, over seeds)",
    "less its own stack without features (se)",
)
BOOSTED = ("one_trees", "one_trees_open", "one_trees_raw")


@dataclass(frozen=True)
class Results:
    """All seeds of one data set.

    Attributes
    ----------
    losses : list of dict of str to ndarray
        By seed: the losses of the test rows by stack.
    facts : list of dict
        By seed: rows, seconds, gates.
    """

    name: str
    is_value: bool
    clusters: np.ndarray
    losses: Sequence[Mapping[str, np.ndarray]]
    facts: Sequence[Mapping[str, Any]]

    def between(self, first: str, second: str) -> Difference:
        """The difference of two stacks."""
        one, other = ([losses[name] for losses in self.losses] for name in (first, second))
        return difference(one, other, self.clusters, self.is_value)

    def mean_score(self, name: str) -> float:
        """The score of a stack, averaged over seeds."""
        return float(np.mean([score(losses[name], self.is_value) for losses in self.losses]))


def key_table(results: Sequence[Results]) -> list[str]:
    """Every stack against the probability stack, in thousandths, with the error over test rows."""
    lines = head(["stack", *(found.name for found in results)])
    cells = [f"{found.mean_score(REFERENCE):.4f}" for found in results]
    lines.append(row(["linear, predictions alone: **the reference**, absolute", *cells]))
    for key, label in ROWS:
        lines.append(row([label, *(thousandths(found.between(key, REFERENCE)) for found in results)]))
    return lines


def gated_table(results: Sequence[Results]) -> list[str]:
    """The gated stack against two stacks of probabilities, with both errors, and the blocks let in."""
    lines = head(["data set", "rows", *SAID_OF_GATED, "geometry in", "aligned in"])
    for found in results:
        facts = found.facts[0]
        cells = [found.name, f"{facts['n_train']} / {facts['n_test']}"]
        for other in (USUAL, REFERENCE):
            gain = found.between("gated", other)
            errors = f"{1000 * gain.over_rows:.2f}, {1000 * gain.over_seeds:.2f}"
            cells.append(f"{1000 * gain.mean:+.2f} ({errors})")
        cells += [share_in(found, block) for block in ("geometry", "aligned")]
        lines.append(row(cells))
    return lines


def averaging_table(results: Sequence[Results]) -> list[str]:
    """Early and refitted test rows against late averaging of the same LightGBM."""
    lines = head(["LightGBM, one fit; above zero late is better", *(found.name for found in results)])
    names = {"one_trees": "predictions", "one_trees_open": "+ geometry, aligned", "one_trees_raw": "+ raw"}
    for stack, label in names.items():
        for way in ("early", "refit"):
            gains = [found.between(f"{stack}_{way}", f"{stack}_late") for found in results]
            lines.append(row([f"{label}: {way} - late", *map(thousandths, gains)]))
    return lines


def verdicts(results: Sequence[Results]) -> list[str]:
    """The claims, and whether they hold on these rows."""
    lines = []
    for other, label in AGAINST:
        gains = {found.name: found.between("gated", other) for found in results}
        for error in ("over_rows", "over_seeds"):
            if len(results[0].losses) < 2 and error == "over_seeds":
                continue
            worse = [name for name, gain in gains.items() if gain.mean > getattr(gain, error)]
            better = [name for name, gain in gains.items() if gain.mean < -2 * getattr(gain, error)]
            holds = not worse and len(better) >= 3
            lines.append(
                f"- Gated against {label}, standard errors {error.replace('_', ' ')}: worse by more "
                f"than one on {listed(worse)}; better by more than two on {listed(better)}. "
                f'"Never worse, better on at least three": **{"holds" if holds else "does not hold"}**.'
            )
    for stack, label in zip(BOOSTED[:2], ("predictions", "predictions and hidden features"), strict=True):
        late = {found.name: found.between(f"{stack}_early", f"{stack}_late") for found in results}
        wins = [name for name, gain in late.items() if gain.mean > 0]
        sure = [name for name, gain in late.items() if gain.mean > 2 * gain.over_rows]
        needed = max(1, len(results) - 1)
        lines.append(
            f"- Late against early averaging, LightGBM over {label}: late is better on {len(wins)} of "
            f"{len(results)}, beyond two standard errors on {listed(sure)}. "
            f'"Better on at least {needed}": **{"holds" if len(wins) >= needed else "does not hold"}**.'
        )
    return lines


def share_in(found: Results, encoding: str) -> str:
    """In how many of the fits the gate of the linear member let a block in."""
    fits, entered = set(), set()
    for number, facts in enumerate(found.facts):
        for step in facts["gates"]:
            if step["member"] == "meta/gated":
                fits.add((number, step["fit"]))
                if step["accepted"] and step["block"].endswith(f"@{encoding}"):
                    entered.add((number, step["fit"]))
    return f"{len(entered)} of {len(fits)}"


def thousandths(gain: Difference) -> str:
    """A difference and its error over rows, in thousandths."""
    places = 0 if abs(gain.mean) >= 0.0995 else 1
    return f"{1000 * gain.mean:+.{places}f} ± {1000 * gain.over_rows:.{places}f}"


def listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "none"


def head(cells: Sequence[str]) -> list[str]:
    return [row(cells), "|---" * len(cells) + "|"]


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
