"""Rankings: relevance of noise orders nothing, and out-of-fold rows score on labels as on redraws of them.

Grades of a list are drawn row by row, but shifted by what its rows have in common, which no order within it shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.datasets import load_diabetes

from stackfeat.engine import worker
from tests.honesty.redrawn import LIMIT, Law, advantages, of_stack

SIZE = 5
"""Rows of a list."""
N_GRADES = 4
RANKING = {"task": "ranking", "metric": "ndcg@5", "data": {"query": "list"}}


class GradesLaw(Law):
    """Grades from 0 to 3, whose probabilities are the law's values; each list is of `SIZE` rows that follow."""

    @property
    def task(self) -> str:
        return "ranking"

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        draws = rng.random((len(self.values), 1))
        return np.asarray((draws > self.values.cumsum(axis=1)[:, :-1]).sum(axis=1))

    def labelled(self, y: np.ndarray) -> pd.DataFrame:
        return self.columns.assign(y=y, list=np.arange(len(y)) // SIZE)

    def losses(self, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """What rows of high grades lack in score: minus the product of both in their lists."""
        score = prediction @ np.arange(N_GRADES) if prediction.shape[1] == N_GRADES else prediction[:, 0]
        return -gain(y, score)


def gain(y: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The product of each row's grade and score, of which both are centred, and the score is scaled, in its list."""
    grade, said = y.reshape(-1, SIZE), np.asarray(score, dtype=float).reshape(-1, SIZE)
    said = said - said.mean(axis=1, keepdims=True)
    spread = said.std(axis=1, keepdims=True)
    said = np.divide(said, spread, out=np.zeros_like(said), where=spread > 1e-9)
    return np.asarray((grade - grade.mean(axis=1, keepdims=True)) * said).ravel()


def law_of(n_rows: int) -> GradesLaw:
    columns = load_diabetes(as_frame=True).data.iloc[:, :8].add_prefix("x ")
    law = Law.over(columns.loc[:, columns.nunique() > 5], 0, n_rows)
    common = np.repeat(np.random.default_rng(5).normal(size=-(-n_rows // SIZE)), SIZE)[:n_rows]
    centre = 1.5 + 0.7 * law.values[:, 0] + 0.5 * common
    return GradesLaw(law.columns, softmax(-((centre[:, None] - np.arange(N_GRADES)) ** 2), axis=1))


def kinds(rounds: int = 10, epochs: int = 2) -> dict[str, Any]:
    """A member of every kind: those that learn lists, grades, and values."""
    small = {"num_leaves": 7, "min_child_samples": 5}
    ranker, reads, everything = "lightgbm.LGBMRanker", ["base/*/prediction"], ["*/*/prediction"]
    net = {"net": "mlp", "params": {"hidden": [8]}}
    train = {"epochs": epochs, "batch_size": 32, "lr": 0.02}
    return {
        "base": {
            "lists": {"estimator": ranker, "params": {**small, "n_estimators": rounds}},
            "open": {"estimator": ranker, "params": {**small, "learning_rate": 0.3}},
            "values": {"estimator": "lightgbm.LGBMRegressor", "params": {**small, "n_estimators": rounds}},
            "grades": {"estimator": "sklearn.linear_model.LogisticRegression"},
            "listwise": {**net, "train": train},
            "early": {**net, "train": {**train, "loss": "pairwise", "patience": 1}},
        },
        "meta": {
            "linear": {"estimator": "sklearn.linear_model.Ridge", "inputs": reads},
            "gate": {"estimator": "gated_linear", "inputs": ["base/*/*"]},
            "lists": {"estimator": ranker, "params": {**small, "n_estimators": rounds}, "inputs": reads},
            "trees": {
                "estimator": ranker,
                "params": {**small, "n_estimators": rounds},
                "inputs": [*reads, "table"],
            },
        },
        "final": {
            vote: {"vote": vote, "inputs": everything} for vote in ("soft", "weighted", "greedy", "rank")
        },
    }


def check_redrawn(arena: Any, n_rows: int, n_draws: int, **sizes: int) -> None:
    law = law_of(n_rows)
    folds = {"kind": "group", "n": 3}
    table = advantages(law, of_stack(arena, kinds(**sizes), law, folds=folds, **RANKING), n_draws=n_draws)
    print(table.to_string())
    assert (table["z"].abs() <= LIMIT).all(), table.to_string()


def test_no_kind_knows_labels_of_its_own_rows(arena: Any) -> None:
    check_redrawn(arena, 200, 1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_kind_knows_labels_of_its_own_rows_over_twenty_draws(arena: Any) -> None:
    check_redrawn(arena, 400, 20, rounds=40, epochs=10)


def noise(n_rows: int, seed: int, prefix: str = "r") -> pd.DataFrame:
    """Rows whose grades mean nothing, in lists of `SIZE` that follow."""
    rng = np.random.default_rng([seed, n_rows])
    frame = pd.DataFrame(rng.normal(size=(n_rows, 5)), columns=[f"x{j}" for j in range(5)])
    frame["id"], frame["list"] = [f"{prefix}{i}" for i in range(n_rows)], np.arange(n_rows) // SIZE
    return frame.assign(y=rng.integers(0, N_GRADES, n_rows))


def better_than_any_order(frame: pd.DataFrame, said: pd.DataFrame) -> float:
    """The mean gain of scores, which is 0 at chance, in its standard errors over lists."""
    of_lists = (
        gain(frame["y"].to_numpy(), said.loc[frame["id"]].to_numpy()[:, 0]).reshape(-1, SIZE).mean(axis=1)
    )
    return float(of_lists.mean() / (of_lists.std() / len(of_lists) ** 0.5)) if of_lists.any() else 0.0


def gains(arena: Any, n_seeds: int, n_rows: int, **sizes: int) -> pd.DataFrame:
    """How much better than chance members order noise, over seeds, in standard errors."""
    found: dict[tuple[str, str], list[float]] = {}
    for seed in range(n_seeds):
        train, test = noise(n_rows, seed), noise(2 * n_rows, seed, "t")
        ran = arena.run(kinds(**sizes), train, test.drop(columns="y"), seed=seed, folds={"n": 3}, **RANKING)
        for member in ran.members:
            for part, frame, rows in (("oof", train, ran.oof(member)), ("test", test, ran.test(member))):
                found.setdefault((member, part), []).append(better_than_any_order(frame, rows))
    lines = [(member, part, np.mean(z) * len(z) ** 0.5) for (member, part), z in found.items()]
    return pd.DataFrame(lines, columns=["member", "part", "z"])


def faults(table: pd.DataFrame) -> pd.DataFrame:
    """What is better than chance, or of test rows away from it: an order costs no more than chance."""
    return table[(table["z"] > LIMIT) | ((table["part"] == "test") & (table["z"] < -LIMIT))]


def test_noise_is_ordered_no_better_than_by_chance(arena: Any) -> None:
    table = gains(arena, n_seeds=1, n_rows=120)
    print(table.to_string())
    assert faults(table).empty, table.to_string()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_more_noise_is_ordered_no_better_either(arena: Any) -> None:
    table = gains(arena, n_seeds=8, n_rows=400, rounds=40, epochs=20)
    print(table.to_string())
    assert faults(table).empty, table.to_string()


def test_a_column_made_of_the_labels_is_caught(arena: Any) -> None:
    train = noise(120, 0)
    train["leak"] = train["y"] + np.random.default_rng(1).normal(size=120)
    levels = {"base": {name: kinds()["base"][name] for name in ("lists", "values")}}
    ran = arena.run(levels, train, folds={"n": 3}, **RANKING)
    for member in ran.members:
        assert better_than_any_order(train, ran.oof(member)) > LIMIT, member


def test_lists_predicted_by_a_model_that_saw_them_are_caught(
    arena: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_rows(recipe: Any, folds: Any, covered: Any) -> tuple[np.ndarray, np.ndarray | None]:
        held_out = None if recipe.fold == "all" else folds.splits[recipe.repeat][recipe.fold][1]
        return np.arange(folds.n_rows), held_out

    monkeypatch.setattr(worker, "row_sets", all_rows)
    train, every = noise(120, 0), kinds(rounds=30)
    levels = {
        "base": {"lists": every["base"]["lists"]},
        "meta": {"linear": every["meta"]["linear"]},
        "final": {"soft": every["final"]["soft"]},
    }
    ran = arena.run(levels, train, folds={"n": 3}, **RANKING)
    known = {member: better_than_any_order(train, ran.oof(member)) for member in ran.members}
    assert len(known) == 3 and min(known.values()) > LIMIT, known
