"""A loaded predictor: rows of any form give what `predict` and the submission give, warm and in threads."""

from __future__ import annotations

import csv
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat as sf
from stackfeat.errors import DataError, MissingColumnsError, StackfeatError, UsageError
from stackfeat.executors.isolated import run_isolated
from stackfeat.output.saved_predictor import SavedPredictor
from tests.projects import Build, plain_config

Project = Any


def rows_of(project: Project) -> pd.DataFrame:
    return pd.read_csv(project.folder / "test.csv")


def submitted(project: Project) -> np.ndarray:
    return np.array([[float(cell) for cell in row[1:]] for row in project.submission()[1:]])


@pytest.fixture(scope="module")
def stack(net_run: Project) -> SavedPredictor:
    model = sf.load(net_run.run_folder)
    assert isinstance(model, SavedPredictor)
    return model


def test_rows_of_any_form_give_the_submission(stack: SavedPredictor, net_run: Project) -> None:
    frame, wanted = rows_of(net_run), submitted(net_run)
    forms = [frame, {name: frame[name].to_numpy() for name in frame}, net_run.folder / "test.csv"]
    for form in [*forms, str(forms[-1]), frame.drop(columns="row_id").assign(more=1)]:
        np.testing.assert_array_equal(stack.predict_proba(form), wanted)
    assert stack.predict(frame).tolist() == stack.classes_[wanted.argmax(axis=1)].tolist()
    assert stack.classes_.tolist() == net_run.submission()[0][1:]
    assert set(stack.feature_names_in_) == {"a", "b", "c", "d", "colour"}


def test_a_member_says_what_its_file_of_test_rows_says(stack: SavedPredictor, net_run: Project) -> None:
    said = stack.predict_members(rows_of(net_run).set_index("row_id", drop=False))
    assert said.index.tolist() == rows_of(net_run)["row_id"].tolist()
    assert list(said) == [f"{member}:{label}" for member in stack.members for label in stack.classes_]
    for member in stack.members:
        path = net_run.run_folder / "test" / f"{member.replace('/', '.')}.csv"
        with path.open(newline="") as file:
            kept = [[float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]]
        own = said[[f"{member}:{label}" for label in stack.classes_]].to_numpy()
        np.testing.assert_allclose(own, kept, rtol=1e-12)


def test_only_what_the_submitted_member_is_made_of_is_loaded(plain: Project) -> None:
    assert plain.run("--set", "submit=base/tree").code == 0
    model = sf.load(plain.run_folder)
    assert isinstance(model, SavedPredictor) and model.members == ("base/tree",)
    assert not model.predictor.parts.held
    model.predict(rows_of(plain))
    first = dict(model.predictor.parts.held)
    assert len(first) == 3
    model.predict(rows_of(plain))
    assert all(model.predictor.parts.held[key] is part for key, part in first.items())


def test_threads_get_what_one_gets(stack: SavedPredictor, net_run: Project) -> None:
    parts = [rows_of(net_run).iloc[start::8] for start in range(8)] * 2
    alone = [stack.predict_proba(part) for part in parts]
    with ThreadPoolExecutor(8) as threads:
        for one, other in zip(threads.map(stack.predict_proba, parts), alone, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_copy_in_another_process_loads_the_models_itself(stack: SavedPredictor, net_run: Project) -> None:
    stack.predict(rows_of(net_run))
    written = pickle.dumps(stack)
    assert len(written) < 2000
    again = pickle.loads(written)
    assert not again.predictor.parts.held
    np.testing.assert_array_equal(again.predict_proba(rows_of(net_run)), submitted(net_run))


def test_probabilities_are_given_under_a_metric_of_labels(build: Build) -> None:
    project = build("binary", plain_config("binary", "f1"))
    assert project.run("--set", "submit=final/soft").code == 0
    model, out = sf.load(project.run_folder), project.folder / "out.csv"
    proba = model.predict_proba(rows_of(project))
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    assert model.predict(rows_of(project)).tolist() == [row[1] for row in project.submission()[1:]]
    data = project.folder / "test.csv"
    assert project.cli("predict", project.run_folder, data, "-o", out, "--proba", "--members").code == 0
    written = pd.read_csv(out)
    assert list(written)[:3] == ["row_id", "no", "yes"] and "base/tree:yes" in written
    np.testing.assert_allclose(written[["no", "yes"]].to_numpy(), proba, rtol=1e-12)
    np.testing.assert_allclose(written["final/soft:yes"], written["yes"], rtol=1e-12)


def test_a_regression_has_values_and_no_probabilities(build: Build) -> None:
    project = build("regression", plain_config("regression", "rmse"))
    assert project.run().code == 0
    model = sf.load(project.run_folder)
    np.testing.assert_array_equal(model.predict(rows_of(project)), submitted(project)[:, 0])
    assert len(model.classes_) == 0
    with pytest.raises(UsageError, match="predict_proba needs classes; got a run of a regression"):
        model.predict_proba(rows_of(project))
    said = project.cli("predict", project.run_folder, project.folder / "test.csv", "-o", "o.csv", "--proba")
    assert said.code == 2 and "--proba needs classes" in said.err


def test_a_missing_column_is_named_and_may_be_filled(stack: SavedPredictor, net_run: Project) -> None:
    frame = rows_of(net_run)
    with pytest.raises(MissingColumnsError, match=r"missing here: b, colour.*allow_missing") as caught:
        stack.predict(frame.drop(columns=["b", "colour"]))
    assert caught.value.columns == ("b", "colour")
    filling = sf.load(net_run.run_folder, allow_missing=True)
    empty = frame.assign(b=np.nan, colour=None)
    expected = stack.predict_proba(empty)
    np.testing.assert_array_equal(filling.predict_proba(frame.drop(columns=["b", "colour"])), expected)


def test_the_command_fills_a_missing_column_where_it_is_told(plain: Project) -> None:
    data = plain.rewritten(lambda row: {name: cell for name, cell in row.items() if name != "b"})
    out = plain.folder / "out.csv"
    said = plain.cli("predict", plain.run_folder, data, "-o", out)
    assert said.code == 3 and "missing here: b" in said.err and "--allow-missing" in said.err
    assert plain.cli("predict", plain.run_folder, data, "-o", out, "--allow-missing").code == 0
    assert len(out.read_text().splitlines()) == 41


def test_drift_says_of_each_column_what_is_off(stack: SavedPredictor, net_run: Project) -> None:
    found = stack.drift(rows_of(net_run).assign(a=lambda frame: 1000 * frame["a"], colour="violet"))
    assert list(found) == ["column", "kind", "train", "now", "flag"]
    flags = dict(zip(found["column"], found["flag"], strict=True))
    assert flags == {"a": "scale", "b": "", "c": "", "d": "", "colour": "unseen"}


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (
            np.zeros((3, 5)),
            UsageError,
            r"X must be a DataFrame, a path or a dict of arrays; got ndarray.*columns=",
        ),
        ({"a": [1, 2], "b": [1]}, UsageError, r"arrays of X must be of one length; got \[1, 2\]"),
        (pd.DataFrame({"a": []}), DataError, "there must be rows; got none"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), DataError, "names of columns must differ"),
        ("no.csv", DataError, "no such file"),
    ],
)
def test_rows_of_another_form_are_refused(rows: Any, error: Any, message: str, stack: SavedPredictor) -> None:
    with pytest.raises(error, match=message):
        stack.predict(rows)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold a predictor"):
        sf.load(tmp_path)
    with pytest.raises(DataError, match="got no such folder or file; name a run folder"):
        sf.load(tmp_path / "no.zip")


@pytest.mark.parametrize(
    ("name", "said"), [("rum", r"\. Did you mean 'run'\?$"), ("typo", r"\. Runs beside it: run$")]
)
def test_a_run_that_is_not_there_may_be_one_beside_it(name: str, said: str, plain_run: Project) -> None:
    folder = plain_run.run_folder.with_name(name)
    with pytest.raises(DataError, match=f"got no such folder or file{said}"):
        sf.load(folder)
    for command in (
        ("audit",),
        ("note",),
        ("report",),
        ("watch",),
        ("export",),
        ("refresh", "--train", "x.csv"),
    ):
        printed = plain_run.cli(command[0], folder, *command[1:])
        assert printed.code == 2 and re.search(
            f"RUN must be .*, which is not there{said}", printed.err.strip()
        )


def test_an_isolated_prediction_is_the_same_and_ends_with_its_limits(plain: Project) -> None:
    out, data = plain.folder / "out.csv", plain.folder / "test.csv"
    arguments = ["predict", str(plain.run_folder), str(data), "-o", str(out)]
    assert run_isolated(arguments) == (0, {"output": str(out), "rows": 40, "warnings": []})
    assert out.read_bytes() == (plain.run_folder / "submission.csv").read_bytes()
    with pytest.raises(StackfeatError, match=r"--isolate allows 0\.01 seconds"):
        run_isolated(arguments, seconds=0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="a crash is a signal here")
def test_a_child_that_crashes_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shell = tmp_path / "python"
    shell.write_text("#!/bin/sh\nkill -SEGV $$\n")
    shell.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(shell))
    with pytest.raises(StackfeatError, match="got SIGSEGV: a library crashed over RUN"):
        run_isolated([])


def test_loading_needs_no_store_and_no_imports_beyond_those_of_predict(plain: Project) -> None:
    code = (
        "import sys, stackfeat as sf; model = sf.load(sys.argv[1]); model.predict(sys.argv[2]);"
        "assert 'typer' not in sys.modules and 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(plain.run_folder), str(plain.folder / "test.csv")]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
