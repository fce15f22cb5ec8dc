"""Options of `vote` members, torch-free.

In:  a member's mapping in a config, or in the recipe of a fit.
Out: what follows from it: inputs, keys, the vote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from stackfeat.members.finished import FinishedFits
from stackfeat.members.options import VERSIONS, CalibratedOptions, made
from stackfeat.members.run_facts import RunFacts
from stackfeat.members.settings import FitSettings, RunSettings, VoteSettings
from stackfeat.meta.votes import VOTES, vote_problems
from stackfeat.meta.votes.vote import Vote
from stackfeat.options import one_is_a_list

if TYPE_CHECKING:
    from stackfeat.members.protocol import Member

    VoteName = str
else:
    VoteName = Literal[tuple(VOTES)]


class VoteOptions(CalibratedOptions):
    """A member that combines predictions."""

    does_without_inputs: ClassVar[bool] = True
    is_short: ClassVar[bool] = True

    vote: VoteName
    inputs: tuple[str, ...]
    weights: tuple[float, ...] | None = Field(
        None, description="soft, hard: one weight for each input, in order."
    )
    tie: Literal["soft", "prior", "lowest"] = "soft"
    picks: int = Field(50, ge=1, le=100, description="greedy: models picked at most, with replacement.")
    bags: int = Field(5, ge=1, le=50, description="greedy: bags of inputs.")
    start: int = Field(3, ge=1, description="greedy: starts from this many of the best inputs.")

    _one = field_validator("inputs", mode="before")(one_is_a_list)

    @property
    def learner(self) -> str:
        return f"{self.vote} vote"

    @property
    def kind(self) -> type[Vote]:
        """The vote of this name."""
        return VOTES[self.vote]

    def taken(self) -> dict[str, Any]:
        """Return the values of the options that this vote takes."""
        return {name: getattr(self, name) for name in self.kind.options}

    def problems(self, run: RunFacts) -> Iterator[tuple[str, str]]:
        if run.is_first:
            yield "vote", "the first level has nothing to vote on. Move the vote to a later level"
        given = {name: getattr(self, name) for name in type(self).model_fields if self.is_set(name)}
        yield from vote_problems(self.vote, run.task, given)
        if len(run.data.targets) > 1 and self.kind.serves(run.task) and not self.kind.takes_targets:
            yield (
                "vote",
                f"{self.vote} {self.kind.needs}; got {len(run.data.targets)} targets. Use vote: soft",
            )
        if not run.is_first:
            yield from super().problems(run)

    def weights_problem(self, inputs: Sequence[str]) -> str | None:
        if self.weights is None or len(self.weights) == len(inputs):
            return None
        return (
            f"must have one weight for each input; got {len(self.weights)} weights for "
            f"{len(inputs)} inputs: {', '.join(inputs)}"
        )

    def member(self, trust_code: bool = False) -> Member:
        return self.calibrated(made("vote:VoteMember", self, trust_code))

    @classmethod
    def member_of(cls, recipe: Mapping[str, Any], trust_code: bool) -> Member:
        return super().member_of({"inputs": (), **recipe}, trust_code)

    @property
    def reads(self) -> tuple[str, ...] | None:
        return self.inputs

    def input_problems(
        self, raw: Sequence[str], blocks: Sequence[str], features: Sequence[str]
    ) -> Iterator[str]:
        if raw:
            yield f"a vote combines predictions; got the raw input {raw[0]!r}. Remove it"
        if features:
            yield (
                f"a vote takes predictions only; got the feature block {features[0]!r}. "
                "Put a meta-learner on it first (each: makes one for every block) and vote over that"
            )

    def recipe(self) -> dict[str, Any]:
        return {"vote": self.vote, **self.taken(), **self.calibration_recipe()}

    def settings(self, run: RunSettings, *, has_blocks: bool, has_features: bool) -> FitSettings:
        stage = self.kind.stage(self.taken())
        version = None if stage is None else VERSIONS[stage]
        threads, calibration = run.threads, self.calibration_version
        if not self.learns:
            return FitSettings(threads=threads, version=version, calibration=calibration)
        return VoteSettings(
            threads=threads,
            version=version,
            calibration=calibration,
            metric=run.metric,
            metric_code=run.metric_code,
        )

    def decided(self, fits: FinishedFits) -> dict[str, Any]:
        weights = {} if fits.whole is None else fits.whole.get("weights", {})
        if not self.learns or not weights:
            return super().decided(fits)
        # What a learnt weight says once it is known is a weighted mean; inputs without a weight say nothing.
        kept = {name: weights[name] for name in fits.blocks if weights.get(name, 0) > 0}
        values = {
            name: value for name, value in super().decided(fits).items() if name not in self.kind.options
        }
        return {**values, "vote": "soft", "inputs": list(kept), "weights": list(kept.values())}

    @property
    def is_fitted(self) -> bool:
        return self.learns or self.is_calibrated

    @property
    def learns(self) -> bool:
        return self.kind.is_fitted

    @property
    def preference(self) -> int:
        return self.kind.preference

    @property
    def gives_probabilities(self) -> bool:
        return self.kind.gives_probabilities
