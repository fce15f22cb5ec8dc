"""Sets of labels from end to end: columns of 0 and 1, and lists in one column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import log_loss

import stackfeat as sf
from stackfeat.data.schema.label_sets import likely_separator
from tests.projects import Project

LABELS = ["a", "b", "c", "d d"]
N_ROWS, N_TEST = 90, 20


def labelled(folder: Path, **others: Any) -> Project:
    """A project of four labels, the last of which two rows have, so that a fold lacks it."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    X = random.normal(size=(N_ROWS + N_TEST, 4))
    scores = X @ random.normal(size=(4, 3)) + 0.5 * random.normal(size=(len(X), 3))
    y = np.column_stack([scores > [0.0, 0.7, 1.5], np.zeros(len(X), dtype=bool)]).astype(int)
    y[:2, 3] = 1
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(4)])
    frame.insert(0, "id", [f"r{i}" for i in range(len(X))])
    train = frame.iloc[:N_ROWS].assign(**dict(zip(LABELS, y[:N_ROWS].T, strict=True)))
    train.to_csv(folder / "train.csv", index=False)
    lists = ["; ".join(name for name, flag in zip(LABELS, row, strict=True) if flag) for row in y[:N_ROWS]]
    frame.iloc[:N_ROWS].assign(tags=lists).to_csv(folder / "lists.csv", index=False)
    frame.iloc[N_ROWS:].to_csv(folder / "test.csv", index=False)
    return Project(folder).write(settings(**others))


def settings(**others: Any) -> dict[str, Any]:
    lgbm = {"estimator": "lightgbm.LGBMClassifier", "params": {"n_estimators": 5, "min_child_samples": 5}}
    net = {"net": "mlp", "params": {"hidden": [8]}, "train": {"epochs": 3, "batch_size": 16}}
    data = {"train": "train.csv", "test": "test.csv", "id": "id", "target": LABELS}
    return {
        "name": "run",
        "task": "multilabel",
        "metric": "log_loss",
        "folds": {"n": 3},
        "levels": {
            "base": {
                "net": {**net, "emit": ["proba", "penultimate"]},
                "gbm": lgbm,
                "knn": {"estimator": "sklearn.neighbors.KNeighborsClassifier"},
                "logit": {"estimator": "sklearn.linear_model.LogisticRegression"},
            },
            "meta": {"gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]}},
            "final": {
                "soft": {"vote": "soft", "inputs": ["meta/*", "base/*/proba"]},
                "greedy": {"vote": "greedy", "inputs": ["*/*/proba"]},
                "calibrated": {"vote": "soft", "inputs": ["base/knn/proba"], "calibrate": "auto"},
            },
        },
        "submit": "final/soft",
        "executor": {"kind": "inline"},
        **others,
        "data": {**data, **others.get("data", {})},
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = labelled(tmp_path_factory.mktemp("labels") / "project")
    said = project.run()
    assert said.code == 0, said.err
    return project


def test_every_file_has_a_probability_for_each_label(finished: Project) -> None:
    train = pd.read_csv(finished.folder / "train.csv").set_index("id")
    for path in sorted(finished.run_folder.glob("oof/*.csv")):
        oof = pd.read_csv(path).set_index("id").loc[train.index]
        assert list(oof.columns) == LABELS and oof.to_numpy().min() >= 0 and oof.to_numpy().max() <= 1
    oof = pd.read_csv(finished.run_folder / "oof" / "final.soft.csv").set_index("id").loc[train.index]
    expected = np.mean([log_loss(train[name], oof[name], labels=[0, 1]) for name in LABELS])
    assert finished.scores()["members"]["final/soft"]["score"] == pytest.approx(expected)


def test_a_second_run_fits_nothing_and_the_predictor_says_the_same(finished: Project) -> None:
    assert "jobs computed: 0" in finished.run().out
    model, test = sf.load(finished.run_folder), pd.read_csv(finished.folder / "test.csv")
    submission = pd.read_csv(finished.run_folder / "submission.csv")
    np.testing.assert_allclose(model.predict_proba(test), submission[LABELS].to_numpy(), rtol=1e-9)
    assert list(model.classes_) == LABELS and set(np.unique(model.predict(test))) <= {0, 1}
    assert model.interval(test, 0.8).shape == (N_TEST, 4)


def test_the_report_shows_what_came_of_each_label(finished: Project) -> None:
    folder = finished.run_folder / "pictures"
    numbers, whole = pd.read_csv(folder / "targets.csv"), pd.read_csv(folder / "reliability.csv")
    train = pd.read_csv(finished.folder / "train.csv").set_index("id")
    oof = pd.read_csv(finished.run_folder / "oof" / "final.soft.csv").set_index("id").loc[train.index]
    assert list(numbers["target"].unique()) == LABELS
    for name in LABELS:
        part = numbers[numbers["target"] == name]
        assert np.average(part["happened"], weights=part["rows"]) == pytest.approx(train[name].mean())
        assert np.average(part["said"], weights=part["rows"]) == pytest.approx(oof[name].mean(), rel=1e-6)
        first = oof[name].sort_values(kind="stable").index[: part["rows"].iloc[0]]
        assert part["happened"].iloc[0] == pytest.approx(train.loc[first, name].mean())
    # All labels together, and each fold: a row counts once for each label.
    folds = pd.read_csv(finished.run_folder / "folds.csv").set_index("id")["fold"]
    for fold, part in whole.groupby("fold"):
        rows = train.index if fold == "all" else folds.index[folds == int(fold)]
        assert part["rows"].sum() == len(rows) * len(LABELS)
        said = np.average(part["said"], weights=part["rows"])
        assert said == pytest.approx(oof.loc[rows].to_numpy().mean(), rel=1e-6)
    page = (finished.run_folder / "report.html").read_text()
    assert "Target by target" in page and "Reliability" in page


def test_labels_of_a_vote_are_calibrated_one_by_one(finished: Project) -> None:
    members = finished.scores()["members"]
    reports = members["final/calibrated"]["reports"]
    kept = {label for one in reports.values() for label in one["calibration"]["parameters"]}
    # Of 90 rows neighbours say 0 and 1, which is far too sure; of the last label there are two rows.
    assert kept and kept <= set(LABELS[:3])
    for fold, one in ((int(key[-1]), one) for key, one in reports.items() if not key.endswith("all")):
        ids = pd.read_csv(finished.run_folder / "folds.csv").query(f"fold == {fold}")["id"]
        plain, after = (
            pd.read_csv(finished.run_folder / "oof" / f"{name}.csv").set_index("id").loc[ids]
            for name in ("base.knn", "final.calibrated")
        )
        for label in set(LABELS) - set(one["calibration"]["parameters"]):
            np.testing.assert_array_equal(after[label], plain[label])
    assert members["final/calibrated"]["score"] < members["base/knn"]["score"]


def test_lists_of_labels_give_lists(tmp_path: Path) -> None:
    data = {"train": "lists.csv", "target": "tags", "label_separator": ";"}
    base = {"logit": {"estimator": "sklearn.linear_model.LogisticRegression"}}
    project = labelled(tmp_path / "p", data=data, metric="map@2", levels={"base": base}, submit="auto")
    said = project.run()
    assert said.code == 0, said.err
    oof = pd.read_csv(project.run_folder / "oof" / "base.logit.csv")
    assert list(oof.columns) == ["id", *LABELS]
    submission = pd.read_csv(project.run_folder / "submission.csv")
    assert list(submission.columns) == ["id", "tags"]
    assert all(len(text.split(";")) == 2 for text in submission["tags"])


def rewritten(project: Project, text_of: Any) -> pd.Series:
    """Write the lists of labels in another way; return those of each row."""
    path = project.folder / "lists.csv"
    frame = pd.read_csv(path, keep_default_na=False, dtype=str)  # numbers stay as they are written
    lists = frame["tags"].map(lambda text: [part.strip() for part in text.split(";") if part.strip()])
    frame.assign(tags=lists.map(text_of)).to_csv(path, index=False)
    return lists


LISTS: dict[str, Any] = {"train": "lists.csv", "target": "tags"}


def test_a_separator_that_stands_nowhere_is_warned_of_with_a_likely_one(tmp_path: Path) -> None:
    levels = {"base": {"knn": {"estimator": "sklearn.neighbors.KNeighborsClassifier"}}}
    data = {**LISTS, "label_separator": "|"}
    project = labelled(tmp_path / "p", data=data, levels=levels, submit="auto")
    n_several = sum(len(row) > 1 for row in rewritten(project, "; ".join))
    for said in (project.cli("check", project.folder / "c.yaml").out, project.run().out):
        (line,) = [one for one in said.splitlines() if "stands in no cell" in one]
        assert "warning: " in line and "data.label_separator ('|') stands in no cell of 'tags'" in line
        remedy = 'if that stands between labels: data.label_separator: ";"'
        assert line.endswith(f"';' stands in {n_several} of 90; {remedy}")
    project = labelled(tmp_path / "q", data={**LISTS, "label_separator": ";"})
    assert "stands in no cell" not in project.cli("check", project.folder / "c.yaml").out


@pytest.mark.parametrize(
    ("names", "counts", "separator", "expected"),
    [
        (["a", "a|b", "b"], [5, 5, 5], ";", "|"),
        (["a", "a, b", "b; a", "b"], [50, 50, 1, 1], "|", ","),
        (["New York", "Los Angeles"], [5, 5], ";", None),
        (["a", "b"], [5, 5], ";", None),
        (["a", "a;b", "b"], [5, 5, 5], ";", None),
    ],
)
def test_a_likely_separator_makes_fewer_labels(
    names: list[str], counts: list[int], separator: str, expected: str | None
) -> None:
    assert likely_separator(names, counts, separator) == expected


def test_lists_that_are_json_are_read_as_such(tmp_path: Path) -> None:
    base = {"logit": {"estimator": "sklearn.linear_model.LogisticRegression"}}
    both = []
    for name in ("plain", "json"):
        data = {**LISTS, "label_separator": ";"}
        project = labelled(tmp_path / name, data=data, metric="map@2", levels={"base": base}, submit="auto")
        if name == "json":
            rewritten(project, json.dumps)
        said = project.run()
        assert said.code == 0, said.err
        both.append(project.outputs())
    assert both[0]["submission.csv"] == both[1]["submission.csv"]
    assert both[0]["oof/base.logit.csv"] == both[1]["oof/base.logit.csv"]


def test_lists_in_brackets_that_are_no_json_are_refused_with_what_to_do(tmp_path: Path) -> None:
    project = labelled(tmp_path / "p", data={**LISTS, "label_separator": ","})
    rewritten(project, str)
    for command in ("check", "run"):
        said = project.cli(command, project.folder / "c.yaml")
        assert said.code == 3 and "column 'tags': lists in brackets must be JSON lists of labels" in said.err
        assert "write them so, or without brackets and quotes" in said.err


def test_a_cell_without_brackets_among_lists_with_them_is_named(tmp_path: Path) -> None:
    project = labelled(tmp_path / "p", data={**LISTS, "label_separator": ";"})
    first: list[str] = []

    def all_but_one(labels: list[str]) -> str:
        if labels and not first:
            first.append(";".join(labels))
            return first[0]
        return json.dumps(labels)

    rewritten(project, all_but_one)
    said = project.cli("run", project.folder / "c.yaml")
    assert said.code == 3 and "column 'tags': lists must be written in one way" in said.err
    assert repr(first[0]) in said.err and "write them all as JSON lists, or none" in said.err


def test_init_guesses_label_sets(tmp_path: Path) -> None:
    project = labelled(tmp_path / "p")
    out = project.folder / "d.yaml"
    said = project.cli("init", project.folder / "train.csv", "--target", ",".join(LABELS), "-o", out)
    assert said.code == 0, said.err
    config = yaml.safe_load(out.read_text())
    assert config["task"] == "multilabel" and config["data"]["target"] == LABELS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"target": "a"}, "must be a list of columns of 0 and 1 in task multilabel; got 'a'"),
        ({"label_separator": ";"}, "is for lists of labels in one column, in task multilabel"),
        ({"target": ["a", "x0"]}, "a label must be 0 or 1, or true or false"),
    ],
)
def test_what_is_no_label_set_is_said_before_the_run(
    data: dict[str, Any], message: str, tmp_path: Path
) -> None:
    project = labelled(tmp_path / "p", data=data)
    said = project.cli("check", project.folder / "c.yaml", "--json")
    assert said.code in (2, 3) and message in json.dumps(json.loads(said.out), ensure_ascii=False)


@pytest.mark.parametrize("value", [0, 1])
def test_a_label_of_every_row_or_of_none_is_refused_by_name(value: int, tmp_path: Path) -> None:
    project = labelled(tmp_path / "p")
    path = project.folder / "train.csv"
    pd.read_csv(path).assign(b=value).to_csv(path, index=False)
    for command in ("check", "run"):
        said = project.cli(command, project.folder / "c.yaml")
        assert said.code == 3 and f"got {value} in every row of b; check data.target" in said.err, said.err


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Project:
    base = {"knn": {"estimator": "sklearn.neighbors.KNeighborsClassifier"}}
    folder = tmp_path_factory.mktemp("decided") / "project"
    project = labelled(folder, metric="f1_macro", levels={"base": base}, submit="auto")
    said = project.run()
    assert said.code == 0, said.err
    return project


def test_a_refresh_keeps_the_thresholds(decided: Project, tmp_path: Path) -> None:
    fitted = decided.scores()["members"]["base/knn"]["decision"]
    assert fitted["kind"] == "labels" and len(fitted["numbers"]) == len(LABELS)
    train = decided.folder / "train.csv"
    said = decided.cli("refresh", decided.run_folder, "--train", train, "-o", tmp_path / "new")
    assert said.code == 0, said.err
    kept = json.loads((tmp_path / "new" / "scores.json").read_text())["members"]["base/knn"]["decision"]
    assert kept == fitted


def test_probabilities_are_written_whatever_the_metric(decided: Project, tmp_path: Path) -> None:
    test, out = decided.folder / "test.csv", tmp_path / "proba.csv"
    said = decided.cli("predict", decided.run_folder, test, "--proba", "-o", out)
    assert said.code == 0, said.err
    expected = sf.load(decided.run_folder).predict_proba(pd.read_csv(test))
    np.testing.assert_allclose(pd.read_csv(out)[LABELS].to_numpy(), expected, rtol=1e-9)


def test_a_sample_with_the_column_of_one_label_is_refused(decided: Project) -> None:
    sample = pd.read_csv(decided.folder / "test.csv")[["id"]].assign(a=0)
    sample.to_csv(decided.folder / "sample.csv", index=False)
    config = decided.config()
    config["data"]["sample_submission"] = "sample.csv"
    (decided.folder / "sample.yaml").write_text(json.dumps(config | {"name": "sample"}))
    said = decided.cli("run", decided.folder / "sample.yaml")
    assert said.code == 3 and "must have an id and the columns a, b, c, d d; got ['id', 'a']" in said.err


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ({"kind": "threshold", "numbers": [0.3]}, "threshold is not for task multilabel. Use labels"),
        ({"kind": "cuts", "numbers": [0.3], "labels": [0, 1]}, "cuts is not for task multilabel. Use labels"),
        ({"kind": "labels", "numbers": [0.3]}, "must be a threshold for each of 4 labels; got 1"),
    ],
)
def test_a_given_decision_of_another_kind_is_refused(
    decision: dict[str, Any], message: str, tmp_path: Path
) -> None:
    project = labelled(tmp_path / "p", metric="f1_macro", decision=decision)
    said = project.cli("check", project.folder / "c.yaml")
    assert said.code == 2 and message in said.err


def test_the_labels_that_were_found_are_said(tmp_path: Path) -> None:
    project = labelled(tmp_path / "p")
    y = pd.read_csv(project.folder / "train.csv")[LABELS].to_numpy()
    n_none, mean = (y.sum(axis=1) == 0).sum(), y.sum() / len(y)
    said = project.cli("check", project.folder / "c.yaml").out
    assert f"4 labels: 'a', 'b', 'c', 'd d'; {mean:.3g} a row, none in {n_none} rows" in said


def test_a_missing_flag_is_named_by_column_and_row(tmp_path: Path) -> None:
    project = labelled(tmp_path / "p")
    train = pd.read_csv(project.folder / "train.csv").astype({"c": float})
    train.loc[6, "c"] = np.nan
    train.to_csv(project.folder / "train.csv", index=False)
    said = project.cli("check", project.folder / "c.yaml")
    assert said.code == 3 and "column 'c': every training row must say 0 or 1; got none in row 7" in said.err


def test_one_at_a_time_or_two_give_the_same_bytes(decided: Project, tmp_path: Path) -> None:
    other = labelled(tmp_path / "p")
    other.write(decided.config() | {"executor": {"kind": "loky", "jobs": 2}})
    said = other.run()
    assert said.code == 0, said.err
    assert other.outputs() == decided.outputs()
