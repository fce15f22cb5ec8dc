"""What `verbose` of stacks shows: a line for each estimator, or a bar; and nothing without it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import stackfeat as sf
from stackfeat.executors.watching import Epoch
from stackfeat.sklearn.fold_progress import FoldProgress
from stackfeat.sklearn.folding import FoldJob

X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
MEMBERS = [("tree", DecisionTreeClassifier(max_depth=2)), ("linear", LogisticRegression())]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_stack_says_a_line_for_each_estimator(
    n_jobs: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit(verbose: int) -> tuple[np.ndarray, list[str]]:
        stack = sf.StackingClassifier(MEMBERS, DummyClassifier(), cv=3, n_jobs=n_jobs, verbose=verbose)
        oof = stack.fit(X, Y).oof_
        said = capsys.readouterr()
        assert said.out == ""
        return oof, said.err.splitlines()

    quiet, nothing = fit(0)
    told, lines = fit(1)
    assert nothing == []
    assert [line.partition(",")[0] for line in lines] == ["tree: 4 fits", "linear: 4 fits"]
    np.testing.assert_array_equal(quiet, told)


def test_features_say_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    sf.OutOfFoldFeatures(LogisticRegression(), cv=3, verbose=1).fit(X, Y)
    assert "3 fits, " in capsys.readouterr().err


def test_a_terminal_shows_a_bar_with_what_runs() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    jobs = [FoldJob("net", "0"), FoldJob("net", "1")]
    with FoldProgress(console) as progress:
        progress.plan(jobs, jobs)  # type: ignore[arg-type]
        progress.started(jobs[0])  # type: ignore[arg-type]
        progress.done(jobs[0], 1.0, None)  # type: ignore[arg-type]
        progress.epoch(jobs[1], Epoch(3, 9))  # type: ignore[arg-type]
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1/2" in said and "net fold 1, epoch 3/9" in said and "fits" not in said
