"""What is checked of imported predictions before anything reads them.

In:  `Aligned` predictions, the rows, folds and metric of the run, what the sender claims.
Out: checks, each passed, noted, warned of or failed, with a sentence. A failed one keeps the member out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stackfeat.engine.external.leak_signs import (
    HIGHEST_AUC,
    SURE,
    better_order,
    likeness,
    order_text,
    shown,
)
from stackfeat.members.imported_rows import Candidate, Check, positions


def id_checks(given: Candidate) -> Iterator[Check]:
    """Yield whether every row that is needed is there, once."""
    aligned = given.aligned
    missing = given.rows[np.isnan(aligned.oof[given.rows]).all(axis=1)]
    if len(missing):
        yield Check(
            "ids",
            "failed",
            f"there must be a row for every training row; {len(missing)} of {len(given.rows)} are missing: ids "
            f"{shown(given.train.ids[missing])}. Write them too; rows are matched by id, never by position",
        )
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
        absent = samples.ids[~np.isin(samples.ids, known)]
        if len(absent):
            where = "test file" if name == "test ids" else "out-of-fold file"
            yield Check(
                name,
                "failed",
                f"there must be a row for every {name.removesuffix(' ids')} row in the {where}; {len(absent)} of "
                f"{samples.n_rows} are missing: ids {shown(absent)}",
            )
        else:
            yield Check(name, "ok", f"all {samples.n_rows} rows are there")
    if given.held is not None:
        both = given.held.ids[np.isin(given.held.ids, aligned.test_ids)]
        if len(both):
            yield Check(
                "held-out ids", "failed", f"ids of held-out rows are in the test file too: {shown(both)}"
            )


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
        yield Check(
            "missing values",
            "failed",
            f"{int(missing.sum())} {part} rows have empty cells or NaN: ids {shown(ids[missing])}",
        )
    infinite = np.isinf(values).any(axis=1)
    if infinite.any():
        text = f"{int(infinite.sum())} {part} rows have infinite values: ids {shown(ids[infinite])}"
        yield Check("finite", "failed", text)
        return
    for fault in given.train.task.faults(values):
        n_bad, bad = int(fault.rows.sum()), shown(ids[fault.rows])
        yield Check(
            fault.name,
            "failed",
            f"{fault.claim}; got {fault.got} in {n_bad} {part} rows: ids {bad}{fault.remedy}",
        )
        return


def examine(candidate: Candidate) -> list[Check]:
    """Return all checks; those that need sound values are left out where a check before them failed."""
    checks = [*id_checks(candidate), *value_checks(candidate)]
    if any(check.state == "failed" for check in checks):
        return checks
    return [*checks, *_score_checks(candidate), _fold_check(candidate), *_test_checks(candidate)]


def _score_checks(given: Candidate) -> Iterator[Check]:
    task, rows = given.train.task, given.rows
    members_y, values = given.train.labels[rows], given.aligned.oof[rows]
    weight = None if given.train.weight is None else given.train.weight[rows]
    y = task.to_target_scale(members_y)
    score = given.metric.score(y, values, task, weight)
    bootstrap = given.metric.bootstrap(y, [values], task, weight, n_resamples=100, seed=given.seed)[:, 0]
    yield _claim_check(given, score, float(np.nanstd(bootstrap, ddof=1)))
    if task.is_near_chance(members_y, task.to_member_scale(values), weight):
        yield Check(
            "chance",
            "warning",
            "no better than a constant prediction: are ids, classes and target those of this run?",
        )
    if values.shape[1] > 1 and not given.by_name:
        order = better_order(members_y, values)
        if order is None:
            yield Check(
                "classes", "note", f"columns were taken in the order {', '.join(map(str, task.classes))}"
            )
        else:
            yield Check("classes", "warning", order_text(order, task))


def _claim_check(given: Candidate, score: float, error: float) -> Check:
    """Compare what the sender claims with what the rows give."""
    found = f"{given.metric.name} {score:.6g} ± {error:.2g}"
    claimed = given.claimed
    if claimed is None:
        return Check("score", "ok", f"{found} on these labels; nothing was claimed (score:)")
    digits = len(repr(float(claimed)).partition(".")[2]) if "e" not in repr(float(claimed)) else 6
    gap = abs(claimed - score)
    if gap <= 0.5 * 10.0**-digits + 1e-12:
        return Check("score", "ok", f"{found}, as claimed ({claimed:g})")
    if gap <= 2.0 * error:
        return Check("score", "warning", f"{found}; claimed was {claimed:g}: was it a mean over folds?")
    return Check(
        "score",
        "failed",
        f"the score must be the one claimed; got {found}, claimed was {claimed:g}, {gap / max(error, 1e-12):.0f} "
        "standard errors apart. The rows belong to other labels, or the claim to another metric: correct one of them",
    )


def _fold_check(given: Candidate) -> Check:
    file = given.fold_file
    if file is None:
        return Check(
            "folds", "note", "no folds file: that each row's model did not see its label is taken on trust"
        )
    if file.is_same:
        return Check(
            "folds", "ok", f"the run's own {given.folds.n_folds} folds (fingerprint {file.fingerprint})"
        )
    split = file.split_groups(given.train.group)
    if split:
        return Check(
            "folds",
            "warning",
            f"{split} groups stand on both sides of the sender's folds, so its rows may know their labels; "
            "ask for rows made with folds by group",
        )
    return Check(
        "folds",
        "warning",
        f"other folds than the run's (fingerprint {file.fingerprint}; run {file.run_fingerprint}; "
        f"{file.agreement:.0%} of pairs agree): models behind its rows saw labels of their folds",
    )


def _test_checks(given: Candidate) -> Iterator[Check]:
    aligned, task = given.aligned, given.train.task
    if not aligned.test:
        if given.test is None:
            yield Check("views", "note", "no test file: later rows cannot be predicted with this member")
        return
    if not aligned.is_one_view and len(aligned.test) != given.folds.n_folds:
        yield Check(
            "views",
            "failed",
            f"there must be a test file for each of {given.folds.n_folds} folds; got {len(aligned.test)}",
        )
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
    yield _likeness_check(auc, surer, aligned.is_one_view)


def _likeness_check(auc: float, surer: float, is_one_view: bool) -> Check:
    name = "OOF like test"
    if not np.isfinite(auc):
        return Check(name, "note", "too few rows to compare out-of-fold rows with test rows")
    found = f"two-sample AUC {auc:.2f}"
    if auc <= HIGHEST_AUC:
        # A row that stands for all fold models is noted with how like it is.
        return Check(name, "note" if is_one_view else "ok", f"{found} (0.5: alike)")
    if surer > SURE:
        return Check(
            name,
            "warning",
            f"{found}: out-of-fold rows are surer than test rows, as if their models had seen them. "
            "Ask how they were made; leave the member out if in doubt",
        )
    return Check(
        name,
        "warning",
        f"{found}: test rows look unlike out-of-fold rows, as means over folds and refits do. "
        "Ask for a test file of each fold's model ({fold} in the name)",
    )
