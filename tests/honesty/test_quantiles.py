"""Quantiles: labels of noise stay at chance, and out-of-fold rows score on labels as on redraws of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.datasets import load_diabetes

from tests.honesty.redrawn import LIMIT, Law, advantages, of_stack

LEVELS = np.array([0.1, 0.5, 0.9])


def pinball(y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    left = y[:, None] - prediction
    return np.asarray(np.maximum(LEVELS * left, (LEVELS - 1) * left).mean(axis=1))


class QuantileLaw(Law):
    """A normal target; its values are its quantiles."""

    @property
    def task(self) -> str:
        return "quantile"

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        return self.values[:, 1] + rng.normal(size=len(self.values))

    def losses(self, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return pinball(y, prediction)


def kinds(rounds: int = 12, epochs: int = 3) -> dict[str, Any]:
    """A member of every kind."""
    small = {"num_leaves": 7, "min_child_samples": 5}
    linear = {"estimator": "sklearn.linear_model.QuantileRegressor", "params": {"alpha": 0.01}}
    reads, everything = ["base/*/prediction"], ["*/*/prediction"]
    return {
        "base": {
            "boosted": {"estimator": "lightgbm.LGBMRegressor", "params": {**small, "n_estimators": rounds}},
            "open": {"estimator": "lightgbm.LGBMRegressor", "params": {**small, "learning_rate": 0.3}},
            "linear": linear,
            "net": {
                "net": "mlp",
                "params": {"hidden": [8]},
                "train": {"epochs": epochs, "batch_size": 32, "lr": 0.02},
            },
        },
        "meta": {
            "linear": {**linear, "inputs": reads},
            "gate": {"estimator": "gated_linear", "inputs": ["base/*/*"]},
            "shifted": {"estimator": "gated_linear", "inputs": reads, "calibrate": "auto"},
        },
        "final": {
            "soft": {"vote": "soft", "inputs": everything, "calibrate": "auto"},
            "weighted": {"vote": "weighted", "inputs": everything},
            "greedy": {"vote": "greedy", "inputs": everything, "calibrate": "auto"},
        },
    }


QUANTILE = {"task": "quantile", "metric": "pinball"}


def law_of(n_rows: int) -> QuantileLaw:
    columns = load_diabetes(as_frame=True).data.iloc[:, :8].add_prefix("x ")
    law = Law.over(columns.loc[:, columns.nunique() > 5], 0, n_rows)
    return QuantileLaw(law.columns, law.values + norm.ppf(LEVELS))


def test_no_kind_knows_labels_of_its_own_rows(arena: Any) -> None:
    law = law_of(300)
    table = advantages(law, of_stack(arena, kinds(), law, **QUANTILE), n_draws=2)
    print(table.to_string())
    assert (table["z"].abs() <= LIMIT).all(), table.to_string()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_kind_knows_labels_of_its_own_rows_over_twenty_draws(arena: Any) -> None:
    law = law_of(400)
    table = advantages(law, of_stack(arena, kinds(40, 10), law, **QUANTILE), n_draws=20)
    print(table.to_string())
    assert (table["z"].abs() <= LIMIT).all(), table.to_string()


def gains(arena: Any, n_seeds: int, n_rows: int, rounds: int, epochs: int) -> pd.DataFrame:
    """How much less members lose on noise than the quantiles of the noise itself: mean, its error, their ratio."""
    found: dict[tuple[str, str], list[float]] = {}
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        train, test = (
            pd.DataFrame(rng.normal(size=(n, 5)), columns=list("abcde")).assign(
                id=[f"{prefix}{i}" for i in range(n)], y=rng.exponential(size=n)
            )
            for prefix, n in (("r", n_rows), ("t", 2 * n_rows))
        )
        ran = arena.run(
            kinds(rounds, epochs), train, test.drop(columns="y"), seed=seed, folds={"n": 3}, **QUANTILE
        )
        truth = np.tile(-np.log(1 - LEVELS), (2 * n_rows, 1))
        for part, frame, rows in (("oof", train, ran.oof), ("test", test, ran.test)):
            y = frame["y"].to_numpy()
            constant = np.tile(np.quantile(y, LEVELS), (len(y), 1)) if part == "oof" else truth
            for member in ran.members:
                said = rows(member).loc[frame["id"]].to_numpy()
                gain = pinball(y, constant) - pinball(y, said)
                found.setdefault((member, part), []).append(float(gain.mean() / (gain.std() / len(y) ** 0.5)))
    return pd.DataFrame(
        [(member, part, np.mean(z) * len(z) ** 0.5) for (member, part), z in found.items()],
        columns=["member", "part", "z"],
    )


def test_noise_is_predicted_no_better_than_by_its_own_quantiles(arena: Any) -> None:
    table = gains(arena, n_seeds=2, n_rows=120, rounds=6, epochs=2)
    print(table.to_string())
    assert (table["z"] <= LIMIT).all(), table.to_string()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_more_noise_is_predicted_no_better_either(arena: Any) -> None:
    table = gains(arena, n_seeds=8, n_rows=400, rounds=40, epochs=20)
    print(table.to_string())
    assert (table["z"] <= LIMIT).all(), table.to_string()


def test_a_column_made_of_the_labels_is_caught(arena: Any) -> None:
    rng = np.random.default_rng(0)
    train = pd.DataFrame({"id": [f"r{i}" for i in range(120)], "y": rng.exponential(size=120)})
    train["leak"] = train["y"] + 0.5 * rng.normal(size=120)
    levels = {"base": {"boosted": kinds()["base"]["boosted"]}}
    ran = arena.run(levels, train, folds={"n": 3}, **QUANTILE)
    y, said = train["y"].to_numpy(), ran.oof("base.boosted").loc[train["id"]].to_numpy()
    gain = pinball(y, np.tile(np.quantile(y, LEVELS), (120, 1))) - pinball(y, said)
    assert gain.mean() / (gain.std() / 120**0.5) > LIMIT
