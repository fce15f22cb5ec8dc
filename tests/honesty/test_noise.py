"""Labels of pure noise, in training and in test rows: nothing may look better than chance, at any level.

Test scores must stay at chance in both directions where being wrong costs no more than chance (accuracy,
AUC); a log-loss or squared error of a fit on noise is worse than that of the shares, so there only
"better" is a fault. OOF scores must not be better than chance; pessimism is reported, not failed.
A leak that is planted must be caught by the same harness.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.audit.audit import audit

N_SEEDS = 3
"""Few, but enough for leaks that are planted to be caught."""


def noise_levels(
    classes: bool, *, hidden: int = 8, epochs: int = 3, trees: int = 15, raw: tuple[str, ...] = ("table",)
) -> dict[str, Any]:
    """A stack with every kind of member; `raw`: what trees above the first level read beside blocks."""
    boosted, linear, output = (
        ("LGBMClassifier", "LogisticRegression", "proba")
        if classes
        else ("LGBMRegressor", "Ridge", "prediction")
    )
    lightgbm = {
        "estimator": f"lightgbm.{boosted}",
        "params": {"n_estimators": trees, "min_child_samples": 5, "num_leaves": 7},
    }
    logistic = {"estimator": f"sklearn.linear_model.{linear}"}
    predictions = [f"base/*/{output}"]
    votes: dict[str, Any] = {
        vote: {"vote": vote, "inputs": ["*/*/" + output]} for vote in ("soft", "weighted", "greedy")
    }
    votes["calibrated"] = {**votes["weighted"], "calibrate": "auto"}
    if classes:
        votes["hard"] = {"vote": "hard", "inputs": ["*/*/" + output]}
        votes["rank"] = {"vote": "rank", "inputs": predictions}
    return {
        "base": {
            "mlp": {
                "net": "mlp",
                "params": {"hidden": [hidden]},
                "train": {"epochs": epochs, "batch_size": 32, "lr": 0.02},
            },
            "gbm": lightgbm,
            "open": {**lightgbm, "params": {"min_child_samples": 5, "num_leaves": 7}},
            "log": logistic,
        },
        "meta": {
            "log": {**logistic, "inputs": predictions},
            "gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]},
            "gbm": {**lightgbm, "inputs": ["base/*/*", *raw]},
            "per": {
                **logistic,
                "params": {"C" if classes else "alpha": 0.1 if classes else 10.0},
                "each": "base/*/*@*",
            },
        },
        "final": votes,
    }


@pytest.mark.parametrize("classes", [True, False], ids=["classification", "regression"])
def test_noise_stays_at_chance(make_harness: Any, classes: bool) -> None:
    harness = make_harness(classes=classes, n_rows=90, n_test=200)
    harness.run(N_SEEDS, noise_levels(classes, trees=6, epochs=2), folds={"n": 2})
    print(harness.table().to_string())
    assert harness.faults().empty, harness.faults().to_string()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("classes", [True, False], ids=["classification", "regression"])
def test_noise_stays_at_chance_with_more_rows_and_longer_training(make_harness: Any, classes: bool) -> None:
    harness = make_harness(classes=classes, n_rows=400, n_test=600)
    harness.run(8, noise_levels(classes, hidden=32, epochs=25, trees=60, raw=()), folds={"n": 5})
    print(harness.table().to_string())
    assert harness.faults().empty, harness.faults().to_string()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_noise_stays_at_chance_for_trees_over_predictions_and_raw_columns(make_harness: Any) -> None:
    levels = noise_levels(True, hidden=32, epochs=25, trees=60)
    levels = {
        "base": levels["base"],
        "meta": {"gbm": {**levels["meta"]["gbm"], "inputs": ["base/*/proba", "table"]}},
    }
    harness = make_harness(classes=True, n_rows=400, n_test=600).run(8, levels, folds={"n": 5})
    print(harness.table().to_string())
    assert harness.faults().empty, harness.faults().to_string()


LOGISTIC = {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"C": 1.0}}
TREE = {"estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 6}}
SMALL_STACK = {
    "base": {"log": LOGISTIC, "tree": TREE},
    "meta": {"log": {**LOGISTIC, "inputs": ["base/*/proba"]}},
    "final": {"soft": {"vote": "soft", "inputs": ["base/*/proba", "meta/*"]}},
}


def test_a_column_made_of_the_labels_is_caught(make_harness: Any) -> None:
    def with_target_mean(frame: pd.DataFrame, is_train: bool) -> pd.DataFrame:
        noise = np.random.default_rng(len(frame)).normal(size=len(frame))
        return frame.assign(leak=noise + (frame["y"] if is_train else 0))

    harness = make_harness(classes=True, n_rows=90, n_test=200).run(N_SEEDS, SMALL_STACK, with_target_mean)
    caught = harness.faults()
    assert set(caught["part"]) == {"oof"}
    assert {"base.log", "meta.log", "final.soft"} <= set(caught["member"])


def test_rows_predicted_by_a_model_that_saw_them_are_caught(
    make_harness: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackfeat.engine import worker as work

    def all_rows(recipe: Any, folds: Any, covered: Any) -> tuple[np.ndarray, np.ndarray | None]:
        held_out = None if recipe.fold == "all" else folds.splits[recipe.repeat][recipe.fold][1]
        return np.arange(folds.n_rows), held_out

    monkeypatch.setattr(work, "row_sets", all_rows)
    harness = make_harness(classes=True, n_rows=90, n_test=200).run(N_SEEDS, SMALL_STACK)
    caught = harness.faults()
    assert set(caught["part"]) == {"oof"}
    assert {"base.tree", "meta.log", "final.soft"} <= set(caught["member"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("nested", [False, "auto"])
def test_an_audit_finds_trees_over_predictions_and_raw_columns_that_are_not_nested(
    arena: Any, draw_noise: Any, nested: Any
) -> None:
    levels = noise_levels(True, trees=50)
    gbm = {**levels["meta"]["gbm"], "inputs": ["base/*/proba", "table"], "nested": nested}
    base = {name: levels["base"][name] for name in ("gbm", "log")}
    levels = {"base": base, "meta": {"gbm": gbm, "log": levels["meta"]["log"]}}
    ran = arena.run(levels, draw_noise(600, 6, 0, True, "r"), folds={"n": 5})
    found = audit(ran.result.folder, rows=400, permutations=12)
    assert found.null is not None
    print(*found.null.verdicts, sep="\n")
    assert found.null.above == (["meta/gbm"] if nested is False else [])
