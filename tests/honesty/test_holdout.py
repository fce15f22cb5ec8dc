"""Held-out rows: no level learns from them, and every member is scored on them as it is on test rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, mean_squared_error

Draw = Callable[..., pd.DataFrame]
COLUMNS = [f"x{j}" for j in range(5)]


def held_ids(ran: Any) -> pd.Series:
    frame = pd.read_csv(ran.result.folder / "folds.csv", dtype={"id": str})
    return frame.loc[frame["holdout"] & (frame["repeat"] == 0), "id"]


def held_rows(ran: Any, member: str) -> pd.DataFrame:
    return pd.read_csv(ran.result.folder / "holdout" / f"{member}.csv", dtype={"id": str}).set_index("id")


def files(ran: Any, *folders: str) -> dict[str, bytes]:
    folder = ran.result.folder
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in folders
        for path in folder.glob(f"{name}/*")
    }


def every_kind(classes: bool) -> dict[str, Any]:
    """Nets, trees stopped early, gates over aligned and geometry blocks, a nested member, fitted votes."""
    kind, output = ("Classifier", "proba") if classes else ("Regressor", "prediction")
    early = {"n_estimators": 8, "early_stopping_rounds": 3, "num_leaves": 5}
    return {
        "base": {
            "net": {
                "net": "mlp",
                "params": {"hidden": [6]},
                "train": {"epochs": 3, "patience": 1, "batch_size": 32},
            },
            "early": {"estimator": f"lightgbm.LGBM{kind}", "params": early},
            "linear": {"estimator": f"sklearn.linear_model.{'LogisticRegression' if classes else 'Ridge'}"},
        },
        "meta": {
            "gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]},
            "nested": {
                "estimator": f"lightgbm.LGBM{kind}",
                "params": {"n_estimators": 3, "num_leaves": 4},
                "inputs": [f"base/*/{output}", "table"],
            },
        },
        "top": {vote: {"vote": vote, "inputs": [f"*/*/{output}"]} for vote in ("weighted", "greedy")},
    }


def run_both(
    arena: Any, levels: dict[str, Any], train: pd.DataFrame, test: pd.DataFrame, **given: Any
) -> Any:
    """Run, turn the labels of the held-out rows round, and run again."""
    first = arena.run(levels, train, test, **given)
    turned = train.copy()
    inside = turned["id"].isin(held_ids(first))
    turned.loc[inside, "y"] = 1 - turned.loc[inside, "y"]
    second = arena.run(levels, turned, test, **given)
    assert held_ids(second).tolist() == held_ids(first).tolist() and inside.sum() >= 10
    return first, second


CASES: dict[str, dict[str, Any]] = {
    "regression": {"task": "regression", "metric": "rmse", "stack": {"holdout": 0.2}, "folds": {"n": 2}},
    "thresholds": {"metric": "f1", "data": {"fold": "given"}, "stack": {"holdout": "column"}},
    "groups": {
        "task": "regression",
        "metric": "mae",
        "data": {"group": "owner"},
        "folds": {"n": 2},
        "stack": {"holdout": 0.2},
    },
    "early": {
        "metric": "log_loss",
        "data": {"fold": "given"},
        "stack": {"holdout": "column", "averaging": "early"},
    },
    "refit": {
        "task": "regression",
        "metric": "rmse",
        "folds": {"n": 2},
        "stack": {"holdout": 0.2, "averaging": "refit"},
    },
    "time": {"metric": "log_loss", "data": {"time": "when"}, "folds": {"n": 3}, "stack": {"holdout": 0.2}},
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow if case in ("regression", "early", "groups") else ())
        for case in CASES
    ],
)
def test_labels_of_held_out_rows_change_their_scores_and_nothing_else(
    arena: Any, make_rows: Draw, case: str
) -> None:
    given = {"task": "binary", "data": {}, **CASES[case]}
    classes = given["task"] == "binary"
    rng = np.random.default_rng(9)
    train, test = make_rows(150, 1, 2 if classes else 0), make_rows(60, 2, prefix="t").drop(columns="y")
    train["owner"], train["when"] = rng.integers(0, 40, 150), np.arange(150) // 2
    train["given"] = rng.permutation(np.arange(150) % 4) - 1
    given["data"]["drop"] = [
        role for role in ("owner", "when", "given") if role not in given["data"].values()
    ]
    first, second = run_both(arena, every_kind(classes), train, test, **given)
    assert len(files(first, "oof")) == len(files(first, "test")) == len(first.members) == 7
    assert files(first, "oof", "test", "holdout") == files(second, "oof", "test", "holdout")
    for name in ("blocks", "averaging"):
        assert first.scores[name] == second.scores[name]
    moved: list[bool] = []
    for member, before in first.scores["members"].items():
        after = second.scores["members"][member]
        moved.append(before.pop("holdout") != after.pop("holdout"))
        before.pop("holdout_se"), after.pop("holdout_se")
        assert before == after, member
    # A member that calls every row positive has the same f1 both ways.
    assert sum(moved) >= (4 if given["metric"] == "f1" else len(moved))


def test_a_stratified_holdout_given_as_a_column_is_the_same_run(arena: Any, make_rows: Draw) -> None:
    train, test = make_rows(120, 1), make_rows(40, 2, prefix="t").drop(columns="y")
    levels = {"base": {"a": {"estimator": "sklearn.linear_model.LogisticRegression"}}}
    drawn = arena.run(levels, train, test, stack={"holdout": 0.25})
    train["given"] = drawn.fold_of.loc[train["id"]].to_numpy()
    again = arena.run(levels, train, test, data={"fold": "given"}, stack={"holdout": "column"})
    assert files(again, "oof", "test", "holdout", "folds.csv") == files(
        drawn, "oof", "test", "holdout", "folds.csv"
    )
    assert again.scores["members"] == drawn.scores["members"]
    held = train.loc[train["given"] == -1]
    assert len(held) == 30 and held["y"].sum() == 15
    assert held_ids(drawn).tolist() == held["id"].tolist()
    assert drawn.oof("base.a").index.tolist() == train.loc[train["given"] >= 0, "id"].tolist()


@pytest.mark.parametrize(
    "stack",
    [{}, {"meta_fit": "fold"}, {"averaging": "early"}, {"averaging": "refit"}],
    ids=["late-all", "late-fold", "early", "refit"],
)
def test_held_out_rows_take_the_way_of_test_rows_in_every_averaging(
    arena: Any, make_rows: Draw, stack: dict[str, str]
) -> None:
    """Two levels written by hand with scikit-learn, without a test file."""
    train = make_rows(150, 4)
    plain = {"estimator": "sklearn.linear_model.LogisticRegression", "prepare": "none", "as": "proba"}
    levels = {
        "base": {"a": {**plain, "params": {"C": 1.0}}, "b": {**plain, "params": {"C": 0.001}}},
        "meta": {"m": {**plain, "params": {"C": 10.0}, "inputs": ["base/*/proba"]}},
    }
    ran = arena.run(levels, train, stack={"holdout": 0.2, **stack})
    assert ran.result.submission is None and not (ran.result.folder / "test").exists()
    fold = ran.fold_of.loc[train["id"]].to_numpy()
    X, y = train[COLUMNS].to_numpy(), train["y"].to_numpy()
    kept, held = fold >= 0, fold < 0

    def base(rows: np.ndarray, new: np.ndarray) -> np.ndarray:
        models = [LogisticRegression(C=C).fit(X[rows], y[rows]) for C in (1.0, 0.001)]
        return np.hstack([model.predict_proba(X[new]) for model in models])

    oof = np.full((150, 4), np.nan)
    for k in range(3):
        oof[fold == k] = base(kept & (fold != k), fold == k)
    views = [base(kept & (fold != k), held) for k in range(3)]
    if "averaging" in stack:
        views = [base(kept, held) if stack["averaging"] == "refit" else np.mean(views, axis=0)]
    final = []
    for k, view in enumerate(views):
        rows = kept & (fold != k) if "meta_fit" in stack else kept
        final.append(LogisticRegression(C=10.0).fit(oof[rows], y[rows]).predict_proba(view))
    np.testing.assert_allclose(held_rows(ran, "base.a"), np.mean(views, axis=0)[:, :2], rtol=1e-5)
    np.testing.assert_allclose(held_rows(ran, "meta.m"), np.mean(final, axis=0), rtol=1e-5)
    board = ran.result.leaderboard.set_index("member")
    assert board.loc["m", "holdout"] == pytest.approx(log_loss(y[held], np.mean(final, axis=0)), rel=1e-5)
    losses = -np.log(np.where(y[held] == 1, *np.mean(final, axis=0).T[::-1]))
    assert board.loc["m", "holdout_se"] == pytest.approx(losses.std() / held.sum() ** 0.5, rel=0.2)
    assert ran.scores["members"]["meta/m"]["holdout"] == board.loc["m", "holdout"]
    assert ran.scores["holdout"] == {"n_rows": int(held.sum())}


def test_labels_are_decided_on_held_out_rows_as_on_test_rows(arena: Any, make_rows: Draw) -> None:
    from stackfeat.metrics.decision_rule import Decision

    train = make_rows(200, 8)
    train["y"] = np.where(train["y"] * train["x2"].gt(0), "yes", "no")
    levels = {"base": {"a": {"estimator": "sklearn.linear_model.LogisticRegression"}}}
    ran = arena.run(levels, train, metric="f1", folds={"n": 3, "repeats": 2}, stack={"holdout": 0.3})
    rule = Decision.from_json(ran.scores["members"]["base/a"]["decision"])
    assert rule.kind == "threshold" and rule.numbers[0] != 0.5
    rows = held_rows(ran, "base.a")
    truth = train.set_index("id").loc[rows.index, "y"]
    expected = f1_score(truth == "yes", rule.apply(rows.to_numpy()))
    assert ran.result.leaderboard["holdout"].tolist() == [pytest.approx(expected)]
    folds = pd.read_csv(ran.result.folder / "folds.csv", dtype={"id": str})
    assert len(folds) == 400 and set(folds["repeat"]) == {0, 1}
    assert (folds.loc[folds["holdout"], "fold"] == -1).all() and (
        folds.loc[~folds["holdout"], "fold"] >= 0
    ).all()
    assert (
        folds.loc[folds["repeat"] == 1, "holdout"].tolist()
        == folds.loc[folds["repeat"] == 0, "holdout"].tolist()
    )


def test_a_log_target_is_mapped_back_before_it_is_scored(arena: Any, make_rows: Draw) -> None:
    train = make_rows(150, 3, 0)
    train["y"] = np.exp(train["y"])
    levels = {"base": {"a": {"estimator": "sklearn.linear_model.Ridge"}}}
    ran = arena.run(levels, train, task="regression", metric="rmsle", stack={"holdout": 0.2})
    rows = held_rows(ran, "base.a")
    truth = train.set_index("id").loc[rows.index, "y"]
    expected = mean_squared_error(np.log1p(truth), np.log1p(rows["prediction"])) ** 0.5
    assert ran.result.leaderboard["holdout"].tolist() == [pytest.approx(expected)]
    assert ran.result.holdout == pytest.approx(expected)


def test_time_folds_hold_out_the_latest_rows_through_the_last_pipeline(arena: Any, make_rows: Draw) -> None:
    train = make_rows(160, 6)
    train["when"] = np.random.default_rng(1).permutation(160)
    plain = {"estimator": "sklearn.linear_model.LogisticRegression", "prepare": "none", "params": {"C": 1.0}}
    ran = arena.run(
        {"base": {"a": plain}}, train, data={"time": "when"}, folds={"n": 3, "gap": 4}, stack={"holdout": 0.1}
    )
    folds = pd.read_csv(ran.result.folder / "folds.csv", dtype={"id": str}).set_index("id").loc[train["id"]]
    when, fold, held = train["when"].to_numpy(), folds["fold"].to_numpy(), folds["holdout"].to_numpy()
    assert sorted(when[held]) == list(range(144, 160)) and (fold[when >= 140] == -1).all()
    before_last = np.sort(when[(when < when[fold == 2].min())])[:-4]
    rows = np.isin(when, before_last)
    model = LogisticRegression(C=1.0).fit(train.loc[rows, COLUMNS], train.loc[rows, "y"])
    expected = model.predict_proba(train.loc[held, COLUMNS])
    np.testing.assert_allclose(held_rows(ran, "base.a"), expected, rtol=1e-5)


def test_members_that_do_not_leak_are_not_accused(arena: Any, make_rows: Draw) -> None:
    levels = every_kind(True)
    levels["base"].pop("net")
    ran = arena.run(levels, make_rows(300, 5), stack={"holdout": 0.2})
    assert not [text for text in ran.result.warnings if "held-out rows" in text]


def test_a_run_without_holdout_leaves_nothing_of_one_behind(arena: Any, make_rows: Draw) -> None:
    from stackfeat.pipeline.run import run

    levels = {"base": {"a": {"estimator": "sklearn.linear_model.LogisticRegression"}}}
    ran = arena.run(levels, make_rows(120, 5), stack={"holdout": 0.2})
    again = run(Path(ran.folder) / "config.yaml", overrides=["stack.holdout=0"])
    assert not (again.folder / "holdout").exists()
    assert "holdout" not in again.leaderboard and again.holdout is None
    assert (again.folder / "folds.csv").read_text().startswith("id,repeat,fold\n")
