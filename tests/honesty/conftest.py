"""What the honesty tests share: an arena that writes data and a config, runs it, and reads the files.

In:  frames of rows, a config as a dict, user code as text.
Out: what the run wrote, by member and by id, and single arrays of its store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score

from stackfeat.config import load_config
from stackfeat.config.planner import Planner
from stackfeat.data.splits.folds import Folds, load_folds
from stackfeat.engine.plan import Plan
from stackfeat.output import write
from stackfeat.output.run_result import RunResult
from stackfeat.pipeline.prepare import make_planner, open_store
from stackfeat.pipeline.run import run


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
        # To the last bit, with pandas 2 too.
        path = self.result.folder / kind / f"{name}.csv"
        return pd.read_csv(path, dtype={"id": str}, float_precision="round_trip").set_index("id")

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
        path = self.result.folder / "submission.csv"
        return pd.read_csv(path, dtype={"id": str}, float_precision="round_trip").set_index("id")

    @property
    def scores(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.result.folder / "scores.json").read_text())
        return found

    @cached_property
    def plan(self) -> Plan:
        return self.planner.plan()

    @property
    def folds(self) -> Folds:
        return load_folds(self.planner.store.read(self.planner.recipes.folds.key))

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
        extra: pd.DataFrame | None = None,
        task: str = "binary",
        metric: str = "log_loss",
        **others: Any,
    ) -> Ran:
        """Write everything into a new folder and run it; `code` maps module names to source."""
        self.n_runs += 1
        folder = self.folder / f"run{self.n_runs}"
        folder.mkdir()
        train.to_csv(folder / "train.csv", index=False)
        files: dict[str, Any] = {"train": "train.csv", "id": "id", "target": "y"}
        if test is not None:
            test.to_csv(folder / "test.csv", index=False)
            files["test"] = "test.csv"
        if extra is not None:
            extra.to_csv(folder / "more.csv", index=False)
            files["extra"] = {"train": "more.csv"}
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


LIMIT = 3.0
TWO_SIDED = ("accuracy", "roc_auc")


def noise_rows(n_rows: int, n_columns: int, seed: int, classes: bool, prefix: str) -> pd.DataFrame:
    rng = np.random.default_rng([seed, n_rows, prefix == "t"])
    X = rng.normal(size=(n_rows, n_columns))
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(n_columns)])
    frame.insert(0, "id", [f"{prefix}{i}" for i in range(n_rows)])
    frame["y"] = rng.integers(0, 2, n_rows) if classes else rng.normal(size=n_rows)
    return frame


def measure_noise(y: np.ndarray, prediction: np.ndarray, shares: np.ndarray | None) -> dict[str, float]:
    """Scores less chance, higher is better."""
    if shares is None:
        return {"r2": r2_score(y, prediction[:, 0])}
    return {
        "accuracy": accuracy_score(y, prediction.argmax(axis=1)) - 0.5,
        "roc_auc": roc_auc_score(y, prediction[:, 1]) - 0.5,
        "log_loss": entropy(shares) - log_loss(y, prediction),
    }


def null_se(metric: str, n_rows: int) -> float:
    """Standard error of the metric at chance, for predictions that know nothing."""
    return {"accuracy": 0.5, "roc_auc": 12**-0.5 * 2, "log_loss": 0.0, "r2": 0.0}[metric] / n_rows**0.5


class Harness:
    """Scores of every member over seeds, on OOF rows and on test rows."""

    def __init__(self, arena: Any, *, classes: bool, n_rows: int, n_test: int, n_columns: int = 6) -> None:
        self.arena, self.classes, self.n_columns = arena, classes, n_columns
        self.n_rows, self.n_test = n_rows, n_test
        self.found: dict[tuple[str, str, str], list[float]] = {}

    def run(
        self,
        n_seeds: int,
        levels: Mapping[str, Any],
        plant: Callable[[pd.DataFrame, bool], pd.DataFrame] = lambda frame, is_train: frame,
        **options: Any,
    ) -> Harness:
        for seed in range(n_seeds):
            train = plant(noise_rows(self.n_rows, self.n_columns, seed, self.classes, "r"), True)
            test = plant(noise_rows(self.n_test, self.n_columns, seed, self.classes, "t"), False)
            ran = self.arena.run(
                levels,
                train,
                test.drop(columns="y"),
                task="binary" if self.classes else "regression",
                metric="log_loss" if self.classes else "rmse",
                seed=seed,
                **options,
            )
            shares = np.bincount(train["y"], minlength=2) / len(train) if self.classes else None
            for member in ran.members:
                for part, frame, rows in (("oof", train, ran.oof(member)), ("test", test, ran.test(member))):
                    scores = measure_noise(frame["y"].to_numpy(), rows.loc[frame["id"]].to_numpy(), shares)
                    for metric, value in scores.items():
                        self.found.setdefault((member, part, metric), []).append(value)
        return self

    def table(self) -> pd.DataFrame:
        """Mean over seeds, its standard error (not below that of knowing nothing), and their ratio."""
        lines = []
        for (member, part, metric), values in self.found.items():
            n_rows = self.n_rows if part == "oof" else self.n_test
            spread = max(float(np.std(values, ddof=1)), null_se(metric, n_rows))
            error = spread / len(values) ** 0.5
            lines.append(
                (member, part, metric, float(np.mean(values)), error, float(np.mean(values)) / error)
            )
        return pd.DataFrame(lines, columns=["member", "part", "metric", "mean", "se", "z"])

    def gaps(self) -> pd.DataFrame:
        """How much better OOF scores are than test scores: mean over seeds, its standard error, their ratio."""
        lines = []
        for member, metric in dict.fromkeys((member, metric) for member, _, metric in self.found):
            oof, test = (np.array(self.found[member, part, metric]) for part in ("oof", "test"))
            at_chance = (null_se(metric, self.n_rows) ** 2 + null_se(metric, self.n_test) ** 2) ** 0.5
            error = max(float(np.std(oof - test, ddof=1)), at_chance) / len(oof) ** 0.5
            gap = float(np.mean(oof - test))
            lines.append((member, metric, gap, error, gap / error))
        return pd.DataFrame(lines, columns=["member", "metric", "gap", "se", "z"])

    def faults(self, limit: float = LIMIT) -> pd.DataFrame:
        """What is better than chance, or (test rows, two-sided metrics) not at chance."""
        table = self.table()
        better = table["z"] > limit
        away = (table["part"] == "test") & table["metric"].isin(TWO_SIDED) & (table["z"] < -limit)
        return table[better | away]


@pytest.fixture
def draw_noise() -> Callable[..., pd.DataFrame]:
    """A function that draws rows whose labels mean nothing."""
    return noise_rows


@pytest.fixture
def make_harness(arena: Arena) -> Callable[..., Harness]:
    """A function that makes a harness for labels of noise."""
    return partial(Harness, arena)


@pytest.fixture(autouse=True)
def only_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what these tests do not look at and pay for: the report and the predictor."""
    monkeypatch.setattr(write, "write_report", lambda *given: None)
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
