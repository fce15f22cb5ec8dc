"""The other commands: check, init, show, clean, doctor, schema, help; and what they do not import."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.projects import FAILING

Project = Any
COMMANDS = ("run", "check", "init", "predict", "show", "doctor", "schema", "clean")


def test_check_prints_the_plan_and_computes_nothing(build: Any, fits: list[str]) -> None:
    project = build()
    said = project.cli("check", project.folder / "c.yaml")
    assert said.code == 0, said.err
    assert "multiclass, log_loss, 3 folds (stratified)" in said.out
    assert "18 jobs to compute" in said.out
    assert "reads meta/gated/proba, base/gbm/proba, base/linear/proba" in said.out
    assert fits == []
    assert not (project.folder / "runs").exists()
    assert not (project.folder / ".stackfeat").exists()


def test_check_after_a_run_finds_everything_stored(net: Project) -> None:
    said = net.cli("check", net.folder / "c.yaml")
    assert said.code == 0
    assert "\n0 jobs to compute" in said.out and "classes: high, low, mid" in said.out
    said = net.cli("check", net.folder / "c.yaml", "--set", "levels.base.mlp.train.lr=0.1")
    # The net, its pairs of folds, its alignment, and what reads them: two meta-learners and two votes.
    assert re.search(r"\n23 jobs to compute", said.out), said.out
    assert "gbm: stored" in said.out


def test_the_config_that_init_writes_runs(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    project = build("binary")
    (project.folder / "c.yaml").unlink()
    monkeypatch.chdir(project.folder)
    said = project.cli("init", "train.csv", "--target", "label", "--test", "test.csv", "-o", "first.yaml")
    assert said.code == 0, said.err
    assert "stackfeat run first.yaml" in said.out
    assert project.cli("check", "first.yaml").code == 0
    small = [
        "executor.kind=inline",
        "folds.n=3",
        "levels.base.mlp_small={net: mlp, params: {hidden: [4]}, train: {epochs: 2}}",
        "levels.base.gbm.params={n_estimators: 5}",
        "name=first",
    ]
    said = project.cli("run", "first.yaml", "-q", *[part for text in small for part in ("--set", text)])
    assert said.code == 0, said.err
    assert (project.folder / "runs" / "first" / "submission.csv").exists()
    again = project.cli("init", "train.csv", "--target", "label", "-o", "first.yaml")
    assert again.code == 2 and "exists already" in again.err
    assert project.cli("init", "train.csv", "--target", "lable", "-o", "b.yaml").code == 3
    assert not (project.folder / "b.yaml").exists()


def test_a_word_in_the_place_of_a_number_is_named(plain: Project) -> None:
    said = plain.cli("note", plain.run_folder, "--lb", "80x")
    assert said.code == 2
    assert re.search(r"--lb'?(: '80x' is not a valid float| must be a number; got '80x')", said.err)
    assert "Input should be" not in said.err


def test_show_lists_entries_and_why_one_was_made_anew(quick: Project) -> None:
    assert quick.run("--set", "levels.base.gbm.params.n_estimators=7").code == 0
    store = quick.folder / ".stackfeat"
    said = quick.cli("show", "fit", "--store", store)
    assert said.code == 0
    lines = [line for line in said.out.splitlines() if "lightgbm.LGBMClassifier, repeat 0, fold 0" in line]
    assert len(lines) == 2
    key = lines[0].split()[0]
    said = quick.cli("show", "--store", store, "--why", key)
    assert said.code == 0, said.err
    assert re.search(r"member\.params\.n_estimators: (10 -> 7|7 -> 10)", said.out)
    assert quick.cli("show", "zzz", "--store", store).out.startswith("no entries that match 'zzz'")
    said = quick.cli("show", "--store", store, "--why", "zzz")
    assert said.code == 2 and "must begin exactly one key" in said.err


def test_clean_removes_leftovers_and_old_entries_only(quick: Project, fits: list[str]) -> None:
    store = quick.folder / ".stackfeat"
    said = quick.cli("clean", "--store", store)
    assert said.code == 0 and "0 old entries" in said.out
    assert quick.run().code == 0 and fits == []
    assert quick.cli("clean", "--store", store, "--older-than", "-1").code == 2
    said = quick.cli("clean", "--store", store, "--older-than", "0")
    assert said.code == 0 and not list(store.glob("entries/*/*/DONE"))
    assert quick.run().code == 0 and len(fits) == 18


def test_doctor_and_schema_speak(quick: Project) -> None:
    said = quick.cli("doctor")
    assert said.code == 0 and re.search(r"lightgbm +\d", said.out)
    schema = json.loads(quick.cli("schema").out)
    assert {"task", "metric", "data", "levels"} <= set(schema["properties"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, quick_run: Project) -> None:
    said = quick_run.cli(command, "--help")
    assert said.code == 0
    assert said.out.startswith("Usage:") and "Traceback" not in said.err
    assert len(said.out.splitlines()) > 4


def test_help_names_every_command(quick_run: Project) -> None:
    said = quick_run.cli("--help")
    assert said.code == 0 and all(command in said.out for command in COMMANDS)


LIGHT = """
import sys
from stackfeat.cli.commands import main
for arguments in ("--help", "run --help", "extract --help", "layers --help", "check c.yaml", "doctor", "schema"):
    sys.argv = ["stackfeat", *arguments.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
    heavy = {"torch", "sklearn", "pandas", "lightgbm", "scipy", "matplotlib"} & set(sys.modules)
    assert not heavy, (arguments, heavy)
"""


def test_light_commands_import_nothing_heavy(net: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT],
        cwd=net.folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_exit_code_and_messages_reach_the_shell(plain: Project) -> None:
    config = plain.config()
    config["levels"]["base"]["bad"] = FAILING
    plain.write(config)
    process = plain.start("run", "c.yaml", "--quiet")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 4
    assert "failed: base/bad" in out and "Traceback" not in err
