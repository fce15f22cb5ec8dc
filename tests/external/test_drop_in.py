"""scikit-learn's own tests of its stacks and votes, run over ours (see drop_in.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SLOW = "randomness or gridsearch or parallel_fit or test_sample_weight or iris or diabetes or feature_names"
SLOW += " or with_sample_weight or cv_influence or auto_predict"
SLOW += " or multilabel or sparse or drop or routing or stratify"
"""Left to the slow run, for time."""


def run_tests(chosen: str, *modules: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "drop_in", "-p", "no:randomly"]
    command += ["-k", chosen, "--pyargs", *(f"sklearn.ensemble.tests.{module}" for module in modules)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=HERE, check=False, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    for module in ("stacking", "voting"):
        assert f"stackfeat.sklearn.{module}." in done.stdout, "the plug-in replaces the classes"
    return done.stdout


def n_passed(output: str) -> int:
    found = re.search(r"(\d+) passed", output)
    assert found, output[-2000:]
    return int(found.group(1))


@pytest.mark.timeout(1200)
def test_ours_pass_the_tests_of_scikit_learn() -> None:
    assert n_passed(run_tests(f"not ({SLOW})", "test_stacking", "test_voting")) >= 36


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("module", "least"), [("test_stacking", 28), ("test_voting", 28)])
def test_ours_pass_all_tests_of_scikit_learn(module: str, least: int) -> None:
    assert n_passed(run_tests("test", module)) >= least
