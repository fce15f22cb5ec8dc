"""Ledger: all runs below a folder, what was changed from one to the next, and what their scores are worth together.

In:  a folder.
Out: `Ledger`: a line for each run folder, damaged ones too; for runs over the same data how optimistic the best of
     them is, and whether public scores follow cross-validation.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stackfeat.config.differences import differences
from stackfeat.errors import StackfeatError, UsageError
from stackfeat.metrics.paired import RankCorrelation, optimism_of_best, rank_correlation
from stackfeat.output.digits import rounded
from stackfeat.output.files import finite, write_csv
from stackfeat.output.leaderboard_picture import COLUMNS as PICTURED
from stackfeat.output.leaderboard_picture import PublicScores
from stackfeat.output.provenance import read_provenance
from stackfeat.output.run_summary import RunSummary, find_runs, summarise
from stackfeat.pipeline.opened_run import OpenedRun
from stackfeat.pipeline.paired_rows import pair_rows, refuse_other_targets
from stackfeat.registry.resolve import cut

MOST_LEVELS = 8
MOST_FOLDERS = 50_000
MOST_PAIRED = 20
"""Runs, the best ones, whose rows are read to say how optimistic the best is."""
MOST_EARLIER = 50
_SHOWN = 2
_LONGEST = 24

COLUMNS = (
    *("path", "name", "date", "version", "metric", "score", "se", "submitted", "n_members", "seconds"),
    *("public", "private", "text", "nearest", "changed", "problem"),
)
"""Of the file that has a line for each run."""

Sort = Literal["date", "score"]


@dataclass(frozen=True)
class LedgerRow:
    """A run folder.

    Attributes
    ----------
    path : str
        Seen from the ledger's folder.
    data : str
        Where its training file is; runs of one group have the same, and the same target and metric.
    nearest : str
        The path of the earlier run of its group whose config differs least; empty where there is none.
    changed : str
        What differs from it.
    """

    path: str
    summary: RunSummary
    data: str
    nearest: str = ""
    changed: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return everything but the config as plain values."""
        own = self.summary
        values = {
            name: getattr(own, name)
            for name in (
                *("name", "version", "metric", "greater_is_better", "submitted", "score", "se", "members"),
                *("seconds", "n_cached", "public", "private", "text", "problem"),
            )
        }
        dated = {"path": self.path, "date": own.date.isoformat(sep=" ", timespec="seconds")}
        return {**dated, **values, "data": self.data, "nearest": self.nearest, "changed": self.changed}


@dataclass(frozen=True)
class RunGroup:
    """Runs over the same training file, with the same target and metric.

    Attributes
    ----------
    paths : tuple of str
        Best score first.
    n_paired : int
        Runs whose rows could be read and paired.
    optimism : float or None
        By how much the best score is too good, because it is the best of these runs.
    correlation : RankCorrelation or None
        Of public scores and scores out of fold, both turned so that greater is better.
    n_public : int
        Runs with a public score.
    mean_gap : float or None
        By how much public scores are worse than scores out of fold, on average.
    sentences : tuple of str
        The same in words.
    """

    data: str
    target: str
    metric: str
    greater_is_better: bool
    paths: tuple[str, ...]
    n_paired: int
    optimism: float | None
    correlation: RankCorrelation | None
    n_public: int
    mean_gap: float | None
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Ledger:
    """All runs below a folder."""

    folder: Path
    rows: tuple[LedgerRow, ...]
    groups: tuple[RunGroup, ...]

    def row(self, path: str) -> LedgerRow:
        """Return the run at a path."""
        return next(row for row in self.rows if row.path == path)

    def public_scores(self) -> PublicScores:
        """Return scores out of fold beside public ones: of the group in which most runs have them.

        Raises
        ------
        UsageError
            If no group has two runs with a public score.
        """
        group = max(self.groups, key=lambda one: one.n_public, default=None)
        if group is None or group.n_public < 2:
            n_noted = 0 if group is None else group.n_public
            raise UsageError(
                f"--picture needs the public scores of at least 2 runs over the same data; got {n_noted}; note them "
                "with `stackfeat note RUN --lb SCORE`"
            )
        rows = [row for row in map(self.row, group.paths) if row.summary.public is not None]
        columns: dict[str, list[Any]] = {"run": [row.path for row in rows]}
        for name in PICTURED[1:]:
            columns[name] = [getattr(row.summary, name) for row in rows]
        return PublicScores(group.metric, group.greater_is_better, columns)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        values: dict[str, Any] = finite(
            {
                "folder": str(self.folder),
                "runs": [row.to_json() for row in self.rows],
                "groups": [asdict(group) for group in self.groups],
            }
        )
        return values

    def save(self, path: str | Path) -> None:
        """Write a line for each run to a csv file."""
        rows = [row.to_json() for row in self.rows]
        table = [{**row, "n_members": len(row["members"])} for row in rows]
        write_csv(Path(path), COLUMNS, [[row[name] for row in table] for name in COLUMNS])


def ledger(folder: str | Path = ".", *, sort: Sort = "date") -> Ledger:
    """Return all runs at and below a folder.

    Parameters
    ----------
    folder : path
        Folders are found by their ``run.json``, at most eight levels below; links and hidden folders are passed over.
    sort : {"date", "score"}
        Oldest first, or best first; damaged folders stand last.

    Raises
    ------
    UsageError
        If there is no such folder. What is wrong with a run folder is a part of its line.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UsageError(
            f"DIR must be a folder; got {place}, which is not there; name one that holds run folders"
        )
    found = [_row(place, run) for run in find_runs(place, MOST_LEVELS, MOST_FOLDERS)]
    found.sort(key=lambda row: (row.summary.date, row.path))
    by_group: dict[tuple[str, str, str], list[LedgerRow]] = {}
    for row in found:
        if row.summary.score is not None:
            by_group.setdefault(_group_of(row), []).append(row)
    told = {row.path: row for rows in by_group.values() for row in _with_changes(rows)}
    rows = [told.get(row.path, row) for row in found]
    groups = [_group(place, key, members) for key, members in by_group.items()]
    ranks = {path: (number, rank) for number, one in enumerate(groups) for rank, path in enumerate(one.paths)}
    last = (len(groups), 0)
    if sort == "score":
        rows.sort(key=lambda row: ranks.get(row.path, last))
    else:
        rows.sort(key=lambda row: ranks.get(row.path, last)[0])
    return Ledger(place, tuple(rows), tuple(groups))


def _row(place: Path, run: Path) -> LedgerRow:
    summary = summarise(run)
    data = summary.config.get("data")
    train = data.get("train") if isinstance(data, Mapping) else None
    return LedgerRow(Path(os.path.relpath(run, place)).as_posix(), summary, _data_of(run, str(train)))


def _data_of(run: Path, train: str) -> str:
    """Return where the training file of a run is, as far as it says so."""
    try:
        home = run / read_provenance(run).folder
    except (StackfeatError, OSError, ValueError):
        home = run.parent
    return cut(train if ":" in train else os.path.normpath(home.resolve() / train), 1_000)


def _group_of(row: LedgerRow) -> tuple[str, str, str]:
    data = row.summary.config.get("data")
    target = data.get("target") if isinstance(data, Mapping) else None
    return row.data, cut(str(target)), row.summary.metric


def _with_changes(rows: Sequence[LedgerRow]) -> Iterator[LedgerRow]:
    """Yield runs, oldest first, each with what differs from the earlier one that it is nearest to."""
    for number, row in enumerate(rows):
        earlier = rows[max(0, number - MOST_EARLIER) : number]
        if not earlier:
            yield row
            continue
        changes = [differences(one.summary.config, row.summary.config) for one in earlier]
        # Of equally near ones the latest.
        nearest = min(reversed(range(len(earlier))), key=lambda one: len(changes[one]))
        texts = [
            f"{one.path}: {cut(one.values[0], _LONGEST)} → {cut(one.values[1], _LONGEST)}"
            for one in changes[nearest]
        ]
        more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
        text = f"{'; '.join(texts[:_SHOWN])}{more}" if texts else "the same config"
        yield LedgerRow(row.path, row.summary, row.data, earlier[nearest].path, text)


def _group(place: Path, key: tuple[str, str, str], rows: Sequence[LedgerRow]) -> RunGroup:
    sign = 1.0 if rows[0].summary.greater_is_better else -1.0
    ranked = sorted(rows, key=lambda row: -sign * _score(row))
    n_paired, optimism = _optimism(place, ranked) if len(ranked) > 1 else (0, None)
    noted = [row for row in ranked if row.summary.public is not None]
    x, y = [sign * _score(row) for row in noted], [sign * float(row.summary.public or 0.0) for row in noted]
    correlation = rank_correlation(x, y)
    gap = float(np.mean(x) - np.mean(y)) if noted else None
    sentences = [
        *([_on_best(len(ranked), n_paired, optimism, ranked[0])] if len(ranked) > 1 else []),
        *([_on_leaderboard(len(noted), correlation, gap, y)] if noted else []),
    ]
    data, target, metric = key
    return RunGroup(
        data,
        target,
        metric,
        rows[0].summary.greater_is_better,
        tuple(row.path for row in ranked),
        n_paired,
        optimism,
        correlation,
        len(noted),
        gap,
        tuple(sentences),
    )


def _score(row: LedgerRow) -> float:
    assert row.summary.score is not None, "only runs with a score are in a group"
    return row.summary.score


def _optimism(place: Path, ranked: Sequence[LedgerRow]) -> tuple[int, float | None]:
    """Return how many of the best runs could be paired by row, and how optimistic the best of them is."""
    opened: list[OpenedRun] = []
    for row in ranked[:MOST_PAIRED]:
        try:
            run = OpenedRun.of(place / row.path, row.path)
            refuse_other_targets([*opened[:1], run])
            opened.append(run)
        except (StackfeatError, OSError):
            continue
    if len(opened) < 2:
        return len(opened), None
    try:
        paired = pair_rows(opened, ranked[0].summary.metric, None, False)
        signed = paired[0].judged.metric.signed
        losses = np.stack([signed(1.0) * one.resampled for one in paired], axis=1)
        found = optimism_of_best([one.loss for one in paired], losses)
    except (StackfeatError, OSError):
        return 0, None
    return len(opened), found if math.isfinite(found) else None


def _on_best(n_runs: int, n_paired: int, optimism: float | None, best: LedgerRow) -> str:
    """Say how much of the best score is luck."""
    if optimism is None:
        return (
            f"best of {n_runs} runs: how much of its score is luck is not known, as the rows of "
            f"{n_paired or 'none'} of them can be read and paired"
        )
    of = "" if n_paired == n_runs else f"; counted over the {n_paired} best whose rows can be read"
    worse = rounded(optimism, best.summary.se or math.nan)
    return f"best of {n_runs} runs, {best.path}: expect its score to be {worse} worse, by selection{of}"


def _on_leaderboard(n: int, found: RankCorrelation | None, gap: float | None, public: Sequence[float]) -> str:
    """Say whether the order of public scores is that of cross-validation."""
    if n < 3:
        return f"public scores of at least 3 runs tell whether cross-validation can be trusted; {n} noted"
    if found is None:
        return f"the {n} public scores, or the scores out of fold, are all equal: they tell nothing"
    assert gap is not None, "there are public scores"
    numbers = f"rank correlation {found.value:.2f} (95 %: {found.low:.2f} to {found.high:.2f}) over {n} runs"
    offset = f"{abs(gap):.2g} {'worse' if gap > 0 else 'better'} on average"
    if found.low > 0:
        verdict = "cross-validation can be trusted to order runs"
    elif found.high < 0:
        verdict = (
            "cross-validation contradicts the public leaderboard (a leak, or test rows unlike training rows?)"
        )
    else:
        verdict = "too little to tell whether cross-validation can be trusted"
    return f"{verdict}: {numbers} with public scores; these are {offset}"
