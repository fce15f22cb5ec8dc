"""Members that fail leave the others to make the ensemble, and are named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.projects import FAILING

Project = Any
NAN = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Nan(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self
    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), np.nan)
"""


def add(project: Project, name: str, member: dict[str, Any], level: str = "base") -> Project:
    config = project.config()
    config["levels"][level][name] = member
    return project.write(config)


def test_a_member_that_fails_leaves_an_ensemble_of_the_others(quick: Project) -> None:
    before = quick.outputs()
    said = add(quick, "bad", FAILING).run()
    assert said.code == 4
    assert "failed: base/bad: " in said.out and "n_neighbors" in said.out
    assert "Traceback" not in said.err + said.out
    scores = quick.scores()
    assert scores["failed"] == ["base/bad"]
    assert set(scores["members"]) == {"base/gbm", "base/linear", "meta/gated", "final/soft", "final/greedy"}
    assert quick.outputs()["submission.csv"] == before["submission.csv"]
    assert "base/bad" in (quick.run_folder / "report.html").read_text()
    log = (quick.run_folder / "run.log").read_text()
    assert "ERROR base/bad fold 0 failed" in log and "ValueError" in log


def test_a_failed_run_fails_the_same_way_again(quick: Project) -> None:
    assert add(quick, "bad", FAILING).run().code == 4
    before = quick.outputs()
    said = quick.run()
    assert said.code == 4 and "n_neighbors" in said.out
    assert quick.outputs() == before


def test_predictions_that_are_not_finite_fail_the_member(quick: Project) -> None:
    (quick.folder / "odd.py").write_text(NAN)
    said = add(quick, "nan", {"estimator": "odd:Nan"}).run("--trust-code")
    assert said.code == 4
    assert "failed: base/nan: Nan must predict finite numbers; got" in said.out


def test_a_meta_member_that_fails_leaves_the_base(quick: Project) -> None:
    config = quick.config()
    config["levels"]["meta"] = {"gated": {**FAILING, "inputs": ["base/*/proba"]}}
    said = quick.write(config).run()
    assert said.code == 4 and "failed: meta/gated: " in said.out
    assert "final/soft" in quick.scores()["members"]


def test_what_read_only_the_failed_member_is_left_out_and_said(quick: Project) -> None:
    add(quick, "bad", FAILING)
    add(quick, "reader", {"estimator": "gated_linear", "inputs": ["base/bad/proba"]}, "meta")
    said = quick.run("--set", "submit=meta/reader")
    assert said.code == 4
    assert "meta/reader" not in quick.scores()["members"]
    assert "submit: meta/reader is not among the finished members" in said.out.replace("\n", " ")


def test_a_repaired_member_joins_without_refitting_the_others(quick: Project, fits: list[str]) -> None:
    assert add(quick, "bad", FAILING).run().code == 4
    fits.clear()
    assert add(quick, "bad", {**FAILING, "params": {"n_neighbors": 5}}).run().code == 0
    assert fits.count("sklearn.neighbors.KNeighborsClassifier") == 3
    assert "lightgbm.LGBMClassifier" not in fits


@pytest.mark.parametrize("kind", ["inline", pytest.param("loky", marks=pytest.mark.slow)])
def test_a_run_without_any_member_left_fails(kind: str, quick: Project) -> None:
    config = quick.config()
    for member in config["levels"]["base"].values():
        member.update(FAILING)
    said = quick.write(config).run("--set", f"executor={{kind: {kind}, jobs: 2}}", "--set", "name=dead")
    assert said.code == 1
    assert "error: at least one member must be left" in said.err
    assert "base/gbm" in said.err and "base/linear" in said.err and "Traceback" not in said.err
    there = {path.name for path in (quick.folder / "runs" / "dead").iterdir()}
    assert there == {"run.log", "events.jsonl", "run.json", ".run.lock"}
