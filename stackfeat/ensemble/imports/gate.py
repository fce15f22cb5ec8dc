"""The gate: what is checked of imported predictions before anything reads them.

In:  `Aligned` predictions, the rows, folds and metric of the run, what the sender claims.
Out: checks, each passed, noted, warned of or failed, with a sentence. A failed one keeps the member out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stackfeat.ensemble.imports.aligned import positions
from stackfeat.ensemble.imports.candidate import Candidate, Check
from stackfeat.ensemble.imports.suspicion import (
    HIGHEST_AUC,
    SURE,
    better_order,
    is_near_chance,
    likeness,
    order_text,
)
from stackfeat.ensemble.imports.value_checks import id_checks, value_checks


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
    decided = values.argmax(axis=1) if given.metric.needs == "label" and task.is_classification else values
    score = given.metric.score(y, decided, task, weight)
    bootstrap = given.metric.bootstrap(y, [decided], task, weight, n_resamples=100, seed=given.seed)[:, 0]
    yield _claim_check(given, score, float(np.nanstd(bootstrap, ddof=1)))
    on_scale = np.log1p(np.maximum(values, 0.0)) if task.transform == "log1p" else values
    if is_near_chance(members_y, on_scale, task, weight):
        yield Check(
            "chance",
            "warning",
            "no better than a constant prediction: are ids, classes and target those of this run?",
        )
    if task.is_classification and not given.by_name:
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
