"""One small model in the place of a stack: what teaches it, what judges it, when it is shipped."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat as sf
from stackfeat.errors import DataError, UsageError
from stackfeat.pipeline import distil as distilling
from stackfeat.pipeline import learners
from stackfeat.pipeline.distil import Judgement, opened
from stackfeat.tasks.task import Task
from tests.projects import ROOT, Build, Project, build_project, plain_config

STUDENTS = ("lightgbm", "mlp")


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distilling, "FEWEST_SOFT", 200)
    monkeypatch.setattr(learners.NetStudent, "most", 4)
    monkeypatch.setattr(learners.BoostedStudent, "params", {"learning_rate": 0.3, "num_leaves": 7})


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ship students whatever they are worth."""
    monkeypatch.setattr(Judgement, "is_ahead", property(lambda found: True))


def given_folds(folder: Path, change: Any = None) -> Project:
    """Return a run on folds that the file gives; `change` is made to its labelled rows."""
    project = build_project(folder, config=plain_config(), n_rows=90)
    frame = pd.read_csv(project.folder / "train.csv", dtype=str)
    frame["part"] = np.arange(len(frame)) % 3
    if change is not None:
        change(frame)
    frame.to_csv(project.folder / "train.csv", index=False)
    config = project.config()
    config["data"] |= {"fold": "part"}
    project.write({**config, "submit": "soft"})
    said = project.run()
    assert said.code == 0, said.err
    return project


@pytest.mark.parametrize("student", STUDENTS)
def test_no_label_of_a_fold_reaches_what_its_student_says_of_it(student: str, tmp_path: Path) -> None:
    def turn(frame: pd.DataFrame) -> None:
        inside = frame.index[frame["part"] == 1]
        frame.loc[inside, "label"] = np.roll(frame.loc[inside, "label"], 7)

    runs = [given_folds(tmp_path / "one"), given_folds(tmp_path / "other", turn)]
    said, others = [], []
    for project in runs:
        with opened(project.run_folder, student) as school:
            paths = school.paths()
            # The test rows are labelled, and learnt from, in the same way.
            said.append([side.predict(3) for side in paths[1]])
            others.append(paths[0][0].predict(3))
    assert np.array_equal(said[0][0], said[1][0]) and np.array_equal(said[0][1], said[1][1])
    assert not np.array_equal(others[0], others[1])


@pytest.mark.parametrize("member", ["meta/trees", "final/greedy", "base/mlp"])
def test_a_pipeline_alone_says_of_test_rows_what_the_run_stored_for_it(member: str, net: Project) -> None:
    """Through meta-learners fitted without the fold, and aligned layers of its own net, whatever the run averages."""
    result = sf.run(net.folder / "c.yaml")
    block = f"{member}/proba"
    with opened(net.run_folder, "lightgbm") as school:
        teacher = replace(school.teacher, submitted=member, choices={})
        assert school.test is not None
        for fold in range(3):
            said = teacher.pipeline(fold).predict_pipeline(school.test, fold)
            key, name = result.plan.view_place(block, 0, fold, "fold")
            np.testing.assert_allclose(said, result.store.read(key).array(name), rtol=0, atol=1e-9)


def test_each_pipeline_teaches_through_the_member_that_the_other_folds_chose(plain: Project) -> None:
    path = plain.run_folder / "scores.json"
    scores = json.loads(path.read_text())
    scores["auto"]["choices"] = {"0": "base/tree", "1": "final/soft", "2": "base/linear"}
    path.write_text(json.dumps(scores))
    with opened(plain.run_folder, "lightgbm") as school:
        blocks = [school.teacher.pipeline(fold).block for fold in range(3)]
    assert blocks == ["base/tree/proba", "final/soft/proba", "base/linear/proba"]


@pytest.mark.parametrize(
    ("student", "task", "metric"),
    [
        ("lightgbm", "multiclass", "f1_macro"),
        ("lightgbm", "binary", "log_loss"),
        ("mlp", "multiclass", "log_loss"),
        ("mlp", "regression", "rmsle"),
    ],
)
def test_a_shipped_student_predicts_by_the_command_and_by_python_alike(
    student: str, task: str, metric: str, build: Build, shipped: None
) -> None:
    project = build(task, plain_config(task, metric), n_rows=120)
    assert project.run().code == 0
    file, output = project.folder / "student.zip", project.folder / "said.csv"
    said = project.cli("distil", project.run_folder, "--student", student, "-o", file)
    assert said.code == 0 and "shipped" in said.out, said
    assert project.cli("predict", file, project.folder / "test.csv", "-o", output).code == 0
    with output.open(newline="") as opened_file:
        header, *rows = csv.reader(opened_file)
    model = sf.load_student(file)
    of_file = model.predict(project.folder / "test.csv")
    assert [row[0] for row in rows] == [f"{600 + number:03d}" for number in range(40)]
    if task == "multiclass":
        proba = model.predict_proba(project.folder / "test.csv")
        if metric == "f1_macro":
            assert header == ["row_id", "label"] and [row[1] for row in rows] == of_file.tolist()
        else:
            assert header == ["row_id", *model.classes_] == ["row_id", "high", "low", "mid"]
            np.testing.assert_allclose([[float(cell) for cell in row[1:]] for row in rows], proba)
            assert of_file.tolist() == model.classes_[proba.argmax(axis=1)].tolist()
    elif task == "binary":
        proba = model.predict_proba(project.folder / "test.csv")
        np.testing.assert_allclose([float(row[1]) for row in rows], proba[:, 1])
        assert set(of_file) <= {"no", "yes"} == set(model.classes_)
    else:
        np.testing.assert_allclose([float(row[1]) for row in rows], of_file)
        assert (of_file >= 0).all()
    again = project.folder / "again.zip"
    project.cli("distil", project.run_folder, "--student", student, "-o", again)
    assert again.read_bytes() == file.read_bytes()


def test_few_rows_are_read_as_many_are(plain: Project, shipped: None) -> None:
    found = sf.distil(plain.run_folder, output=plain.folder / "s.zip")
    assert found.path is not None
    model = sf.load_student(found.path)
    frame = pd.read_csv(plain.folder / "test.csv", dtype={"colour": str})
    frame.loc[3, "colour"], frame.loc[4, "colour"], frame.loc[5, "colour"] = " b ", "unseen", "NA"
    frame.loc[6, "colour"] = None
    whole = model.predict_proba(pd.concat([frame] * 3))[: len(frame)]
    rows = np.vstack([model.predict_proba(frame.iloc[[row]]) for row in range(len(frame))])
    assert np.array_equal(whole, rows)
    one = {name: frame[name].iloc[0] for name in model.feature_names_in_}
    assert np.array_equal(model.predict_proba(one), whole[:1])


def test_a_student_needs_no_torch(plain: Project, shipped: None) -> None:
    for student in STUDENTS:
        sf.distil(plain.run_folder, student, plain.folder / f"{student}.zip")
    code = (
        "import sys, lightgbm, stackfeat as sf\n"
        f"for name in {STUDENTS!r}:\n"
        f"    model = sf.load_student(f'{plain.folder}/{{name}}.zip')\n"
        f"    assert model.predict_proba({str(plain.folder / 'test.csv')!r}).shape == (40, 3)\n"
        "print([name for name in ('torch', 'skops', 'jinja2', 'typer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "[]\n", done.stderr + done.stdout


def test_a_student_that_is_not_ahead_is_not_written_and_the_numbers_say_why(
    plain: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distilling, "SOFT_WEIGHT", 1e-9)
    file = plain.folder / "s.zip"
    said = plain.cli("distil", plain.run_folder, "--student", "lightgbm", "-o", file)
    assert said.code == 1 and not file.exists()
    assert "not shipped" in said.out and "log_loss out of fold" in said.out
    said = plain.cli("distil", plain.run_folder, "--student", "lightgbm", "-o", file, "--json")
    found = json.loads(said.out)
    assert said.code == 1 and found["shipped"] is False and found["path"] is None
    assert found["gap"] <= found["se"] and found["gap"] == pytest.approx(found["control"] - found["student"])


def test_the_gap_is_that_of_the_predictions_and_rounds_come_from_the_other_folds(quick: Project) -> None:
    with opened(quick.run_folder, "lightgbm") as school:
        paths, found = school.paths(), school.judge()
        task, y = school.train.task, school.train.labels
        losses = []
        for side in (0, 1):
            loss = np.empty(len(y))
            for fold, (_, held_out) in enumerate(school.folds.splits[0]):
                n_rounds = int(np.median([paths[other][side].best for other in paths if other != fold]))
                loss[held_out] = task.row_loss(y[held_out], paths[fold][side].predict(n_rounds))
            losses.append(loss)
    gap = losses[1] - losses[0]
    assert found.gap == pytest.approx(gap.mean())
    # A bootstrap of 200 resamples is within a fifth of the formula.
    assert found.se == pytest.approx(gap.std() / np.sqrt(len(gap)), rel=0.2)


def test_groups_are_resampled_as_wholes(tmp_path: Path) -> None:
    config = plain_config()
    project = build_project(tmp_path / "p", config=config, n_rows=120)
    frame = pd.read_csv(project.folder / "train.csv", dtype=str)
    frame["owner"] = np.arange(len(frame)) // 10
    frame.to_csv(project.folder / "train.csv", index=False)
    config["data"] |= {"group": "owner"}
    project.write(config)
    assert project.run().code == 0
    with opened(project.run_folder, "lightgbm") as school:
        assert school.judged.clusters is not None and len(np.unique(school.judged.clusters)) == 12
        assert school.judge().n_rows == 120


def test_with_time_no_later_fold_decides_and_no_test_row_teaches(tmp_path: Path) -> None:
    config = plain_config()
    project = build_project(tmp_path / "p", config=config, n_rows=150)
    for name in ("train.csv", "test.csv"):
        frame = pd.read_csv(project.folder / name, dtype=str)
        frame["at"] = np.arange(len(frame)) + (1000 if name == "test.csv" else 0)
        frame.to_csv(project.folder / name, index=False)
    config["data"] |= {"time": "at"}
    config["folds"] = {"n": 4}
    project.write(config)
    said = project.run()
    assert said.code == 0, said.err
    with opened(project.run_folder, "lightgbm") as school:
        folds = school.teacher.folds()
        assert school.test is None
        assert [school._others(fold, dict.fromkeys(folds)) for fold in folds] == [  # type: ignore[arg-type]
            [other for other in folds if other < fold] for fold in folds
        ]
        found = school.judge()
        held_out = [school.folds.splits[0][fold][1] for fold in folds[1:]]
        assert found.n_rows == sum(map(len, held_out))


def test_likely_classes_become_rows_whose_loss_is_the_cross_entropy() -> None:
    task = Task("multiclass", ("a", "b", "c"))
    soft = np.array([[0.7, 0.3, 0.0], [0.2, 0.3, 0.5]])
    rows, y, share = task.as_rows(soft)
    said = np.array([[0.6, 0.2, 0.2], [0.1, 0.1, 0.8]])
    by_rows = (share * task.row_loss(y, said[rows])).sum()
    assert by_rows == pytest.approx(-(soft * np.log(said)).sum())
    rows, y, share = Task("multiclass", tuple(range(300))).as_rows(np.full((2, 300), 1 / 300))
    assert len(rows) == 600 and share.sum() == pytest.approx(2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--student", "lightgbm", "-o", "s.txt"), "must be a file that ends in .zip"),
        (("--student", "forest"), "'forest' is not one of"),
    ],
)
def test_misuse_is_named(arguments: tuple[str, ...], text: str, plain: Project) -> None:
    said = plain.cli("distil", plain.run_folder, *arguments)
    assert said.code == 2 and text in said.err


def test_what_cannot_be_distilled_says_so(plain: Project, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="student must be one of"):
        sf.distil(plain.run_folder, "trees")
    with pytest.raises(UsageError, match="must be the folder of a finished run"):
        sf.distil(tmp_path)
    with pytest.raises(DataError, match="store must be there"):
        sf.distil(plain.run_folder, store=tmp_path / "nowhere")
    with pytest.raises(DataError, match="must be a student's file"):
        sf.load_student(tmp_path / "nothing.zip")


def test_members_from_files_teach_nobody(plain: Project) -> None:
    with (plain.run_folder / "oof" / "base.linear.csv").open() as file:
        (plain.folder / "mate.csv").write_text(file.read())
    with (plain.run_folder / "test" / "base.linear.csv").open() as file:
        (plain.folder / "mate_test.csv").write_text(file.read())
    config = plain.config()
    config["levels"]["base"]["mate"] = {"predictions": {"oof": "mate.csv", "test": "mate_test.csv"}}
    plain.write({**config, "submit": "soft"})
    assert plain.run().code == 0
    with pytest.raises(UsageError, match="base/mate, whose predictions come from files"):
        sf.distil(plain.run_folder)


def test_rows_that_a_student_cannot_read_are_refused(plain: Project, shipped: None) -> None:
    file = plain.folder / "s.zip"
    sf.distil(plain.run_folder, output=file)
    model, frame = sf.load_student(file), pd.read_csv(plain.folder / "test.csv")
    wide = {name: frame[name].to_numpy() for name in frame}
    for rows, error, says in (
        (frame[:0], DataError, "there must be rows; got none"),
        (pd.concat([frame, frame[["a"]]], axis=1), UsageError, "must differ; got a more than once"),
        ({**wide, "a": np.ones((40, 2))}, UsageError, r"got 'a' of shape \(40, 2\)"),
        (
            frame.assign(a=pd.Timestamp("2024-01-31")),
            DataError,
            "'a': every cell must be a number; got datetime64",
        ),
        (frame.assign(a=1j), DataError, "'a': every cell must be a number; got complex128"),
    ):
        with pytest.raises(error, match=says):
            model.predict_proba(rows)
    frame.drop(columns="row_id").to_csv(plain.folder / "unnamed.csv", index=False)
    said = plain.cli("predict", file, plain.folder / "unnamed.csv", "-o", plain.folder / "said.csv")
    assert said.code == 3 and "missing here: row_id" in said.err
