"""Members: what each kind of member does when it is fitted.

Belongs here: a class for each kind (net, estimator, gated linear, vote, imported) that follows the
protocol of `members.protocol`. Not here: how rows are split, where results are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stackfeat.members.options import EstimatorOptions, VoteOptions
from stackfeat.meta.votes import VOTES

if TYPE_CHECKING:
    from stackfeat.members.protocol import Member


def make_member(values: Mapping[str, Any], trust_code: bool = False) -> Member:
    """Return the member that a recipe's options describe.

    `values` may also hold ``sources``, the keys of files that the fit reads.
    """
    values = {name: value for name, value in values.items() if name != "sources"}
    if "predictions" in values:
        from stackfeat.members.imported import ImportedMember

        return ImportedMember()
    if "vote" in values:
        from stackfeat.members.vote import VoteMember

        return VoteMember(VoteOptions(**{"inputs": (), **values}), trust_code)
    if "net" in values:
        from stackfeat.nets.options import NetOptions

        if values.get("weights") is not None:
            from stackfeat.members.checkpoint import CheckpointMember

            return CheckpointMember(NetOptions(**values), trust_code)
        from stackfeat.members.net import NetMember

        return NetMember(NetOptions(**values), trust_code)
    options = EstimatorOptions(**values)
    if options.estimator == "gated_linear":
        from stackfeat.members.estimator import GatedMember

        return GatedMember(options)
    from stackfeat.members.estimator import EstimatorMember

    return EstimatorMember(options, trust_code)


def learns_from_rows(values: Mapping[str, Any]) -> bool:
    """Whether the member that a recipe's options describe needs rows to be fitted to; some votes need none."""
    return "vote" not in values or VOTES[values["vote"]].is_fitted
