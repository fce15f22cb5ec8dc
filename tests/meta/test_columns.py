"""Columns: raw tables and blocks become what an estimator takes, learnt on the rows of the fit alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.linear_model import Ridge

from stackfeat.data.samples import Table
from stackfeat.meta.columns import BlockRows, Columns, Rows, combine
from stackfeat.meta.estimator_io import LightGBM
from stackfeat.store import MemoryStore
from stackfeat.tasks.task import Task
from tests.meta.by_hand import centred_log_proba

TASK = Task("multiclass", ("a", "b", "c"))
RNG = np.random.default_rng(0)


def table(n: int) -> Table:
    numeric = RNG.normal(size=(n, 2))
    numeric[0, 0] = np.nan
    codes = RNG.integers(0, 3, size=(n, 1)).astype(np.int32)
    return Table(numeric, ("x", "y"), codes, ("c",), (("p", "q", "r"),))


def other(n: int) -> np.ndarray:
    return np.random.default_rng(1).dirichlet(np.ones(3), size=n)


def rows(n: int = 40) -> Rows:
    proba = RNG.dirichlet(np.ones(3), size=n)
    aligned = (RNG.normal(size=(n, 4)) * [1, 10, 0, 1]).astype(np.float32)
    geometry = (RNG.normal(size=(n, 3)) * [1, 100, 1] + 5).astype(np.float32)
    blocks = (
        BlockRows("base/m/proba", "prediction", None, proba),
        BlockRows("base/m/t@aligned", "feature", "aligned", aligned),
        BlockRows("base/m/t@geometry", "feature", "geometry", geometry),
    )
    return Rows(n, {"table": table(n)}, blocks)


def test_scaled_predictions_are_centred_log_probabilities() -> None:
    given = rows()
    base = Columns.fit(given, TASK, prepare="scaled", read_as="auto").base(given)
    logs = np.log(given.predictions()[0])
    np.testing.assert_allclose(base[:, -3:], logs - logs.mean(axis=1, keepdims=True))
    assert np.isfinite(base).all()


@pytest.mark.parametrize("read_as", ["auto", "logit"])
def test_votes_read_each_prediction_out_of_the_columns(read_as: str) -> None:
    given = rows()
    added = replace(given.blocks[0], name="base/o/proba", values=other(40))
    two = replace(given, blocks=(*given.blocks, added))
    columns = Columns.fit(two, TASK, prepare="scaled", read_as=read_as)
    base = columns.base(two)
    votes = columns.votes(two, base.shape[1])
    assert list(votes) == ["base/m/proba", "base/o/proba"]
    for vote, values in zip(votes.values(), two.predictions(), strict=True):
        np.testing.assert_allclose(base @ vote, centred_log_proba(values), atol=1e-12)


def test_votes_of_values_are_the_values_but_for_a_constant() -> None:
    values = [RNG.normal(size=(40, 1)) * 10 + 500, np.full((40, 1), 7.0)]
    blocks = tuple(BlockRows(f"base/{i}/prediction", "prediction", None, v) for i, v in enumerate(values))
    given = Rows(40, {"table": table(40)}, blocks)
    columns = Columns.fit(given, Task("regression"), prepare="scaled", read_as="auto")
    base = columns.base(given)
    for vote, known in zip(columns.votes(given, base.shape[1]).values(), values, strict=True):
        away = (base @ vote - known).ravel()
        np.testing.assert_allclose(away, away[0], atol=1e-9)


@pytest.mark.parametrize("read_as", ["proba", "rank"])
def test_probabilities_and_ranks_have_no_votes_in_units_of_scores(read_as: str) -> None:
    given = rows()
    columns = Columns.fit(given, TASK, prepare="scaled", read_as=read_as)
    assert columns.votes(given, columns.base(given).shape[1]) == {}


def test_trees_get_native_categories_missing_values_and_plain_probabilities() -> None:
    given = rows()
    base = Columns.fit(given, TASK, prepare="trees", read_as="auto").base(given)
    assert isinstance(base, pd.DataFrame)
    assert [str(dtype) for dtype in base.dtypes].count("category") == 1
    assert base.iloc[:, 0].isna().sum() == 1
    np.testing.assert_array_equal(base[["p0", "p1", "p2"]], given.predictions()[0])


def test_aligned_columns_share_one_factor_and_geometry_columns_have_their_own() -> None:
    given = rows()
    aligned, geometry = Columns.fit(given, TASK, prepare="scaled", read_as="auto").features(given)
    spread = aligned.std(axis=0)
    assert spread[1] == pytest.approx(10 * spread[0], rel=0.5)
    assert spread[2] == 0
    np.testing.assert_allclose(geometry.std(axis=0), 1, rtol=1e-4)
    np.testing.assert_allclose(geometry.mean(axis=0), 0, atol=1e-4)


def test_nothing_is_learnt_from_other_rows() -> None:
    given, other = rows(), rows(10)
    columns = Columns.fit(given, TASK, prepare="scaled", read_as="auto")
    whole = columns.base(other)
    part = Rows(
        1,
        {"table": other.inputs["table"].take(np.array([3]))},
        tuple(BlockRows(b.name, b.kind, b.encoding, b.values[3:4]) for b in other.blocks),
    )
    np.testing.assert_array_equal(columns.base(part)[0], whole[3])


def test_ranks_are_read_from_the_distribution_of_the_fit() -> None:
    given = rows(500)
    base = Columns.fit(given, TASK, prepare="none", read_as="rank").base(Rows(500, {}, given.blocks))
    assert base.min() >= 0 and base.max() <= 1
    order = np.argsort(given.predictions()[0][:, 0])
    assert (np.diff(base[order, 0]) >= 0).all()


@pytest.mark.parametrize("prepare", ["trees", "scaled", "none"])
def test_saved_columns_read_the_same(prepare: str) -> None:
    given = rows()
    columns = Columns.fit(given, TASK, prepare=prepare, read_as="auto")
    store = MemoryStore()
    with store.write("abc", "fit", {}) as writer:
        columns.save(writer)
    loaded = Columns.load(store.read("abc"), TASK)
    pd.testing.assert_frame_equal(pd.DataFrame(loaded.base(given)), pd.DataFrame(columns.base(given)))
    for one, two in zip(loaded.features(given), columns.features(given), strict=True):
        np.testing.assert_array_equal(one, two)


def test_blocks_of_scale_zero_stay_out() -> None:
    base = np.zeros((2, 1))
    joined = combine(base, [np.ones((2, 2)), np.ones((2, 3))], (0.0, 0.3))
    np.testing.assert_allclose(joined, [[0, 0.3, 0.3, 0.3]] * 2)
    assert combine(base, [np.ones((2, 2))], (0.0,)) is base


@pytest.mark.parametrize("make", [LGBMClassifier, LGBMRegressor])
def test_lightgbm_predicts_an_array_of_category_numbers_as_the_frame(make: Any) -> None:
    given, later = rows(300), rows(77)
    y = RNG.integers(0, 3, 300)
    columns = Columns.fit(given, TASK, prepare="trees", read_as="auto")
    fitted = make(n_estimators=15, min_child_samples=3, verbose=-1).fit(columns.base(given), y)
    (light,) = LightGBM.all_of([fitted]) or ()
    np.testing.assert_array_equal(
        light.predict(columns.matrix(later)),
        (fitted.predict_proba if make is LGBMClassifier else fitted.predict)(columns.base(later)),
    )


def test_estimators_that_predict_in_a_way_of_their_own_are_asked_as_ever() -> None:
    X, y = np.arange(40.0).reshape(-1, 1), np.arange(40) % 2
    assert LightGBM.all_of([LGBMClassifier(verbose=-1, pred_early_stop=True).fit(X, y)]) is None
    assert LightGBM.all_of([Ridge().fit(X, y)]) is None
    two = LightGBM(LGBMClassifier(n_estimators=3, min_child_samples=2, verbose=-1).fit(X, y))
    np.testing.assert_array_equal(two.predict_proba(X), two.fitted.predict_proba(X))
