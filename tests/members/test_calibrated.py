"""Calibrated members: what their calibration is fitted on, what it mends, and where it may be asked for."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import stackfeat as sf
from stackfeat.config import load_config
from stackfeat.data.samples import Samples, Table
from stackfeat.data.splits.holdout import InnerSplits
from stackfeat.errors import ConfigError
from stackfeat.members import learns_from_rows, make_member
from stackfeat.members.calibrated import CalibratedMember
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.members.protocol import FitContext
from stackfeat.members.settings import EstimatorSettings, RunSettings
from stackfeat.members.vote_options import VoteOptions
from stackfeat.meta.calibration import FAMILIES
from stackfeat.meta.columns import BlockRows, Rows
from stackfeat.tasks.task import Task
from tests.projects import Build, Project, plain_config

TASK = Task("binary", ("no", "yes"))
N_FOLDS = 4


def given(
    factor: float = 1.0, n: int = 2000, clusters: np.ndarray | None = None
) -> tuple[Rows, FitContext[Any]]:
    """Predictions whose logits are `factor` times those of the law, and what a fit knows."""
    random = np.random.default_rng(0)
    scores = random.normal(size=n) * 1.5
    y = (random.random(n) < expit(scores)).astype(np.int64)
    p = expit(factor * scores)
    table = Table(scores[:, None], ("x",), np.zeros((n, 0), np.int32), (), ())
    samples = Samples(np.arange(n).astype(str), {"table": table}, y, TASK)
    block = BlockRows("base/a/proba", "prediction", None, np.column_stack([1 - p, p]))
    rows = Rows(n, {}, (block,), samples.ids, np.arange(n))
    inner = InnerSplits(samples, np.arange(n), "kfold", 0)
    settings = EstimatorSettings(threads=1, seeds=1)
    context = FitContext(TASK, y, None, np.arange(n) % N_FOLDS, inner, 5, settings, clusters=clusters)
    return rows, context


def lost(rows: Rows, member: Any, context: FitContext[Any]) -> float:
    return float(TASK.row_loss(context.y, member.emit(rows)["proba"]).mean())


def test_a_vote_whose_logits_were_tripled_is_brought_back_to_its_own_loss() -> None:
    options = VoteOptions(vote="soft", inputs=("base/*",), calibrate="auto")
    (own, context), (tripled, _) = given(1.0), given(3.0)
    plain = make_member({"vote": "soft"}).fit(own, context)
    fitted = make_member(options.recipe()).fit(tripled, context)
    before = lost(tripled, make_member({"vote": "soft"}).fit(tripled, context), context)
    assert before > 1.3 * lost(own, plain, context)
    assert lost(tripled, fitted, context) == pytest.approx(lost(own, plain, context), rel=0.02)
    assert fitted.report()["calibration"]["parameters"]["temperature"] == pytest.approx(3, rel=0.1)


@dataclass
class Memory:
    """A member that repeats the labels of rows it was fitted on, passes on what it reads of others, and counts."""

    seen: list[set[int]] = field(default_factory=list)

    def fit(self, rows: Rows, context: FitContext[Any]) -> Any:
        assert rows.numbers is not None and len(rows.numbers) == len(context.y)
        self.seen.append(set(rows.numbers.tolist()))
        return Remembering(dict(zip(rows.numbers.tolist(), context.y.tolist(), strict=True)))


@dataclass
class Remembering:
    labels: dict[int, int]

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        (said,) = rows.predictions()
        assert rows.numbers is not None
        known = np.array([self.labels.get(number, -1) for number in rows.numbers.tolist()])
        sure = np.column_stack([known == 0, known == 1]) * 0.98 + 0.01
        return {"proba": np.where((known >= 0)[:, None], sure, said)}

    def report(self) -> dict[str, Any]:
        return {}


def test_a_calibration_is_fitted_on_predictions_of_rows_that_the_member_has_not_seen() -> None:
    """On rows of its own fit this member is right always, so that what it says there would be made surer still."""
    (rows, context), memory = given(1.0), Memory()
    found = CalibratedMember(memory).fit(rows, context).report()["calibration"]  # type: ignore[arg-type]
    assert found["family"] == "none" or abs(found["parameters"]["temperature"] - 1) < 0.1
    assert [len(seen) for seen in memory.seen] == [2000, 1500, 1500, 1500, 1500]
    fold_of = context.fold_of
    assert fold_of is not None
    for fold, seen in enumerate(memory.seen[1:]):
        assert not seen & set(np.flatnonzero(fold_of == fold).tolist())


def test_a_vote_that_learns_nothing_is_fitted_once() -> None:
    rows, context = given(2.0, n=200)
    memory = Memory()
    CalibratedMember(memory, learns=False).fit(rows, context)  # type: ignore[arg-type]
    assert len(memory.seen) == 1


def test_a_meta_learner_with_inner_splits_is_calibrated_on_parts_of_its_rows() -> None:
    rows, context = given(3.0, n=600)
    options = EstimatorOptions(
        estimator="lightgbm.LGBMClassifier",
        params={"n_estimators": 30, "early_stopping_rounds": 5, "learning_rate": 0.5},
        calibrate="auto",
    )
    fitted = options.member().fit(rows, context)
    assert {"rounds", "calibration"} <= set(fitted.report())


def test_keys_change_only_where_predictions_are_calibrated() -> None:
    run = RunSettings(threads=1, metric="log_loss")
    for options in (VoteOptions(vote="soft", inputs=("a",)), EstimatorOptions(estimator="gated_linear")):
        asked = options.model_copy(update={"calibrate": "auto"})
        assert "calibrate" not in options.recipe() and asked.recipe()["calibrate"] == "auto"
        versions = [
            one.settings(run, has_blocks=True, has_features=False).calibration for one in (options, asked)
        ]
        assert versions == [None, 2]


def test_every_family_can_be_asked_for() -> None:
    legal = get_args(VoteOptions.model_fields["calibrate"].annotation)
    assert legal == ("none", "auto", *FAMILIES)


def test_a_calibrated_vote_learns_from_labels() -> None:
    plain, asked = (VoteOptions(vote="soft", inputs=("a",), calibrate=value) for value in ("none", "auto"))
    assert not plain.is_fitted and asked.is_fitted
    assert not learns_from_rows(plain.recipe()) and learns_from_rows(asked.recipe())


@pytest.mark.parametrize(
    ("level", "member", "message"),
    [
        (
            "base",
            {"estimator": "sklearn.linear_model.LogisticRegression", "calibrate": "auto"},
            r"votes and meta-learners above the first level can be calibrated.*got 'auto' in the first level. Remove",
        ),
        ("base", {"net": "mlp", "calibrate": "auto"}, r"is an option of estimator and vote members"),
        (
            "final",
            {"vote": "soft", "inputs": ["base/*"], "calibrate": "platt"},
            r"final\.other\.calibrate: must be one of none, auto, temperature.*; got 'platt'",
        ),
        (
            "final",
            {"vote": "soft", "inputs": ["base/*"], "calibrate": "linear"},
            r"must be one of none, auto, temperature, class_scaling for task multiclass; got 'linear'\. Use auto",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_said(level: str, member: Any, message: str, build: Build) -> None:
    config = plain_config()
    config["levels"][level]["other"] = member
    project = build(config=config)
    with pytest.raises(ConfigError, match=message):
        load_config(project.folder / "c.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run whose vote and meta-learner are calibrated; the trees are far too sure."""
    from tests.projects import build_project

    config = plain_config("binary", "log_loss")
    config["levels"]["base"]["tree"]["params"] = {"max_depth": 8}
    config["levels"]["meta"] = {
        "logit": {
            "estimator": "sklearn.linear_model.LogisticRegression",
            "inputs": ["base/*/proba"],
            "calibrate": "auto",
        }
    }
    config["levels"]["final"] = {
        "soft": {"vote": "soft", "inputs": ["base/*/proba"], "calibrate": "auto"},
        "plain": {"vote": "soft", "inputs": ["base/*/proba"]},
        "weighted": {"vote": "weighted", "inputs": ["base/*/proba"], "calibrate": "auto"},
    }
    config["submit"] = "soft"
    project = build_project(tmp_path_factory.mktemp("calibrated") / "project", "binary", config, n_rows=500)
    said = project.run()
    assert said.code == 0, said.err
    return project


def test_every_fit_reports_what_was_found(finished: Project) -> None:
    members = finished.scores()["members"]
    reports = members["final/soft"]["reports"]
    assert set(reports) == {"0/0", "0/1", "0/2", "0/all"}
    for report in reports.values():
        found = report["calibration"]
        assert set(found) == {"family", "parameters", "gain", "se", "slope_se", "trials"}
    assert reports["0/all"]["calibration"]["family"] != "none"
    assert members["final/soft"]["score"] < members["final/plain"]["score"]
    assert "calibration" not in members["final/plain"]["reports"].get("0/all", {})
    # Weights stand beside it, fitted before it.
    assert {"weights", "calibration"} <= set(members["final/weighted"]["reports"]["0/all"])


def test_a_saved_predictor_calibrates_as_the_run_did(finished: Project) -> None:
    out = finished.folder / "again.csv"
    said = finished.cli("predict", finished.run_folder, finished.folder / "test.csv", "-o", out)
    assert said.code == 0, said.err
    submitted = pd.read_csv(finished.run_folder / "submission.csv")
    np.testing.assert_allclose(pd.read_csv(out)["label"], submitted["label"], rtol=1e-12)


def test_averages_are_widened_alike_by_the_run_and_by_its_predictor(finished: Project) -> None:
    scores = finished.scores()["members"]
    assert "widening" in scores["final/soft"] and "widening" not in scores["final/plain"]
    wiring = json.loads((finished.run_folder / "predictor/predictor.json").read_text())
    assert wiring["widenings"] == {"final/soft/proba": scores["final/soft"]["widening"]}
    model = sf.load(finished.run_folder)
    said = model.predict_members(pd.read_csv(finished.folder / "test.csv"))
    written = pd.read_csv(finished.run_folder / "test/final.soft.csv")
    assert "final/soft:yes" in said
    np.testing.assert_allclose(said["final/soft:yes"], written["yes"], rtol=1e-12)


def test_the_summary_says_what_was_kept_and_by_what_gain(finished: Project) -> None:
    said = finished.run().out
    (line,) = [line for line in said.splitlines() if line.startswith("calibration: final/soft ")]
    assert re.search(r"by (temperature|class_scaling) in \d of 4 fits.* the loss falls by .+ ± .+", line)
    assert "averages over pipelines are widened by 1." in line
    assert "calibration: final/plain" not in said


def test_check_says_that_a_member_is_calibrated(finished: Project) -> None:
    said = finished.cli("check", finished.folder / "c.yaml")
    assert said.out.count("calibrated, where that lowers the out-of-fold loss") == 3


def test_a_second_run_computes_nothing(finished: Project) -> None:
    said = finished.run()
    assert said.code == 0 and "jobs computed: 0" in said.out
