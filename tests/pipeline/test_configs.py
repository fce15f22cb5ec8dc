"""Every config on a data set runs: on a few of its rows, with an epoch or a few trees."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

Project = Any
ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"
CONFIGS = sorted(
    path for path in (ROOT / "configs").glob("*.yaml") if "work/data/" in path.read_text("utf-8")
)
N_TRAIN, N_TEST = 90, 20
FEW = {"n_estimators": 4, "max_iter": 4}
NARROW = {"width": 4, "filters": 4, "hidden": 8}


def prepare(name: str, folder: Path) -> None:
    """Write the files that `make data` writes, of a few rows."""
    described = importlib.util.spec_from_file_location("prepare_data", ROOT / "benchmarks/prepare_data.py")
    assert described is not None and described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    few = folder / "few"
    few.mkdir()
    if (REAL / name / "data.npz").is_file():
        with np.load(REAL / name / "data.npz") as archive:
            arrays = {key: archive[key] for key in archive.files}
        rows = chosen(arrays["is_test"], arrays["y"], arrays.get("subject"))
        n_rows = len(arrays["y"])
        cut = {key: values[rows] if len(values) == n_rows else values for key, values in arrays.items()}
        np.savez(few / "data.npz", **cut)
        module.prepare_arrays(few / "data.npz", folder / "work" / name)
        return
    frame = pd.read_parquet(REAL / name / "data.parquet")
    is_test = (frame["split"] == "test").to_numpy()
    targets = frame[module.find_targets(frame)]
    if targets.shape[1] > 1 and targets[~is_test].isin([0, 1]).all(axis=None):
        # By the rarest of its labels, so that each label is there.
        codes = targets.where(targets == 1, 2).mul(targets.mean() + 1).to_numpy().argmin(axis=1)
    else:
        target = targets.iloc[:, 0]
        codes = pd.factorize(target)[0] if target.nunique() < 30 else np.zeros(len(frame), dtype=int)
    # Of a table in time order a stretch of every so many rows, so that all times are there.
    frame.iloc[chosen(is_test, codes, None)].to_parquet(few / "data.parquet")
    module.prepare(few / "data.parquet", folder / "work" / name)


def chosen(is_test: np.ndarray, y: np.ndarray, group: np.ndarray | None) -> np.ndarray:
    """Return a few rows of every class and of several groups, in the order of the file."""
    train = np.flatnonzero(~is_test)
    if group is not None:
        train = train[np.isin(group[train], np.unique(group[train])[:4])]
    per_class = max(4, N_TRAIN // len(np.unique(y[train])))
    parts = [train[y[train] == label] for label in np.unique(y[train])]
    spread = [part[np.linspace(0, len(part) - 1, min(per_class, len(part))).astype(int)] for part in parts]
    return np.sort(np.concatenate([*spread, np.flatnonzero(is_test)[:N_TEST]]))


def small(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the config with one epoch, few trees and the files of `prepare`."""
    # Of a few rows of counts the sample would look like classes.
    config["data"].pop("sample_submission", None)
    for role in ("train", "test"):
        config["data"][role] = config["data"][role].replace("../work/data/", "work/")
    is_time = "time" in config["data"]
    config["folds"] |= {"n": 4 if is_time else 2, "repeats": 1}
    for members in config["levels"].values():
        for options in members.values():
            params = options.get("params", {})
            params |= {name: value for name, value in FEW.items() if name in params}
            if "net" in options:
                options["seeds"] = 1
                options["train"] = {**options["train"], "epochs": 1}
                narrow = {name: value for name, value in NARROW.items() if isinstance(params.get(name), int)}
                options["params"] = {**params, **narrow}
            if "early_stopping_rounds" in params:
                params["early_stopping_rounds"] = 2
            if options.get("estimator") == "gated_linear":
                options["params"] = {**params, "max_blocks": 1, "penalties": [10.0]}
    return {**config, "outputs": {"dir": "runs/run"}, "executor": {"kind": "inline"}}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_runs_at_a_tiny_size(path: Path, build: Callable[..., Project]) -> None:
    config = YAML(typ="safe").load(path.read_text("utf-8"))
    name = Path(config["data"]["train"]).parent.name
    if not (REAL / name).is_dir():
        pytest.skip("the real data sets are not beside the checkout")
    pytest.importorskip("pyarrow")
    project = build()
    prepare(name, project.folder)
    project.write(small(config, project.folder))
    said = project.run()
    assert said.code == 0, said.err
    assert len(project.submission()) == N_TEST + 1
