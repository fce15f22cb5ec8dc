"""Weights of votes, out of fold and on rows that no level has seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from stackfeat.engine.weights import Weight, _weights, flattered
from stackfeat.meta.votes.vote import VoteTarget
from stackfeat.meta.votes.weighted import WeightedVote
from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import Task
from tests.projects import Build, Project, plain_config


def finished(build: Build, **stack: object) -> Project:
    config = plain_config()
    config["levels"]["final"]["fitted"] = {"vote": "weighted", "inputs": ["base/*/proba"]}
    project = build(config={**config, "stack": stack}, n_rows=200)
    said = project.run()
    assert said.code == 0, said.err
    return project


def test_weights_on_held_out_rows_are_those_of_a_vote_fitted_to_them(build: Build) -> None:
    project = finished(build, holdout=0.3)
    found = project.scores()["weights"]["final/fitted"]
    names = ["base/linear/proba", "base/tree/proba"]
    assert sorted(found) == names
    files = [pd.read_csv(project.run_folder / "holdout" / f"base.{name}.csv") for name in ("linear", "tree")]
    train = pd.read_csv(project.folder / "train.csv", dtype={"row_id": str}).set_index("row_id")
    task = Task("multiclass", ("high", "low", "mid"))
    labels = train["label"].loc[[f"{one:03d}" for one in files[0]["id"]]]
    y = labels.map({label: code for code, label in enumerate(task.classes)}).to_numpy()
    target = VoteTarget(task, y, None, get_metric("log_loss", "multiclass"), 0)
    wanted = WeightedVote.fit([file.iloc[:, 1:].to_numpy() for file in files], target, {}).weights
    assert [found[name]["fresh"] for name in names] == pytest.approx(list(wanted), abs=2e-3)
    assert all(found[name]["fresh_se"] > 0 for name in names)
    assert "on held-out rows" in (project.run_folder / "report.html").read_text()


def test_without_held_out_rows_weights_have_the_error_of_a_jackknife_over_folds(build: Build) -> None:
    scores = finished(build).scores()
    reports = scores["members"]["final/fitted"]["reports"]
    for name, weight in scores["weights"]["final/fitted"].items():
        assert weight["whole"] == reports["0/all"]["weights"][name]
        parts = np.array([reports[f"0/{fold}"]["weights"][name] for fold in range(3)])
        assert weight["se"] == pytest.approx(np.sqrt(2 / 3 * ((parts - parts.mean()) ** 2).sum()))
        assert weight["fresh"] is None


def test_an_input_that_fresh_rows_weigh_less_is_named() -> None:
    sure = {"base/a/proba": Weight(0.8, 0.05, 0.1, 0.05), "base/b/proba": Weight(0.2, 0.05, 0.9, 0.05)}
    (text,) = flattered({"final/fitted": sure})
    assert text.startswith(
        "final/fitted weighs base/a/proba with 0.80 out of fold, and with 0.10 ± 0.05 on held-out"
    )
    assert not flattered({"final/fitted": {"base/a/proba": Weight(0.8, 0.3, 0.1, 0.2)}})
    assert not flattered({"final/fitted": {"base/a/proba": Weight(0.8, 0.01)}})
    # The more inputs there are, the surer it must be.
    one = Weight(0.5, 0.1, 0.2, 0.1)
    assert one.is_flattered(1) and not one.is_flattered(20)


def test_an_input_that_no_resample_weighs_counts_as_zero() -> None:
    found = _weights({"a": 1.0, "b": 0.0}, [{"a": 1.0}, {"b": 1.0}], [{"a": 1.0}, {"a": 1.0}, {"b": 1.0}])
    assert found["b"].fresh == 0.0 and found["b"].fresh_se == pytest.approx(np.std([0, 1], ddof=1))
    assert found["a"].se == pytest.approx(0.5)
