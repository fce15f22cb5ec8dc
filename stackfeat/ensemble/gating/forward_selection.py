"""Forward selection of feature blocks and their scales for the linear member.

In:  a `CrossValidation` of base and blocks.
Out: the best `Trial`, and the steps that led there. All blocks are screened by one cheap step
     from the current fit; only the most promising are fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stackfeat.ensemble.gating.cross_validation import Choice, CrossValidation, Trial
from stackfeat.ensemble.gating.penalty_search import refine_penalty
from stackfeat.ensemble.gating.rules import GateStep, paired_gain, passes

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
