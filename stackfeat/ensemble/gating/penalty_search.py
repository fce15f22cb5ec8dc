"""Find the penalty, and what coefficients shrink to, that predict held-out folds best.

In:  a `CrossValidation`, penalties on offer.
Out: the best `Trial`.
"""

from __future__ import annotations

from dataclasses import replace

from stackfeat.ensemble.gating.cross_validation import Choice, CrossValidation, Trial
from stackfeat.ensemble.gating.pool import Shares
from stackfeat.ensemble.gating.rules import paired_gain

PENALTIES = tuple(float(10.0**power) for power in range(-1, 6))


def search_prior(cv: CrossValidation, penalties: tuple[float, ...]) -> Trial:
    """Choose what coefficients shrink to, the best kind of vote or zero, and how strongly.

    Zero is for members that are sure of themselves and know nothing: it must be better by a standard error.

    Returns
    -------
    Trial
        Of the best vote and penalty, without blocks.
    """
    n_members = len(cv.votes)
    kinds: tuple[Shares, ...] = ("equal", "simplex", "free") if n_members > 1 else ("equal", "free")
    found = [search_penalty(cv, penalties, kind) for kind in kinds] if n_members else []
    zero = search_penalty(cv, penalties, None)
    best = min(found, key=lambda trial: trial.loss, default=zero)
    gain, error = paired_gain(best.losses, zero.losses, cv.weight)
    best = zero if gain > error else best
    return refine_penalty(cv, best) if len(penalties) > 1 else best


def search_penalty(
    cv: CrossValidation,
    penalties: tuple[float, ...],
    vote: Shares | None,
    voters: tuple[int, ...] = (),
    strongest: Trial | None = None,
) -> Trial:
    """Walk from the strongest penalty down until the loss has risen twice; `strongest` where it is known.

    Returns
    -------
    Trial
        Of the best penalty, without columns of blocks.
    """
    best = trial = None
    n_worse = 0
    for penalty in sorted(penalties, reverse=True):
        if trial is None and strongest is not None:
            trial = strongest
        else:
            trial = cv.run(Choice(penalty, penalty, vote, voters), trial)
        if best is None or trial.loss < best.loss:
            best, n_worse = trial, 0
        else:
            n_worse += 1
        if n_worse == 2:
            break
    assert best is not None
    return best


def refine_penalty(cv: CrossValidation, trial: Trial) -> Trial:
    """Try half a decade up and down: without blocks one penalty, with blocks each of the two."""
    choice = trial.choice
    options = []
    for factor in (10.0**0.5, 10.0**-0.5):
        moved = replace(choice, base_penalty=choice.base_penalty * factor)
        other = replace(choice, penalty=choice.penalty * factor)
        options += [moved, other] if choice.scales else [replace(moved, penalty=other.penalty)]
    return min([trial, *(cv.run(option, trial) for option in options)], key=lambda found: found.loss)
