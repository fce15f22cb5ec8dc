"""Let read-outs of blocks take part in the vote that a linear member shrinks to.

In:  a `CrossValidation` of members and blocks.
Out: the best `Trial`, and the steps that led there.

A read-out costs one share, not a coefficient for every pair of column and class, so it can gain where
the columns of its block cannot. It must gain as much as a block.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stackfeat.ensemble.gating.cross_validation import Choice, CrossValidation, Trial
from stackfeat.ensemble.gating.forward_selection import FITTED_A_ROUND, KEPT_AFTER_SCREENING, Selection
from stackfeat.ensemble.gating.penalty_search import refine_penalty, search_penalty
from stackfeat.ensemble.gating.pool import PULL
from stackfeat.ensemble.gating.rules import GateStep, paired_gain, passes


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
