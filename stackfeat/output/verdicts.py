"""Verdicts on a completed run, in words: which feature blocks the gates let in, and why a member is submitted.

In:  a completed run.
Out: a `GateVerdict` for each block that a member's gate judged; a sentence about the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackfeat.meta.votes.vote import Vote
from stackfeat.metrics.metric import Metric
from stackfeat.output.completed_run import CompletedRun
from stackfeat.output.gates import GateVerdict, verdicts_of, with_error
from stackfeat.output.scores import Score, contenders, find_overfit, paired_gap


def gate_verdicts(finished: CompletedRun) -> list[GateVerdict]:
    """Return what gates made of every block that they judged, in the order of computing."""
    reports: dict[str, list[Mapping[str, Any]]] = {}
    for (member, _, fold), info in finished.fits.items():
        # Fits that leave two folds out serve other members' training, and predict nothing themselves.
        if "-" not in str(fold):
            reports.setdefault(member, []).append(info.report)
    return verdicts_of(reports)


def why_submitted(finished: CompletedRun) -> str:
    """Say in a sentence why this member is submitted, and none of the others."""
    return why_chosen(finished.scores, finished.chosen, finished.metric, finished.wanted)


def why_chosen(scores: Sequence[Score], chosen: Score, metric: Metric, wanted: str) -> str:
    """Say why `choose_submission` took a member; `wanted` is what ``submit`` names, or ``auto``."""
    if wanted != "auto":
        return f"submitted {chosen.name}: submit names it"
    overfit = {item.member.name for item in find_overfit(scores, metric)}
    allowed = contenders(scores, metric, overfit)
    names = {score.name for score in allowed}
    passed = [
        score.name
        for score in scores
        if score.name not in names and metric.signed(score.score) < metric.signed(chosen.score)
    ]
    text = f"submitted {chosen.name}: {_against(chosen, allowed, metric)}"
    return f"{text}; {', '.join(passed)}: better out of fold, but no choice" if passed else text


def _against(chosen: Score, allowed: Sequence[Score], metric: Metric) -> str:
    where = "out of fold" if chosen.holdout is None else "on held-out rows"
    best = min(allowed, key=lambda score: metric.signed(score.judged.score))
    if len(allowed) == 1:
        return "the only member that can be"
    if best is chosen:
        return f"the best {metric.name} {where}"
    gap, error = paired_gap(chosen.judged, best.judged, metric)
    preferred = "lower levels are preferred"
    if chosen.options.preference < best.options.preference:
        is_vote = best.options.preference < Vote.preference
        preferred = "greedy votes come first" if is_vote else "votes are preferred"
    worse = f"{metric.name} {where} is worse by {with_error(gap, error)}"
    return f"within one standard error of {best.name}, where {preferred} ({worse})"
