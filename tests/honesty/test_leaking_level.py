"""A second level that leaks: held-out rows give it away, and the lower level is submitted."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pandas as pd
from rich.console import Console

from stackfeat.cli.progress import print_result

Draw = Callable[..., pd.DataFrame]

LEAKY = '''
"""A second level that remembers labels over folds, as a stack with a leak does."""
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

SEEN = {}


class Remembers(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        SEEN.update(zip(X["x0"].tolist(), np.asarray(y).tolist()))
        return self

    def predict_proba(self, X):
        known = [SEEN.get(value, 0.5 + 0.3 * np.sign(np.sin(1000 * value))) for value in X["x0"].tolist()]
        p = np.clip(known, 0.02, 0.98)
        return np.column_stack([1 - p, p])
'''


def leaky_levels() -> dict[str, Any]:
    leak = {"estimator": "leaky:Remembers", "prepare": "none", "nested": False}
    return {
        "base": {"log": {"estimator": "sklearn.linear_model.LogisticRegression"}},
        "meta": {"leak": {**leak, "inputs": ["base/log/proba", "table"]}},
        "top": {"greedy": {"vote": "greedy", "inputs": ["*/*/proba"]}},
    }


def test_a_level_that_leaks_is_named_and_the_lower_level_is_submitted(arena: Any, make_rows: Draw) -> None:
    train, test = make_rows(300, 5), make_rows(50, 6, prefix="t").drop(columns="y")
    given = {"code": {"leaky": LEAKY}, "folds": {"n": 5}}
    # It remembers as long as the process lives, so these are other rows.
    without = arena.run(leaky_levels(), make_rows(300, 7), test, **given)
    assert without.result.submitted == "meta/leak", "out of fold alone the leak wins"
    ran = arena.run(leaky_levels(), train, test, stack={"holdout": 0.2}, **given)
    board = ran.result.leaderboard.set_index("member")
    assert board.loc["leak", "score"] < board.loc["log", "score"] - 0.1
    assert board.loc["leak", "holdout"] > board.loc["log", "holdout"] + 0.1
    assert ran.result.submitted == "base/log"
    assert ran.submission["y"].tolist() == ran.test("base.log").loc[ran.submission.index, "1"].tolist()
    texts = [text for text in ran.result.warnings if "held-out rows" in text]
    assert [text.split(" beats ")[0] for text in texts if " beats " in text] == ["meta/leak", "top/greedy"]
    assert [text.split(" weighs ")[:1] for text in texts if " weighs " in text] == [["top/greedy"]]
    assert texts == [text for text in ran.scores["warnings"] if "held-out rows" in text]
    console = Console(file=io.StringIO(), width=200)
    print_result(ran.result, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert (
        "meta/leak beats base/log out of fold" in printed
        and "submit: auto prefers the lower level" in printed
    )
    assert "holdout  holdout_se" in printed and f"{board.loc['log', 'holdout']:.3f}" in printed
    named = arena.run(leaky_levels(), train, test, stack={"holdout": 0.2}, submit="leak", **given)
    assert named.result.submitted == "meta/leak"
    assert any("It is submitted because submit names it" in text for text in named.result.warnings)
