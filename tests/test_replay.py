"""Nothing changes while code is moved: results are those of a recorded file, and a change is seen and measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.replay import OTHER_MACHINE, differences
from benchmarks.replayed.entries import of_array, of_numbers, of_text

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "tests/replay.json"


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_results_are_those_that_were_recorded() -> None:
    command = [sys.executable, "benchmarks/replay.py", "compare", str(RECORDED)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if said.returncode == OTHER_MACHINE:
        pytest.skip(said.stdout.strip())
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_recorded_file_knows_its_units_and_its_machine() -> None:
    recorded = json.loads(RECORDED.read_text())
    assert {"blas", "numpy", "torch", "torch kernels"} <= set(recorded["machine"])
    units = {name.partition(": ")[0] for name in recorded["entries"]}
    configs = {f"configs/{path.stem}" for path in (ROOT / "configs").glob("*.yaml")}
    assert configs <= units


def test_what_differs_is_said_with_its_size() -> None:
    values = np.linspace(1, 2, 100)
    changed = values.copy()
    changed[50] += 1e-6
    before = {
        "same": of_array(values),
        "a": of_array(values),
        "gone": of_text("x"),
        "text": of_text("x"),
        "score/base/mlp": of_numbers(0.5, 0.1),
        "longer": of_array(values[:3]),
    }
    now = {
        "same": of_array(values.copy()),
        "a": of_array(changed),
        "new": of_text("x"),
        "text": of_text("y"),
        "score/base/mlp": of_numbers(0.51, 0.1),
        "longer": of_array(values[:4]),
    }
    kept = {name: entry.to_json() for name, entry in before.items()}
    whole = {"a": before["a"].whole}
    lines = dict(line.split(": ", 1) for line in differences(kept, now, whole))
    assert set(lines) == {"a", "gone", "new", "text", "score/base/mlp", "longer"}
    assert lines["a"] == "greatest difference 1e-06, relative 5e-07 of all 100 numbers"
    assert lines["score/base/mlp"].endswith("score 0.5 -> 0.51, 0.1 standard errors")
    assert (lines["gone"], lines["new"], lines["text"]) == ("is gone", "is new", "differs")
    assert lines["longer"] == "3 numbers became 4"
