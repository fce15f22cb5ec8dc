"""Softmax or ridge regression over predictions and gated feature blocks.

In:  predictions of earlier members (centred log-probabilities, or values), feature blocks, targets, and the fold
     each row was held out in.
Out: a fitted model that predicts rows, and a report of what each block gained.

A strong penalty leads to a weighted sum of the predictions, with equal or fitted shares, or to zero: cross-validation
chooses. Readouts of a block may take part in that sum, or the block enters with all columns under a penalty of
its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stackfeat.errors import UsageError
from stackfeat.meta.gating.blocks import (
    MAX_BLOCKS,
    SCALES,
    Block,
    check_design,
    checked_weights,
)
from stackfeat.meta.gating.cross_validation import PENALTIES, Candidate, extended
from stackfeat.meta.gating.linear_gate import GateOptions, choose
from stackfeat.meta.gating.linear_solver import (
    PROBLEMS,
    linear_scores,
    with_intercept,
)
from stackfeat.meta.gating.opinion_pool import ReadoutScores, Shares, readout_offset
from stackfeat.meta.scaling import Scale
from stackfeat.structure import structured
from stackfeat.tasks.task import Task

MAX_DOUBLE_CELLS = 50_000_000  # a final design above this is solved in float32


@dataclass(frozen=True)
class FittedLinear:
    """What `GatedLinear.fit` learnt.

    Attributes
    ----------
    task : Task
    classes : int64 array
        Class codes that occurred, in order of the coefficients' columns.
    base_scale : Scale
    block_scales : dict of str to Scale
        Of the blocks accepted with all columns, the gate's scale included.
    readout_factors : dict of str to float64 array of shape (r,)
        By block whose readouts are in, what its readouts are multiplied by.
    coefficients : float64 array of shape (d + 1, n_outputs)
    target : tuple of float
        Regression: mean and sd of the target.
    report : dict
        JSON values.
    """

    task: Task
    classes: np.ndarray
    base_scale: Scale
    block_scales: dict[str, Scale]
    readout_factors: dict[str, np.ndarray]
    coefficients: np.ndarray
    target: tuple[float, float]
    report: dict[str, Any]

    def design(self, base: np.ndarray, blocks: Sequence[Block], n_rows: int = 0) -> np.ndarray:
        """Scaled columns in order of the coefficients, and ones; float32 where `n_rows` of them are many."""
        scales = [self.base_scale, *self.block_scales.values()]
        n_cells = n_rows * sum(len(scale.factor) for scale in scales)
        dtype = np.float64 if n_cells <= MAX_DOUBLE_CELLS else np.float32
        values = {block.name: block.values for block in blocks}
        accepted = [scale.apply(values[name], dtype) for name, scale in self.block_scales.items()]
        return with_intercept(np.hstack([self.base_scale.apply(base, dtype), *accepted]))

    def offset(self, blocks: Sequence[Block]) -> np.ndarray | None:
        """What readouts add to the scores, (n, n_outputs); None where no block votes."""
        return readout_offset(blocks, self.classes, self.readout_factors)

    def emit(self, base: np.ndarray, blocks: Sequence[Block]) -> np.ndarray:
        """Return probabilities of all classes, or values on the target's scale, float64 (n, n_outputs).

        A class that no row had gets half a row's share, so that no log-loss is infinite.
        """
        scores = linear_scores(self.design(base, blocks), self.coefficients, self.offset(blocks))
        return PROBLEMS[self.task.losses[0]].predictions(
            scores, self.classes, self.task.n_outputs, self.target, self.report["n_rows"]
        )


@dataclass(frozen=True)
class LinearChoice:
    """What a fit chose by cross-validation, for another fit that chooses nothing.

    Attributes
    ----------
    penalty_of_predictions, penalty : float
        Of the base's coefficients, and of those of blocks.
    shares : {"equal", "simplex", "free"} or None
        Of the vote that the base's coefficients shrink to; None: to zero.
    voters : tuple of str
        Blocks whose readouts vote beside the members.
    scales : mapping of str to float
        Of each block that enters with all its columns.
    """

    penalty_of_predictions: float
    penalty: float
    shares: Shares | None
    voters: tuple[str, ...]
    scales: Mapping[str, float]

    def candidate(self, names: Sequence[str]) -> Candidate:
        """Return it with the numbers of blocks of these names.

        Raises
        ------
        UsageError
            If one of its blocks is not there.
        """
        absent = sorted({*self.voters, *self.scales}.difference(names))
        if absent:
            raise UsageError(f"chosen blocks must be there; missing {absent}, got {sorted(names)}; add them")
        return Candidate(
            self.penalty_of_predictions,
            self.penalty,
            self.shares,
            tuple(names.index(name) for name in self.voters),
            {names.index(name): scale for name, scale in self.scales.items()},
        )


CHUNK = 65_536


class GatedLinear:
    """Multinomial logistic or ridge regression with gated feature blocks.

    Parameters
    ----------
    penalties : sequence of float, optional
        Tried by cross-validation over the given folds; default 0.1 to 100,000 in decades, refined by half
        decades. For three or more classes a penalty is 1 / C of scikit-learn, in regression it is alpha.
    scales : sequence of float
        Scales a block may enter with; a block of scale s has a penalty of penalty / s^2.
    max_blocks : int
        At most this many blocks enter.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> feature = rng.normal(size=(300, 4))
    >>> y = (feature[:, 0] + 0.3 * rng.normal(size=300) > 0).astype(int)
    >>> model = GatedLinear().fit(
    ...     np.zeros((300, 2)), [Block("net/fc", feature)], y, np.arange(300) % 5, Task("binary", (0, 1)),
    ...     gate_se=0.5, seed=0,
    ... )
    >>> list(model.report()["scales"])
    ['net/fc']
    >>> model.predict(np.zeros((2, 2)), [Block("net/fc", feature[:2])]).shape
    (2, 2)
    """

    def __init__(
        self,
        penalties: Sequence[float] | None = None,
        scales: Sequence[float] = SCALES,
        max_blocks: int = MAX_BLOCKS,
    ) -> None:
        self.penalties = penalties
        self.scales = scales
        self.max_blocks = max_blocks

    def fit(
        self,
        base: np.ndarray,
        blocks: Sequence[Block],
        y: np.ndarray,
        folds: np.ndarray,
        task: Task,
        *,
        gate_se: float,
        weight: np.ndarray | None = None,
        clusters: np.ndarray | None = None,
        votes: Mapping[str, np.ndarray] | None = None,
        seed: int,
        chosen: LinearChoice | None = None,
    ) -> GatedLinear:
        """Choose the penalty and the blocks, then fit on all rows.

        Parameters
        ----------
        base : float array of shape (n, b)
            Always in; of a classifier's predictions see `Task.unbounded`.
        blocks : sequence of Block
        y : array of shape (n,)
            Class codes, or values.
        folds : int array of shape (n,)
            The fold each row was held out in; splits of the penalty and the gate keep folds whole.
        task : Task
        gate_se : float
            Standard errors that a block must gain; more are asked where there are many blocks.
        weight : float array of shape (n,), optional
        clusters : int64 array of shape (n,), optional
            Numbers from 0 of groups, or of blocks of time: standard errors of gains are over these, not over rows.
        votes : mapping of str to float array of shape (b, n_outputs), optional
            By member the coefficients of the base that give its prediction (see `Columns.votes`). A strong
            penalty leads to a vote of them, with equal or fitted shares; without votes, or where the folds
            say that it is better, to the shares of the classes, or the mean.
        seed : int
            Used where there is only one fold id, and for more than 50,000 rows.
        chosen : LinearChoice, optional
            What an earlier fit chose: nothing is cross-validated then.

        Raises
        ------
        UsageError
            If shapes do not fit or block names repeat.
        MemberError
            If a value is not finite.
        """
        base = np.asarray(base)
        check_design(base, blocks)
        if len(y) != len(base) or len(folds) != len(base):
            raise UsageError(f"y and folds must have {len(base)} entries; got {len(y)=}, {len(folds)=}")
        weights = checked_weights(weight, len(base))
        kind = PROBLEMS[task.losses[0]]
        classes, target, problem = kind.pose(task.in_unit(np.asarray(y)), task)
        base_scale = Scale.fit(base, "zscore")
        scales = [Scale.fit(block.values, block.scaling) for block in blocks]
        penalties = (
            PENALTIES if self.penalties is None else tuple(float(penalty) for penalty in self.penalties)
        )
        options = GateOptions(gate_se, penalties, tuple(sorted(self.scales)), self.max_blocks, seed)
        scaled_votes = {
            name: base_scale.undo(kind.vote(vote, classes, target)) for name, vote in (votes or {}).items()
        }
        scaled = base_scale.apply(base)
        nothing = np.zeros((base.shape[1], problem.n_outputs))
        mean_vote = scaled @ np.mean([*scaled_votes.values()] or [nothing], axis=0)
        readouts = [ReadoutScores.of(block, classes, target, mean_vote) for block in blocks]
        problem = problem.near(mean_vote)
        found = choose(
            problem,
            scaled,
            scaled_votes,
            blocks,
            scales,
            readouts,
            weights,
            np.asarray(folds),
            options,
            clusters,
            None if chosen is None else chosen.candidate([block.name for block in blocks]),
        )
        accepted = {
            blocks[number].name: Scale(scales[number].centre, scales[number].factor * scale)
            for number, scale in found.candidate.scales.items()
        }
        factors = {
            blocks[number].name: share * readouts[number].factors for number, share in found.shares.items()
        }
        report = {"n_rows": len(base), **found.report}
        fitted = FittedLinear(task, classes, base_scale, accepted, factors, np.empty((0, 0)), target, report)
        design = fitted.design(base, blocks, len(base))
        penalty = found.candidate.strengths(base.shape[1], design.shape[1] - 1)
        prior = extended(found.prior, len(penalty))
        coefficients = problem.fit(design, penalty, weights, prior=prior, offset=fitted.offset(blocks))
        self.fitted_ = replace(fitted, coefficients=coefficients)
        return self

    def predict(self, base: np.ndarray, blocks: Sequence[Block]) -> np.ndarray:
        """Predict rows.

        Parameters
        ----------
        base : float array of shape (n, b)
        blocks : sequence of Block
            At least the accepted ones, found by name.

        Returns
        -------
        float64 array of shape (n, n_classes) or (n, 1)

        Raises
        ------
        UsageError
            If an accepted block is missing.
        """
        fitted = self.fitted_
        base = np.asarray(base)
        names = {*fitted.readout_factors, *fitted.block_scales}
        needed = [block for block in blocks if block.name in names]
        missing = sorted(names.difference(block.name for block in needed))
        if missing:
            got = sorted(block.name for block in blocks)
            raise UsageError(f"predict must get every accepted block; missing {missing}, got {got}")
        check_design(base, needed)
        out = np.empty((len(base), fitted.task.n_outputs))
        for start in range(0, len(base), CHUNK):
            part = slice(start, start + CHUNK)
            out[part] = fitted.emit(base[part], [block.take(part) for block in needed])
        return out

    def report(self) -> dict[str, Any]:
        """Penalties, shares of the vote, scale of every block, gains with standard errors, losses; JSON values.

        Losses are log-losses, or squared errors in units of the target's variance.
        """
        return self.fitted_.report

    def arrays(self) -> dict[str, np.ndarray]:
        """Fitted arrays; with `to_json` all that `from_arrays` needs."""
        fitted = self.fitted_
        out = {
            "classes": fitted.classes,
            "coefficients": fitted.coefficients,
            "target": np.asarray(fitted.target),
            "base_centre": fitted.base_scale.centre,
            "base_factor": fitted.base_scale.factor,
        }
        for number, scale in enumerate(fitted.block_scales.values()):
            out[f"block{number}_centre"], out[f"block{number}_factor"] = scale.centre, scale.factor
        return out | {
            f"voter{number}": shares for number, shares in enumerate(fitted.readout_factors.values())
        }

    def to_json(self) -> dict[str, Any]:
        """Task, names of accepted blocks, and the report."""
        fitted = self.fitted_
        names = {"blocks": list(fitted.block_scales), "voters": list(fitted.readout_factors)}
        return {"task": fitted.task.to_json(), **names, "report": fitted.report}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> GatedLinear:
        """Rebuild a fitted model from what `arrays` and `to_json` gave."""
        model, state = cls(), structured(_State, values, "gated.json.values")
        mean, sd = (float(value) for value in arrays["target"])
        model.fitted_ = FittedLinear(
            Task.from_json(state.task),
            arrays["classes"],
            Scale(arrays["base_centre"], arrays["base_factor"]),
            {
                name: Scale(arrays[f"block{number}_centre"], arrays[f"block{number}_factor"])
                for number, name in enumerate(state.blocks)
            },
            {name: arrays[f"voter{number}"] for number, name in enumerate(state.voters)},
            arrays["coefficients"],
            (mean, sd),
            state.report,
        )
        return model


@dataclass(frozen=True)
class _State:
    """What `GatedLinear.to_json` writes."""

    task: dict[str, Any]
    blocks: tuple[str, ...]
    voters: tuple[str, ...]
    report: dict[str, Any]
