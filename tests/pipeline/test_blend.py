"""blend: arrays alone give what a run over the same predictions in files gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

import stackfeat as sf
from stackfeat.errors import DataError, UsageError
from stackfeat.output.completed_run import read_predictions
from tests.data.files.reading import TEXT_ERROR


def models(
    n_models: int, n_rows: int = 240, seed: int = 0
) -> tuple[dict[str, Any], np.ndarray, dict[str, Any]]:
    """Return probabilities of so many models, labels, and probabilities of other rows."""
    rng = np.random.default_rng(seed)
    truth, later = rng.normal(size=n_rows), rng.normal(size=60)
    y = np.where(truth + rng.normal(size=n_rows) > 0, "yes", "no")
    noise = rng.uniform(0.5, 2, n_models)
    oof = {f"m/{i}": expit(truth + rng.normal(size=n_rows) * noise[i]) for i in range(n_models)}
    test = {f"m/{i}": expit(later + rng.normal(size=60) * noise[i]) for i in range(n_models)}
    return oof, y, test


def by_files(folder: Path, oof: Any, y: Any, test: Any, folds: Any) -> Any:
    """Return the result of a config that names the same predictions in files."""
    (folder / "o").mkdir(), (folder / "t").mkdir()
    rows, later = [f"a{i}" for i in range(len(y))], [f"b{i}" for i in range(60)]
    pd.DataFrame({"key": rows, "label": y, "part": folds, "q": range(len(y))}).to_csv(
        folder / "train.csv", index=False
    )
    pd.DataFrame({"key": later, "q": range(60)}).to_csv(folder / "test.csv", index=False)
    for place, arrays, ids in (("o", oof, rows), ("t", test, later)):
        for name, values in arrays.items():
            frame = pd.DataFrame({"key": ids, "no": 1 - values, "yes": values})
            frame.to_csv(folder / place / f"{name.replace('/', '%2F')}.csv", index=False)
    reads = {"inputs": ["base/arrays:*/proba"]}
    config = {
        "task": "binary",
        "metric": "roc_auc",
        "data": {"train": "train.csv", "test": "test.csv", "id": "key", "target": "label", "fold": "part"},
        "folds": {"kind": "column"},
        "levels": {
            "base": {"arrays": {"predictions": {"files": "o/*.csv", "test": "t/*.csv"}}},
            "blend": {
                "greedy": {"vote": "greedy", **reads},
                "weighted": {"vote": "weighted", **reads},
                "gated_linear": {"estimator": "gated_linear", **reads},
            },
        },
        "executor": {"kind": "inline"},
    }
    (folder / "c.yaml").write_text(json.dumps(config))
    return sf.run(folder / "c.yaml")


@pytest.mark.parametrize("n_models", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_arrays_give_what_the_run_over_the_same_files_gives(n_models: int, tmp_path: Path) -> None:
    oof, y, test = models(n_models)
    folds = np.arange(len(y)) % 4
    ran = by_files(tmp_path, oof, y, test, folds)
    board = ran.leaderboard.set_index("member")["score"]
    for method in ("greedy", "weighted", "gated_linear"):
        found = sf.blend(oof, y, test, metric="roc_auc", folds=folds, method=method)  # type: ignore[arg-type]
        assert found.score == board[method] and found.method == method
        kept = read_predictions(ran.folder / "test" / f"blend.{method}.csv")["yes"]
        np.testing.assert_allclose(found.test, kept, rtol=TEXT_ERROR, atol=0)
    found = sf.blend(oof, y, test, metric="roc_auc", folds=folds)
    assert (found.score, found.se) == (ran.score, ran.se)
    assert found.method == ran.submitted.split("/")[1]


def test_the_score_is_that_of_the_blended_rows_and_weights_are_of_names() -> None:
    oof, y, test = models(3)
    oof |= {"twin": oof["m/0"], "wrong": np.full(len(y), 7.0)}
    test |= {"twin": test["m/0"], "wrong": np.full(60, 7.0)}
    found = sf.blend(oof, y, test, metric="roc_auc", method="greedy")
    assert found.score == pytest.approx(roc_auc_score(y == "yes", found.oof), abs=1e-12)
    assert list(found.weights) == list(oof) and sum(found.weights.values()) == pytest.approx(1)
    assert found.weights["wrong"] == 0 and found.weights["twin"] == found.weights["m/0"]
    verdicts = found.verdicts.set_index("member")
    assert verdicts["verdict"].to_dict()["wrong"] == "refuse" and verdicts["twin_of"]["twin"] == "m/0"
    assert "probabilities must lie in [0, 1]" in verdicts["reasons"]["wrong"]
    assert repr(found).startswith("Blend(greedy, roc_auc 0.") and "4 of 5 arrays" in repr(found)


def test_values_and_several_classes_are_blended_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rng = np.random.default_rng(1)
    y = rng.normal(size=150)
    found = sf.blend({"a": y + rng.normal(size=150), "b": y + rng.normal(size=150)}, y, method="weighted")
    assert found.metric == "rmse" and found.test is None and found.classes == ()
    assert found.score == pytest.approx(np.sqrt(np.mean((found.oof - y) ** 2)))
    assert found.score < 0.85
    codes = rng.integers(0, 3, 150)
    shares = [np.eye(3)[codes] + rng.uniform(0, 2, (150, 3)) for _ in range(2)]
    proba = {f"p{i}": one / one.sum(axis=1, keepdims=True) for i, one in enumerate(shares)}
    several = sf.blend(proba, codes, folds=3, method="greedy")
    assert several.metric == "log_loss" and several.classes == (0, 1, 2) and several.oof.shape == (150, 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "gready"}, UsageError, r"method must be one of auto, greedy.*Did you mean 'greedy'"),
        ({"metric": "auc_roc"}, UsageError, r"metric must be one of .*got 'auc_roc'"),
        ({"oof": {}}, UsageError, r"oof must be a dict of arrays by name"),
        ({"oof": {"m/0": np.zeros(3)}, "test": None}, UsageError, r"oof\['m/0'\] must have 240 rows.*got 3"),
        (
            {"test": {"m/0": np.zeros(3)}},
            UsageError,
            r"test must name the models that oof names; missing: m/1",
        ),
        (
            {"oof": {"a": np.zeros((240, 3))}, "test": None},
            UsageError,
            r"must fit each other|must have 1 columns",
        ),
        (
            {"folds": np.zeros(5)},
            UsageError,
            r"folds must have a number for each of 240 rows; got shape \(5,\)",
        ),
        ({"y": np.array(["a", None] * 120, dtype=object)}, UsageError, "y must have .* got none in 120 rows"),
        (
            {"y": pd.array(["a", pd.NA] * 120, dtype="string")},
            UsageError,
            "y must have .* got none in 120 rows",
        ),
        ({"y": np.tile([1.0, np.nan], 120)}, UsageError, "y must have .* got none in 120 rows"),
        ({"oof": {"": np.zeros(240)}, "test": None}, UsageError, "must have a character or more; got ''"),
        ({"folds": np.int64(1)}, UsageError, "folds must be 2 or more; got 1"),
        ({"folds": np.ones(240)}, UsageError, r"folds must be of two numbers or more; got 1\.0 in every row"),
        ({"oof": {}, "test": None}, UsageError, "oof must be a dict of arrays by name; got an empty one"),
        (
            {"oof": {"a": np.full(240, 9.0)}, "test": None},
            DataError,
            r"at least one file of a pool must be usable",
        ),
        (
            {"oof": {"a": np.array(["x"] * 240)}, "test": None},
            UsageError,
            r"oof\['a'\] must be numbers of shape",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], error: Any, message: str) -> None:
    oof, y, test = models(2)
    with pytest.raises(error, match=message):
        sf.blend(**{"oof": oof, "y": y, "test": test, **change})
