"""The stack-leak guard: levels that are better out of fold and worse on rows that nothing has seen.

In:  scores of all members, out of fold and on the held-out rows.
Out: members whose OOF score is too good, and a sentence for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stackfeat.metrics import Metric
from stackfeat.output.scores import Score, can_be_chosen, paired_gap


@dataclass(frozen=True)
class Overfit:
    """A member that wins out of fold and loses on the held-out rows.

    Attributes
    ----------
    member : Score
    rival : Score
        The best member of lower levels out of fold; it is no such member itself.
    gap, se : float
        By how much the member is worse on the held-out rows, and the paired standard error.
    """

    member: Score
    rival: Score
    gap: float
    se: float


def find_overfit(scores: Sequence[Score], metric: Metric) -> list[Overfit]:
    """Compare each member with the best member of the levels below it.

    Parameters
    ----------
    scores : sequence of Score
        In the order of computing, with their scores on held-out rows.

    Returns
    -------
    list of Overfit
        Members with a better OOF score than every member of lower levels, that are worse than the best
        of those on the held-out rows by more than one standard error, paired over rows. Empty without
        held-out rows.
    """
    found: list[Overfit] = []
    levels = list(dict.fromkeys(score.node.level for score in scores))
    lower: list[Score] = []
    for level in levels:
        # The rival is chosen by its OOF score, so its holdout score is not the luckiest of many.
        rival = min(lower, key=lambda score: metric.signed(score.score), default=None)
        members = [score for score in scores if score.node.level == level and score.holdout is not None]
        past = [] if rival is None else _overfit(members, rival, metric)
        names = {item.member.node.full_name for item in past}
        lower += [
            score
            for score in members
            if score.node.full_name not in names and can_be_chosen(score.node, metric)
        ]
        found += past
    return found


def _overfit(members: Sequence[Score], rival: Score, metric: Metric) -> list[Overfit]:
    found = []
    for member in members:
        assert member.holdout is not None and rival.holdout is not None
        gap, error = paired_gap(member.holdout, rival.holdout, metric)
        if metric.signed(member.score) < metric.signed(rival.score) and gap > error:
            found.append(Overfit(member, rival, gap, error))
    return found


def guard_warnings(found: Sequence[Overfit], metric: Metric, wanted: str) -> list[str]:
    """Say what was found; `wanted` is what ``submit`` names."""
    return [_sentence(item, metric, wanted) for item in found]


def _sentence(item: Overfit, metric: Metric, wanted: str) -> str:
    member, rival = item.member, item.rival
    assert member.holdout is not None and rival.holdout is not None
    name = member.node.full_name
    named = wanted in (name, member.node.name)
    outcome = (
        f"It is submitted because submit names it; {rival.node.full_name} or submit: auto is safer"
        if named
        else "submit: auto prefers the lower level"
        if wanted == "auto"
        else f"submit: {wanted} decides what is submitted"
    )
    return (
        f"{name} beats {rival.node.full_name} out of fold ({metric.name} {member.score:.5g} against "
        f"{rival.score:.5g}) but loses on the {member.holdout.n_rows} held-out rows "
        f"({member.holdout.score:.5g} against {rival.holdout.score:.5g}: worse by {item.gap:.2g} ± {item.se:.2g}), "
        f"so its level is overfitted or leaks. {outcome}"
    )
