"""Votes as members: weights, ranks and picks are fitted inside each fold pipeline.

In:  prediction blocks.
Out: one prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.errors import MemberError
from stackfeat.members.options import VoteOptions
from stackfeat.members.protocol import FitContext
from stackfeat.meta.columns import Rows
from stackfeat.meta.votes.greedy_selection import greedy_selection
from stackfeat.meta.votes.simplex_weights import fit_simplex_weights
from stackfeat.meta.votes.voting import RankVote, class_totals, hard_vote, soft_vote
from stackfeat.metrics.metric import get_metric
from stackfeat.store import Entry, EntryWriter
from stackfeat.structure import checked, must
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class VoteMember:
    """A vote before its weights are known."""

    options: VoteOptions
    trust_code: bool = False

    def fit(self, rows: Rows, context: FitContext) -> FittedVote:
        predictions = rows.predictions()
        names = [block.name for block in rows.blocks]
        given = self.options.weights
        if given is not None and len(given) != len(predictions):
            raise MemberError(
                f"a vote needs one weight for each input; got {len(given)} weights for {len(predictions)} "
                f"inputs {names}. Correct weights"
            )
        fit = {"weighted": self._weighted, "greedy": self._greedy, "rank": self._rank}.get(
            self.options.vote, self._plain
        )
        return FittedVote(self.options, context.task, names, fit(predictions, context))

    def load(self, entry: Entry, task: Task, settings: Mapping[str, Any]) -> FittedVote:
        state = entry.structure("vote", VoteState)
        fitted = state.fitted
        if self.options.vote == "rank":
            n_inputs = len(RankVote.from_json(fitted.get("rank")).ranks)
        else:
            fitted = {
                name: list(checked(tuple[float, ...], part, f"vote.json.{name}"))
                for name, part in fitted.items()
            }
            n_inputs = len(fitted.get("weights", ()))
            is_able = self.options.vote != "hard" or len(fitted.get("priors", ())) == task.n_outputs
            must(is_able, "vote.json.fitted.priors", "be one for each class", list(fitted))
        must(n_inputs == len(state.names), "vote.json.fitted", "speak of each input", n_inputs)
        return FittedVote(self.options, task, list(state.names), fitted)

    def _plain(self, predictions: list[np.ndarray], context: FitContext) -> dict[str, Any]:
        weights = self.options.weights or (1.0,) * len(predictions)
        state: dict[str, Any] = {"weights": [weight / sum(weights) for weight in weights]}
        if context.task.is_classification:
            state["priors"] = class_totals(context.y, context.task.n_outputs, context.weight).tolist()
        return state

    def _weighted(self, predictions: list[np.ndarray], context: FitContext) -> dict[str, Any]:
        metric = get_metric(context.settings["metric"], context.task.kind, trust_code=self.trust_code)
        weights = fit_simplex_weights(
            predictions, context.y, metric, context.task, weight=context.weight, seed=context.seed
        )
        return {"weights": weights.tolist()}

    def _greedy(self, predictions: list[np.ndarray], context: FitContext) -> dict[str, Any]:
        metric = get_metric(context.settings["metric"], context.task.kind, trust_code=self.trust_code)
        selection = greedy_selection(
            predictions,
            context.y,
            metric,
            context.task,
            picks=self.options.picks,
            bags=self.options.bags,
            start=self.options.start,
            seed=context.seed,
            weight=context.weight,
        )
        return {"weights": np.asarray(selection.weights, dtype=float).tolist()}

    def _rank(self, predictions: list[np.ndarray], context: FitContext) -> dict[str, Any]:
        return {"rank": RankVote.fit(predictions, context.task).to_json()}


@dataclass(frozen=True)
class VoteState:
    """What is stored of a vote: its inputs, and by kind of vote what was fitted for them."""

    names: tuple[str, ...]
    fitted: dict[str, Any]


@dataclass(frozen=True)
class FittedVote:
    """A vote with everything fitted that it needs."""

    options: VoteOptions
    task: Task
    names: list[str]
    fitted: dict[str, Any]

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        """Combine the inputs that are there; where some are left out the others share their weight."""
        given = [block.name for block in rows.blocks]
        return {
            self.task.output: self._combine(rows.predictions(), [self.names.index(name) for name in given])
        }

    def _combine(self, predictions: list[np.ndarray], places: list[int]) -> np.ndarray:
        if self.options.vote == "rank":
            return RankVote.from_json(self.fitted["rank"]).subset(places).combine(predictions)
        weights = [self.fitted["weights"][place] for place in places]
        if not sum(weights) > 0:
            raise MemberError(
                "a vote needs an input with a weight above 0; all of those left have none. Leave out fewer members"
            )
        weights = [weight / sum(weights) for weight in weights] if len(places) < len(self.names) else weights
        if self.options.vote == "hard":
            return hard_vote(
                predictions, weights, tie=self.options.tie, priors=self.fitted["priors"], smooth=1.0
            )
        return soft_vote(predictions, weights)

    def save(self, writer: EntryWriter) -> None:
        writer.json("vote", {"names": self.names, "fitted": self.fitted})

    def report(self) -> dict[str, Any]:
        if self.options.vote not in ("weighted", "greedy"):
            return {}
        return {"weights": dict(zip(self.names, self.fitted["weights"], strict=True))}
