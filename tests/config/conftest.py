"""A folder with small data files, and a function that writes a config there and loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stackfeat.config import LoadedConfig, load_config

GOOD = """\
task: multiclass
metric: log_loss
data:
  train: train.csv
  test: test.csv
  id: row_id
  target: label
levels:
  base:
    mlp:
      net: mlp
      params: {hidden: [32]}
      train: {epochs: 5, lr: 1e-3}
      emit: [proba, penultimate]
    gbm: {estimator: lightgbm.LGBMClassifier, params: {class_weight: {0: 1, 1: 5}}}
  meta:
    gated: {estimator: gated_linear, inputs: ["base/*/*"]}
  final:
    soft: {vote: soft, inputs: ["meta/*", base/mlp/proba]}
"""


@pytest.fixture(autouse=True)
def no_data_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STACKFEAT_DATA_ROOTS", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    for name in ("train", "test"):
        rows = [f"{name}{i},{name}-o{i // 4},{i / 7},{'abc'[i % 3]}" for i in range(60)]
        (project / f"{name}.csv").write_text("\n".join(["row_id,owner_id,x,label", *rows]) + "\n")
    return project


@pytest.fixture
def good() -> str:
    return GOOD


@pytest.fixture
def load(folder: Path) -> Callable[..., LoadedConfig]:
    """Write a text as c.yaml and load it."""

    def load_text(text: str, **options: object) -> LoadedConfig:
        path = folder / "c.yaml"
        path.write_text(text)
        return load_config(path, **options)  # type: ignore[arg-type]

    return load_text
