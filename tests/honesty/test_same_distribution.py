"""Averaging last: each pipeline's test rows look like OOF rows, block by block, on rows of one distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.encodings.diagnostics import domain_auc

N_ROWS = 1200
LOW, HIGH = 0.45, 0.55


def one_view_each(views: list[np.ndarray], fold_of: np.ndarray) -> np.ndarray:
    """Every test row as one pipeline sees it, pipelines in the proportions of the folds."""
    pick = np.random.default_rng(0).permutation(fold_of)[: len(views[0])]
    return np.stack(views)[pick, np.arange(len(views[0]))]


def auc_error(n_first: int, n_second: int) -> float:
    """Standard error of an AUC at chance."""
    return float(np.sqrt((n_first + n_second + 1) / (12 * n_first * n_second)))


def levels() -> dict[str, Any]:
    return {
        "base": {
            "mlp": {
                "net": "mlp",
                "params": {"hidden": [32, 16]},
                "train": {"epochs": 10, "batch_size": 64},
                "emit": [
                    "proba",
                    {"tap": "penultimate", "encode": ["geometry", "aligned", "reference", "relative", "raw"]},
                ],
            },
            "gbm": {"estimator": "lightgbm.LGBMClassifier", "params": {"n_estimators": 40}},
            "log": {"estimator": "sklearn.linear_model.LogisticRegression"},
        },
        "meta": {
            "gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]},
            "gbm": {
                "estimator": "lightgbm.LGBMClassifier",
                "params": {"n_estimators": 40},
                "inputs": ["base/*/proba", "table"],
            },
        },
        "final": {"greedy": {"vote": "greedy", "inputs": ["*/*/proba"]}},
    }


@pytest.mark.slow
def test_oof_rows_and_test_rows_of_a_pipeline_cannot_be_told_apart(
    arena: Any, make_rows: Callable[..., pd.DataFrame]
) -> None:
    train, test = make_rows(N_ROWS, 1, 3), make_rows(N_ROWS, 2, prefix="t").drop(columns="y")
    ran = arena.run(levels(), train, test, task="multiclass", folds={"n": 5})
    aucs = {}
    for name in ran.plan.graph.blocks():
        block = ran.result.block(name)
        aucs[name] = domain_auc(block.oof, one_view_each(block.views, ran.folds.fold_of(0)), seed=0)
    print({name: round(auc, 3) for name, auc in aucs.items()})
    covered = 3 * auc_error(N_ROWS, N_ROWS)
    far = {name: auc for name, auc in aucs.items() if not (LOW <= auc <= HIGH or abs(auc - 0.5) <= covered)}
    assert not far
    # The mean over pipelines of an unaligned block is another distribution, and the measure sees it.
    block = ran.result.block("base/mlp/penultimate@raw")
    assert domain_auc(block.oof, np.mean(block.views, axis=0), seed=0) > 0.6
