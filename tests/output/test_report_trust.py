"""What the report says of intervals, calibrations, held-out rows and boosting, and what it does not miss."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.output.report.pictures import PICTURES
from stackfeat.output.report.pictures.picture import NothingToShow
from tests.pages import Page
from tests.projects import Build, Config, Project, build_project, plain_config


def content_of(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.run_folder / "report.json").read_text())
    return found


def picture_of(project: Project, name: str) -> pd.DataFrame:
    return pd.DataFrame(content_of(project)["pictures"][name])


def sure_trees(calibrate: str) -> Config:
    """A vote over trees that are always sure, as each of their leaves has rows of one class."""
    config = plain_config("binary")
    config["levels"]["base"]["tree"]["params"] = {}
    config["levels"]["base"]["other"] = {
        "estimator": "sklearn.tree.ExtraTreeClassifier",
        "params": {"max_depth": None},
    }
    config["levels"]["final"]["soft"] = {
        "vote": "soft",
        "inputs": ["base/tree/proba", "base/other/proba"],
        "calibrate": calibrate,
    }
    return {**config, "submit": "final/soft"}


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run over values with intervals, held-out rows, and boosting that stops early."""
    config = plain_config("regression", "rmse")
    boosting = {"n_estimators": 60, "early_stopping_rounds": 5, "min_child_samples": 5, "num_leaves": 4}
    config["levels"]["base"]["gbm"] = {"estimator": "lightgbm.LGBMRegressor", "params": boosting}
    config |= {"interval": 0.85, "stack": {"holdout": 0.2}}
    project = build_project(tmp_path_factory.mktemp("values") / "project", "regression", config)
    said = project.run()
    assert said.code == 0, said.err
    return project


def test_the_coverage_of_intervals_is_in_the_report_at_the_level_asked_and_at_others(values: Project) -> None:
    found, measured = content_of(values)["intervals"], values.scores()["interval"]
    assert [one["level"] for one in found["levels"]] == [0.6, 0.8, 0.85, 0.9, 0.95]
    assert found["levels"][2] == measured and found["level"] == 0.85 and found["is_asked"]
    sizes = [one["size"] for one in found["levels"]]
    assert sizes == sorted(sizes), "a higher level asks for wider intervals"
    numbers = picture_of(values, "intervals")
    whole = numbers[(numbers["part"] == "all") & (numbers["level"] == 0.85)].iloc[0]
    assert whole["coverage"] == measured["coverage"] and whole["se"] == measured["se"]
    widest = numbers[(numbers["part"] == "widest fifth") & (numbers["level"] == 0.85)].iloc[0]
    assert widest["coverage"] == measured["parts"][-1]
    page = Page.of(values.run_folder / "report.html")
    (row,) = [row for row in page.table("Share of targets") if row["asked"] == "85 %"]
    assert row["held"] == f"{100 * measured['coverage']:.1f} %"
    assert row["widest fifth"] == f"{100 * measured['parts'][-1]:.1f} %"


def test_held_out_scores_stand_beside_those_out_of_fold(values: Project) -> None:
    numbers, members = picture_of(values, "holdout").set_index("member"), values.scores()["members"]
    assert set(numbers.index) == set(members)
    for name, one in members.items():
        assert numbers.loc[name, "score"] == one["score"] and numbers.loc[name, "holdout"] == one["holdout"]


def test_losses_of_boosting_that_stops_early_are_drawn_by_round(values: Project) -> None:
    numbers = picture_of(values, "learning_curves")
    assert set(numbers["member"]) == {"base/gbm"} and set(numbers["fold"]) == {"0", "1", "2"}
    assert set(numbers["rows"]) == {"validation"} and set(numbers["unit"]) == {"round"}
    reports = values.scores()["members"]["base/gbm"]["reports"]
    for fold, part in numbers.groupby("fold"):
        rounds = reports[f"0/{fold}"]["rounds"]
        assert part["step"].iloc[part["loss"].argmin()] == rounds["params"]["n_estimators"]
        assert part["step"].max() == rounds["splits"][0] + 5, "five more rounds were tried"
        assert "curves" not in reports[f"0/{fold}"]


def test_curves_are_no_part_of_the_saved_estimator(values: Project) -> None:
    states = list((values.run_folder / "predictor").rglob("estimator.json"))
    assert states and not any("curves" in path.read_text() for path in states)


def test_before_and_after_are_those_of_runs_without_and_with_calibration(build: Build, draws: None) -> None:
    project = build("binary", sure_trees("none"))
    assert project.run().code == 0
    plain = picture_of(project, "reliability")
    assert "calibrations" not in content_of(project)["missing"]
    assert project.write(sure_trees("auto")).run().code == 0
    content = content_of(project)
    (verdict,) = content["calibrations"]
    assert verdict["member"] == "final/soft" and verdict["families"] and verdict["gain"] > 0
    numbers, after = picture_of(project, "calibrations"), picture_of(project, "reliability")
    for when, reliability in (("before", plain), ("after", after)):
        part, whole = numbers[numbers["when"] == when], reliability[reliability["fold"] == "all"]
        assert set(part["member"]) == {"final/soft"} and part["rows"].sum() == whole["rows"].sum()
        for column in ("said", "happened"):
            means = [np.average(one[column], weights=one["rows"]) for one in (part, whole)]
            assert means[0] == pytest.approx(means[1], abs=1e-9)
    gaps = numbers.groupby("when")[["said", "happened"]].apply(
        lambda one: abs(one["said"] - one["happened"]).mean()
    )
    assert gaps["after"] < gaps["before"]
    page = Page.of(project.run_folder / "report.html")
    assert "Before and after calibration" in page.text and f"{verdict['text']}." in page.text


def test_a_run_without_nets_and_held_out_rows_does_not_miss_them(plain_run: Project) -> None:
    missing = content_of(plain_run)["missing"]
    assert set(missing) == {"importance"}
    assert "Learning curves" not in Page.of(plain_run.run_folder / "report.html").text


def test_a_picture_without_anything_to_show_says_why(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(evidence: Any) -> Any:
        raise NothingToShow("one member does it all")

    monkeypatch.setattr(PICTURES["greedy_path"], "numbers", nothing)
    project = build("binary", plain_config("binary"))
    assert project.run().code == 0
    assert content_of(project)["missing"]["greedy_path"] == "one member does it all"
    assert "Greedy path (one member does it all)" in Page.of(project.run_folder / "report.html").text


def test_warnings_name_files_without_the_folders_of_this_machine(build: Build) -> None:
    project = build("binary", plain_config("binary"))
    project.rewritten(lambda row: {**row, "a": "" if not row["a"] else str(float(row["a"]) + 50)}, "test.csv")
    assert project.run().code == 0
    (text,) = [text for text in content_of(project)["warnings"] if "column 'a'" in text]
    assert text.startswith("test.csv: column 'a'")


def test_what_members_are_is_said_with_what_their_fits_found(values: Project) -> None:
    members = {f"{one['level']}/{one['member']}": one for one in content_of(values)["members"]}
    learners = {name: one["learner"] for name, one in members.items()}
    assert learners == {
        "base/linear": "Ridge",
        "base/tree": "DecisionTreeRegressor",
        "base/gbm": "LGBMRegressor",
        "final/soft": "soft vote",
    }
    assert members["base/tree"]["options"] == "max_depth 3" and members["final/soft"]["options"] == ""
    reports = values.scores()["members"]["base/gbm"]["reports"]
    rounds = [reports[f"0/{fold}"]["rounds"]["params"]["n_estimators"] for fold in range(3)]
    low, high = min(rounds), max(rounds)
    assert members["base/gbm"]["chosen"] == f"n_estimators {low}" + (f" to {high}" if low < high else "")
    rows = {
        row["member"]: row for row in Page.of(values.run_folder / "report.html").table("What members are")
    }
    assert rows["base/gbm"]["learner"] == "LGBMRegressor" and "num_leaves 4" in str(rows["base/gbm"])


def test_the_interval_of_a_score_stands_behind_that_score_and_not_behind_the_held_out_one(
    values: Project,
) -> None:
    content, page = content_of(values), Page.of(values.run_folder / "report.html")
    low, high = content["interval"]
    assert low < content["score"] < high
    lead = next(one.text for one in page.root.all("p") if one.attributes.get("class") == "lead")
    assert lead.index("out of fold (95 % interval") < lead.index("on held-out rows")


def predictions(project: Project, kind: str) -> pd.DataFrame:
    name = project.scores()["members"][content_of(project)["submitted"]]["file"]
    return pd.read_csv(project.run_folder / kind / name, dtype={"id": str}).set_index("id")


def test_target_and_predictions_are_drawn_beside_each_other(values: Project, plain_run: Project) -> None:
    numbers = picture_of(values, "distribution")
    assert numbers.groupby("what")["share"].sum().tolist() == pytest.approx([1.0, 1.0, 1.0])
    oof = predictions(values, "oof")["prediction"]
    part = numbers[numbers["what"] == "predicted out of fold"]
    edges = np.r_[part["from"], part["to"].iloc[-1]]
    counts, _ = np.histogram(oof.clip(edges[0], edges[-1]), edges)
    assert part["share"].tolist() == pytest.approx((counts / len(oof)).tolist())
    shares = picture_of(plain_run, "class_shares").pivot(index="class", columns="what", values="share")
    y = pd.read_csv(plain_run.folder / "train.csv")["label"]
    assert shares["truth"].to_dict() == pytest.approx(y.value_counts(normalize=True).to_dict())
    for what, kind in (("predicted out of fold", "oof"), ("predicted of test rows", "test")):
        assert shares[what].to_dict() == pytest.approx(predictions(plain_run, kind).mean().to_dict())
