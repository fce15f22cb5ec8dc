"""Recipes of what comes from a user's files: predictions, checkpoints, folds, and what was checked of them.

A file counts by the hash of its bytes; its name does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackfeat.features.keys import Recipe, library_versions, stage_recipe


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
