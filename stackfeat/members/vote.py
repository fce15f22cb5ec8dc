"""Votes as members: what a vote learns is fitted inside each fold pipeline.

In:  prediction blocks.
Out: one prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.errors import MemberError
from stackfeat.members.protocol import FitContext
from stackfeat.members.settings import FitSettings
from stackfeat.members.vote_options import VoteOptions
from stackfeat.meta.columns import Rows
from stackfeat.meta.votes.vote import Vote, VoteTarget
from stackfeat.metrics.registry import get_metric
from stackfeat.store import Entry, EntryWriter
from stackfeat.structure import must
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class VoteMember:
    """A vote before it is fitted."""

    options: VoteOptions
    trust_code: bool = False

    def fit(self, rows: Rows, context: FitContext[Any]) -> FittedVote:
        names = [block.name for block in rows.blocks]
        problem = self.options.weights_problem(names)
        if problem:
            raise MemberError(f"weights of a vote {problem}. Correct weights")
        kind, metric = self.options.kind, None
        if kind.is_fitted:
            metric = get_metric(context.settings.metric, context.task.kind, trust_code=self.trust_code)
        read = kind.reads(rows.predictions(), context.task, rows.lists)
        target = VoteTarget(context.task, context.y, context.weight, metric, context.seed)
        return FittedVote(context.task, names, kind.fit(read, target, self.options.taken()))

    def load(self, entry: Entry, task: Task, settings: FitSettings) -> FittedVote:
        state = entry.structure("vote", VoteState)
        vote = self.options.kind.from_json(state.fitted, task, self.options.taken(), "vote.json")
        must(vote.n_inputs == len(state.names), "vote.json.fitted", "speak of each input", vote.n_inputs)
        return FittedVote(task, list(state.names), vote)


@dataclass(frozen=True)
class VoteState:
    """What is stored of a vote: its inputs, and what was fitted for them."""

    names: tuple[str, ...]
    fitted: dict[str, Any]


@dataclass(frozen=True)
class FittedVote:
    """A fitted vote and the names of its inputs."""

    task: Task
    names: list[str]
    vote: Vote

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        """Combine the inputs that are there; where some are left out the others share their weight."""
        places = [self.names.index(block.name) for block in rows.blocks]
        read = self.vote.reads(rows.predictions(), self.task, rows.lists)
        return {self.task.output: self.vote.subset(places).combine(read)}

    def save(self, writer: EntryWriter) -> None:
        writer.json("vote", {"names": self.names, "fitted": self.vote.to_json()})

    def report(self) -> dict[str, Any]:
        return self.vote.report(self.names)
