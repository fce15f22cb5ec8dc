"""Imported predictions in the store: read and checked once, before anything is computed.

In:  the members of a plan that come from prediction files, the rows and folds of the run.
Out: an entry of aligned rows and one of checks for each; notes; or an error with all that failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stackfeat.data.samples import Samples
from stackfeat.data.schema.prediction_file import PredictionRows, read_predictions
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.external.checkpoints import MemberFiles
from stackfeat.engine.external.checks import examine
from stackfeat.engine.recipes import ImportCheckRecipe, ImportedRecipe
from stackfeat.errors import DataError
from stackfeat.members.imported_rows import Aligned, Candidate, Check, align, on_members_scale, read_fold_file
from stackfeat.members.options import PredictionFiles
from stackfeat.metrics.metric import Metric
from stackfeat.store import EntryStore


@dataclass(frozen=True)
class RunRows:
    """The rows of a run, and what judges them.

    Attributes
    ----------
    test_key, held_key : str or None
    metric_code : str or None
        Hash of a user's metric.
    """

    train: Samples
    test: Samples | None
    held: Samples | None
    folds: Folds
    metric: Metric
    metric_code: str | None
    test_key: str | None
    held_key: str | None
    seed: int


def ensure_imported(
    given: Mapping[str, PredictionFiles], files: MemberFiles, rows: RunRows, store: EntryStore
) -> list[str]:
    """Check imported predictions, by member, and store them, unless the store has them.

    Returns
    -------
    list of str
        Notes, and warnings with ``warning: `` in front, those of an earlier run included.

    Raises
    ------
    DataError
        If a check failed, with all failed checks of all members.
    """
    notes: list[str] = []
    failed: list[str] = []
    for name, own in given.items():
        for check in ensure_member(own, files, rows, store):
            text = f"{name}: {check.name}: {check.text}"
            if check.state == "failed":
                failed.append(text)
            elif check.state != "ok":
                notes.append(f"warning: {text}" if check.state == "warning" else text)
    if failed:
        raise DataError("\n".join(failed))
    return notes


def ensure_member(
    given: PredictionFiles, files: MemberFiles, rows: RunRows, store: EntryStore
) -> list[Check]:
    """Return the checks of one member; sound predictions are in the store afterwards."""
    imported = files.imported(given)
    recipe = _check_recipe(given, imported.key, files, rows)
    if store.has(imported.key) and store.has(recipe.key):
        return list(store.read(recipe.key).structure("checks", tuple[Check, ...]))
    try:
        candidate = _read(given, files, rows)
    except DataError as error:
        return [Check("files", "failed", str(error))]
    checks = examine(candidate)
    if all(check.state != "failed" for check in checks):
        _write(store, imported, recipe, on_members_scale(candidate.aligned, rows.train.task), checks)
    return checks


def _write(
    store: EntryStore,
    imported: ImportedRecipe,
    recipe: ImportCheckRecipe,
    aligned: Aligned,
    checks: list[Check],
) -> None:
    with imported.write(store) as writer:
        aligned.save(writer)
    with recipe.write(store) as writer:
        writer.json("checks", [check.to_json() for check in checks])


def _check_recipe(
    given: PredictionFiles, imported: str, files: MemberFiles, rows: RunRows
) -> ImportCheckRecipe:
    return ImportCheckRecipe(
        imported=imported,
        test=rows.test_key,
        holdout=rows.held_key,
        folds=files.folds,
        folds_file=None if given.folds is None else files.hash(given.folds),
        metric=rows.metric.name,
        metric_code=rows.metric_code,
        claimed=given.score,
        seed=rows.seed,
    )


def _read(given: PredictionFiles, files: MemberFiles, rows: RunRows) -> Candidate:
    task = rows.train.task

    def read(name: str, ids: str | None) -> PredictionRows:
        path = None if ids is None else files.path(ids)
        return read_predictions(
            files.path(name), task, files.id_name, target=files.target, ids=path, classes=given.classes
        )

    oof = read(given.oof, given.oof_ids)
    names = [] if given.test is None else files.of_folds(given.test)
    test = [(name, read(name, given.test_ids)) for name in names]
    fold_file = None
    if given.folds is not None:
        fold_file = read_fold_file(files.path(given.folds), rows.train.ids, rows.folds, files.id_name)
    ignored = [name for part in (oof, *(rows for _, rows in test)) for name in part.ignored]
    return Candidate(
        aligned=align(oof, test, rows.train.ids, task),
        ignored=tuple(dict.fromkeys(ignored)),
        by_name=all(part.by_name for part in (oof, *(rows for _, rows in test))),
        train=rows.train,
        test=rows.test,
        held=rows.held,
        folds=rows.folds,
        fold_file=fold_file,
        metric=rows.metric,
        claimed=given.score,
        seed=rows.seed,
    )
