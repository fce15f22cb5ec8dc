"""The gate of the linear member: which penalty, which blocks, at which scale.

In:  the problem, scaled base columns, blocks with their scales, fold ids.
Out: penalties, accepted block numbers with their scales, and a report in JSON values.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stackfeat.ensemble.gating.blocks import Block, Scale
from stackfeat.ensemble.gating.forward_selection import Selection, select_blocks
from stackfeat.ensemble.gating.linear_solver import Problem, Softmax
from stackfeat.ensemble.gating.penalty_search import Choice, CrossValidation, Trial, search_prior
from stackfeat.ensemble.gating.rules import inner_folds, paired_gain, random_folds, threshold

logger = logging.getLogger(__name__)

MAX_GATE_ROWS = 50_000
FEWEST_ROWS = 10


@dataclass(frozen=True)
class GateOptions:
    """How strict the gate is, and what it may try.

    Attributes
    ----------
    gate_se : float
    penalties, scales : tuples of float
    max_blocks : int
    seed : int
    """

    gate_se: float
    penalties: tuple[float, ...]
    scales: tuple[float, ...]
    max_blocks: int
    seed: int


@dataclass(frozen=True)
class Chosen:
    """What cross-validation chose.

    Attributes
    ----------
    choice : Choice
        Penalties, and accepted blocks in order of entry.
    prior : float64 array of shape (b, n_outputs)
        What coefficients of the base shrink to: a vote, or zero.
    report : dict
        JSON values.
    """

    choice: Choice
    prior: np.ndarray
    report: dict[str, Any]


def choose(
    problem: Problem,
    base: np.ndarray,
    votes: Mapping[str, np.ndarray],
    blocks: Sequence[Block],
    scales: Sequence[Scale],
    weight: np.ndarray,
    folds: np.ndarray,
    options: GateOptions,
) -> Chosen:
    """Cross-validate penalties and blocks.

    Parameters
    ----------
    problem : Softmax or Squares
    base : float64 array of shape (n, b)
        Already scaled.
    votes : mapping of str to float64 array of shape (b, n_outputs)
        By member the coefficients that read its prediction out of the base.
    blocks, scales : sequences of Block and of their Scale
    weight : float64 array of shape (n,)
    folds : int array of shape (n,)
    options : GateOptions

    Returns
    -------
    Chosen
    """
    limit = threshold(options.gate_se, len(blocks))
    report: dict[str, Any] = {
        "threshold_se": limit,
        "scales": {block.name: 0.0 for block in blocks},
        "steps": [],
    }
    if len(base) < FEWEST_ROWS or (isinstance(problem, Softmax) and problem.n_outputs < 2):
        logger.info("gated_linear: too few rows or classes to choose anything; strongest penalty, no blocks")
        strongest = Choice(max(options.penalties), max(options.penalties), None)
        zero = np.zeros((base.shape[1], problem.n_outputs))
        return Chosen(strongest, zero, {**report, "penalty": strongest.penalty})
    cv = _cross_validation(problem, base, tuple(votes.values()), blocks, scales, weight, folds, options.seed)
    alone = search_prior(cv, options.penalties)
    found = select_blocks(
        cv,
        alone,
        [block.name for block in blocks],
        limit=limit,
        scales=options.scales,
        penalties=options.penalties,
        max_blocks=options.max_blocks,
    )
    entered = found.trial.choice.scales
    report["scales"].update({blocks[number].name: scale for number, scale in entered.items()})
    vote = alone.choice.vote
    shares = cv.shares(np.arange(len(cv.weight)), vote)
    report["vote"] = {} if vote is None else dict(zip(votes, shares.tolist(), strict=True))
    return Chosen(
        found.trial.choice, cv.prior(shares), {**report, **_measured(cv, alone, found, options.seed)}
    )


def _cross_validation(
    problem: Problem,
    base: np.ndarray,
    votes: tuple[np.ndarray, ...],
    blocks: Sequence[Block],
    scales: Sequence[Scale],
    weight: np.ndarray,
    folds: np.ndarray,
    seed: int,
) -> CrossValidation:
    """Rows and live columns that the gate works on."""
    rows = np.arange(len(base))
    if len(rows) > MAX_GATE_ROWS:
        rows = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MAX_GATE_ROWS])
        logger.info("gated_linear: gate and penalty use %d of %d rows", len(rows), len(base))
    values = tuple(
        np.ascontiguousarray(scale.apply(block.values[rows], np.float32)[:, scale.factor > 0])
        for block, scale in zip(blocks, scales, strict=True)
    )
    inner = inner_folds(folds[rows], seed, "gated_linear")
    return CrossValidation(problem.take(rows), base[rows], values, weight[rows], inner, votes)


def _measured(cv: CrossValidation, alone: Trial, found: Selection, seed: int) -> dict[str, Any]:
    """Losses and gains, and how much better random CV looks than fold-grouped CV."""
    trial = found.trial
    gain, gain_se = paired_gain(alone.losses, trial.losses, cv.weight)
    dealt = replace(cv, fold_of=random_folds(len(cv.weight), cv.n_folds, seed)).run(trial.choice, trial)
    random_gain, random_se = paired_gain(trial.losses, dealt.losses, cv.weight)
    return {
        "penalty": trial.choice.penalty,
        "penalty_of_predictions": trial.choice.base_penalty,
        "base_penalty": alone.choice.penalty,
        "base_loss": alone.loss,
        "loss": trial.loss,
        "gain": gain,
        "gain_se": gain_se,
        "random_cv_loss": dealt.loss,
        "random_cv_gain": random_gain,
        "random_cv_se": random_se,
        "steps": [step.to_json() for step in found.steps],
    }
