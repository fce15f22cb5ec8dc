"""Votes: how predictions are combined, a class for each way, and all of them by name.

Belongs here: what is known of a vote (what it learns from, takes and serves) and what it does with arrays.
Not here: folds, stored entries, the words of a config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stackfeat.meta.votes.greedy import GreedyVote
from stackfeat.meta.votes.hard import HardVote
from stackfeat.meta.votes.rank import RankVote
from stackfeat.meta.votes.soft import SoftVote
from stackfeat.meta.votes.vote import Vote
from stackfeat.meta.votes.weighted import WeightedVote

VOTES: dict[str, type[Vote]] = {
    vote.name: vote for vote in (SoftVote, HardVote, WeightedVote, RankVote, GreedyVote)
}


def vote_problems(name: str, task_kind: str, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (option, message) for what is wrong with a vote.

    Parameters
    ----------
    name : str
        One of `VOTES`.
    given : mapping
        Values of the options that a config sets, other votes' options among them.
    """
    vote = VOTES[name]
    if not vote.serves(task_kind):
        others = [other for other in VOTES if VOTES[other].serves(task_kind)]
        remedy = f"Use {', '.join(others[:-1])} or {others[-1]}"
        yield "vote", f"{name} {vote.needs}; got task={task_kind}. {remedy}"
    for option in given:
        takers = [other for other in VOTES if option in VOTES[other].options]
        if takers and option not in vote.options:
            yield option, f"is for {' and '.join(takers)} votes; got vote={name}. Remove it"
    yield from vote.option_problems(given)
