"""Out-of-fold predictions score on labels as they do on redraws of them: the exact test of every kind of member."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from stackfeat.output.write import write_predictor
from stackfeat.pipeline.learners import BoostedStudent
from tests.honesty.redrawn import LIMIT, Law, advantages, of_decisions, of_stack

DATA = Path(__file__).parents[3] / "shared/data"


def built_in(n_classes: int, n_rows: int = 400) -> Law:
    """Real columns that are in scikit-learn."""
    load = {0: load_diabetes, 2: load_breast_cancer}.get(n_classes, load_digits)
    columns = load(as_frame=True).data.iloc[:, :12]
    return Law.over(columns.loc[:, columns.nunique() > 5].add_prefix("x "), n_classes, n_rows)


def shared(name: str, target: str, n_classes: int, n_rows: int) -> Law:
    """Numeric columns of the training part of a data set beside the checkout."""
    frame = pd.read_parquet(DATA / name / "data.parquet")
    frame = frame[frame["split"] == "train"].drop(columns=["id", "split", target])
    return Law.over(frame.select_dtypes("number").dropna(axis=1), n_classes, n_rows)


def kinds(law: Law, rounds: int = 15, epochs: int = 3) -> dict[str, Any]:
    """A member of every kind."""
    is_value = law.task == "regression"
    boosted = f"lightgbm.LGBM{'Regressor' if is_value else 'Classifier'}"
    linear = f"sklearn.linear_model.{'Ridge' if is_value else 'LogisticRegression'}"
    output = "prediction" if is_value else "proba"
    small = {"num_leaves": 7, "min_child_samples": 5}
    net = {"net": "mlp", "params": {"hidden": [8]}, "train": {"epochs": epochs, "batch_size": 32, "lr": 0.02}}
    votes = {name: {"vote": name, "inputs": ["*/*/" + output]} for name in ("soft", "weighted", "greedy")}
    own = {"inputs": [f"base/*/{output}"], "calibrate": "auto"}
    calibrated = {
        "calibrated": {"vote": "weighted", **own},
        "calibrated_linear": {"estimator": linear, **own},
    }
    return {
        "base": {
            "boosted": {"estimator": boosted, "params": {**small, "n_estimators": rounds}},
            "linear": {"estimator": linear},
            "net": net,
        },
        "meta": {
            "linear": {"estimator": linear, "inputs": [f"base/*/{output}"]},
            "gate": {"estimator": "gated_linear", "inputs": ["base/*/*"]},
        },
        "final": votes | calibrated,
    }


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save predictors, which students ask; other tests of this folder need none."""
    monkeypatch.setattr("stackfeat.output.write.write_predictor", write_predictor)


def too_bad(measured: str) -> pytest.MarkDecorator:
    """Mark a case whose scores were measured to be too bad, not too good, by more than the limit."""
    return pytest.mark.xfail(raises=AssertionError, reason=f"pessimistic: {measured}")


def check(table: pd.DataFrame) -> None:
    print(table.to_string())
    wrong = table[table["z"].abs() > LIMIT]
    assert wrong.empty, wrong.to_string()


@pytest.mark.parametrize(("n_classes", "n_draws"), [(2, 2), (0, 2)], ids=["binary", "regression"])
@pytest.mark.usefixtures("saved")
def test_no_kind_knows_labels_of_its_own_rows(
    arena: Any, n_classes: int, n_draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackfeat.pipeline.distil.FEWEST_SOFT", 200)
    monkeypatch.setattr(BoostedStudent, "params", {"learning_rate": 0.3, "num_leaves": 7})
    law = built_in(n_classes)
    check(advantages(law, of_stack(arena, kinds(law), law, ["lightgbm"]), n_draws))


def test_a_threshold_knows_no_labels_of_the_rows_that_it_decides(arena: Any) -> None:
    law = built_in(2)
    levels = {level: members for level, members in kinds(law).items() if level != "final"}
    levels["base"].pop("net")
    check(advantages(law, of_decisions(arena, levels, law), n_draws=3))


def test_a_refit_on_all_rows_is_never_read_as_out_of_fold(arena: Any) -> None:
    law = built_in(0)
    levels = kinds(law)
    check(advantages(law, of_stack(arena, levels, law, stack={"averaging": "refit"}), n_draws=1))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("n_classes", [2, 3, 0], ids=["binary", "multiclass", "regression"])
def test_no_kind_knows_labels_of_its_own_rows_over_twenty_draws(arena: Any, n_classes: int) -> None:
    law = built_in(n_classes)
    levels = kinds(law, rounds=40, epochs=10)
    check(advantages(law, of_stack(arena, levels, law, ["lightgbm", "mlp"]), n_draws=20))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("name", "target", "n_classes", "n_rows"),
    [
        ("adult", "income", 2, 4_000),
        ("adult", "income", 2, 9_900),
        pytest.param("adult", "income", 2, 12_000, marks=too_bad("meta.trees -.0013 ± .0003, z -4.0")),
        pytest.param(
            "california_housing",
            "median_house_value",
            0,
            4_000,
            marks=too_bad("meta.gate -.010 ± .003, z -3.02"),
        ),
        ("letter", "class", 3, 4_000),
    ],
)
def test_no_kind_knows_labels_of_its_own_rows_on_larger_sets(
    arena: Any, name: str, target: str, n_classes: int, n_rows: int
) -> None:
    """10,000 rows is where members above the first level cease to be nested by default.

    There trees that read the table are too pessimistic, by -.0013 ± .0003 of the log-loss at 12,000 rows of adult.
    """
    if not (DATA / name).exists():
        pytest.skip(f"needs {DATA / name}")
    law = shared(name, target, n_classes, n_rows)
    levels = kinds(law, rounds=40, epochs=3)
    levels["meta"]["trees"] = {**levels["base"]["boosted"], "inputs": ["base/*/*", "table"]}
    check(advantages(law, of_stack(arena, levels, law), n_draws=20))


def trees_of(law: Law, leak: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> pd.DataFrame:
    """The advantage of trees that read a column made of values and labels as well."""

    def predict(frame: pd.DataFrame, draw: int) -> dict[str, np.ndarray]:
        X, y = frame.drop(columns="y").to_numpy(), frame["y"].to_numpy()
        X = np.column_stack([X, leak(X[:, 0], y)])
        tree = DecisionTreeClassifier(min_samples_leaf=10, random_state=draw)
        return {"trees": cross_val_predict(tree, X, y, cv=KFold(4), method="predict_proba")}

    return advantages(law, predict, n_draws=10)


def test_a_mean_that_counts_the_row_itself_is_caught() -> None:
    def mean_of_three(values: np.ndarray, y: np.ndarray) -> np.ndarray:
        group = np.argsort(np.argsort(values)) // 3
        return np.asarray((np.bincount(group, y) / np.bincount(group))[group])

    assert trees_of(built_in(2), mean_of_three).loc["trees", "z"] > 2 * LIMIT


def test_a_column_without_labels_is_not_caught() -> None:
    table = trees_of(built_in(2), lambda values, y: np.sort(values))
    assert abs(table.loc["trees", "z"]) < LIMIT


def test_labels_follow_their_law() -> None:
    law = built_in(3)
    rng = np.random.default_rng(0)
    shares = np.mean([np.eye(3)[law.draw(rng)] for _ in range(2000)], axis=0)
    np.testing.assert_allclose(shares, law.values, atol=5 * 0.5 / 2000**0.5)
