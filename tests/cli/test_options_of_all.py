"""Options of every command: before it and after it; the version, completion, and the order of the help."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stackfeat import __version__
from stackfeat.cli.app import FLOW
from tests.projects import Project


def start(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "stackfeat", *words],
        env={**os.environ, "PYTHONPATH": root, **variables},
        capture_output=True,
        text=True,
    )


def test_the_version_is_said_with_or_without_json(plain_run: Project) -> None:
    assert plain_run.cli("--version").out == f"stackfeat {__version__}\n"
    assert plain_run.cli("--version", "--json").out == f'{{"version": "{__version__}"}}\n'
    said = plain_run.cli("--version", "doctor")
    assert said.code == 2 and "--version stands alone" in said.err


def test_help_lists_commands_in_the_order_of_the_flow(plain_run: Project) -> None:
    out = plain_run.cli("--help").out
    listed = re.findall(r"^  ([a-z]+)  ", out[out.index("Commands:") :], re.MULTILINE)
    assert listed[:3] == ["run", "check", "init"] and len(listed) >= 15
    assert listed == sorted(listed, key=lambda name: FLOW.index(name) if name in FLOW else len(FLOW))
    alone = plain_run.cli()
    assert alone.code == 2 and alone.out == out


@pytest.mark.parametrize("place", ["before", "after"])
def test_quiet_leaves_results_only(place: str, plain: Project) -> None:
    words = ["run", str(plain.folder / "c.yaml"), "--set", "seed=5"]
    loud = plain.cli(*words)
    assert "fold" in loud.err and "\ndata: " in loud.out
    again = [*words[:-1], "seed=6"]
    said = plain.cli(*(["-q", *again] if place == "before" else [*again, "-q"]))
    assert said.code == 0 and said.err == "" and "\ndata: " not in said.out and "submission: " in said.out


def test_jobs_of_the_command_stand_above_those_of_the_config(plain: Project) -> None:
    config = plain.config()
    config["executor"] = {"kind": "inline", "jobs": 1000}
    plain.write(config)
    assert plain.run("--jobs", "2").code == 0
    assert "jobs: 2\n" in (plain.run_folder / "config.yaml").read_text()
    assert "jobs computed: 0" in plain.run("--jobs", "3").out, "results do not depend on it"
    said = plain.run("--jobs", "0")
    assert said.code == 2 and "--jobs" in said.err


def test_shells_complete_commands_and_options() -> None:
    words = {"COMP_WORDS": "stackfeat sh", "COMP_CWORD": "1", "_STACKFEAT_COMPLETE": "complete_bash"}
    assert start(**words).stdout.split() == ["show"]
    words |= {"COMP_WORDS": "stackfeat clean --ke", "COMP_CWORD": "2"}
    assert start(**words).stdout.split() == ["--keep-run"]
    # Else the shell that started the tests is asked, and there may be none.
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    said = start("--show-completion", "bash", **named).stdout
    assert "complete -o default -F _stackfeat_completion stackfeat" in said
