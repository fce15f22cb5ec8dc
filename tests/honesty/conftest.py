"""What the honesty tests share: an arena that writes data and a config, runs it, and reads the files.

In:  frames of rows, a config as a dict, user code as text.
Out: what the run wrote, by member and by id, and single arrays of its store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest

from stackfeat.config import load_config
from stackfeat.data.folds import Folds, load_folds
from stackfeat.ensemble.plan import Plan
from stackfeat.features.keys import key_of
from stackfeat.output import write
from stackfeat.output.result import RunResult
from stackfeat.planning import Planner, make_planner, open_store
from stackfeat.run import run


@dataclass(frozen=True)
class Ran:
    """A finished run; members are named ``level.member``."""

    folder: Path
    result: RunResult
    planner: Planner

    def oof(self, member: str) -> pd.DataFrame:
        """OOF file of a member, by id."""
        return self._read("oof", member)

    def test(self, member: str) -> pd.DataFrame:
        """Test file of a member, by id."""
        return self._read("test", member)

    def _read(self, kind: str, member: str) -> pd.DataFrame:
        name = quote(member, safe="@._-")
        frame = pd.read_csv(self.result.folder / kind / f"{name}.csv", dtype={"id": str})
        return frame.set_index("id")

    @property
    def members(self) -> list[str]:
        return [f"{row.level}.{row.member}" for row in self.result.leaderboard.itertuples()]

    @property
    def fold_of(self) -> pd.Series:
        """Fold of each id in the first repeat."""
        frame = pd.read_csv(self.result.folder / "folds.csv", dtype={"id": str})
        return frame[frame["repeat"] == 0].set_index("id")["fold"]

    @property
    def submission(self) -> pd.DataFrame:
        return pd.read_csv(self.result.folder / "submission.csv", dtype={"id": str}).set_index("id")

    @property
    def scores(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.result.folder / "scores.json").read_text())
        return found

    @property
    def plan(self) -> Plan:
        return self.planner.plan()

    @property
    def folds(self) -> Folds:
        return load_folds(self.planner.store.read(key_of(self.planner.recipes.folds)))

    def stored(self, member: str, repeat: int, fold: int, name: str) -> np.ndarray:
        """OOF array of one unit, as it stands in the store."""
        key = self.plan.fits[member, repeat, fold]
        return self.planner.store.read(key).array(f"oof/{name}")


class Arena:
    """Runs configs, each in a folder and with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.n_runs = 0

    def run(
        self,
        levels: Mapping[str, Any],
        train: pd.DataFrame,
        test: pd.DataFrame | None = None,
        *,
        data: Mapping[str, Any] | None = None,
        folds: Mapping[str, Any] | None = None,
        code: Mapping[str, str] | None = None,
        task: str = "binary",
        metric: str = "log_loss",
        **others: Any,
    ) -> Ran:
        """Write everything into a new folder and run it; `code` maps module names to source."""
        self.n_runs += 1
        folder = self.folder / f"run{self.n_runs}"
        folder.mkdir()
        train.to_csv(folder / "train.csv", index=False)
        files = {"train": "train.csv", "id": "id", "target": "y"}
        if test is not None:
            test.to_csv(folder / "test.csv", index=False)
            files["test"] = "test.csv"
        for name, text in (code or {}).items():
            (folder / f"{name}.py").write_text(text)
        config = {
            "task": task,
            "metric": metric,
            "data": {**files, **(data or {})},
            "folds": dict(folds or {"n": 3}),
            "levels": levels,
            "executor": {"kind": "inline"},
            **others,
        }
        (folder / "config.yaml").write_text(json.dumps(config))
        loaded = load_config(folder / "config.yaml", trust_code=bool(code))
        result = run(loaded, trust_code=bool(code))
        assert not result.failed, result.failed
        return Ran(folder, result, make_planner(loaded, open_store(loaded)))


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    return Arena(tmp_path)


@pytest.fixture(autouse=True)
def only_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what these tests do not look at and pay for: flushing to the disk, the report, the predictor."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(write, "render_report", lambda *given: "")
    monkeypatch.setattr(write, "write_predictor", lambda *given: None)


@pytest.fixture
def make_rows() -> Any:
    """A function that draws rows: ids, five standard normal columns, labels that depend on two of them."""

    def draw(n_rows: int, seed: int, n_classes: int = 2, prefix: str = "r") -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n_rows, 5))
        frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(5)])
        frame.insert(0, "id", [f"{prefix}{i}" for i in range(n_rows)])
        signal = X[:, 0] + 0.7 * X[:, 1] + rng.normal(size=n_rows)
        if n_classes:
            edges = np.quantile(signal, np.linspace(0, 1, n_classes + 1)[1:-1])
            frame["y"] = np.searchsorted(edges, signal)
        else:
            frame["y"] = signal
        return frame

    return draw
