"""Forward selection of feature blocks and their scales for the linear member.

In:  a `CrossValidation` of base and blocks.
Out: the best `Trial`, and the steps that led there. All blocks are screened by one cheap step
     from the current fit; only the most promising are fitted.

It also holds:

- Let read-outs of blocks take part in the vote that a linear member shrinks to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stackfeat.meta.gating.blocks import GateStep, paired_gain, passes
from stackfeat.meta.gating.cross_validation import (
    Choice,
    CrossValidation,
    Trial,
    refine_penalty,
    search_penalty,
)
from stackfeat.meta.gating.opinion_pool import PULL

FITTED_A_ROUND = 3

KEPT_AFTER_SCREENING = 10


@dataclass(frozen=True)
class Selection:
    """Where forward selection ended.

    Attributes
    ----------
    trial : Trial
    steps : tuple of GateStep
    """

    trial: Trial
    steps: tuple[GateStep, ...]


def select_blocks(
    cv: CrossValidation,
    base: Trial,
    names: Sequence[str],
    *,
    limit: float,
    scales: Sequence[float],
    penalties: Sequence[float],
    max_blocks: int,
) -> Selection:
    """Add the block that lowers the held-out loss most, until none gains `limit` standard errors.

    Parameters
    ----------
    cv : CrossValidation
    base : Trial
        The best fit without columns of blocks.
    names : sequence of str
        Of the blocks, for the report.
    limit : float
        Standard errors that a block must gain.
    scales, penalties : sequences of float
        Scales on offer; penalties that blocks may have where they need a weaker one than the base.
    max_blocks : int
    """
    current, steps = base, []
    pool = [number for number, block in enumerate(cv.blocks) if block.shape[1]]
    while pool and len(current.choice.scales) < max_blocks:
        choices = screen(cv, current, pool, scales, penalties)
        trials = [cv.run(choice, current) for choice in choices[:FITTED_A_ROUND]]
        trials = sorted(trials, key=lambda trial: trial.loss)
        trials[0] = _adjust_scale(cv, trials[0], scales)
        accepted = None
        for trial in trials:
            number = list(trial.choice.scales)[-1]
            gain, error = paired_gain(current.losses, trial.losses, cv.weight)
            taken = accepted is None and passes(gain, error, limit, current.loss)
            accepted = trial if taken else accepted
            steps.append(GateStep(names[number], trial.choice.scales[number], gain, error, taken))
        if accepted is None:
            break
        current = refine_penalty(cv, accepted)
        ranked = [list(choice.scales)[-1] for choice in choices]
        pool = [number for number in ranked[:KEPT_AFTER_SCREENING] if number not in current.choice.scales]
    return Selection(current, tuple(steps))


def screen(
    cv: CrossValidation,
    current: Trial,
    pool: Sequence[int],
    scales: Sequence[float],
    penalties: Sequence[float],
) -> list[Choice]:
    """Rank blocks by one ridge step from the current fit to its residuals.

    Returns
    -------
    list of Choice
        One for each block of the pool, at its most promising scale, best first.
    """
    penalty = current.choice.penalty
    options = [(scale, penalty) for scale in scales]
    options += [(max(scales), weaker) for weaker in penalties if weaker < 0.99 * penalty]
    losses = np.zeros((len(pool), len(options)))
    strengths = np.array([strength / scale**2 for scale, strength in options])
    for here in cv.standings(current):
        residual = here.residual * cv.weight[here.fitted, None].astype(here.scores.dtype)
        for place, number in enumerate(pool):
            block = cv.blocks[number]
            steps = _ridge_steps(block[here.fitted], residual, here.curvature, strengths)
            for option, step in enumerate(steps):
                moved = here.scores[here.held_out] + block[here.held_out] @ step.astype(block.dtype)
                losses[place, option] += cv.held_out_loss(here.held_out, moved)
    best = losses.argmin(axis=1)
    choices = []
    for place in np.argsort(losses.min(axis=1), kind="stable"):
        scale, strength = options[best[place]]
        scales_now = {**current.choice.scales, pool[place]: scale}
        choices.append(replace(current.choice, penalty=strength, scales=scales_now))
    return choices


def _ridge_steps(
    block: np.ndarray, residual: np.ndarray, curvature: float, strengths: np.ndarray
) -> list[np.ndarray]:
    """One ridge solution (c, n_outputs) for each strength, from one eigendecomposition."""
    values, vectors = np.linalg.eigh((block.T @ block).astype(np.float64))
    moment = vectors.T @ (block.T @ residual).astype(np.float64)
    spectrum = curvature * np.maximum(values, 0.0)
    return [vectors @ (moment / (spectrum + strength)[:, None]) for strength in strengths]


def _adjust_scale(cv: CrossValidation, trial: Trial, scales: Sequence[float]) -> Trial:
    """Try the scales next to that of the newest block."""
    number = list(trial.choice.scales)[-1]
    ladder = sorted(scales)
    place = ladder.index(trial.choice.scales[number])
    near = [ladder[other] for other in (place - 1, place + 1) if 0 <= other < len(ladder)]
    choices = [replace(trial.choice, scales={**trial.choice.scales, number: scale}) for scale in near]
    return min([trial, *(cv.run(choice, trial) for choice in choices)], key=lambda found: found.loss)


def select_voters(
    cv: CrossValidation,
    base: Trial,
    names: Sequence[str],
    *,
    limit: float,
    penalties: tuple[float, ...],
    max_blocks: int,
) -> Selection:
    """Add the block whose read-outs lower the held-out loss most, until none gains `limit` standard errors.

    Members vote beside them with free shares, also where zero was better than a vote of members alone.

    Parameters
    ----------
    cv : CrossValidation
    base : Trial
        The best fit without blocks.
    names : sequence of str
        Of the blocks, for the report.
    limit : float
        Standard errors that a block must gain.
    penalties : tuple of float
    max_blocks : int
    """
    current, steps = base, []
    waiting = [number for number, said in enumerate(cv.read_outs) if len(said)]
    while waiting and len(current.choice.voters) < max_blocks:
        waiting = screen_voters(cv, current, waiting)[:KEPT_AFTER_SCREENING]
        trial = _best_of(cv, current, waiting[:FITTED_A_ROUND], penalties)
        number = trial.choice.voters[-1]
        gain, error = paired_gain(current.losses, trial.losses, cv.weight)
        accepted = passes(gain, error, limit, current.loss)
        steps.append(GateStep(names[number], 1.0, gain, error, accepted, "vote"))
        if not accepted:
            break
        current = trial
        waiting.remove(number)
    return Selection(current, tuple(steps))


def _best_of(
    cv: CrossValidation, current: Trial, candidates: Sequence[int], penalties: tuple[float, ...]
) -> Trial:
    """Compare the votes of each candidate, then search the penalty of the best."""
    strongest = max(penalties)
    entered = current.choice.voters
    tried = [cv.run(Choice(strongest, strongest, "free", (*entered, number))) for number in candidates]
    best = min(tried, key=lambda trial: trial.loss)
    found = search_penalty(cv, penalties, "free", best.choice.voters, best)
    return refine_penalty(cv, found) if len(penalties) > 1 else found


def screen_voters(cv: CrossValidation, current: Trial, candidates: Sequence[int]) -> list[int]:
    """Rank blocks by one Newton step of their shares from the current fit to its residuals, best first."""
    if len(candidates) <= FITTED_A_ROUND:
        return list(candidates)
    losses = np.zeros(len(candidates))
    for here in cv.standings(current):
        weight = cv.weight[here.fitted]
        residual = here.residual * weight[:, None]
        for place, number in enumerate(candidates):
            spoken = cv.read_outs[number]
            said = spoken - spoken[:, here.fitted].mean(axis=1, keepdims=True)
            told = said[:, here.fitted]
            square = here.curvature * np.einsum("rnk,snk,n->rs", told, told, weight, optimize=True)
            step = np.linalg.solve(
                square + PULL * np.eye(len(square)), np.einsum("rnk,nk->r", told, residual)
            )
            moves = np.tensordot(np.maximum(step, 0), said[:, here.held_out], axes=1)
            losses[place] += cv.held_out_loss(here.held_out, here.scores[here.held_out] + moves)
    return [candidates[place] for place in np.argsort(losses, kind="stable")]
