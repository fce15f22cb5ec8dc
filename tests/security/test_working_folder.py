"""A folder that somebody sent runs no code merely because it is the working folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = """
task: multiclass
metric: log_loss
data: {train: "sklearn:iris"}
folds: {n: 2}
levels:
  base:
    linear: {estimator: sklearn.linear_model.LogisticRegression, params: {}}
executor: {kind: loky, jobs: 1}
"""
PLANTED = ("joblib", "numpy", "colorsys", "cloudpickle", "sitecustomize", "usercustomize", "conftest")
AS_SCRIPT = "import sys; del sys.path[0]; from stackfeat.cli.commands import main; main()"


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(["-m", "stackfeat"], id="module"),
        pytest.param(["-c", AS_SCRIPT], id="script", marks=pytest.mark.slow),
    ],
)
def test_files_named_like_libraries_are_not_imported_by_a_run_or_its_workers(
    start: list[str], tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    folder = tmp_path / "received"
    folder.mkdir()
    (folder / "c.yaml").write_text(CONFIG)
    for name in PLANTED:
        (folder / f"{name}.py").write_text(f"open({str(canary)!r}, 'a').write({name!r})\n")
    done = subprocess.run(
        [sys.executable, *start, "run", "c.yaml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not canary.exists(), canary.read_text()
    assert done.returncode == 0, done.stderr
