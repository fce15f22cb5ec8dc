"""What columns contribute to the predictions of rows, through a whole stack."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat as sf
from stackfeat.errors import UsageError
from stackfeat.output.saved_predictor import SavedPredictor
from tests.projects import Build, base_config, plain_config

Project = Any


@pytest.fixture(scope="module")
def stack(net_run: Project) -> SavedPredictor:
    model = sf.load(net_run.run_folder)
    assert isinstance(model, SavedPredictor)
    return model


def rows_of(project: Project) -> pd.DataFrame:
    return pd.read_csv(project.folder / "test.csv")


def test_contributions_of_a_row_add_up_on_the_log_odds_of_its_class(
    stack: SavedPredictor, net_run: Project
) -> None:
    frame = rows_of(net_run).head(3)
    found = stack.explain(frame.set_axis(["x", "y", "z"]))
    assert list(found["row"].unique()) == ["x", "y", "z"]
    assert list(found["column"].unique()) == ["a", "b", "c", "d", "colour"]
    proba, sums = stack.predict_proba(frame), found.groupby("row")
    likely = proba.max(axis=1)
    np.testing.assert_allclose(sums["prediction"].first(), np.log(likely / (1 - likely)))
    assert sums["outcome"].first().tolist() == stack.predict(frame).tolist()
    moved = sums["prediction"].first() - sums["base"].first()
    np.testing.assert_allclose(sums["contribution"].sum(), moved, atol=1e-10)
    assert (found["se"] >= 0).all()


def test_a_linear_model_is_taken_apart_into_its_terms(build: Build) -> None:
    config = base_config("regression", "rmse")
    config["levels"] = {"base": {"linear": {"estimator": "sklearn.linear_model.Ridge"}}}
    project = build("regression", config)
    assert project.run().code == 0
    model, frame = sf.load(project.run_folder), rows_of(project).dropna().head(5)
    assert isinstance(model, SavedPredictor)
    found = model.explain(frame)
    typical = pd.read_csv(project.folder / "train.csv")[["a", "b", "c", "d"]]
    # With two typical neighbours among the values the lower one counts.
    middle = {
        name: np.sort(typical[name].dropna())[(typical[name].notna().sum() - 1) // 2] for name in "abcd"
    }
    for name in "abcd":
        swapped = model.predict(frame.assign(**{name: middle[name]}))
        own = found[found["column"] == name]["contribution"]
        np.testing.assert_allclose(own, model.predict(frame) - swapped, atol=1e-9)
    assert found["se"].max() < 1e-12 and set(found["outcome"]) == {"prediction"}


def test_a_row_is_explained_alike_alone_among_others_and_in_threads(
    stack: SavedPredictor, net_run: Project
) -> None:
    frame = rows_of(net_run).head(6)
    whole = stack.explain(frame, n_permutations=4, seed=2)
    with ThreadPoolExecutor(3) as threads:
        parts = threads.map(lambda j: stack.explain(frame.iloc[[j]], n_permutations=4, seed=2), range(6))
        pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
    other = stack.explain(frame, n_permutations=4, seed=3)
    assert not np.allclose(other["contribution"], whole["contribution"])
    with pytest.raises(UsageError, match="n_permutations must be even"):
        stack.explain(frame, n_permutations=5)


def test_of_two_classes_the_positive_one_is_explained_and_ranks_are_left_out(build: Build) -> None:
    config = plain_config("binary", "roc_auc")
    config["stack"] = {"average": "rank"}
    project = build("binary", config)
    assert project.run("--set", "data.positive=no").code == 0
    model, frame = sf.load(project.run_folder), rows_of(project)
    assert isinstance(model, SavedPredictor)
    whole = model.explain(frame)
    assert set(whole["outcome"]) == {"no"}
    one = model.explain(frame.iloc[[7]])
    pd.testing.assert_frame_equal(one, whole[whole["row"] == 7].reset_index(drop=True))
