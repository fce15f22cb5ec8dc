"""What each level gains: the best of its members against the best of all levels before it.

In:  out-of-fold predictions of all members, the metric.
Out: a `LevelGain` for each level. Best is what scores best on the rows of the other folds, chosen for each fold, so
     no level looks better by the luck of the best of many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stackfeat.data.splits.folds import Folds
from stackfeat.engine.judged import Judged
from stackfeat.seeds import derive_seed

_Part = tuple[np.ndarray, np.ndarray]
"""Rows of a fold, and those that choose for it."""
MOST_ROWS = 20_000
"""Rows that levels are compared on."""


@dataclass(frozen=True)
class LevelGain:
    """What a level is worth.

    Attributes
    ----------
    score : float or None
        Of the best members of the level, each fold's chosen by the other folds.
    gain, se : float or None
        By how much that is better than the best of the levels before, and its standard error, paired over rows,
        groups or folds in time; None of the first level.
    """

    level: str
    n_members: int
    score: float | None
    gain: float | None
    se: float | None


def level_gains(
    levels: Mapping[str, Sequence[np.ndarray]], judged: Judged, folds: Folds, rows: np.ndarray, seed: int
) -> list[LevelGain]:
    """Return what each level gains.

    Parameters
    ----------
    levels : mapping of str to sequence of ndarray
        For each level, in order, what the metric reads of each member's predictions of `rows`.
    judged : Judged
        The rows, and the metric.
    rows : int64 array (n,)
        Their numbers among the training rows; all of them are predicted by all members.
    seed : int
        Of the resamples that standard errors come from.
    """
    fold_of = folds.fold_of(0)[rows]
    parts = []
    for fold in np.unique(fold_of).tolist():
        others = np.flatnonzero(np.isin(rows, folds.splits[0][fold][0]))
        if len(others):
            parts.append((np.flatnonzero(fold_of == fold), others))
    if not parts:
        return []
    scored = np.sort(np.concatenate([held for held, _ in parts]))
    counted, signed = judged.take(scored), judged.metric.signed
    found: list[LevelGain] = []
    before: list[_Member] = []
    for level, values in levels.items():
        members = [_Member.of(one, judged, parts) for one in values]
        best = _best(members, parts)[scored]
        score, gain, se = counted.defined(best), None, None
        other = counted.defined(rival := _best(before, parts)[scored]) if before else None
        if score is not None and other is not None:
            draws = [counted.bootstrap(one, derive_seed(seed, "levels")) for one in (rival, best)]
            gain, se = signed(other) - signed(score), float(np.nanstd(draws[0] - draws[1], ddof=1))
        found.append(LevelGain(level, len(members), score, gain, se))
        before += members
    return found


@dataclass(frozen=True)
class _Member:
    """What a member predicts, and its losses on the rows that choose for each fold."""

    values: np.ndarray
    losses: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, judged: Judged, parts: Sequence[_Part]) -> _Member:
        scores = [judged.take(others).defined(values[others]) for _, others in parts]
        return cls(values, np.array([np.inf if one is None else judged.metric.signed(one) for one in scores]))


def _best(members: Sequence[_Member], parts: Sequence[_Part]) -> np.ndarray:
    """Return for each fold the predictions of the member that scores best on the rows that choose for it."""
    best = np.full(members[0].values.shape, np.nan)
    losses = np.stack([member.losses for member in members])
    for place, (held, _) in enumerate(parts):
        best[held] = members[int(losses[:, place].argmin())].values[held]
    return best
