"""The gate: each check tells sound rows from unsound ones, and what it found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stackfeat.data.samples import Samples
from stackfeat.data.schema.prediction_file import PredictionRows
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.external.predictions import Candidate, Check, examine
from stackfeat.errors import DataError
from stackfeat.members.imported_rows import (
    Aligned,
    FoldFile,
    align,
    on_members_scale,
    positions,
)
from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import Task

N = 90
FOLD_OF = np.arange(N) % 3
VALUES = Task("regression")
LOGS = Task("regression", transform="log1p")


def candidate(**changes: Any) -> Candidate:
    """Sound predictions of values, one test file."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=N)
    ids = np.array([f"r{i}" for i in range(N)])
    splits = tuple((np.flatnonzero(k != FOLD_OF), np.flatnonzero(k == FOLD_OF)) for k in range(3))
    values = (y + rng.normal(size=N) * 0.3)[:, None]
    aligned = Aligned(
        values, np.array(["t0", "t1"]), (np.zeros((2, 1)),), np.empty(0, "<U1"), np.empty((0, 1))
    )
    given = Candidate(
        aligned=aligned,
        ignored=(),
        by_name=True,
        train=Samples(ids, {}, y, VALUES),
        test=Samples(np.array(["t1"]), {}, None, VALUES),
        held=None,
        folds=Folds("kfold", (splits,), N),
        fold_file=None,
        metric=get_metric("rmse", "regression"),
        claimed=None,
        seed=0,
    )
    return replace(given, **changes)


def found(given: Candidate) -> dict[str, Check]:
    return {check.name: check for check in examine(given)}


def test_sound_rows_pass() -> None:
    checks = found(candidate())
    assert {check.state for check in checks.values()} <= {"ok", "note"}
    assert checks["ids"].text == "all 90 training rows are there" and "rmse 0.2" in checks["score"].text


def test_rows_that_no_fold_predicts_may_be_missing() -> None:
    given = candidate()
    oof = given.aligned.oof.copy()
    oof[:3] = np.nan
    assert found(replace(given, aligned=replace(given.aligned, oof=oof)))["ids"].state == "failed"
    splits = tuple((np.arange(3), np.flatnonzero((k == FOLD_OF) & (np.arange(N) > 2))) for k in range(3))
    covered = replace(given, aligned=replace(given.aligned, oof=oof), folds=Folds("time", (splits,), N))
    assert found(covered)["ids"].state == "ok"


def test_values_on_another_scale_are_named() -> None:
    given = candidate()
    checks = found(replace(given, aligned=replace(given.aligned, oof=given.aligned.oof * 1000)))
    assert checks["range"].state == "warning" and "on the scale of the target" in checks["range"].text
    # Far off, but in the right order: not called chance.
    assert "chance" not in checks


def test_claims_are_compared_in_the_digits_given() -> None:
    score = float(found(candidate())["score"].text.split()[1])
    for claimed, state in (
        (round(score, 1), "ok"),
        (round(score, 3), "ok"),
        (round(score, 3) + 0.005, "warning"),
        (0.05, "failed"),
    ):
        assert found(candidate(claimed=claimed))["score"].state == state, claimed


def test_folds_that_split_groups_are_worse_than_other_folds() -> None:
    run = np.stack([FOLD_OF])
    same = FoldFile((run + 1) % 3, run)
    other = FoldFile(np.stack([np.arange(N) // 30]), run)
    assert found(candidate(fold_file=same))["folds"].state == "ok"
    assert "other folds than the run's" in found(candidate(fold_file=other))["folds"].text
    given = candidate(fold_file=other)
    grouped = replace(given, train=replace(given.train, group=FOLD_OF.astype(np.int64)))
    assert "3 groups stand on both sides" in found(grouped)["folds"].text


def test_a_test_file_of_each_fold_means_all_folds() -> None:
    given = candidate()
    two = replace(given, aligned=replace(given.aligned, test=(np.zeros((2, 1)), np.ones((2, 1)))))
    assert "a test file for each of 3 folds; got 2" in found(two)["views"].text


def test_test_files_are_put_in_one_order_and_have_one_set_of_ids() -> None:
    ids = np.array(["a", "b"])

    def rows(order: list[str], values: list[float]) -> PredictionRows:
        return PredictionRows(np.array(order), np.array(values)[:, None], (), by_name=True)

    aligned = align(
        rows(["b", "x", "a"], [2, 9, 1]),
        [("f0", rows(["t", "u"], [3, 4])), ("f1", rows(["u", "t"], [6, 5]))],
        ids,
        VALUES,
    )
    assert aligned.oof[:, 0].tolist() == [1, 2] and aligned.other_ids.tolist() == ["x"]
    assert [part[:, 0].tolist() for part in aligned.test] == [[3, 4], [5, 6]] and not aligned.is_one_view
    with pytest.raises(
        DataError, match=r"f1: the test files of all folds must have the same ids; got .* 'u'"
    ):
        align(
            rows(["a", "b"], [1, 2]),
            [("f0", rows(["t", "u"], [3, 4])), ("f1", rows(["t"], [5]))],
            ids,
            VALUES,
        )


def test_values_are_taken_to_the_scale_of_the_members() -> None:
    given = candidate().aligned
    scaled = on_members_scale(replace(given, oof=np.array([[-0.5], [np.e - 1]])), LOGS)
    assert np.allclose(scaled.oof, [[0.0], [1.0]])
    classes = Task("binary", ("n", "y"))
    shares = on_members_scale(
        replace(given, oof=np.array([[0.5, 0.495]]), test=(), other=np.empty((0, 2))), classes
    )
    assert np.allclose(shares.oof.sum(axis=1), 1.0)


def test_positions_of_ids() -> None:
    ids = np.array(["c", "a", "b"])
    assert positions(ids, np.array(["a", "x", "c"])).tolist() == [1, -1, 0]
    assert positions(np.empty(0, "<U1"), np.array(["a"])).tolist() == [-1]
