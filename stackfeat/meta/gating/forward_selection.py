"""Forward selection of the linear member: which blocks enter, by their readouts or with all columns.

In:  a `CrossValidation` of base and blocks.
Out: the best `CVResult`, and the steps that led there. All blocks are screened by one cheap step
     from the current fit; only the most promising are fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stackfeat.meta.gating.blocks import SMALLEST_SHARE, GateStep, passes
from stackfeat.meta.gating.cross_validation import (
    Candidate,
    CrossValidation,
    CVResult,
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
    result : CVResult
    steps : tuple of GateStep
    """

    result: CVResult
    steps: tuple[GateStep, ...]


def select_blocks(
    cv: CrossValidation,
    base: CVResult,
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
    base : CVResult
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
    waiting = [number for number, block in enumerate(cv.blocks) if block.shape[1]]
    while waiting and len(current.candidate.scales) < max_blocks:
        candidates = screen(cv, current, waiting, scales, penalties)
        if not candidates:
            break
        results = [cv.run(candidate, current) for candidate in candidates[:FITTED_A_ROUND]]
        results = sorted(results, key=lambda result: result.loss)
        results[0] = _adjust_scale(cv, results[0], scales)
        accepted = None
        for result in results:
            number = list(result.candidate.scales)[-1]
            gain, error = cv.gain(current, result)
            taken = accepted is None and passes(gain, error, limit, current.loss)
            accepted = result if taken else accepted
            steps.append(GateStep(names[number], result.candidate.scales[number], gain, error, taken))
        if accepted is None:
            break
        current = accepted
        ranked = [list(candidate.scales)[-1] for candidate in candidates]
        waiting = [
            number for number in ranked[:KEPT_AFTER_SCREENING] if number not in current.candidate.scales
        ]
    if current is not base:
        current = refine_penalty(cv, current)
    return Selection(current, tuple(steps))


def screen(
    cv: CrossValidation,
    current: CVResult,
    waiting: Sequence[int],
    scales: Sequence[float],
    penalties: Sequence[float],
) -> list[Candidate]:
    """Rank blocks by one ridge step from the current fit to its residuals.

    Returns
    -------
    list of Candidate
        One for each block that waits, at its most promising scale, best first; without those whose step gains
        less than a thousandth of the loss.
    """
    penalty = current.candidate.penalty
    options = [(scale, penalty) for scale in scales]
    options += [(max(scales), weaker) for weaker in penalties if weaker < 0.99 * penalty]
    losses = np.zeros((len(waiting), len(options)))
    strengths = np.array([strength / scale**2 for scale, strength in options])
    for here in cv.fold_states(current):
        residual = here.residual * cv.weight[here.fitted, None].astype(here.scores.dtype)
        for place, number in enumerate(waiting):
            block = cv.blocks[number]
            steps = ridge_steps(block[here.fitted], residual, here.curvature, strengths)
            for option, step in enumerate(steps):
                moved = here.scores[here.held_out] + block[here.held_out] @ step.astype(block.dtype)
                losses[place, option] += cv.held_out_loss(here.held_out, moved)
    best = losses.argmin(axis=1)
    gains = current.loss - losses.min(axis=1) / cv.weight.sum()
    candidates = []
    for place in np.argsort(-gains, kind="stable"):
        if gains[place] < SMALLEST_SHARE * abs(current.loss):
            break
        scale, strength = options[best[place]]
        scales_now = {**current.candidate.scales, waiting[place]: scale}
        candidates.append(replace(current.candidate, penalty=strength, scales=scales_now))
    return candidates


def ridge_steps(
    block: np.ndarray, residual: np.ndarray, curvature: float, strengths: np.ndarray
) -> list[np.ndarray]:
    """One ridge solution (c, n_outputs) for each strength, from one eigendecomposition."""
    values, vectors = np.linalg.eigh((block.T @ block).astype(np.float64))
    moment = vectors.T @ (block.T @ residual).astype(np.float64)
    spectrum = curvature * np.maximum(values, 0.0)
    return [vectors @ (moment / (spectrum + strength)[:, None]) for strength in strengths]


def _adjust_scale(cv: CrossValidation, result: CVResult, scales: Sequence[float]) -> CVResult:
    """Try the scales next to that of the newest block."""
    number = list(result.candidate.scales)[-1]
    ladder = sorted(scales)
    place = ladder.index(result.candidate.scales[number])
    near = [ladder[other] for other in (place - 1, place + 1) if 0 <= other < len(ladder)]
    candidates = [
        replace(result.candidate, scales={**result.candidate.scales, number: scale}) for scale in near
    ]
    return min(
        [result, *(cv.run(candidate, result) for candidate in candidates)], key=lambda found: found.loss
    )


def select_readouts(
    cv: CrossValidation,
    base: CVResult,
    names: Sequence[str],
    *,
    limit: float,
    penalties: tuple[float, ...],
    max_blocks: int,
) -> Selection:
    """Add the block whose readouts lower the held-out loss most, until none gains `limit` standard errors.

    Members vote beside them with free shares, also where zero was better than a vote of members alone.

    Parameters
    ----------
    cv : CrossValidation
    base : CVResult
        The best fit without blocks.
    names : sequence of str
        Of the blocks, for the report.
    limit : float
        Standard errors that a block must gain.
    penalties : tuple of float
    max_blocks : int
    """
    current, steps = base, []
    waiting = [number for number, values in enumerate(cv.readouts) if len(values)]
    while waiting and len(current.candidate.readout_blocks) < max_blocks:
        waiting = screen_readouts(cv, current, waiting)[:KEPT_AFTER_SCREENING]
        result = _best_of(cv, current, waiting[:FITTED_A_ROUND], penalties)
        number = result.candidate.readout_blocks[-1]
        gain, error = cv.gain(current, result)
        accepted = passes(gain, error, limit, current.loss)
        steps.append(GateStep(names[number], 1.0, gain, error, accepted, "vote"))
        if not accepted:
            break
        current = result
        waiting.remove(number)
    if current is not base and len(penalties) > 1:
        current = refine_penalty(cv, current)
    return Selection(current, tuple(steps))


def _best_of(
    cv: CrossValidation, current: CVResult, candidates: Sequence[int], penalties: tuple[float, ...]
) -> CVResult:
    """Compare the votes of each candidate, then search the penalty of the best."""
    strongest = max(penalties)
    entered = current.candidate.readout_blocks
    tried = [cv.run(Candidate(strongest, strongest, "free", (*entered, number))) for number in candidates]
    best = min(tried, key=lambda result: result.loss)
    return search_penalty(cv, penalties, "free", best.candidate.readout_blocks, best)


def screen_readouts(cv: CrossValidation, current: CVResult, candidates: Sequence[int]) -> list[int]:
    """Rank blocks by one Newton step of their shares from the current fit to its residuals, best first."""
    if len(candidates) <= FITTED_A_ROUND:
        return list(candidates)
    losses = np.zeros(len(candidates))
    for here in cv.fold_states(current):
        weight = cv.weight[here.fitted]
        residual = here.residual * weight[:, None]
        for place, number in enumerate(candidates):
            values = cv.readouts[number]
            centred = values - values[:, here.fitted].mean(axis=1, keepdims=True)
            fitted = centred[:, here.fitted]
            square = here.curvature * np.einsum("rnk,snk,n->rs", fitted, fitted, weight, optimize=True)
            step = np.linalg.solve(
                square + PULL * np.eye(len(square)), np.einsum("rnk,nk->r", fitted, residual)
            )
            moves = np.tensordot(np.maximum(step, 0), centred[:, here.held_out], axes=1)
            losses[place] += cv.held_out_loss(here.held_out, here.scores[here.held_out] + moves)
    return [candidates[place] for place in np.argsort(losses, kind="stable")]
