"""Runs of quantiles from end to end: files, interval, predictor and report, and what a config may not say."""

from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_pinball_loss

import stackfeat as sf
from stackfeat.config.scaffold import Wishes, scaffold_config
from stackfeat.config.yaml_file import parse_yaml
from stackfeat.errors import UsageError
from stackfeat.tasks.task import DEFAULT_QUANTILES
from tests.projects import Build, Config, Project, base_config, build_project, with_net

LEVELS = (0.1, 0.5, 0.9)


def config(**others: Any) -> Config:
    found = with_net(base_config("quantile", "pinball"))
    found["levels"]["base"]["gbm"]["params"].pop("n_estimators")
    found["levels"]["base"]["gbm"]["params"]["learning_rate"] = 0.3
    found["levels"]["final"]["weighted"] = {"vote": "weighted", "inputs": ["base/*/prediction"]}
    found["levels"]["final"]["soft"] |= {"inputs": ["base/*/prediction"], "calibrate": "auto"}
    return {**found, "quantiles": list(LEVELS), "interval": 0.8, "submit": "soft", **others}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = build_project(tmp_path_factory.mktemp("quantile") / "project", "quantile", config())
    said = project.run()
    assert said.code == 0, said.err
    return project


def targets(project: Project) -> pd.Series:
    frame = pd.read_csv(project.folder / "train.csv", dtype={"row_id": str})
    return frame.set_index("row_id")["label"]


def test_every_file_has_a_column_for_each_quantile_and_none_cross(finished: Project) -> None:
    folder = finished.run_folder
    header, *rows = list(csv.reader((folder / "submission.csv").open(newline="")))
    assert header == ["row_id", "q0.1", "q0.5", "q0.9"] and len(rows) == 40
    files = [folder / "submission.csv", *(folder / "oof").glob("*.csv"), *(folder / "test").glob("*.csv")]
    assert len(files) == 1 + 2 * 7
    for file in files:
        frame = pd.read_csv(file)
        assert list(frame.columns[1:]) == ["q0.1", "q0.5", "q0.9"]
        assert (np.diff(frame.to_numpy()[:, 1:].astype(float), axis=1) >= 0).all(), file


def test_scores_are_mean_pinball_losses_of_out_of_fold_rows(finished: Project) -> None:
    y, scores = targets(finished), finished.scores()["members"]
    for name, found in scores.items():
        oof = pd.read_csv(finished.run_folder / "oof" / f"{name.replace('/', '.')}.csv", dtype={"id": str})
        said = oof.set_index("id").loc[y.index].to_numpy()
        pairs = zip(LEVELS, said.T, strict=True)
        assert found["score"] == pytest.approx(
            np.mean([mean_pinball_loss(y, one, alpha=level) for level, one in pairs])
        )


def test_rounds_are_found_for_each_quantile(finished: Project) -> None:
    reports = finished.scores()["members"]["base/gbm"]
    text = json.dumps(reports)
    assert '"by_level"' in text and text.count('"splits"') % len(LEVELS) == 0


def test_the_interval_of_a_run_is_measured_between_its_quantiles(finished: Project) -> None:
    y = targets(finished)
    oof = pd.read_csv(finished.run_folder / "oof/final.soft.csv", dtype={"id": str}).set_index("id")
    said = oof.loc[y.index].to_numpy()
    inside = (said[:, 0] <= y.to_numpy()) & (y.to_numpy() <= said[:, 2])
    found = finished.scores()["interval"]
    assert found["coverage"] == pytest.approx(inside.mean()) and len(found["parts"]) == 5
    assert found["size"] == pytest.approx((said[:, 2] - said[:, 0]).mean())


def test_the_predictor_gives_the_submission_again_and_intervals_of_any_level(finished: Project) -> None:
    model = sf.load(finished.run_folder)
    test = pd.read_csv(finished.folder / "test.csv", dtype={"row_id": str})
    said = model.predict(test)
    written = pd.read_csv(finished.run_folder / "submission.csv").to_numpy()[:, 1:]
    np.testing.assert_allclose(said, written, rtol=1e-9)
    np.testing.assert_array_equal(model.interval(test, 0.8), said[:, [0, 2]])
    narrow, wide = model.interval(test, 0.6), model.interval(test, 0.95)
    assert (wide[:, 0] <= narrow[:, 0]).all() and (narrow[:, 1] <= wide[:, 1]).all()
    members = model.predict_members(test)
    assert {"base/mlp:q0.1", "final/soft:q0.9"} <= set(members.columns)
    assert list(model.spread(test).columns) == ["spread:q0.1", "spread:q0.5", "spread:q0.9"]
    with pytest.raises(UsageError, match="predict_proba needs classes; got a run of a quantile"):
        model.predict_proba(test)


def test_the_report_shows_quantiles_and_the_metrics_that_decide_nothing(finished: Project) -> None:
    content = json.loads((finished.run_folder / "report.json").read_text())
    assert {"quantiles", "coverage"} <= set(content["pictures"])
    assert not {"predicted", "residuals", "confusion"} & set(content["pictures"])
    below = pd.DataFrame(content["pictures"]["coverage"])
    y = targets(finished)
    oof = pd.read_csv(finished.run_folder / "oof/final.soft.csv", dtype={"id": str}).set_index("id")
    said = oof.loc[y.index]
    for name in ("q0.1", "q0.5", "q0.9"):
        part = below[below["quantile"] == name]
        expected = float((y <= said[name]).mean())
        assert np.average(part["below"], weights=part["rows"]) == pytest.approx(expected)
    member = next(one for one in content["members"] if one["member"] == "soft")
    assert set(member["metrics"]) == {"wis", "crps", "coverage", "interval_width"}


def test_results_are_the_same_for_any_number_of_jobs(finished: Project, build: Build) -> None:
    again = build("quantile", config(executor={"kind": "loky", "jobs": 2}))
    assert again.run().code == 0
    for name in ("submission.csv", "scores.json"):
        assert (again.run_folder / name).read_bytes() == (finished.run_folder / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "rmse"}, r"must fit task quantile; .*Choose one of pinball, wis, crps\."),
        ({"metric": "coverage"}, r"never optimised.*Choose one of pinball, wis, crps"),
        ({"metric": "interval_width"}, r"never optimised"),
        ({"metric": "pinbal"}, r"Did you mean 'pinball'"),
        ({"quantiles": [0.9, 0.1]}, r"data.quantiles: must ascend, each once; got \[0.9, 0.1\]"),
        ({"quantiles": [0.1, 1.0]}, r"data.quantiles: must lie between 0 and 1"),
        ({"metric": "wis", "quantiles": [0.1, 0.6]}, r"wis needs levels with a counterpart"),
        ({"quantile": [0.1]}, r"Did you mean 'quantiles'"),
        ({"task": "regression", "metric": "rmse"}, r"only a quantile task predicts quantiles"),
        ({"stack": {"average": "rank"}}, r"rank averages one column.*Use mean"),
    ],
)
def test_what_a_config_may_not_say(build: Build, change: dict[str, Any], message: str) -> None:
    project = build("quantile", config(**change))
    said = project.cli("check", project.folder / "c.yaml")
    assert said.code == 2
    assert pd.Series([said.err.replace("\n", " ")]).str.contains(message).all(), said.err


def test_an_estimator_that_cannot_learn_quantiles_is_refused_before_anything_is_read(build: Build) -> None:
    wrong = config()
    wrong["levels"]["base"]["linear"]["estimator"] = "sklearn.linear_model.Ridge"
    project = build("quantile", wrong)
    said = project.cli("check", project.folder / "c.yaml")
    assert said.code == 2 and "must be able to learn a quantile" in said.err
    assert "sklearn.linear_model.QuantileRegressor" in said.err


def test_a_single_quantile_has_a_column_of_its_own_name(build: Build) -> None:
    found = config(quantiles=0.9)
    del found["levels"]["base"]["mlp"], found["interval"]
    found["levels"]["base"]["gbm"]["params"]["n_estimators"] = 5
    project = build("quantile", found)
    assert project.run().code == 0
    assert project.submission()[0] == ["row_id", "q0.9"]
    assert sf.load(project.run_folder).predict(project.folder / "test.csv").shape == (40, 1)


def test_a_student_of_several_quantiles_is_refused(finished: Project) -> None:
    said = finished.cli("distil", finished.run_folder, "--student", "lightgbm")
    assert said.code != 0 and "a student predicts one target; got a run with 3 quantiles" in said.err


def test_a_first_config_holds_only_what_can_learn_quantiles(finished: Project) -> None:
    for preset in ("quick", "good", "best"):
        text = scaffold_config(
            finished.folder / "train.csv", "label", None, None, Wishes(task="quantile", preset=preset)
        )
        values = parse_yaml(text).values
        assert tuple(values["quantiles"]) == DEFAULT_QUANTILES and values["metric"] == "pinball"
        path = finished.folder / f"{preset}.yaml"
        path.write_text(text)
        said = finished.cli("check", path, "--data-root", finished.folder)
        assert said.code == 0, said.err
