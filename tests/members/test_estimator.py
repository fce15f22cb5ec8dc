"""Estimators as members: their report, and parameters that the linear member does not take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stackfeat.errors import ConfigError, StructureError
from stackfeat.members.estimator import Choice, EstimatorMember, EstimatorState, GatedMember
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.members.protocol import FitContext
from stackfeat.members.settings import EstimatorSettings
from stackfeat.meta.columns import BlockRows, Rows
from stackfeat.tasks.task import Task

TASK = Task("binary", ("no", "yes"))


def given(n: int = 60) -> tuple[Rows, FitContext[EstimatorSettings]]:
    """One prediction of an earlier level, labels and folds."""
    random = np.random.default_rng(0)
    y = np.arange(n) % 2
    p = 1 / (1 + np.exp(-(2 * y - 1 + random.normal(size=n))))
    block = BlockRows("base/a/proba", "prediction", None, np.stack([1 - p, p], axis=1))
    rows = Rows(n, {}, (block,), np.arange(n).astype(str), np.arange(n))
    inner = (np.arange(40), np.arange(40, n))
    settings = EstimatorSettings(threads=1, seeds=2, gate_se=0.5)
    return rows, FitContext(TASK, y, None, np.arange(n) // 2 % 3, lambda share: inner, 5, settings)


@pytest.mark.parametrize(
    ("name", "prepare", "expected"),
    [
        ("lightgbm.LGBMClassifier", "auto", "trees"),
        ("sklearn.linear_model.LogisticRegression", "auto", "scaled"),
        ("lightgbm.LGBMClassifier", "none", "none"),
    ],
)
def test_columns_are_prepared_for_the_kind_of_learner_unless_asked_for(
    name: str, prepare: Any, expected: str
) -> None:
    assert EstimatorMember(EstimatorOptions(estimator=name, prepare=prepare)).prepare == expected


def test_seeds_are_fits_of_their_own_whose_mean_is_passed_on() -> None:
    rows, context = given()
    options = EstimatorOptions(
        estimator="sklearn.ensemble.ExtraTreesClassifier", params={"n_estimators": 2, "max_depth": 2}
    )
    fitted = EstimatorMember(options).fit(rows, context)
    assert len(fitted.estimators) == 2 and len({one.random_state for one in fitted.estimators}) == 2
    assert fitted.estimators[0].random_state == context.seed
    columns = fitted.reader.base(rows)
    expected = np.mean([one.predict_proba(columns) for one in fitted.estimators], axis=0)
    np.testing.assert_allclose(fitted.emit(rows)["proba"], expected)


def test_a_free_penalty_is_chosen_above_the_first_level_alone_and_a_given_one_stays() -> None:
    rows, context = given()
    free = EstimatorOptions(estimator="sklearn.linear_model.LogisticRegression")
    fitted = EstimatorMember(free).fit(rows, context)
    assert fitted.report()["params"]["C"] == fitted.estimators[0].C
    given_one = EstimatorMember(free.model_copy(update={"params": {"C": 0.37}})).fit(rows, context)
    assert given_one.estimators[0].C == 0.37 and given_one.report() == {}


def test_what_was_chosen_is_reported_by_the_names_of_blocks() -> None:
    assert Choice((1.0,), {}, None).report(["a"]) == {}
    found = Choice((0.0, 0.3), {"C": 2.0}, {"steps": []}).report(["a", "b"])
    assert found == {"params": {"C": 2.0}, "gate": {"scales": {"a": 0.0, "b": 0.3}, "trials": {"steps": []}}}


def test_unknown_parameters_of_the_linear_member_are_named() -> None:
    rows, context = given()
    options = EstimatorOptions(estimator="gated_linear", params={"penalty": 3})
    with pytest.raises(
        ConfigError, match=r"takes penalties, scales, max_blocks; got \['penalty'\]\. Remove them"
    ):
        GatedMember(options).fit(rows, context)


def test_a_stored_member_has_an_estimator_at_least() -> None:
    with pytest.raises(StructureError, match=r"estimator\.json\.n must be 1 or more; got 0"):
        EstimatorState(0, (), {})
