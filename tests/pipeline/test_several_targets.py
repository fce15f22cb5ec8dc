"""Several targets from end to end: what a run of them writes, predicts, reuses and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import stackfeat as sf
from stackfeat.errors import UsageError
from tests.projects import Project

TARGETS = ["a", "b b", "c"]
N_ROWS, N_TEST = 90, 20


def several(folder: Path, config: dict[str, Any] | None = None) -> Project:
    """A project of three numeric targets of unlike units, the second one positive with a long tail."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    X = random.normal(size=(N_ROWS + N_TEST, 4))
    scores = X @ random.normal(size=(4, 3)) + 0.5 * random.normal(size=(len(X), 3))
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(4)])
    frame.insert(0, "id", [f"r{i}" for i in range(len(X))])
    frame["kind"] = random.choice(list("uv"), len(X))
    values = np.column_stack([scores[:, 0], np.exp(3 + scores[:, 1]), 100 * scores[:, 2]])
    train = frame.iloc[:N_ROWS].assign(**dict(zip(TARGETS, values[:N_ROWS].T, strict=True)))
    train.to_csv(folder / "train.csv", index=False)
    frame.iloc[N_ROWS:].to_csv(folder / "test.csv", index=False)
    return Project(folder).write(config or settings())


def settings(**others: Any) -> dict[str, Any]:
    data = {"train": "train.csv", "test": "test.csv", "id": "id", "target": TARGETS}
    net = {"net": "mlp", "params": {"hidden": [8]}, "train": {"epochs": 4, "batch_size": 16}}
    return {
        "name": "run",
        "task": "regression",
        "metric": "arrmse",
        "data": {**data, "target_transform": {"b b": "log1p"}},
        "folds": {"n": 3},
        "levels": {
            "base": {
                "net": {**net, "emit": ["prediction", "penultimate"]},
                "gbm": {
                    "estimator": "lightgbm.LGBMRegressor",
                    "params": {"n_estimators": 8, "min_child_samples": 5},
                },
                "knn": {"estimator": "sklearn.neighbors.KNeighborsRegressor"},
                "ridge": {"estimator": "sklearn.linear_model.Ridge"},
            },
            "meta": {
                "gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]},
                "trees": {
                    "estimator": "lightgbm.LGBMRegressor",
                    "params": {"n_estimators": 5, "min_child_samples": 5},
                    "inputs": ["base/*/prediction", "table"],
                },
            },
            "final": {
                "soft": {"vote": "soft", "inputs": ["meta/*"]},
                "greedy": {"vote": "greedy", "inputs": ["*/*/prediction"]},
                "weighted": {"vote": "weighted", "inputs": ["base/*/prediction"], "calibrate": "auto"},
            },
        },
        "submit": "meta/gated",
        "executor": {"kind": "inline"},
        **others,
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = several(tmp_path_factory.mktemp("several") / "project")
    said = project.run()
    assert said.code == 0, said.err
    return project


def test_every_file_has_a_column_for_each_target(finished: Project) -> None:
    train = pd.read_csv(finished.folder / "train.csv").set_index("id")
    for path in sorted(finished.run_folder.glob("oof/*.csv")):
        oof = pd.read_csv(path).set_index("id").loc[train.index]
        assert list(oof.columns) == TARGETS and np.isfinite(oof.to_numpy()).all()
    submission = pd.read_csv(finished.run_folder / "submission.csv")
    assert list(submission.columns) == ["id", *TARGETS] and len(submission) == N_TEST
    # The second is learnt as its logarithm, which is mapped back.
    assert (submission["b b"] >= 0).all()
    assert "members learn log1p of" in (finished.run_folder / "report.html").read_text()


def test_the_score_is_the_mean_over_targets_and_better_than_their_means(finished: Project) -> None:
    train = pd.read_csv(finished.folder / "train.csv").set_index("id")
    oof = pd.read_csv(finished.run_folder / "oof" / "meta.gated.csv").set_index("id").loc[train.index]
    y = train[TARGETS].to_numpy()
    expected = np.mean(np.sqrt(((y - oof.to_numpy()) ** 2).mean(axis=0)) / y.std(axis=0))
    assert finished.scores()["members"]["meta/gated"]["score"] == pytest.approx(expected)
    assert expected < 0.8


def test_a_second_run_fits_nothing(finished: Project) -> None:
    before = finished.outputs()
    said = finished.run()
    assert said.code == 0 and "jobs computed: 0" in said.out
    assert finished.outputs() == before


def test_the_predictor_says_of_each_target_what_the_run_said(finished: Project) -> None:
    model, test = sf.load(finished.run_folder), pd.read_csv(finished.folder / "test.csv")
    submission = pd.read_csv(finished.run_folder / "submission.csv")
    found = model.predict(test)
    np.testing.assert_allclose(found, submission[TARGETS].to_numpy(), rtol=1e-9)
    members = model.predict_members(test)
    assert list(members.columns[:3]) == [f"base/net:{name}" for name in TARGETS]
    region = model.interval(test, 0.8)
    assert region.shape == (N_TEST, 3, 2) and (region[:, :, 0] <= region[:, :, 1]).all()
    assert (region[:, 1] >= 0).all()
    assert set(model.explain(test.head(2))["outcome"]) == set(TARGETS)
    out = finished.folder / "out.csv"
    said = finished.cli("predict", finished.run_folder, finished.folder / "test.csv", "-o", out, "--members")
    assert said.code == 0, said.err
    assert "meta/gated:c" in pd.read_csv(out).columns


@pytest.mark.usefixtures("draws")
def test_the_report_explain_and_audit_take_several_targets(finished: Project) -> None:
    said = finished.cli("report", finished.run_folder)
    assert said.code == 0 and "could not be made" not in said.out, said.out
    page = (finished.run_folder / "report.html").read_text()
    assert "Target by target" in page
    said = finished.cli("explain", finished.run_folder, "--repeats", 1, "--rows", 60)
    assert said.code == 0, said.err
    said = finished.cli("audit", finished.run_folder)
    assert said.code == 0 and "pass:" in said.out, said.out + said.err
    said = finished.cli("compare", finished.run_folder, finished.run_folder)
    assert said.code in (0, 2), said.err


def test_the_picture_of_targets_holds_the_means_of_tenths_of_each(finished: Project) -> None:
    numbers = pd.read_csv(finished.run_folder / "pictures" / "targets.csv")
    train = pd.read_csv(finished.folder / "train.csv").set_index("id")
    oof = pd.read_csv(finished.run_folder / "oof" / "meta.gated.csv").set_index("id").loc[train.index]
    assert list(numbers["target"].unique()) == TARGETS
    for name in TARGETS:
        part = numbers[numbers["target"] == name]
        tenth = np.arange(N_ROWS) // (N_ROWS // 10)
        order = oof[name].sort_values(kind="stable").index
        groups = pd.DataFrame({"said": oof.loc[order, name], "came": train.loc[order, name]}).groupby(tenth)
        np.testing.assert_allclose(part["said"], groups["said"].mean(), rtol=1e-6)
        np.testing.assert_allclose(part["happened"], groups["came"].mean(), rtol=1e-6)
        np.testing.assert_allclose(part["error"], groups["came"].std(ddof=0) / 3, rtol=1e-6)


@pytest.mark.parametrize("learner", ["gated_linear", "sklearn.linear_model.Ridge", "lightgbm.LGBMRegressor"])
def test_meta_learners_read_the_predictions_of_other_targets(learner: str, tmp_path: Path) -> None:
    """What a member says of the second target is all that the first can be told by."""
    random = np.random.default_rng(0)
    n = 300
    signal, first, second = random.normal(size=(3, n))
    frame = pd.DataFrame({"id": np.arange(n).astype(str), "x": random.normal(size=n)})
    frame["a"], frame["b"] = signal + 0.1 * random.normal(size=n), second
    frame.to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame({"id": frame["id"], "a": first, "b": signal}).to_csv(tmp_path / "mate.csv", index=False)
    levels = {
        "base": {"mate": {"predictions": {"oof": "mate.csv"}}},
        "meta": {"learner": {"estimator": learner, "inputs": ["base/*"]}},
    }
    data = {"train": "train.csv", "id": "id", "target": ["a", "b"]}
    project = Project(tmp_path).write(settings(data=data, levels=levels, submit="auto"))
    said = project.run()
    assert said.code == 0, said.err
    oof = pd.read_csv(project.run_folder / "oof" / "meta.learner.csv")
    assert np.mean((oof["a"] - frame["a"]) ** 2) < 0.3 * frame["a"].var()


def test_predictions_of_others_are_matched_with_targets_by_name(finished: Project, tmp_path: Path) -> None:
    project = several(tmp_path / "mates")
    for kind, file in (("oof", "oof/base.gbm.csv"), ("test", "test/base.gbm.csv")):
        frame = pd.read_csv(finished.run_folder / file)
        frame[["id", *TARGETS[::-1]]].to_csv(project.folder / f"mate_{kind}.csv", index=False)
    mate = {"predictions": {"oof": "mate_oof.csv", "test": "mate_test.csv"}}
    config = settings(levels={"base": {"mate": mate}}, submit="auto")
    said = project.write(config).run()
    assert said.code == 0, said.err
    theirs, ours = (
        pd.read_csv(folder / "oof" / f"base.{name}.csv")
        for folder, name in ((finished.run_folder, "gbm"), (project.run_folder, "mate"))
    )
    np.testing.assert_allclose(ours[TARGETS].to_numpy(), theirs[TARGETS].to_numpy(), rtol=1e-6)


def test_init_writes_a_config_of_the_targets_that_are_named(tmp_path: Path) -> None:
    project = several(tmp_path / "init")
    (project.folder / "c.yaml").unlink()
    said = project.cli(
        "init", project.folder / "train.csv", "--target", "a,b b, c", "-o", project.folder / "c.yaml"
    )
    assert said.code == 0, said.err
    config = yaml.safe_load((project.folder / "c.yaml").read_text())
    assert config["task"] == "regression" and config["data"]["target"] == TARGETS
    assert config["data"]["target_transform"] == {"b b": "log1p"}
    assert project.cli("check", project.folder / "c.yaml").code == 0
    repeated = [part for name in TARGETS for part in ("--target", name)]
    assert project.cli("init", project.folder / "train.csv", *repeated, "-o", tmp_path / "r.yaml").code == 0
    assert yaml.safe_load((tmp_path / "r.yaml").read_text())["data"]["target"] == TARGETS
    said = project.cli(
        "init", project.folder / "train.csv", "--target", "a,bb", "--force", "-o", tmp_path / "d"
    )
    assert said.code == 3 and "must have the column 'bb'" in said.err


def test_fit_takes_a_list_of_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = several(tmp_path / "fit")
    monkeypatch.chdir(project.folder)
    with pytest.raises(UsageError, match="target must be the name of a column, or a list of names; got dict"):
        sf.fit(pd.DataFrame({"x": [1]}), target={"a": 1})  # type: ignore[arg-type]


WRONG = {
    "binary": (
        {"task": "binary", "metric": "log_loss"},
        "data.target: must be one column in task binary; got a, b b, c. Several are for regression and multilabel",
    ),
    "twice": ({"target": ["a", "b b", "a"]}, "data.target.2: must be a column of its own; got 'a'"),
    "none": ({"target": []}, "must name a column, or a list of columns; got an empty list"),
    "unknown": ({"target": ["a", "bb"]}, "data.target.1 must be a column of the file; got 'bb'"),
    "transform": (
        {"target_transform": {"d": "log1p"}},
        r"data.target_transform.d: must be a target (a, b b, c); got 'd'",
    ),
    "rank": ({"vote": "rank"}, "orders one column of values"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_of_several_targets_is_said_before_the_run(name: str, tmp_path: Path) -> None:
    change, message = WRONG[name]
    project = several(tmp_path / "wrong")
    config = project.config()
    for key, value in change.items():
        if key in ("target", "target_transform"):
            config["data"][key] = value
        elif key == "vote":
            config["levels"]["final"] = {"rank": {"vote": value, "inputs": ["base/*/prediction"]}}
        else:
            config[key] = value
    config["submit"] = "auto"
    config["data"].pop("target_transform" if name in ("binary", "unknown", "twice") else "", None)
    said = project.write(config).cli("check", project.folder / "c.yaml", "--json")
    assert said.code in (2, 3) and message in json.dumps(json.loads(said.out), ensure_ascii=False), said.out
