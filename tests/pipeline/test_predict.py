"""predict: the saved models give the submission's very bytes, and say what does not fit."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.projects import Build, plain_config

Project = Any


def predicted(project: Project, data: str = "test.csv") -> bytes:
    """Return what `predict` writes, after the store was deleted."""
    shutil.rmtree(project.folder / ".stackfeat", ignore_errors=True)
    out = project.folder / "out.csv"
    said = project.cli("predict", project.run_folder, project.folder / data, "-o", out)
    assert said.code == 0, said.err
    return out.read_bytes()


def submitted(project: Project) -> bytes:
    content: bytes = (project.run_folder / "submission.csv").read_bytes()
    return content


def rewrite(project: Project, change: Any) -> str:
    """Write another data file from the rows of test.csv, each a dict."""
    return project.rewritten(change, "later.csv").name


@pytest.mark.parametrize("member", ["final/soft", "meta/trees", "base/mlp", "final/greedy"])
def test_predicting_the_test_file_gives_the_submission(member: str, net: Project) -> None:
    assert net.run("--set", f"submit={member}").code == 0
    assert predicted(net) == submitted(net)


def test_the_fits_of_each_pipeline_predict_the_submission_too(net: Project) -> None:
    assert net.run("--set", "submit=meta/trees").code == 0
    by_one_fit = submitted(net)
    assert net.run("--set", "stack.meta_fit=fold", "--set", "submit=meta/trees").code == 0
    assert submitted(net) != by_one_fit
    assert predicted(net) == submitted(net)


@pytest.mark.parametrize("averaging", ["early", "refit"])
def test_every_averaging_predicts_its_submission(averaging: str, net: Project, tmp_path: Path) -> None:
    late = {path.name: path.read_bytes() for path in (net.run_folder / "oof").iterdir()}
    runs = []
    for member in ("final/soft", "meta/trees", "base/mlp"):
        name = f"name={member.replace('/', '.')}"
        said = net.run("--set", f"stack.averaging={averaging}", "--set", f"submit={member}", "--set", name)
        assert said.code == 0, said.err
        runs.append(net.folder / "runs" / member.replace("/", "."))
        assert {path.name: path.read_bytes() for path in (runs[-1] / "oof").iterdir()} == late
        scores = json.loads((runs[-1] / "scores.json").read_text())
        assert scores["submitted"] == member and scores["averaging"]["averaging"] == averaging
        assert any(f"averaging: {averaging} lost to late" in text for text in scores["warnings"])
    shutil.rmtree(net.folder / ".stackfeat")
    for folder in runs:
        said = net.cli("predict", folder, net.folder / "test.csv", "-o", tmp_path / "out.csv")
        assert said.code == 0, said.err
        assert (tmp_path / "out.csv").read_bytes() == (folder / "submission.csv").read_bytes()


@pytest.mark.parametrize("has_test", [True, False])
def test_a_refit_turned_on_training_rows_predicts_later_rows(
    has_test: bool, build: Any, make_config: Any, add_net: Any
) -> None:
    config = add_net(make_config())
    config["levels"]["base"]["mlp"]["params"]["hidden"] = [32]
    config["stack"] = {"averaging": "refit"}
    config["submit"] = "meta/gated"
    if not has_test:
        del config["data"]["test"]
    project = build(config=config)
    said = project.run()
    assert said.code == 0, said.err
    assert project.scores()["blocks"]["base/mlp/penultimate@aligned"]["n_anchors"] > 0
    later = predicted(project)
    assert len(later.splitlines()) == 41
    assert not has_test or later == submitted(project)


def test_a_log_target_is_mapped_back_in_both(build: Any, make_config: Any, add_net: Any) -> None:
    project = build("regression", add_net(make_config("regression", "rmsle")))
    assert project.run().code == 0
    values = np.array([float(row[1]) for row in project.submission()[1:]])
    assert values.min() >= 0 and values.mean() > 0.5
    assert predicted(project) == submitted(project)


@pytest.mark.parametrize(("task", "metric"), [("binary", "f1"), ("multiclass", "f1_macro")])
def test_labels_are_decided_by_the_same_rule_in_both(task: str, metric: str, build: Build) -> None:
    project = build(task, plain_config(task, metric))
    said = project.run()
    assert said.code == 0, said.err
    header, *rows = project.submission()
    assert header == ["row_id", "label"]
    assert {row[1] for row in rows} <= {"no", "yes", "low", "mid", "high"}
    scores = project.scores()
    decision = scores["members"][scores["submitted"]]["decision"]
    assert decision["kind"] == ("threshold" if task == "binary" else "offsets")
    assert predicted(project) == submitted(project)


def test_a_binary_submission_holds_the_probability_of_the_positive_class(build: Build) -> None:
    project = build("binary", plain_config("binary", "roc_auc"))
    assert project.run("--set", "submit=final/soft").code == 0
    proba = {row[0]: row[1] for row in project.submission()[1:]}
    with (project.run_folder / "test" / "final.soft.csv").open(newline="") as file:
        assert {row["id"]: row["yes"] for row in csv.DictReader(file)} == proba
    assert predicted(project) == submitted(project)
    assert project.run("--set", "submit=final/soft", "--set", "data.positive=no").code == 0
    flipped = {row[0]: row[1] for row in project.submission()[1:]}
    assert all(abs(float(flipped[i]) + float(proba[i]) - 1) < 1e-9 for i in proba)


def test_repeats_and_seeds_predict_the_submission(build: Any, make_config: Any) -> None:
    config = make_config()
    config["folds"]["repeats"] = 2
    config["levels"]["base"]["gbm"]["params"] |= {"subsample": 0.7, "subsample_freq": 1}
    config["levels"]["base"]["gbm"]["seeds"] = 2
    project = build(config=config)
    assert project.run("--set", "submit=meta/gated").code == 0
    assert predicted(project) == submitted(project)


@pytest.mark.parametrize(
    "stack", [{}, {"averaging": "refit"}, {"averaging": "early", "views": "all"}], ids=str
)
def test_time_folds_predict_the_submission(stack: dict[str, str], build: Build) -> None:
    config = plain_config("binary", "log_loss")
    config["levels"]["final"]["greedy"] = {"vote": "greedy", "inputs": ["*/*/proba"], "picks": 5}
    config["data"]["time"] = "a"
    config["folds"] = {"kind": "time", "n": 4}
    config["stack"] = stack
    project = build("binary", config)
    lines = (project.folder / "train.csv").read_text().splitlines()
    header, rows = lines[0], [line.split(",") for line in lines[1:]]
    rows = [[row[0], f"{i}", *row[2:]] for i, row in enumerate(rows)]
    (project.folder / "train.csv").write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    said = project.run("--set", "submit=final/greedy")
    assert said.code == 0, said.err
    folds = (project.run_folder / "folds.csv").read_text().splitlines()[1:]
    assert {line.split(",")[2] for line in folds} == {"-1", "0", "1", "2", "3"}
    assert predicted(project) == submitted(project)


def test_column_order_and_a_target_column_do_not_matter(quick: Project) -> None:
    name = rewrite(quick, lambda row: {"label": "low", **dict(reversed(row.items()))})
    assert predicted(quick, name) == submitted(quick)


def test_rows_alone_get_the_bytes_they_get_together(net: Project) -> None:
    name = "few.csv"
    lines = (net.folder / "test.csv").read_text().splitlines()
    (net.folder / name).write_text("\n".join([lines[0], lines[7], lines[3]]) + "\n")
    all_lines = submitted(net).decode().splitlines()
    few = predicted(net, name).decode().splitlines()
    assert few[0] == all_lines[0]
    assert few[1:] == [all_lines[7], all_lines[3]]


def test_extra_columns_are_ignored_with_a_warning(quick: Project) -> None:
    name = rewrite(quick, lambda row: {**row, "extra": "1"})
    with pytest.warns(UserWarning, match="column 'extra': training has no such column, so it is not read"):
        assert predicted(quick, name) == submitted(quick)


def test_an_unknown_category_counts_as_missing(quick: Project) -> None:
    unknown = predicted(quick, rewrite(quick, lambda row: {**row, "colour": "violet"}))
    rows = [line.split(",") for line in unknown.decode().splitlines()[1:]]
    sums = [sum(map(float, row[1:])) for row in rows]
    assert np.allclose(sums, 1.0)
    other = predicted(quick, rewrite(quick, lambda row: {**row, "colour": "mauve"}))
    assert other == unknown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: {k: v for k, v in row.items() if k != "b"}, r"missing here: b; only here: none"),
        (lambda row: {k: v for k, v in row.items() if k != "row_id"}, r"missing here: row_id"),
        (lambda row: {**row, "a": "much"}, r"column 'a': every cell must be a number; got 'much' in rows 1"),
        (lambda row: {**row, "row_id": "7"}, r"ids in 'row_id' must be unique"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_nothing_is_written(
    change: Any, message: str, quick: Project
) -> None:
    import re

    out = quick.folder / "out.csv"
    said = quick.cli("predict", quick.run_folder, quick.folder / rewrite(quick, change), "-o", out)
    assert said.code == 3
    assert re.search(message, said.err) and "Traceback" not in said.err
    assert not out.exists()


def test_a_folder_without_predictor_is_refused(quick: Project) -> None:
    out = quick.folder / "out.csv"
    said = quick.cli("predict", quick.folder, quick.folder / "test.csv", "-o", out)
    assert said.code == 3 and "must hold a predictor" in said.err
    assert quick.cli("predict", quick.run_folder, quick.folder / "no.csv", "-o", out).code == 3
    assert not out.exists()


def test_the_predictor_can_be_carried_elsewhere(quick: Project, tmp_path: Path) -> None:
    shutil.copytree(quick.run_folder / "predictor", tmp_path / "away" / "predictor")
    out = tmp_path / "out.csv"
    assert quick.cli("predict", tmp_path / "away", quick.folder / "test.csv", "-o", out).code == 0
    assert out.read_bytes() == submitted(quick)


def test_a_damaged_model_is_never_used(quick: Project) -> None:
    for path in (quick.run_folder / "predictor").rglob("*.skops"):
        path.write_bytes(path.read_bytes()[:-40])
    out = quick.folder / "out.csv"
    said = quick.cli("predict", quick.run_folder, quick.folder / "test.csv", "-o", out)
    assert said.code == 1 and "damage" in said.err and "Traceback" not in said.err
    assert not out.exists()
