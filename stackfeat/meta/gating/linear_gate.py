"""The gate of the linear member: its penalty, the readouts that it adds, the blocks and their scales.

In:  the problem, scaled base columns, blocks with their readouts and scales, fold ids.
Out: penalties, accepted block numbers with their scales, and a report in JSON values.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stackfeat.meta.gating.blocks import (
    Block,
    GateStep,
    inner_folds,
    random_folds,
    threshold,
)
from stackfeat.meta.gating.cross_validation import Candidate, CrossValidation, CVResult, search_prior
from stackfeat.meta.gating.forward_selection import select_blocks, select_readouts
from stackfeat.meta.gating.linear_solver import Problem, Softmax
from stackfeat.meta.gating.opinion_pool import ReadoutScores
from stackfeat.meta.scaling import Scale

logger = logging.getLogger(__name__)

LEAST_CAPPED_ROWS, MAX_GATE_ROWS = 10_000, 50_000
MAX_GATE_CELLS = 40_000_000
"""Rows times columns of the base times classes that the gate works on, where `LEAST_CAPPED_ROWS` have fewer."""
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
    candidate : Candidate
        Penalties, and accepted blocks in order of entry.
    prior : float64 array of shape (b, n_outputs)
        What coefficients of the base shrink to: a vote, or zero.
    shares : dict of int to float64 array of shape (r,)
        By number of a block that votes, what its readouts are multiplied by.
    report : dict
        JSON values.
    """

    candidate: Candidate
    prior: np.ndarray
    shares: dict[int, np.ndarray]
    report: dict[str, Any]


def choose(
    problem: Problem,
    base: np.ndarray,
    votes: Mapping[str, np.ndarray],
    blocks: Sequence[Block],
    scales: Sequence[Scale],
    readouts: Sequence[ReadoutScores],
    weight: np.ndarray,
    folds: np.ndarray,
    options: GateOptions,
    clusters: np.ndarray | None = None,
    given: Candidate | None = None,
) -> Chosen:
    """Cross-validate penalties, votes and blocks; of what is given, work out the vote alone.

    Parameters
    ----------
    problem : Softmax or Squares
    base : float64 array of shape (n, b)
        Already scaled.
    votes : mapping of str to float64 array of shape (b, n_outputs)
        By member the coefficients that read its prediction out of the base.
    blocks, scales : sequences of Block and of their Scale
    readouts : sequence of ReadoutScores
        Readouts of each block.
    weight : float64 array of shape (n,)
    folds : int array of shape (n,)
    options : GateOptions
    clusters : int64 array of shape (n,) or None
        Rows that standard errors do not count apart.
    given : Candidate or None
        What is to be fitted, where nothing is to be chosen.

    Returns
    -------
    Chosen
    """
    limit = threshold(options.gate_se, len(blocks))
    report: dict[str, Any] = {
        "threshold_se": limit,
        "scales": {block.name: 0.0 for block in blocks},
        "voters": [],
        "steps": [],
    }
    if len(base) < FEWEST_ROWS or (isinstance(problem, Softmax) and problem.n_outputs < 2):
        logger.info("gated_linear: too few rows or classes to choose anything; strongest penalty, no blocks")
        strongest = Candidate(max(options.penalties), max(options.penalties), None)
        zero = np.zeros((base.shape[1], problem.n_outputs))
        return Chosen(strongest, zero, {}, {**report, "penalty": strongest.penalty})
    rows = _gate_rows(len(base), base.shape[1] * problem.n_outputs, options.seed)
    live = tuple(_live(block, scale, rows) for block, scale in zip(blocks, scales, strict=True))
    cv = CrossValidation(
        problem.take(rows),
        base[rows],
        tuple(votes.values()),
        tuple(scores.take(rows) for scores in readouts),
        live,
        weight[rows],
        inner_folds(folds[rows], options.seed, "gated_linear"),
        None if clusters is None else clusters[rows],
    )
    if given is None:
        candidate, measured = _searched(cv, [block.name for block in blocks], limit, options)
    else:
        candidate = given
        measured = {"penalty": given.penalty, "penalty_of_predictions": given.base_penalty}
    shares = cv.shares(np.arange(len(rows)), candidate)
    report |= _entered(candidate, shares, votes, blocks) | measured
    ends = np.cumsum([len(votes), *(len(blocks[number].readouts) for number in candidate.readout_blocks)])
    by_block = dict(zip(candidate.readout_blocks, np.split(shares, ends[:-1])[1:], strict=True))
    return Chosen(candidate, cv.prior(shares), by_block, report)


def _searched(
    cv: CrossValidation, names: Sequence[str], limit: float, options: GateOptions
) -> tuple[Candidate, dict[str, Any]]:
    """Return the best penalties, vote and blocks, and what was measured on the way."""
    alone = search_prior(cv, options.penalties)
    with_readouts = select_readouts(
        cv, alone, names, limit=limit, penalties=options.penalties, max_blocks=options.max_blocks
    )
    found = select_blocks(
        cv,
        with_readouts.result,
        names,
        limit=limit,
        scales=options.scales,
        penalties=options.penalties,
        max_blocks=options.max_blocks,
    )
    steps = (*with_readouts.steps, *found.steps)
    return found.result.candidate, _measured(cv, alone, found.result, steps, options.seed)


def _gate_rows(n_rows: int, n_coefficients: int, seed: int) -> np.ndarray:
    """Rows that the gate works on; a sum of losses over fewer rows asks for the same penalty."""
    affordable = MAX_GATE_CELLS // max(n_coefficients, 1)
    n_used = min(MAX_GATE_ROWS, max(LEAST_CAPPED_ROWS, affordable))
    if n_rows <= n_used:
        return np.arange(n_rows)
    logger.info("gated_linear: gate and penalty use %d of %d rows", n_used, n_rows)
    return np.sort(np.random.default_rng(seed).permutation(n_rows)[:n_used])


def _live(block: Block, scale: Scale, rows: np.ndarray) -> np.ndarray:
    """Scaled columns of a block that are not dead, float32."""
    return np.ascontiguousarray(scale.apply(block.values[rows], np.float32)[:, scale.factor > 0])


def _entered(
    candidate: Candidate, shares: np.ndarray, votes: Iterable[str], blocks: Sequence[Block]
) -> dict[str, Any]:
    """Say who votes with which share, and the scale of every block: 1 for one that votes, 0 for one left out."""
    voters = [blocks[number] for number in candidate.readout_blocks]
    names = [*votes, *(f"{block.name}:{name}" for block in voters for name in block.readouts)]
    scales = dict.fromkeys((block.name for block in blocks), 0.0)
    scales |= {block.name: 1.0 for block in voters}
    scales |= {blocks[number].name: scale for number, scale in candidate.scales.items()}
    return {
        "vote": {} if candidate.vote is None else dict(zip(names, shares.tolist(), strict=True)),
        "voters": [block.name for block in voters],
        "scales": scales,
    }


def _measured(
    cv: CrossValidation, alone: CVResult, result: CVResult, steps: Sequence[GateStep], seed: int
) -> dict[str, Any]:
    """Losses and gains, and how much better random CV looks than fold-grouped CV."""
    gain, gain_se = cv.gain(alone, result)
    dealt = replace(cv, fold_of=random_folds(len(cv.weight), cv.n_folds, seed)).run(result.candidate, result)
    random_gain, random_se = cv.gain(result, dealt)
    return {
        "penalty": result.candidate.penalty,
        "penalty_of_predictions": result.candidate.base_penalty,
        "base_penalty": alone.candidate.penalty,
        "base_loss": alone.loss,
        "loss": result.loss,
        "gain": gain,
        "gain_se": gain_se,
        "random_cv_loss": dealt.loss,
        "random_cv_gain": random_gain,
        "random_cv_se": random_se,
        "steps": [step.to_json() for step in steps],
    }
