"""Members: what each kind of member does when it is fitted.

Belongs here: a class of options for each kind (net, estimator, vote, imported predictions), which owns all that
follows from the kind, and the learner that it makes, which follows `members.protocol`. Not here: how rows are
split, where results are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.members.net_options import NetOptions
from stackfeat.members.options import MemberOptions, PredictionsOptions
from stackfeat.members.vote_options import VoteOptions
from stackfeat.meta.votes import VOTES

if TYPE_CHECKING:
    from stackfeat.members.protocol import Member

MEMBERS: dict[str, type[MemberOptions]] = {
    "net": NetOptions,
    "estimator": EstimatorOptions,
    "vote": VoteOptions,
    "predictions": PredictionsOptions,
}
"""Kinds of members by the option that makes a mapping one of them."""


def make_member(recipe: Mapping[str, Any], trust_code: bool = False) -> Member:
    """Return the member that a recipe's options describe.

    `recipe` may also hold ``sources``, the keys of files that the fit reads.
    """
    values = {name: value for name, value in recipe.items() if name != "sources"}
    options = next((options for kind, options in MEMBERS.items() if kind in values), EstimatorOptions)
    return options.member_of(values, trust_code)


def learns_from_rows(recipe: Mapping[str, Any]) -> bool:
    """Whether the member that a recipe's options describe needs rows to be fitted to; some votes need none."""
    return "vote" not in recipe or VOTES[recipe["vote"]].is_fitted or "calibrate" in recipe
