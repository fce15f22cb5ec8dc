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
"""Left to the slow run, for time."""


def run_tests(module: str, chosen: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "drop_in"]
    command += ["-p", "no:randomly", "-k", chosen, "--pyargs", f"sklearn.ensemble.tests.{module}"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=HERE, check=False, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def n_passed(output: str) -> int:
    found = re.search(r"(\d+) passed", output)
    assert found, output[-2000:]
    return int(found.group(1))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("module", "least"), [("test_stacking", 35), ("test_voting", 25)])
def test_ours_pass_the_tests_of_scikit_learn(module: str, least: int) -> None:
    assert n_passed(run_tests(module, f"not ({SLOW})")) >= least


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("module", "least"), [("test_stacking", 28), ("test_voting", 28)])
def test_ours_pass_all_tests_of_scikit_learn(module: str, least: int) -> None:
    assert n_passed(run_tests(module, "test")) >= least


def test_the_plug_in_replaces_the_classes() -> None:
    code = "import drop_in; from sklearn.ensemble import VotingClassifier as V; print(V.__module__)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=HERE, check=True
    )
    assert done.stdout.strip() == "stackfeat.sklearn.voting"
