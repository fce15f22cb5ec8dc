"""Tables of a race: scores with the CPU that was really used, and paired differences with their standard errors.

In:  results, and the folders with each entrant's predictions.
Out: markdown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.racing.sets import SETS

N_RESAMPLES = 400

STARVED = 0.85
"""An entrant that is limited in wall time and got less than this share of its cores is marked."""


@dataclass(frozen=True)
class Result:
    """One entrant on one split of one set; no score where it failed."""

    set: str
    seed: str
    entrant: str
    cpu_budget: int
    cores: int
    rows: int | None
    metric: str
    score: float | None
    n_train: int
    n_held_out: int
    cpu: float
    wall: float
    megabytes: int
    load: float
    code: int
    clock: str
    version: str
    ended: str

    @property
    def key(self) -> tuple[str, str, str, int, int, int | None]:
        return (self.set, self.seed, self.entrant, self.cpu_budget, self.cores, self.rows)

    @staticmethod
    def folder_of(key: tuple[str, str, str, int, int, int | None]) -> str:
        return "-".join(str(part) for part in key if part is not None)

    @property
    def share(self) -> float:
        """CPU seconds used, of those that its cores had."""
        return self.cpu / (self.wall * self.cores)

    @property
    def is_starved(self) -> bool:
        """Whether a limit in wall time gave it less than it should have."""
        return self.clock == "wall" and self.share < STARVED

    def line(self) -> str:
        score = "FAILED" if self.score is None else f"{self.score:.5g}"
        return (
            f"{self.set} split {self.seed} {self.entrant}: {self.metric} {score}, {self.cpu:.0f} s of CPU in "
            f"{self.wall:.0f} s, {self.share:.0%} of {self.cores} core(s), load {self.load}"
        )


def tables(results: Sequence[Result], work: Path, against: str) -> str:
    """Return the tables of every budget."""
    if not results:
        return "no results yet"
    budgets = sorted({(r.cpu_budget, r.cores, r.seed == "final", r.rows or 0) for r in results})
    parts = []
    for cpu, cores, is_final, n_rows in budgets:
        here = [
            r
            for r in results
            if (r.cpu_budget, r.cores, r.seed == "final", r.rows or 0) == (cpu, cores, is_final, n_rows)
        ]
        where = "test rows" if is_final else f"{len({r.seed for r in here})} split(s) of the training parts"
        parts += [f"**{cpu} s of CPU, {cores} core(s), {where}{f', {n_rows} rows' * (n_rows > 0)}**", ""]
        parts += [score_table(here), "", difference_table(here, work, against), ""]
    return "\n".join(parts)


def score_table(results: Sequence[Result]) -> str:
    """Return mean scores over splits, with CPU seconds used and the share of the cores that was had."""
    names = list(dict.fromkeys(r.entrant for r in results))
    lines = [f"| set | metric | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for set_name in dict.fromkeys(r.set for r in results):
        of_set = [r for r in results if r.set == set_name]
        cells = [score_cell([r for r in of_set if r.entrant == name]) for name in names]
        lines.append(f"| {set_name} | {of_set[0].metric} | {' | '.join(cells)} |")
    legend = (
        "In brackets: CPU seconds of the whole tree of processes, imports and predictions included; * = under a "
        f"limit in wall time, and less than {STARVED:.0%} of its cores was had."
    )
    return "\n".join([*lines, "", legend])


def score_cell(results: Sequence[Result]) -> str:
    """Return the mean of an entrant's scores; failures are said, and are no part of the mean."""
    if not results:
        return ""
    scores = [r.score for r in results if r.score is not None]
    failed = f", {len(results) - len(scores)} failed" if len(scores) < len(results) else ""
    starved = "*" if any(r.is_starved for r in results) else ""
    mean = f"{np.mean(scores):.5g}" if scores else "none"
    return f"{mean} ({np.mean([r.cpu for r in results]):.0f} s{starved}{failed})"


def difference_table(results: Sequence[Result], work: Path, against: str) -> str:
    """Return how far ``against`` is ahead of each other entrant on the same splits; positive is better."""
    others = [name for name in dict.fromkeys(r.entrant for r in results) if name != against]
    scored = {(r.set, r.seed, r.entrant): r for r in results if r.score is not None}
    if not any(name == against for _, _, name in scored):
        return f"No results of {against}, so no differences."
    lines = [f"| {against} ahead of | {' | '.join(others)} |", "|---" * (1 + len(others)) + "|"]
    for set_name in dict.fromkeys(r.set for r in results):
        cells = []
        for other in others:
            mine = [r for (s, _, n), r in scored.items() if (s, n) == (set_name, against)]
            pairs = [
                (r, scored[set_name, r.seed, other]) for r in mine if (set_name, r.seed, other) in scored
            ]
            cells.append(difference_cell(pairs, work))
        lines.append(f"| {set_name} | {' | '.join(cells)} |")
    legend = (
        "In brackets: standard error, over splits where there are three or more, otherwise of a paired bootstrap "
        f"over the held-out rows ({N_RESAMPLES} draws), which leaves out what another training part would change."
    )
    return "\n".join([*lines, "", legend])


def difference_cell(pairs: Sequence[tuple[Result, Result]], work: Path) -> str:
    """Return the mean paired difference and its standard error."""
    if not pairs:
        return ""
    mean, error = paired_difference(pairs, work)
    places = 4 if not error > 0 else max(0, min(5, 1 - math.floor(math.log10(error))))
    return f"{mean:+.{places}f} ({error:.{places}f})"


def paired_difference(pairs: Sequence[tuple[Result, Result]], work: Path) -> tuple[float, float]:
    """Return by how much the first of each pair is better on average, and the standard error of that."""
    sign = 1 if SETS[pairs[0][0].set].greater_is_better else -1
    gains = np.array([sign * (first.score - second.score) for first, second in pairs])
    if len(pairs) > 2:
        return float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(gains)))
    errors = [bootstrap_error(first, second, work) for first, second in pairs]
    return float(gains.mean()), float(math.sqrt(sum(error**2 for error in errors)) / len(errors))


def bootstrap_error(first: Result, second: Result, work: Path) -> float:
    """Return the standard error of a difference over held-out rows that are drawn anew, the same for both."""
    race_set = SETS[first.set]
    labels = pd.read_csv(work / Result.folder_of(first.key) / "labels.csv")
    y = labels["label"]
    both = [
        pd.read_csv(work / Result.folder_of(r.key) / "predictions.csv").set_index("id").loc[labels["id"]]
        for r in (first, second)
    ]
    random, drawn = np.random.default_rng(0), []
    for _ in range(N_RESAMPLES):
        rows = random.integers(0, len(y), len(y))
        if race_set.task == "binary" and y.iloc[rows].nunique() < 2:
            continue
        scores = [race_set.score(y.iloc[rows], predicted.iloc[rows]) for predicted in both]
        drawn.append(scores[0] - scores[1])
    return float(np.std(drawn, ddof=1))
