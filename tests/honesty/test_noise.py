"""Labels of pure noise, in training and in test rows: nothing may look better than chance, at any level.

Test scores must stay at chance in both directions where being wrong costs no more than chance (accuracy,
AUC); a log-loss or squared error of a fit on noise is worse than that of the shares, so there only
"better" is a fault. OOF scores must not be better than chance; pessimism is reported, not failed.
A leak that is planted must be caught by the same harness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score

from stackfeat.auditing import audit

LIMIT = 3.0
TWO_SIDED = ("accuracy", "roc_auc")


def noise_rows(n_rows: int, n_columns: int, seed: int, classes: bool, prefix: str) -> pd.DataFrame:
    rng = np.random.default_rng([seed, n_rows, prefix == "t"])
    X = rng.normal(size=(n_rows, n_columns))
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(n_columns)])
    frame.insert(0, "id", [f"{prefix}{i}" for i in range(n_rows)])
    frame["y"] = rng.integers(0, 2, n_rows) if classes else rng.normal(size=n_rows)
    return frame


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


def measure(y: np.ndarray, prediction: np.ndarray, shares: np.ndarray | None) -> dict[str, float]:
    """Scores less chance, higher is better."""
    if shares is None:
        return {"r2": r2_score(y, prediction[:, 0])}
    return {
        "accuracy": accuracy_score(y, prediction.argmax(axis=1)) - 0.5,
        "roc_auc": roc_auc_score(y, prediction[:, 1]) - 0.5,
        "log_loss": entropy(shares) - log_loss(y, prediction),
    }


def null_se(metric: str, n_rows: int) -> float:
    """Standard error of the metric at chance, for predictions that know nothing."""
    return {"accuracy": 0.5, "roc_auc": 12**-0.5 * 2, "log_loss": 0.0, "r2": 0.0}[metric] / n_rows**0.5


class Harness:
    """Scores of every member over seeds, on OOF rows and on test rows."""

    def __init__(self, arena: Any, *, classes: bool, n_rows: int, n_test: int, n_columns: int = 6) -> None:
        self.arena, self.classes, self.n_columns = arena, classes, n_columns
        self.n_rows, self.n_test = n_rows, n_test
        self.found: dict[tuple[str, str, str], list[float]] = {}

    def run(
        self,
        n_seeds: int,
        levels: Mapping[str, Any],
        plant: Callable[[pd.DataFrame, bool], pd.DataFrame] = lambda frame, is_train: frame,
        **options: Any,
    ) -> Harness:
        for seed in range(n_seeds):
            train = plant(noise_rows(self.n_rows, self.n_columns, seed, self.classes, "r"), True)
            test = plant(noise_rows(self.n_test, self.n_columns, seed, self.classes, "t"), False)
            ran = self.arena.run(
                levels,
                train,
                test.drop(columns="y"),
                task="binary" if self.classes else "regression",
                metric="log_loss" if self.classes else "rmse",
                seed=seed,
                **options,
            )
            shares = np.bincount(train["y"], minlength=2) / len(train) if self.classes else None
            for member in ran.members:
                for part, frame, rows in (("oof", train, ran.oof(member)), ("test", test, ran.test(member))):
                    scores = measure(frame["y"].to_numpy(), rows.loc[frame["id"]].to_numpy(), shares)
                    for metric, value in scores.items():
                        self.found.setdefault((member, part, metric), []).append(value)
        return self

    def table(self) -> pd.DataFrame:
        """Mean over seeds, its standard error (not below that of knowing nothing), and their ratio."""
        lines = []
        for (member, part, metric), values in self.found.items():
            n_rows = self.n_rows if part == "oof" else self.n_test
            spread = max(float(np.std(values, ddof=1)), null_se(metric, n_rows))
            error = spread / len(values) ** 0.5
            lines.append(
                (member, part, metric, float(np.mean(values)), error, float(np.mean(values)) / error)
            )
        return pd.DataFrame(lines, columns=["member", "part", "metric", "mean", "se", "z"])

    def faults(self) -> pd.DataFrame:
        """What is better than chance, or (test rows, two-sided metrics) not at chance."""
        table = self.table()
        better = table["z"] > LIMIT
        away = (table["part"] == "test") & table["metric"].isin(TWO_SIDED) & (table["z"] < -LIMIT)
        return table[better | away]


@pytest.mark.parametrize("classes", [True, False], ids=["classification", "regression"])
def test_noise_stays_at_chance(arena: Any, classes: bool) -> None:
    harness = Harness(arena, classes=classes, n_rows=90, n_test=200)
    harness.run(5, noise_levels(classes), folds={"n": 3})
    print(harness.table().to_string())
    assert harness.faults().empty, harness.faults().to_string()


@pytest.mark.slow
@pytest.mark.parametrize("classes", [True, False], ids=["classification", "regression"])
def test_noise_stays_at_chance_with_more_rows_and_longer_training(arena: Any, classes: bool) -> None:
    harness = Harness(arena, classes=classes, n_rows=400, n_test=600)
    harness.run(8, noise_levels(classes, hidden=32, epochs=25, trees=60, raw=()), folds={"n": 5})
    print(harness.table().to_string())
    assert harness.faults().empty, harness.faults().to_string()


@pytest.mark.slow
def test_noise_stays_at_chance_for_trees_over_predictions_and_raw_columns(arena: Any) -> None:
    levels = noise_levels(True, hidden=32, epochs=25, trees=60)
    levels = {
        "base": levels["base"],
        "meta": {"gbm": {**levels["meta"]["gbm"], "inputs": ["base/*/proba", "table"]}},
    }
    harness = Harness(arena, classes=True, n_rows=400, n_test=600).run(8, levels, folds={"n": 5})
    print(harness.table().to_string())
    assert harness.faults().empty, harness.faults().to_string()


LOGISTIC = {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"C": 1.0}}
TREE = {"estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 6}}
SMALL_STACK = {
    "base": {"log": LOGISTIC, "tree": TREE},
    "meta": {"log": {**LOGISTIC, "inputs": ["base/*/proba"]}},
    "final": {"soft": {"vote": "soft", "inputs": ["base/*/proba", "meta/*"]}},
}


def test_a_column_made_of_the_labels_is_caught(arena: Any) -> None:
    def with_target_mean(frame: pd.DataFrame, is_train: bool) -> pd.DataFrame:
        noise = np.random.default_rng(len(frame)).normal(size=len(frame))
        return frame.assign(leak=noise + (frame["y"] if is_train else 0))

    harness = Harness(arena, classes=True, n_rows=90, n_test=200).run(5, SMALL_STACK, with_target_mean)
    caught = harness.faults()
    assert set(caught["part"]) == {"oof"}
    assert {"base.log", "meta.log", "final.soft"} <= set(caught["member"])


def test_rows_predicted_by_a_model_that_saw_them_are_caught(
    arena: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackfeat.ensemble import work

    def all_rows(recipe: Any, folds: Any, covered: Any) -> tuple[np.ndarray, np.ndarray | None]:
        held_out = None if recipe["fold"] == "all" else folds.splits[recipe["repeat"]][recipe["fold"]][1]
        return np.arange(folds.n_rows), held_out

    monkeypatch.setattr(work, "row_sets", all_rows)
    harness = Harness(arena, classes=True, n_rows=90, n_test=200).run(5, SMALL_STACK)
    caught = harness.faults()
    assert set(caught["part"]) == {"oof"}
    assert {"base.tree", "meta.log", "final.soft"} <= set(caught["member"])


def ridge_to_first(spaces: list[np.ndarray], **options: Any) -> Any:
    """Map every fold's activations onto the first fold's by least squares: knowledge distillation.

    The maps are fitted on all anchors, whichever a fold may use.
    """

    class Ridge:
        anchor_cosine = held_out_cosine = 1.0

        def __init__(self, maps: list[np.ndarray]) -> None:
            self.maps = maps
            self.n_columns = maps[0].shape[1]

        def transform(self, space: int, rows: np.ndarray) -> np.ndarray:
            return np.hstack([rows, np.ones((len(rows), 1))]).astype(np.float32) @ self.maps[space]

        def arrays(self) -> dict[str, np.ndarray]:
            return {str(space): values for space, values in enumerate(self.maps)}

    maps = []
    for rows in spaces:
        design = np.hstack([rows, np.ones((len(rows), 1))]).astype(np.float64)
        gram = design.T @ design + 1e-3 * np.eye(design.shape[1])
        maps.append(np.linalg.solve(gram, design.T @ spaces[0]).astype(np.float32))
    return Ridge(maps)


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [True, False], ids=["ridge", "orthogonal"])
def test_a_flexible_map_between_folds_is_caught(
    arena: Any, monkeypatch: pytest.MonkeyPatch, leaks: bool
) -> None:
    from stackfeat.features import alignment

    if leaks:
        monkeypatch.setattr(alignment, "align", ridge_to_first)
        monkeypatch.setattr(alignment, "load_alignments", ridges_loaded)
    net = {
        "net": "mlp",
        "params": {"hidden": [256, 128], "dropout": 0.0},
        "train": {"epochs": 30, "batch_size": 64, "lr": 0.003, "weight_decay": 0.0},
        "emit": ["proba", {"tap": "penultimate", "encode": ["aligned"]}],
    }
    levels = {
        "base": {"mlp": net},
        "meta": {"per": {**LOGISTIC, "params": {"C": 0.1}, "each": "base/*/*@*"}},
    }
    harness = Harness(arena, classes=True, n_rows=500, n_test=1500, n_columns=20)
    harness.run(5, levels, folds={"n": 5})
    print(harness.table().to_string())
    caught = harness.faults()
    assert ({"oof"} == set(caught["part"])) if leaks else caught.empty


def ridges_loaded(entry: Any) -> dict[str, Any]:
    loaded = {}
    for part, names in entry.json("report")["maps"].items():
        loaded[part] = ridge_to_first([np.zeros((1, 1))])
        loaded[part].maps = [entry.array(f"map/{part}/{name}") for name in sorted(names, key=int)]
    return loaded


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [True, False], ids=["ridge", "orthogonal"])
def test_an_audit_finds_a_flexible_map_between_folds(
    arena: Any, monkeypatch: pytest.MonkeyPatch, leaks: bool
) -> None:
    from stackfeat.features import alignment

    if leaks:
        monkeypatch.setattr(alignment, "align", ridge_to_first)
        monkeypatch.setattr(alignment, "load_alignments", ridges_loaded)
    net = {
        "net": "mlp",
        "params": {"hidden": [256, 128], "dropout": 0.0},
        "train": {"epochs": 30, "batch_size": 64, "lr": 0.003, "weight_decay": 0.0},
        "emit": ["proba", {"tap": "penultimate", "encode": ["aligned"]}],
    }
    levels = {
        "base": {"mlp": net},
        "meta": {"per": {**LOGISTIC, "params": {"C": 0.1}, "each": "base/*/*@*"}},
    }
    rows = noise_rows(750, 20, 0, True, "r")
    test = noise_rows(250, 20, 0, True, "t").drop(columns="y")
    ran = arena.run(levels, rows, test, folds={"n": 5})
    found = audit(ran.result.folder, rows=500, permutations=6)
    assert found.null is not None
    print(*found.null.verdicts, sep="\n")
    assert not found.provenance.faults, "maps see no rows that they must not: only the rerun can tell"
    assert found.null.above == (["meta/per:mlp.penultimate@aligned"] if leaks else [])


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, "auto"])
def test_an_audit_finds_trees_over_predictions_and_raw_columns_that_are_not_nested(
    arena: Any, nested: Any
) -> None:
    levels = noise_levels(True, trees=50)
    gbm = {**levels["meta"]["gbm"], "inputs": ["base/*/proba", "table"], "nested": nested}
    base = {name: levels["base"][name] for name in ("gbm", "log")}
    levels = {"base": base, "meta": {"gbm": gbm, "log": levels["meta"]["log"]}}
    ran = arena.run(levels, noise_rows(600, 6, 0, True, "r"), folds={"n": 5})
    found = audit(ran.result.folder, rows=400, permutations=12)
    assert found.null is not None
    print(*found.null.verdicts, sep="\n")
    assert found.null.above == (["meta/gbm"] if nested is False else [])
