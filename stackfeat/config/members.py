"""Which kind of member a mapping in `levels` is: exactly one of net, estimator, vote, predictions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from stackfeat.ensemble.options import EstimatorOptions, PredictionsOptions, VoteOptions
from stackfeat.nets.options import NetOptions

KINDS = ("net", "estimator", "vote", "predictions")


def member_kind(value: Any) -> str | None:
    """Return the kind of a member's mapping, or None where it is not exactly one."""
    present = [kind for kind in KINDS if (kind in value if isinstance(value, dict) else hasattr(value, kind))]
    return present[0] if len(present) == 1 else None


MemberOptions = Annotated[
    Annotated[NetOptions, Tag("net")]
    | Annotated[EstimatorOptions, Tag("estimator")]
    | Annotated[VoteOptions, Tag("vote")]
    | Annotated[PredictionsOptions, Tag("predictions")],
    Discriminator(
        member_kind,
        custom_error_type="member_kind",
        custom_error_message="a member has exactly one of net, estimator, vote, predictions",
    ),
]
