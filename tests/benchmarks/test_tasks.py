"""Rivals of stacks: what they are fitted on, and how far a submission is said to be ahead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.tasks import Rows, Run, lines, words_fit
from stackfeat.metrics.registry import get_metric
from stackfeat.tasks.task import Task

N = 60


def run_of(folder: Path, time: str | None = None) -> Run:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"number": np.arange(N, dtype=float)})
    rows = Rows(frame, random.normal(size=N), None, np.arange(N) // 2)
    later = Rows(frame.head(8) + N, np.zeros(8), None, None)
    ids = pd.Index([f"r{i}" for i in range(N)])
    submission = pd.DataFrame({"id": ids, "prediction": 0.0})
    (folder / "oof").mkdir(parents=True)
    submission.to_csv(folder / "oof/final.csv", index=False)
    (folder / "scores.json").write_text('{"submitted": "final", "members": {"final": {"file": "final.csv"}}}')
    config: dict[str, Any] = {"data": {"time": time}, "metric": "rmse", "levels": {"base": {}}}
    fold_of = np.sort(np.arange(N) % 6) - 1 if time else np.arange(N) % 5
    return Run(folder, config, Task("regression"), rows, later, fold_of, (ids, ids[:8]))


@pytest.mark.parametrize("time", [None, "day"])
def test_no_rival_is_fitted_on_the_fold_that_it_predicts_nor_on_later_ones(
    time: str | None, tmp_path: Path
) -> None:
    run, asked = run_of(tmp_path, time), []

    def fit(rows: Rows) -> Any:
        known = rows.frame["number"].to_numpy()

        def said(others: Rows) -> np.ndarray:
            asked.append((known, others.frame["number"].to_numpy()))
            return np.full((len(others.y), 1), known.max())

        return said

    oof, test = run.by_folds(fit)
    for known, others in asked:
        inside = others[others < N].astype(int)
        assert not np.isin(known, others).any()
        if time and len(inside):
            assert known.max() < inside.min()
    assert np.isnan(oof[run.fold_of < 0]).all() and np.isfinite(oof[run.fold_of >= 0]).all()
    # In time new rows are predicted by a model of all rows.
    assert test.shape == (8, 1) and (test == N - 1).all() == bool(time)


def test_how_far_the_submission_is_ahead_is_a_paired_difference_over_groups(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    random = np.random.default_rng(1)
    ours, theirs = (run.train.y[:, None] + random.normal(size=(N, 1)) * size for size in (0.5, 1.0))
    later = np.zeros((8, 1)), np.ones((8, 1))
    found = {"submission": (ours, later[0]), "rival": (theirs, later[1])}
    first, second = lines(run, get_metric("mae", "regression"), found)
    losses = [np.abs(run.train.y[:, None] - one).ravel() for one in (ours, theirs)]
    gaps = (losses[1] - losses[0]).reshape(-1, 2).mean(axis=1)
    assert first.split(" | ")[:2] == ["submission", f"{losses[0].mean():.4f}"]
    ahead, error = map(float, re.findall(r"([-+]?\d\.\d+)", second.split(" | ")[2]))
    assert ahead == pytest.approx(gaps.mean(), abs=1e-4)
    assert error == pytest.approx(gaps.std(ddof=1) / len(gaps) ** 0.5, rel=0.1)
    assert second.split(" | ")[3:] == ["1.0000", "+1.0000 (0.0000)"]


def test_words_are_those_of_the_training_rows_alone() -> None:
    texts = ["good shirt", "bad shirt", "good skirt", "bad skirt"] * 15
    frame = pd.DataFrame({"title": texts, "review_text": texts, "number": 1.0})
    rows = Rows(frame, np.array([0, 1] * 30), None, None)
    said = words_fit((0.5, 8.0), True, rows)
    new = Rows(
        pd.DataFrame({"title": ["good new", "bad new"], "review_text": "", "number": 1.0}),
        rows.y[:2],
        None,
        None,
    )
    proba = said(new)
    assert proba.shape == (2, 2) and proba[0, 0] > 0.5 > proba[1, 0]
