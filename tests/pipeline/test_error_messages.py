"""What a command says of an error: one message, and the traceback only for those who ask for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stackfeat.cli import entries

Project = Any
RAISES = """
from sklearn.base import BaseEstimator, ClassifierMixin

class Raises(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        raise ZeroDivisionError("first\\nsecond")
"""


@pytest.mark.parametrize(
    ("flags", "shown"), [(("show",), False), (("show", "--verbose"), True), (("-v", "show"), True)]
)
def test_a_bug_of_ours_is_one_line_unless_its_traceback_is_wanted(
    flags: tuple[str, ...], shown: bool, quick: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> str:
        raise KeyError("key\nof a table")

    monkeypatch.setattr(entries, "list_entries", broken)
    said = quick.cli(*flags)
    assert said.code == 1
    assert ("Traceback" in said.err) is shown
    last = said.err.strip().splitlines()[-1]
    assert last.startswith("error: this is a bug in stackfeat: KeyError") and "--verbose" in last
    assert shown or len(said.err.strip().splitlines()) == 1


def test_the_traceback_of_an_error_of_the_user_is_shown_on_demand(quick: Project) -> None:
    said = quick.cli("check", quick.folder / "absent.yaml")
    assert said.code == 2 and "Traceback" not in said.err
    verbose = quick.cli("check", quick.folder / "absent.yaml", "-v")
    assert verbose.code == 2 and "Traceback" in verbose.err and verbose.err.endswith(said.err)


def test_an_error_of_a_members_code_is_one_line_and_its_traceback_is_in_the_log(quick: Project) -> None:
    (quick.folder / "odd.py").write_text(RAISES)
    config = quick.config()
    config["levels"]["base"]["odd"] = {"estimator": "odd:Raises"}
    said = quick.write(config).run("--trust-code")
    assert said.code == 4
    assert "failed: base/odd: it raised ZeroDivisionError: first (the traceback is in run.log)" in said.out
    assert "Traceback" not in said.out + said.err
    assert "odd.py" in (quick.run_folder / "run.log").read_text()


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m stackfeat schema | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_is_full_is_one_message() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m stackfeat schema > /dev/full"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the machine must have the disk space")
    assert len(done.stderr.strip().splitlines()) == 1
