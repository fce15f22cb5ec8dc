"""Imported predictions in the store: read and checked once, before anything is computed.

In:  the members of a plan that come from prediction files, the rows, folds and metric of the run.
Out: an entry of aligned rows and one of checks for each, every check passed, noted, warned of or failed, with a
     sentence; notes; or an error with all that failed, which keeps the member out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.schema.prediction_file import PredictionRows, read_predictions
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.external.checkpoints import MemberFiles
from stackfeat.engine.external.leak_signs import (
    HIGHEST_AUC,
    SURE,
    better_order,
    likeness,
    order_text,
    shown,
)
from stackfeat.engine.recipes import ImportCheckRecipe
from stackfeat.errors import DataError
from stackfeat.members.imported_rows import (
    Aligned,
    FoldFile,
    align,
    on_members_scale,
    positions,
    read_fold_file,
)
from stackfeat.members.prediction_files import PredictionFiles
from stackfeat.metrics.metric import Metric
from stackfeat.store import EntryStore

State = Literal["ok", "note", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    text: str


@dataclass(frozen=True, kw_only=True)
class RunRows:
    """The rows of a run, and what judges them.

    Attributes
    ----------
    test, held : Samples or None
        Test rows, and the rows that the run holds out.
    test_key, held_key : str or None
    metric_code : str or None
        Hash of a user's metric.
    """

    train: Samples
    test: Samples | None
    held: Samples | None
    folds: Folds
    metric: Metric
    seed: int
    metric_code: str | None = None
    test_key: str | None = None
    held_key: str | None = None

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the training rows that some fold predicts."""
        return np.flatnonzero(self.folds.fold_of(0) >= 0)


@dataclass(frozen=True, kw_only=True)
class Candidate(RunRows):
    """Predictions beside the rows of the run that they shall join.

    Attributes
    ----------
    aligned : Aligned
        Values as in the files.
    ignored : tuple of str
        Columns that were not read.
    by_name : bool
        Whether columns were matched by name.
    fold_file : FoldFile or None
        Folds that the sender says these rows were made with.
    claimed : float or None
    """

    aligned: Aligned
    ignored: tuple[str, ...]
    by_name: bool
    fold_file: FoldFile | None
    claimed: float | None


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
    recipe = ImportCheckRecipe(
        imported=imported.key,
        test=rows.test_key,
        holdout=rows.held_key,
        folds=files.folds,
        folds_file=None if given.folds is None else files.hash(given.folds),
        metric=rows.metric.name,
        metric_code=rows.metric_code,
        claimed=given.score,
        seed=rows.seed,
    )
    if store.has(imported.key) and store.has(recipe.key):
        return list(store.read(recipe.key).structure("checks", tuple[Check, ...]))
    try:
        candidate = read_candidate(given, files, rows)
    except DataError as error:
        return [Check("files", "failed", str(error))]
    checks = examine(candidate)
    if all(check.state != "failed" for check in checks):
        with imported.write(store) as writer:
            on_members_scale(candidate.aligned, rows.train.task).save(writer)
        with recipe.write(store) as writer:
            writer.json("checks", [asdict(check) for check in checks])
    return checks


def read_candidate(given: PredictionFiles, files: MemberFiles, rows: RunRows) -> Candidate:
    """Read the files of one member; DataError where one cannot be read."""
    task = rows.train.task

    def read(name: str, ids: str | None) -> PredictionRows:
        path = None if ids is None else files.path(ids)
        return read_predictions(
            files.path(name),
            task,
            files.id_name,
            target=files.target,
            ids=path,
            classes=given.classes,
            text=files.text,
        )

    oof = read(given.oof, given.oof_ids)
    names = [] if given.test is None else files.of_folds(given.test)
    test = [(name, read(name, given.test_ids)) for name in names]
    parts = [oof, *(rows for _, rows in test)]
    fold_file = None
    if given.folds is not None:
        fold_file = read_fold_file(files.path(given.folds), rows.train.ids, rows.folds, files.id_name)
    return Candidate(
        **vars(rows),
        aligned=align(oof, test, rows.train.ids, task),
        ignored=tuple(dict.fromkeys(name for part in parts for name in part.ignored)),
        by_name=all(part.by_name for part in parts),
        fold_file=fold_file,
        claimed=given.score,
    )


def id_checks(given: Candidate) -> Iterator[Check]:
    """Yield whether every row that is needed is there, once."""
    aligned = given.aligned
    missing = given.rows[np.isnan(aligned.oof[given.rows]).all(axis=1)]
    if len(missing):
        text = (
            f"there must be a row for every training row; {len(missing)} of {len(given.rows)} are missing: ids "
            f"{shown(given.train.ids[missing])}. Write them too; rows are matched by id, never by position"
        )
        yield Check("ids", "failed", text)
    else:
        extra = f"; {len(aligned.other_ids)} other ids are not used" if len(aligned.other_ids) else ""
        yield Check("ids", "ok", f"all {len(given.rows)} training rows are there{extra}")
    if given.ignored:
        yield Check("columns", "note", f"columns that are no class are ignored: {', '.join(given.ignored)}")
    for name, samples, known in (
        ("test ids", given.test, aligned.test_ids),
        ("held-out ids", given.held, np.concatenate([aligned.other_ids, aligned.test_ids])),
    ):
        if samples is None:
            continue
        absent = samples.ids[positions(known, samples.ids) < 0]
        if len(absent):
            where = "test file" if name == "test ids" else "out-of-fold file"
            text = (
                f"there must be a row for every {name.removesuffix(' ids')} row in the {where}; {len(absent)} of "
                f"{samples.n_rows} are missing: ids {shown(absent)}"
            )
            yield Check(name, "failed", text)
        else:
            yield Check(name, "ok", f"all {samples.n_rows} rows are there")
    if given.held is not None:
        both = given.held.ids[np.isin(given.held.ids, aligned.test_ids)]
        if len(both):
            text = f"ids of held-out rows are in the test file too: {shown(both)}"
            yield Check("held-out ids", "failed", text)


def value_checks(given: Candidate) -> Iterator[Check]:
    """Yield whether values are whole, in range, and sum to 1."""
    oof, ids = given.aligned.oof[given.rows], given.train.ids[given.rows]
    parts = [("out-of-fold", ids, oof)]
    parts += [("test", given.aligned.test_ids, values) for values in given.aligned.test]
    if given.held is not None:
        parts.append(("held-out", given.aligned.other_ids, given.aligned.other))
    failed = [check for part in parts for check in _part_checks(given, *part)]
    yield from failed
    if not failed:
        task = given.train.task
        yield Check("values", "ok", task.prediction_text)
        odd = task.far_off(given.train.labels, oof)
        if odd:
            yield Check("range", "warning", odd)


def _part_checks(given: Candidate, part: str, ids: np.ndarray, values: np.ndarray) -> Iterator[Check]:
    missing = np.isnan(values).any(axis=1)
    # Rows that are missing altogether were named among the ids.
    missing &= ~np.isnan(values).all(axis=1) | (part != "out-of-fold")
    if missing.any():
        text = f"{int(missing.sum())} {part} rows have empty cells or NaN: ids {shown(ids[missing])}"
        yield Check("missing values", "failed", text)
    infinite = np.isinf(values).any(axis=1)
    if infinite.any():
        text = f"{int(infinite.sum())} {part} rows have infinite values: ids {shown(ids[infinite])}"
        yield Check("finite", "failed", text)
        return
    for fault in given.train.task.faults(values):
        where = f"{int(fault.rows.sum())} {part} rows: ids {shown(ids[fault.rows])}"
        yield Check(fault.name, "failed", f"{fault.claim}; got {fault.got} in {where}{fault.remedy}")
        return


def examine(candidate: Candidate) -> list[Check]:
    """Return all checks; those that need sound values are left out where a check before them failed."""
    checks = [*id_checks(candidate), *value_checks(candidate)]
    if any(check.state == "failed" for check in checks):
        return checks
    folds = Check("folds", *_compare_folds(candidate))
    return [*checks, *_score_checks(candidate), folds, *_test_checks(candidate)]


def _score_checks(given: Candidate) -> Iterator[Check]:
    task, rows = given.train.task, given.rows
    members_y, values = given.train.labels[rows], given.aligned.oof[rows]
    weight = None if given.train.weight is None else given.train.weight[rows]
    y = task.to_target_scale(members_y)
    score = given.metric.score(y, values, task, weight)
    bootstrap = given.metric.bootstrap(y, [values], task, weight, n_resamples=100, seed=given.seed)[:, 0]
    yield Check("score", *_compare_claim(given, score, float(np.nanstd(bootstrap, ddof=1))))
    if task.is_near_chance(members_y, task.to_member_scale(values), weight):
        text = "no better than a constant prediction: are ids, classes and target those of this run?"
        yield Check("chance", "warning", text)
    if values.shape[1] > 1 and not given.by_name:
        order = better_order(members_y, values) if task.most_classes else None
        if order is None:
            listed = ", ".join(task.columns)
            yield Check("classes", "note", f"columns were taken in the order {listed}")
        else:
            yield Check("classes", "warning", order_text(order, task))


def _compare_claim(given: Candidate, score: float, error: float) -> tuple[State, str]:
    """Compare what the sender claims with what the rows give."""
    found = f"{given.metric.name} {score:.6g} ± {error:.2g}"
    claimed = given.claimed
    if claimed is None:
        return "ok", f"{found} on these labels; nothing was claimed (score:)"
    digits = len(repr(float(claimed)).partition(".")[2]) if "e" not in repr(float(claimed)) else 6
    gap = abs(claimed - score)
    if gap <= 0.5 * 10.0**-digits + 1e-12:
        return "ok", f"{found}, as claimed ({claimed:g})"
    if gap <= 2.0 * error:
        return "warning", f"{found}; claimed was {claimed:g}: was it a mean over folds?"
    return "failed", (
        f"the score must be the one claimed; got {found}, claimed was {claimed:g}, {gap / max(error, 1e-12):.0f} "
        "standard errors apart. The rows belong to other labels, or the claim to another metric: correct one of them"
    )


def _compare_folds(given: Candidate) -> tuple[State, str]:
    file = given.fold_file
    if file is None:
        return "note", "no folds file: that each row's model did not see its label is taken on trust"
    if file.is_same:
        return "ok", f"the run's own {given.folds.n_folds} folds (fingerprint {file.fingerprint})"
    split = file.split_groups(given.train.group)
    if split:
        return "warning", (
            f"{split} groups stand on both sides of the sender's folds, so its rows may know their labels; "
            "ask for rows made with folds by group"
        )
    return "warning", (
        f"other folds than the run's (fingerprint {file.fingerprint}; run {file.run_fingerprint}; "
        f"{file.agreement:.0%} of pairs agree): models behind its rows saw labels of their folds"
    )


def _test_checks(given: Candidate) -> Iterator[Check]:
    aligned, task = given.aligned, given.train.task
    if not aligned.test:
        if given.test is None:
            yield Check("views", "note", "no test file: later rows cannot be predicted with this member")
        return
    if not aligned.is_one_view and len(aligned.test) != given.folds.n_folds:
        text = f"there must be a test file for each of {given.folds.n_folds} folds; got {len(aligned.test)}"
        yield Check("views", "failed", text)
        return
    if aligned.is_one_view:
        yield Check("views", "note", "one test file: its row stands for the models of all folds")
    else:
        yield Check("views", "ok", f"{len(aligned.test)} test files, one for each fold")
    # One draw of the views per row, as a later member meets them.
    drawn = np.random.default_rng(given.seed).integers(len(aligned.test), size=len(aligned.test_ids))
    test = np.stack(aligned.test)[drawn, np.arange(len(drawn))]
    if given.test is not None:
        test = test[positions(aligned.test_ids, given.test.ids)]
    auc, surer = likeness(aligned.oof[given.rows], test, task, given.seed)
    yield Check("OOF like test", *_compare_rows(auc, surer, aligned.is_one_view))


def _compare_rows(auc: float, surer: float, is_one_view: bool) -> tuple[State, str]:
    if not np.isfinite(auc):
        return "note", "too few rows to compare out-of-fold rows with test rows"
    found = f"two-sample AUC {auc:.2f}"
    if auc <= HIGHEST_AUC:
        # A row that stands for all fold models is noted with how like it is.
        return "note" if is_one_view else "ok", f"{found} (0.5: alike)"
    if surer > SURE:
        return "warning", (
            f"{found}: out-of-fold rows are surer than test rows, as if their models had seen them. "
            "Ask how they were made; leave the member out if in doubt"
        )
    return "warning", (
        f"{found}: test rows look unlike out-of-fold rows, as means over folds and refits do. "
        "Ask for a test file of each fold's model ({fold} in the name)"
    )
