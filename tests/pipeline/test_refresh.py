"""A finished run fitted to new rows: what stays, what is judged, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.metrics import f1_score, log_loss

import stackfeat as sf
from stackfeat.errors import DataError, RunFailed, UsageError
from tests.projects import FAILING, Build, Project, plain_config, table, write_table


def new_rows(project: Project, task: str = "multiclass", n_rows: int = 70, first: int = 300) -> Path:
    """Write another training file: none of its rows is in the old one."""
    path = project.folder / "new.csv"
    write_table(path, table(task, n_rows, first, True, 5))
    return path


def config_of(folder: Path) -> dict[str, Any]:
    with (folder / "config.yaml").open() as file:
        values: dict[str, Any] = YAML(typ="safe").load(file)
    return values


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_empty_name_of_a_run_is_not_blamed_on_another_option(
    plain_run: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = plain_run.cli("refresh", "", "--train", "")
    assert said.code == 2 and "RUN must be the folder of a finished run" in said.err
    monkeypatch.chdir(plain_run.run_folder)
    said = plain_run.cli("refresh", ".", "--train", Path("..", "..", "no.csv"))
    assert said.code == 3 and f"error: {plain_run.folder / 'no.csv'}: there is no such file" in said.err


def test_a_new_run_folder_has_a_predictor_and_the_old_one_stays(plain: Project) -> None:
    before = files_of(plain.run_folder)
    found = sf.refresh(plain.run_folder, new_rows(plain))
    assert found.folder == plain.folder / "runs" / "run-refreshed"
    assert files_of(plain.run_folder) == before
    frame = pd.read_csv(plain.folder / "test.csv", dtype={"row_id": str})
    old, new = sf.load(plain.run_folder), sf.load(found.folder)
    assert new.submitted == old.submitted
    assert list(new.classes_) == list(old.classes_)
    assert not np.allclose(new.predict_proba(frame), old.predict_proba(frame))


def test_old_and_new_are_scored_on_rows_that_the_old_model_never_saw(plain: Project) -> None:
    path = new_rows(plain)
    old = pd.read_csv(plain.folder / "train.csv", dtype={"row_id": str})
    fresh = pd.read_csv(path, dtype={"row_id": str})
    # Ten old rows come back, five under another id.
    back = old.head(10).assign(row_id=[*old["row_id"].head(5), *(f"9{i}" for i in range(5))])
    pd.concat([back, fresh]).to_csv(path, index=False)
    found = sf.refresh(plain.run_folder, path)
    of = found.comparison
    assert (of.n_rows, of.n_fresh, of.n_scored) == (80, 70, 70)
    oof = pd.read_csv(next(found.folder.glob("oof/final.soft.csv")), dtype={"id": str}).set_index("id")
    model = sf.load(plain.run_folder)
    classes = [str(one) for one in model.classes_]
    # Each row through the old pipeline of the number of its new fold: averages would be compared with none.
    folds = pd.read_csv(found.folder / "folds.csv", dtype={"id": str}).set_index("id")
    numbers = folds.loc[fresh["row_id"], "fold"].to_numpy()
    views = model.predictor.views(model.rows_of(path))[0][:, -70:]
    single = views[numbers, np.arange(70)]
    by_hand = {
        "old": log_loss(fresh["label"], single, labels=classes),
        "new": log_loss(fresh["label"], oof.loc[fresh["row_id"], classes], labels=classes),
    }
    assert of.old == pytest.approx(by_hand["old"], rel=1e-6)
    assert of.new == pytest.approx(by_hand["new"], rel=1e-6)
    assert of.gain == pytest.approx(by_hand["old"] - by_hand["new"], rel=1e-6)
    place = np.array([classes.index(label) for label in fresh["label"]])
    rows = np.arange(70)
    losses = [
        -np.log(values[rows, place]) for values in (single, oof.loc[fresh["row_id"], classes].to_numpy())
    ]
    assert of.se == pytest.approx(np.std(losses[0] - losses[1], ddof=1) / np.sqrt(70), rel=0.25)
    written = json.loads((found.folder / "refresh.json").read_text())
    assert written == {"old": "../run", **of.to_json()}


def test_nothing_is_compared_where_every_row_is_an_old_one(plain: Project) -> None:
    found = sf.refresh(plain.run_folder, plain.folder / "train.csv")
    assert (found.comparison.n_fresh, found.comparison.gain) == (0, None)
    assert "nothing to compare" in str(found)
    old = pd.read_csv(plain.run_folder / "oof" / "final.soft.csv")
    # The same rows, folds, seeds and decisions: the same models.
    pd.testing.assert_frame_equal(pd.read_csv(found.folder / "oof" / "final.soft.csv"), old)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a run in which all is chosen that can be: rounds, epochs, penalties, gates, weights, a threshold."""
    from tests.projects import base_config, build_project, small_net

    config = base_config("binary", "f1")
    base, meta = config["levels"]["base"], config["levels"]["meta"]
    base["gbm"] = {
        "estimator": "lightgbm.LGBMClassifier",
        "params": {"min_child_samples": 5, "num_leaves": 4},
    }
    base["mlp"] = {**small_net("binary"), "train": {"epochs": 30, "batch_size": 32, "patience": 3}}
    meta["gated"] = {"estimator": "gated_linear", "inputs": ["base/*/*"]}
    meta["logit"] = {"estimator": "sklearn.linear_model.LogisticRegression", "inputs": ["base/*/*"]}
    meta["per"] = {"estimator": "sklearn.linear_model.LogisticRegression", "each": "base/mlp/*@geometry"}
    config["levels"]["final"] = {"best": {"vote": "weighted", "inputs": ["*/*/proba"]}}
    config["submit"] = "best"
    project = build_project(tmp_path_factory.mktemp("searched") / "project", "binary", config, 200)
    said = project.run()
    assert said.code == 0, said.err
    return project


@pytest.fixture(scope="module")
def refreshed(searched: Project) -> sf.RunResult:
    return sf.refresh(searched.run_folder, new_rows(searched, "binary", 150)).result


def test_every_decision_is_written_out(searched: Project, refreshed: sf.RunResult) -> None:
    old, new = searched.scores(), config_of(refreshed.folder)
    reports = {name: member["reports"] for name, member in old["members"].items()}
    weights = reports["final/best"]["0/all"]["weights"]
    vote = new["levels"]["final"]["best"]
    kept = {name: w for name, w in weights.items() if w > 0}
    assert (vote["vote"], dict(zip(vote["inputs"], vote["weights"], strict=True))) == ("soft", kept)
    assert {name.rpartition("/")[0] for name in kept} <= {
        f"{level}/{member}" for level, members in new["levels"].items() for member in members
    }
    base, meta = new["levels"]["base"], new["levels"].get("meta", {})
    folds = [f"0/{k}" for k in range(3)]
    if "gbm" in base:
        rounds = [reports["base/gbm"][fold]["rounds"]["params"]["n_estimators"] for fold in folds]
        assert base["gbm"]["params"]["n_estimators"] == int(np.median(rounds))
        assert base["gbm"]["params"]["learning_rate"] == 0.05
    if "mlp" in base:
        train = base["mlp"]["train"]
        epochs = [reports["base/mlp"][fold]["epochs"][0] for fold in folds]
        assert (train["epochs"], train["early_stopping"], train["patience"]) == (
            int(np.median(epochs)),
            "fixed",
            None,
        )
    if "logit" in meta:
        report = reports["meta/logit"]["0/all"]
        accepted = {name: scale for name, scale in report["gate"]["scales"].items() if scale > 0}
        assert meta["logit"]["params"]["C"] == report["params"]["C"]
        assert (meta["logit"]["chosen"] or {"scales": {}})["scales"] == accepted
    if "gated" in meta:
        report, chosen = reports["meta/gated"]["0/all"], meta["gated"]["chosen"]
        assert chosen["penalty"] == report["penalty"]
        assert chosen["penalty_of_predictions"] == report["penalty_of_predictions"]
    assert new["submit"] == "final/best"
    decision = old["members"]["final/best"]["decision"]
    assert new["decision"]["numbers"] == decision["numbers"]
    assert new["data"]["types"] == {
        "a": "numeric",
        **dict.fromkeys("bcd", "numeric"),
        "colour": "categorical",
    }


def test_nothing_is_searched_again(refreshed: sf.RunResult) -> None:
    members = json.loads((refreshed.folder / "scores.json").read_text())["members"]
    for name, member in members.items():
        for report in member["reports"].values():
            assert "rounds" not in report, name
            assert not report.get("steps"), name
            assert "gate" not in report, name
            assert "params" not in report, name


def test_members_of_each_keep_their_names_and_so_their_seeds(build: Build) -> None:
    config = plain_config()
    trees = {"estimator": "sklearn.ensemble.ExtraTreesClassifier", "params": {"n_estimators": 3}}
    config["levels"] = {
        "base": config["levels"]["base"],
        "meta": {"per": {**trees, "each": "base/*/proba"}},
        "final": {"soft": {"vote": "soft", "inputs": ["meta/*"]}},
    }
    project = build("multiclass", {**config, "submit": "soft"}, 90)
    assert project.run().code == 0
    found = sf.refresh(project.run_folder, project.folder / "train.csv")
    assert set(config_of(found.folder)["levels"]["meta"]) == {"per:linear.proba", "per:tree.proba"}
    one, two = (pd.read_csv(run / "oof" / "final.soft.csv") for run in (project.run_folder, found.folder))
    pd.testing.assert_frame_equal(one, two)
    again = sf.refresh(found.folder, project.folder / "train.csv")
    assert config_of(again.folder)["levels"] == config_of(found.folder)["levels"]


@pytest.mark.parametrize(("family", "task"), [("temperature", "multiclass"), ("linear", "regression")])
def test_a_calibration_that_was_kept_is_not_judged_again(family: str, task: str, build: Build) -> None:
    metric = "log_loss" if task == "multiclass" else "rmse"
    config = plain_config(task, metric)
    output = "proba" if task == "multiclass" else "prediction"
    config["levels"]["final"] = {
        "soft": {"vote": "soft", "inputs": [f"base/*/{output}"], "calibrate": family}
    }
    project = build(task, config, 90)
    said = project.run()
    assert said.code == 0, said.err
    found = sf.refresh(project.run_folder, new_rows(project, task))
    assert config_of(found.folder)["levels"]["final"]["soft"]["calibrate"] == family
    reports = json.loads((found.folder / "scores.json").read_text())["members"]["final/soft"]["reports"]
    for report in reports.values():
        assert [(trial["family"], trial["kept"]) for trial in report["calibration"]["trials"]] == [
            (family, True)
        ]


def test_by_time_only_later_rows_are_judged(build: Build) -> None:
    config = plain_config()
    config["data"]["time"], config["folds"] = "day", {"kind": "time", "n": 4}
    project = build("multiclass", config, 120)
    for name, first in (("train", 0), ("test", 0)):
        rows = pd.read_csv(project.folder / f"{name}.csv", dtype={"row_id": str})
        rows.assign(day=np.arange(len(rows)) + first).to_csv(project.folder / f"{name}.csv", index=False)
    said = project.run()
    assert said.code == 0, said.err
    path = new_rows(project, n_rows=100)
    # 40 of the new rows are from days that the old model knows.
    pd.read_csv(path, dtype={"row_id": str}).assign(day=np.arange(100) + 80).to_csv(path, index=False)
    found = sf.refresh(project.run_folder, path)
    assert found.comparison.n_fresh == 60
    assert "60 of 100 rows are new to the old model and later than its rows" in str(found)


def test_that_groups_may_be_known_is_said(build: Build) -> None:
    config = plain_config()
    config["data"]["group"] = "owner"
    project = build("multiclass", config, 90)
    for name in ("train", "test"):
        rows = pd.read_csv(project.folder / f"{name}.csv", dtype={"row_id": str})
        rows.assign(owner=np.arange(len(rows)) // 5).to_csv(project.folder / f"{name}.csv", index=False)
    said = project.run()
    assert said.code == 0, said.err
    path = new_rows(project)
    pd.read_csv(path, dtype={"row_id": str}).assign(owner=np.arange(70) // 5).to_csv(path, index=False)
    found = sf.refresh(project.run_folder, path)
    assert "may know other rows of these groups" in str(found)
    assert found.comparison.caution


def test_the_threshold_is_that_of_the_old_run(searched: Project, refreshed: sf.RunResult) -> None:
    old, new = sf.load(searched.run_folder), sf.load(refreshed.folder)
    assert new.way.decision == old.way.decision
    rows = pd.read_csv(searched.folder / "new.csv", dtype={"row_id": str})
    oof = pd.read_csv(refreshed.folder / "oof" / "final.best.csv")
    labels = np.where(oof["yes"] > old.way.decision.numbers[0], "yes", "no")
    written = json.loads((refreshed.folder / "refresh.json").read_text())
    assert written["new"] == pytest.approx(f1_score(rows["label"], labels, pos_label="yes"))


def test_a_refreshed_run_can_be_refreshed_again(searched: Project, refreshed: sf.RunResult) -> None:
    found = sf.refresh(refreshed.folder, searched.folder / "train.csv", searched.folder / "runs" / "third")
    one, two = config_of(refreshed.folder), config_of(found.folder)
    assert two["levels"] == one["levels"]
    assert two["decision"] == one["decision"]


def test_the_config_that_was_written_runs_by_itself_to_the_same_scores(
    searched: Project, refreshed: sf.RunResult
) -> None:
    path = searched.folder / "again.yaml"
    path.write_text((refreshed.folder / "config.yaml").read_text())
    again = sf.run(path, overrides=["outputs.dir=runs/again"])
    assert again.n_computed == 0
    assert again.score == refreshed.score


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns="b"), "columns are missing: b"),
        (lambda rows: rows.rename(columns={"b": "bb"}), r"missing: b\. Did you mean 'bb'"),
        (lambda rows: rows.assign(extra=1.5), "columns are new: extra"),
        (lambda rows: rows.assign(a="x" + rows["colour"]), "column 'a' was numeric and is categorical now"),
        (lambda rows: rows.assign(colour=range(len(rows))), "'colour' was categorical and is numeric now"),
        (lambda rows: rows.assign(c=3), "column 'c' has no two values"),
        (lambda rows: rows.assign(label=rows["label"].replace("mid", "middle")), "new classes: 'middle'"),
        (lambda rows: rows[rows["label"] != "mid"], "has no row of 'mid'"),
        (lambda rows: rows.drop(columns="label"), "columns are missing: label"),
    ],
)
def test_a_change_of_schema_is_refused(plain: Project, change: Any, message: str) -> None:
    path = new_rows(plain)
    change(pd.read_csv(path, dtype={"row_id": str})).to_csv(path, index=False)
    with pytest.raises(DataError, match=message):
        sf.refresh(plain.run_folder, path)
    assert not (plain.folder / "runs" / "run-refreshed").exists()


def test_every_change_is_listed(plain: Project) -> None:
    path = new_rows(plain)
    rows = pd.read_csv(path, dtype={"row_id": str}).drop(columns="b")
    rows.assign(e=1, label=rows["label"].replace("low", "lowest")).to_csv(path, index=False)
    said = plain.cli("refresh", plain.run_folder, "--train", path)
    assert said.code == 3
    for part in ("missing: b", "new: e", "new classes: 'lowest'", "no row of 'low'", "run the config again"):
        assert part in said.err


def test_a_numeric_target_that_became_text_is_refused(build: Build) -> None:
    project = build("regression", plain_config("regression", "rmse"), 80)
    assert project.run().code == 0
    path = new_rows(project, "regression")
    rows = pd.read_csv(path, dtype={"row_id": str})
    rows.assign(label=np.where(rows["label"] > 2, "dear", "cheap")).to_csv(path, index=False)
    with pytest.raises(DataError, match="target 'label' was numeric and is categorical now"):
        sf.refresh(project.run_folder, path)


def test_new_categories_and_other_numbers_are_what_new_rows_are_for(plain: Project) -> None:
    path = new_rows(plain)
    rows = pd.read_csv(path, dtype={"row_id": str})
    rows.assign(colour=rows["colour"].replace("c", "d"), a=rows["a"] + 100).to_csv(path, index=False)
    found = sf.refresh(plain.run_folder, path)
    levels = {one.name: one.levels for one in sf.load(found.folder).way.schema.columns}
    assert levels["colour"] == ("a", "b", "d")


def test_members_from_files_are_refused(build: Build) -> None:
    config = plain_config()
    config["levels"]["base"]["mate"] = {"predictions": {"oof": "mate.csv", "test": "mate_test.csv"}}
    project = build("multiclass", plain_config(), 80)
    assert project.run().code == 0
    for name, folder in (("mate.csv", "oof"), ("mate_test.csv", "test")):
        (project.folder / name).write_bytes((project.run_folder / folder / "base.tree.csv").read_bytes())
    project.write(config)
    said = project.run()
    assert said.code == 0, said.err
    with pytest.raises(UsageError, match="base/mate, whose predictions come from files"):
        sf.refresh(project.run_folder, new_rows(project))


@pytest.mark.parametrize("output", [".", "..", "inside"])
def test_the_old_run_is_never_written_to(plain: Project, output: str) -> None:
    with pytest.raises(UsageError, match="must be a folder beside RUN"):
        sf.refresh(plain.run_folder, new_rows(plain), plain.run_folder / output)


def test_a_folder_with_another_refreshed_run_is_refused(plain: Project) -> None:
    sf.refresh(plain.run_folder, new_rows(plain))
    other = plain.folder / "newer.csv"
    write_table(other, table("multiclass", 60, 500, True, 6))
    with pytest.raises(UsageError, match=r"with another run over new\.csv; choose another"):
        sf.refresh(plain.run_folder, other)
    again = sf.refresh(plain.run_folder, plain.folder / "new.csv")
    assert again.result.n_computed == 0


def test_a_folder_with_a_run_that_is_no_refreshed_one_is_refused(plain: Project) -> None:
    new_rows(plain)
    other = sf.run(plain.folder / "c.yaml", overrides=["data.train=new.csv", "outputs.dir=runs/other"])
    before = (other.folder / "leaderboard.csv").read_bytes()
    with pytest.raises(UsageError, match=r"with another run over new\.csv; choose another"):
        sf.refresh(plain.run_folder, plain.folder / "new.csv", other.folder)
    assert (other.folder / "leaderboard.csv").read_bytes() == before


def test_a_submitted_member_that_cannot_be_fitted_is_an_error(build: Build) -> None:
    config = plain_config()
    config["levels"]["base"] = {"near": {**FAILING, "params": {"n_neighbors": 50}}}
    config["levels"]["base"]["tree"] = {"estimator": "sklearn.tree.DecisionTreeClassifier"}
    config["levels"].pop("final")
    project = build("multiclass", {**config, "submit": "near"}, 120)
    assert project.run().code == 0
    with pytest.raises(RunFailed, match="n_neighbors"):
        sf.refresh(project.run_folder, new_rows(project, n_rows=60))


def test_the_command_answers_in_text_and_json(plain: Project) -> None:
    path = new_rows(plain)
    said = plain.cli("refresh", plain.run_folder, "--train", path, "-o", plain.folder / "runs" / "two")
    assert said.code == 0, said.err
    assert "70 of 70 rows are new to the old model" in said.out
    said = plain.cli(
        "refresh", plain.run_folder, "--train", path, "-o", plain.folder / "runs" / "two", "--json"
    )
    values = json.loads(said.out)
    assert values["folder"] == str(plain.folder / "runs" / "two")
    assert {"metric", "old", "new", "gain", "se", "n_fresh", "n_scored", "n_rows"} <= values.keys()
