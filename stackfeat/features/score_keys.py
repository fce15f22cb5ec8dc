"""Recipes of what is measured on blocks: scores and diagnostics.

In:  names of blocks, the places of their rows, the metric.
Out: recipes as those of `keys`, whose hash is the key of the result.
"""

from __future__ import annotations

from collections.abc import Sequence

from stackfeat.features.keys import Recipe, library_versions, stage_recipe


def score_recipe(
    *,
    block: str,
    places: Sequence[Sequence[tuple[str, str] | None]],
    samples: str,
    folds: str,
    metric: str,
    metric_code: str | None,
    decision: str,
    average: str,
    first_fold: int,
    seed: int,
) -> Recipe:
    """A member's score on its OOF rows, from `first_fold` on (time folds: rows common to all members)."""
    listed = [[list(place) if place else None for place in repeat] for repeat in places]
    return stage_recipe(
        "score",
        block=block,
        places=listed,
        samples=samples,
        folds=folds,
        metric=metric,
        metric_code=metric_code,
        decision=decision,
        average=average,
        first_fold=first_fold,
        seed=seed,
        libraries=library_versions("numpy", "scikit-learn"),
    )


def holdout_score_recipe(
    *,
    block: str,
    views: Sequence[tuple[str, str]],
    average: str,
    samples: str,
    score: str,
    metric: str,
    metric_code: str | None,
    seed: int,
) -> Recipe:
    """A member's score on held-out rows; `score` is the key of its OOF score, which holds its decision."""
    return stage_recipe(
        "holdout_score",
        block=block,
        views=[list(place) for place in views],
        average=average,
        samples=samples,
        score=score,
        metric=metric,
        metric_code=metric_code,
        seed=seed,
        libraries=library_versions("numpy", "scikit-learn"),
    )


def diagnose_recipe(
    *,
    block: str,
    oof: Sequence[tuple[str, str] | None],
    views: Sequence[tuple[str, str]],
    align: str | None,
    samples: str,
    folds: str,
    seed: int,
    averaging: str = "late",
) -> Recipe:
    """How far a block's folds, and its OOF and test rows, can be told apart."""
    # Left out where it is the default: what late runs have stored is found again.
    extra = {} if averaging == "late" else {"averaging": averaging}
    return stage_recipe(
        "diagnose",
        **extra,
        block=block,
        oof=[list(place) if place else None for place in oof],
        views=[list(place) for place in views],
        align=align,
        samples=samples,
        folds=folds,
        seed=seed,
        libraries=library_versions("numpy", "scikit-learn"),
    )
