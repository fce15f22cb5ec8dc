"""Verdicts on a completed run, in words: what is submitted and why, and which feature blocks the gates let in.

In:  a completed run.
Out: sentences about the submission and its choice; a `GateVerdict` for each block that a member's gate judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackfeat.meta.votes.vote import Vote
from stackfeat.metrics.metric import Metric
from stackfeat.output.calibrations import CalibrationVerdict, calibration_verdicts
from stackfeat.output.completed_run import CompletedRun
from stackfeat.output.digits import to_error, with_error
from stackfeat.output.gates import GateVerdict, verdicts_of
from stackfeat.output.scores import Score, contenders, find_overfit, paired_gap


def gate_verdicts(finished: CompletedRun) -> list[GateVerdict]:
    """Return what gates made of every block that they judged, in the order of computing."""
    return verdicts_of(_reports(finished))


def calibrations(finished: CompletedRun) -> list[CalibrationVerdict]:
    """Return what was made of the predictions of members that are calibrated, in the order of computing."""
    return calibration_verdicts(_reports(finished), {score.name: score.widening for score in finished.scores})


def _reports(finished: CompletedRun) -> dict[str, list[Mapping[str, Any]]]:
    reports: dict[str, list[Mapping[str, Any]]] = {}
    for (member, _, fold), info in finished.fits.items():
        # Fits that leave two folds out serve other members' training, and predict nothing themselves.
        if "-" not in str(fold):
            reports.setdefault(member, []).append(info.report)
    return reports


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
    if chosen.levels_off < best.levels_off:
        preferred = "quantiles whose coverage is nearer to what it should be come first"
    if gap == 0 and not error:
        return f"as good as {best.name}, where {preferred}"
    worse = f"{metric.name} {where} is worse by {with_error(gap, error)}"
    return f"within one standard error of {best.name}, where {preferred} ({worse})"


def verdict(finished: CompletedRun) -> str:
    """Say what is submitted, what to expect of it, and what stacking was worth."""
    chosen, metric = finished.chosen, finished.metric
    text = f"{headline(finished)}."
    if on_choice(finished):
        text += f" {on_choice(finished)}"
    base = [score for score in finished.scores if score.node.is_base]
    if not base or chosen.node.is_base:
        return text
    single = min(base, key=lambda score: metric.signed(score.score))
    gain, se = paired_gap(single, chosen, metric)
    if gain == 0 and not se:
        return f"{text} That is the score of the best single model, {single.name}, too."
    word = "better than" if gain >= 0 else "worse than"
    return f"{text} It is {with_error(abs(gain), se)} {word} the best single model, {single.name}."


def headline(finished: CompletedRun) -> str:
    """Say what is submitted, and its score."""
    chosen, metric = finished.chosen, finished.metric
    text = f"{chosen.name} is submitted: {metric.name} {with_error(finished.score, finished.se)} out of fold"
    if chosen.holdout is None:
        return text
    return f"{text}, {with_error(chosen.holdout.score, chosen.holdout.se)} on held-out rows"


def on_choice(finished: CompletedRun) -> str:
    """Say how the score of a choice came about, and what it hides of the submitted member's own; or nothing."""
    choice, chosen = finished.choice, finished.chosen
    if choice is None:
        return ""
    n_alike, n_folds = list(choice.choices.values()).count(chosen.name), len(choice.choices)
    text = "The member was chosen anew for each fold by the scores of the other folds"
    if n_alike == n_folds:
        return f"{text}: always this one."
    text += (
        f": {n_alike} of {n_folds} times this one. By itself it scores {to_error(chosen.score, chosen.se)}"
    )
    optimism = finished.optimism
    if optimism is None or not optimism > 0:
        return f"{text}."
    return f"{text}, which is optimistic by {optimism:.2g}, as it was chosen by that score."
