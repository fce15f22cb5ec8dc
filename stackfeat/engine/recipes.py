"""Recipes: everything a stored result depends on, as plain data whose hash is its key.

A recipe is also the whole order for the work: a worker that reads it needs nothing else.
Options that cannot change results (job count, verbosity) stay out of it. `VERSION` of a
stage goes up when its results change.

It also holds:

- Recipes of what comes from a user's files: predictions, checkpoints, folds, and what was checked of them.
- Recipes of what is measured on blocks: scores and diagnostics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from stackfeat.store import hash_recipe

Recipe = dict[str, Any]

VERSIONS = {
    "samples": 2,
    "folds": 1,
    "layers": 1,
    "fit": 6,
    "gated_linear": 2,  # of its fits alone: a new meta-learner trains no net anew
    "gate": 1,  # of fits of other estimators that judge feature blocks
    "prior_vote": 1,  # of hard votes whose ties go to the more frequent class
    "emit": 1,
    "reference": 1,
    "align": 2,
    "align_emit": 2,
    "align_refit": 2,
    "score": 2,
    "diagnose": 2,
    "holdout": 1,
    "holdout_score": 1,
    "imported": 1,
    "import_check": 1,
    "checkpoint": 1,
    "fold_file": 1,
}


def key_of(recipe: Mapping[str, Any]) -> str:
    """Return the key (64 hex digits) of a recipe."""
    return hash_recipe(recipe)


def library_versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of packages, read from their metadata (nothing is imported)."""
    return {package: _library_version(package) for package in packages}


@cache
def _library_version(package: str) -> str:
    # A plan names the same packages in every recipe, and parsing metadata takes milliseconds.
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def stage_recipe(name: str, **values: Any) -> Recipe:
    """Return a recipe of a stage, its version included."""
    return {"stage": name, "version": VERSIONS[name], **values}


def samples_recipe(
    file: str,
    options: Mapping[str, Any],
    task: str,
    part: str,
    train: str | None = None,
    holdout: Mapping[str, Any] | None = None,
) -> Recipe:
    """Rows of a file, typed; test rows also depend on the training file's schema (`train`, its key).

    With `holdout` the rows that are kept (`part` train) or held out (`part` holdout) alone.
    """
    apart = {} if holdout is None else {"holdout": {"version": VERSIONS["holdout"], **holdout}}
    libraries = (
        library_versions("pandas", "scikit-learn")
        if file.startswith("sklearn:")
        else library_versions("pandas")
    )
    return stage_recipe(
        "samples",
        file=file,
        options=dict(options),
        task=task,
        part=part,
        train=train,
        libraries=libraries,
        **apart,
    )


def folds_recipe(samples: str, options: Mapping[str, Any], code: str | None) -> Recipe:
    """Index arrays of every fold of every repeat."""
    return stage_recipe(
        "folds", samples=samples, options=dict(options), code=code, libraries=library_versions("scikit-learn")
    )


def block_reference(
    name: str, kind: str, encoding: str | None, oof: Sequence[tuple[str, str] | None]
) -> Recipe:
    """Where the OOF rows of a block stand: for each fold (entry key, array name), or None if not predicted."""
    return {
        "name": name,
        "kind": kind,
        "encoding": encoding,
        "oof": [list(place) if place else None for place in oof],
    }


def fit_recipe(
    *,
    member: Mapping[str, Any],
    samples: str,
    folds: str,
    repeat: int,
    fold: int | str,
    seed: int,
    raw: Sequence[str],
    blocks: Sequence[Recipe],
    settings: Mapping[str, Any],
    libraries: Mapping[str, str],
    code: str | None,
) -> Recipe:
    """One member fitted for one fold (or on all OOF rows: fold ``all``), and its OOF rows."""
    return stage_recipe(
        "fit",
        member=dict(member),
        samples=samples,
        folds=folds,
        repeat=repeat,
        fold=fold,
        seed=seed,
        raw=list(raw),
        blocks=list(blocks),
        settings=dict(settings),
        libraries=dict(libraries),
        code=code,
    )


def emit_recipe(
    fit: str,
    samples: str,
    raw: Sequence[str],
    views: Mapping[int | str, Sequence[Sequence[tuple[str, str]]]],
    without: Sequence[str] = (),
) -> Recipe:
    """What a fitted member says of other rows.

    `views` holds, by pipeline (or ``mean``, ``refit``), the places of each block it reads: one, or
    several whose mean is read. `without` names blocks that it was fitted with and does not get.
    """
    listed = [
        {"fold": view, "blocks": [_place_or_places(p) for p in places]} for view, places in views.items()
    ]
    left_out = {"without": list(without)} if without else {}
    return stage_recipe("emit", fit=fit, samples=samples, raw=list(raw), views=listed, **left_out)


def _place_or_places(places: Sequence[tuple[str, str]]) -> list[Any]:
    # A single place is written as such, as it was before rows could be averaged early.
    listed = [list(place) for place in places]
    return listed[0] if len(listed) == 1 else listed


def reference_recipe(
    *,
    member: Mapping[str, Any],
    samples: str,
    folds: str,
    seed: int,
    raw: Sequence[str],
    settings: Mapping[str, Any],
    libraries: Mapping[str, str],
    code: str | None,
) -> Recipe:
    """Activations of anchors in a member's net before any training; one for all folds and repeats."""
    return stage_recipe(
        "reference",
        member=dict(member),
        samples=samples,
        folds=folds,
        seed=seed,
        raw=list(raw),
        settings=dict(settings),
        libraries=dict(libraries),
        code=code,
    )


def align_recipe(
    *,
    fits: Sequence[str],
    reference: str | None,
    tap: str,
    parts: Sequence[str],
    folds: str,
    repeat: int,
    reduce: int | None,
    seed: int,
) -> Recipe:
    """Orthogonal maps that bring one tap's fold spaces together, or each to the space of a `reference`."""
    return stage_recipe(
        "align",
        fits=list(fits),
        reference=reference,
        tap=tap,
        parts=list(parts),
        folds=folds,
        repeat=repeat,
        reduce=reduce,
        seed=seed,
        libraries=library_versions("numpy", "scipy"),
    )


def align_refit_recipe(align: Mapping[str, Any], key: str, fit: str) -> Recipe:
    """Return the recipe of an alignment (recipe and key) with the space of a refitted net added.

    `fit` is the refit on all rows.
    """
    names = ("fits", "reference", "tap", "folds", "repeat", "libraries")
    return stage_recipe("align_refit", align=key, fit=fit, **{name: align[name] for name in names})


def align_emit_recipe(align: str, emit: str, tap: str, fold: int | str) -> Recipe:
    """Other rows' activations of one fold model (or of the refit: fold ``refit``), mapped."""
    return stage_recipe("align_emit", align=align, emit=emit, tap=tap, fold=fold)


def imported_recipe(
    files: Mapping[str, Sequence[str]], samples: str, id_name: str, target: str, classes: Sequence[Any] | None
) -> Recipe:
    """Predictions from files, aligned with the training rows.

    Parameters
    ----------
    files : mapping
        Hashes by role: ``oof``, ``test`` (one, or one for each fold), ``oof_ids``, ``test_ids``.
    """
    return stage_recipe(
        "imported",
        files={role: list(hashes) for role, hashes in files.items()},
        samples=samples,
        id=id_name,
        target=target,
        classes=None if classes is None else list(classes),
        libraries=library_versions("pandas"),
    )


def import_check_recipe(
    *,
    imported: str,
    test: str | None,
    holdout: str | None,
    folds: str,
    folds_file: str | None,
    metric: str,
    metric_code: str | None,
    claimed: float | None,
    seed: int,
) -> Recipe:
    """What was found out of imported predictions beside the rows, folds and metric of a run."""
    return stage_recipe(
        "import_check",
        imported=imported,
        test=test,
        holdout=holdout,
        folds=folds,
        folds_file=folds_file,
        metric=metric,
        metric_code=metric_code,
        claimed=claimed,
        seed=seed,
        libraries=library_versions("numpy", "scikit-learn"),
    )


def checkpoint_recipe(file: str) -> Recipe:
    """The bytes of a checkpoint."""
    return stage_recipe("checkpoint", file=file)


def fold_file_recipe(file: str, samples: str, folds: str, id_name: str) -> Recipe:
    """Folds from a file, aligned with the training rows and compared with the run's folds."""
    return stage_recipe("fold_file", file=file, samples=samples, folds=folds, id=id_name)


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
