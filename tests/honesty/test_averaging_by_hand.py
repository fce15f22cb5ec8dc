"""Averaging late, early and by refits, and repeats and seeds, against stacks written by hand.

The hand-written stack is numpy and scikit-learn alone: three levels, a vote of every kind that needs no
search, a learner over votes. A member is a function ``learn(parts, y, seed)`` that gives a function of parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from stackfeat.seeds import derive_seed

Parts = list[np.ndarray]
Fitted = Callable[[Parts], np.ndarray]
Learn = Callable[[Parts, np.ndarray, int], Fitted]
Hand = dict[str, tuple[Learn, list[str]]]
"""Full name of a member to how it learns and what it reads; X stands for the raw columns."""

MODES = ["late", "early", "refit"]
ROOT_SEED = 42


def model(estimator: Any, n_seeds: int = 0) -> Learn:
    """An estimator over parts side by side; with seeds, the mean of that many fits."""

    def learn(parts: Parts, y: np.ndarray, seed: int) -> Fitted:
        made = []
        for i in range(max(n_seeds, 1)):
            one = clone(estimator)
            if n_seeds:
                one.set_params(random_state=seed if i == 0 else derive_seed(seed, "seed", i))
            made.append(one.fit(np.hstack(parts), y))
        return lambda new: np.mean([predict(one, np.hstack(new)) for one in made], axis=0)

    return learn


def predict(fitted: Any, X: np.ndarray) -> np.ndarray:
    if hasattr(fitted, "predict_proba"):
        return np.asarray(fitted.predict_proba(X))
    return np.asarray(fitted.predict(X)).reshape(-1, 1)


def soft(weights: Sequence[float]) -> Learn:
    shares = np.array(weights) / np.sum(weights)
    return lambda parts, y, seed: lambda new: np.tensordot(shares, np.stack(new), axes=1)


def hard(parts: Parts, y: np.ndarray, seed: int) -> Fitted:
    """Shares of votes with one vote more for every class; a tie goes to the greater mean, a millionth up."""

    def vote(new: Parts) -> np.ndarray:
        counts = np.stack([sum(part.argmax(axis=1) == code for part in new) for code in (0, 1)], axis=1)
        shares = (counts + 1.0) / (len(new) + 2.0)
        tied = np.flatnonzero(counts[:, 0] == counts[:, 1])
        shares[tied, np.mean(new, axis=0)[tied].argmax(axis=1)] += 1e-6
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    return vote


def rank(parts: Parts, y: np.ndarray, seed: int) -> Fitted:
    """Mean of the places that probabilities take among those learnt from; ties in the middle."""
    curves = []
    for part in parts:
        ordered = np.sort(part[:, 1])
        values = np.unique(ordered)
        places = [np.flatnonzero(ordered == value).mean() + 0.5 for value in values]
        shares = np.array(places) / len(ordered)
        low, high = ([0.0] if values[0] > 0 else []), ([1.0] if values[-1] < 1 else [])
        curves.append((np.array([*low, *values, *high]), np.array([*low, *shares, *high])))

    def vote(new: Parts) -> np.ndarray:
        found = [np.interp(part[:, 1], *curve) for part, curve in zip(new, curves, strict=True)]
        positive = np.mean(found, axis=0)
        return np.column_stack([1 - positive, positive])

    return vote


@dataclass
class Stacked:
    """OOF rows by member, and the views of the test rows that are left at the end."""

    oof: dict[str, np.ndarray]
    views: dict[str, Parts]


def stack_by_hand(
    hand: Hand,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray],
    fold_of: np.ndarray,
    mode: str,
    meta_fit: str = "fold",
    repeat: int = 0,
) -> Stacked:
    """OOF rows from fits without their fold in every mode; test rows as the mode says."""
    X, y, X_test = rows
    folds = np.unique(fold_of)
    oof, views = {"X": X}, {"X": [X_test] * len(folds)}
    for name, (learn, inputs) in hand.items():
        fitted = []
        parts = [oof[source] for source in inputs]
        found: list[Any] = [None] * len(y)
        for k in folds:
            inside = fold_of == k
            seed = derive_seed(ROOT_SEED, name, repeat, int(k))
            fitted.append(learn([part[~inside] for part in parts], y[~inside], seed))
            given = fitted[-1]([part[inside] for part in parts])
            for place, row in zip(np.flatnonzero(inside), given, strict=True):
                found[place] = row
        every = learn(parts, y, derive_seed(ROOT_SEED, name, repeat, "all"))
        is_base = inputs == ["X"]
        seen = [[views[source][view] for source in inputs] for view in range(len(views[inputs[-1]]))]
        if mode == "late":
            by_fold = meta_fit == "fold" or is_base
            tests = [(fitted[k] if by_fold else every)(view) for k, view in enumerate(seen)]
        elif mode == "early" and is_base:
            tests = [np.mean([one([X_test]) for one in fitted], axis=0)]
        else:
            tests = [every(seen[0])]
        oof[name], views[name] = np.array(found), tests
    return Stacked(oof, views)


def sklearn_member(path: str, *inputs: str, **params: Any) -> dict[str, Any]:
    options = {"estimator": f"sklearn.{path}", "params": params, "prepare": "none", "nested": False}
    return {**options, "inputs": list(inputs)} if inputs else options


LOG = {"C": 0.5, "max_iter": 1000}
BELOW = ["base/*/proba", "meta/*"]
LEVELS: dict[str, Any] = {
    "base": {
        "knn": sklearn_member("neighbors.KNeighborsClassifier"),
        "tree": sklearn_member("tree.DecisionTreeClassifier", max_depth=4, random_state=0),
    },
    "meta": {
        "log": sklearn_member("linear_model.LogisticRegression", "base/*/proba", "table", **LOG),
        "tree": sklearn_member("tree.DecisionTreeClassifier", "base/*/proba", max_depth=3, random_state=0),
    },
    "vote": {
        "soft": {"vote": "soft", "inputs": BELOW, "weights": [1, 2, 3, 4]},
        "hard": {"vote": "hard", "inputs": BELOW},
        "rank": {"vote": "rank", "inputs": BELOW},
    },
    "top": {
        "knn": sklearn_member("neighbors.KNeighborsClassifier", "vote/*", n_neighbors=7),
        "soft": {"vote": "soft", "inputs": ["vote/*", "meta/log/proba"]},
    },
}
FOUR = ["base/knn", "base/tree", "meta/log", "meta/tree"]
VOTES = ["vote/soft", "vote/hard", "vote/rank"]
HAND: Hand = {
    "base/knn": (model(KNeighborsClassifier()), ["X"]),
    "base/tree": (model(DecisionTreeClassifier(max_depth=4, random_state=0)), ["X"]),
    "meta/log": (model(LogisticRegression(**LOG)), ["X", "base/knn", "base/tree"]),
    "meta/tree": (model(DecisionTreeClassifier(max_depth=3, random_state=0)), ["base/knn", "base/tree"]),
    "vote/soft": (soft([1, 2, 3, 4]), FOUR),
    "vote/hard": (hard, FOUR),
    "vote/rank": (rank, FOUR),
    "top/knn": (model(KNeighborsClassifier(n_neighbors=7)), VOTES),
    "top/soft": (soft([1, 1, 1, 1]), [*VOTES, "meta/log"]),
}


def arrays(train: pd.DataFrame, test: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns = [f"x{j}" for j in range(5)]
    return train[columns].to_numpy(), train["y"].to_numpy(), test[columns].to_numpy()


def folds_of(ran: Any, train: pd.DataFrame) -> np.ndarray:
    """Fold of each row (rows, repeats)."""
    written = pd.read_csv(ran.result.folder / "folds.csv").pivot(index="id", columns="repeat", values="fold")
    return written.loc[train["id"]].to_numpy()


def compare(ran: Any, train: pd.DataFrame, test: pd.DataFrame, stacks: list[Stacked], hand: Hand) -> None:
    """Every member's OOF and test file against the mean over stacks, and over their views."""
    for name in hand:
        written = name.replace("/", ".")
        oof = np.mean([stack.oof[name] for stack in stacks], axis=0)
        tests = np.mean([view for stack in stacks for view in stack.views[name]], axis=0)
        np.testing.assert_allclose(ran.oof(written).loc[train["id"]], oof, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(ran.test(written).loc[test["id"]], tests, atol=1e-9, err_msg=name)


@pytest.fixture
def binary(make_rows: Callable[..., pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    return make_rows(120, 3), make_rows(50, 4, prefix="t").drop(columns="y")


@pytest.fixture(scope="module")
def ran_before() -> dict[str, Any]:
    """Runs of LEVELS on the same rows, by how they average: several tests read them."""
    return {}


def run_once(ran_before: dict[str, Any], arena: Any, binary: Any, stack: dict[str, str]) -> Any:
    key = str(stack)
    if key not in ran_before:
        ran_before[key] = arena.run(LEVELS, *binary, stack=stack)
    return ran_before[key]


CASES = [("late", "fold"), ("late", "all"), ("early", None), ("refit", None)]


@pytest.mark.parametrize(("mode", "meta_fit"), CASES)
def test_every_level_and_vote_is_what_the_hand_written_stack_gives(
    arena: Any, binary: Any, ran_before: dict[str, Any], mode: str, meta_fit: str | None
) -> None:
    train, test = binary
    stack = {"averaging": mode} | ({"meta_fit": meta_fit} if meta_fit else {})
    ran = run_once(ran_before, arena, binary, stack)
    by_hand = stack_by_hand(HAND, arrays(train, test), folds_of(ran, train)[:, 0], mode, meta_fit or "all")
    compare(ran, train, test, [by_hand], HAND)


def test_the_modes_differ_on_test_rows_and_never_on_oof_rows(
    arena: Any, binary: Any, ran_before: dict[str, Any]
) -> None:
    stacks = {mode: {"averaging": mode} for mode in MODES}
    stacks["late"]["meta_fit"] = "all"  # what it is without saying so
    runs = {mode: run_once(ran_before, arena, binary, stack) for mode, stack in stacks.items()}
    for name in (key.replace("/", ".") for key in HAND):
        for mode in ("early", "refit"):
            pd.testing.assert_frame_equal(runs["late"].oof(name), runs[mode].oof(name))
    tests = [runs[mode].test("top.knn").to_numpy() for mode in MODES]
    assert not np.allclose(tests[0], tests[1]) and not np.allclose(tests[1], tests[2])


@pytest.mark.parametrize("mode", MODES)
def test_repeats_are_whole_stacks_in_every_mode(arena: Any, binary: Any, mode: str) -> None:
    train, test = binary
    stack = {"averaging": mode} | ({"meta_fit": "fold"} if mode == "late" else {})
    ran = arena.run(LEVELS, train, test, folds={"n": 2, "repeats": 2}, stack=stack)
    fold_of = folds_of(ran, train)
    assert (fold_of[:, 0] != fold_of[:, 1]).any()
    rows = arrays(train, test)
    stacks = [stack_by_hand(HAND, rows, fold_of[:, r], mode, repeat=r) for r in range(2)]
    compare(ran, train, test, stacks, HAND)


BLOCKS = {"repeats": 2, "repeats_as": "blocks"}
SEEDS: list[tuple[int, dict[str, Any], int]] = [
    (2, {}, 2),
    (1, BLOCKS, 2),
    (2, BLOCKS, 4),
    (2, {"repeats": 2}, 2),
]
EVERY_DAY = {("late", 0), ("refit", 0), ("late", 1), ("early", 2), ("late", 3)}
"""What is run by default: every mode, and every way to get several seeds; the others are slow."""


@pytest.mark.parametrize(
    ("mode", "seeds", "folds", "n_seeds"),
    [
        pytest.param(mode, *case, marks=() if (mode, i) in EVERY_DAY else pytest.mark.slow)
        for i, case in enumerate(SEEDS)
        for mode in MODES
    ],
)
def test_seeds_are_averaged_inside_a_fold_for_oof_and_test_rows_alike(
    arena: Any, binary: Any, mode: str, seeds: int, folds: dict[str, Any], n_seeds: int
) -> None:
    train, test = binary
    forest = sklearn_member("ensemble.RandomForestClassifier", n_estimators=2, max_depth=3)
    upper = {**forest, "inputs": ["base/*/proba"], "seeds": seeds}
    levels = {"base": {"forest": {**forest, "seeds": seeds}}, "meta": {"forest": upper}}
    stack = {"averaging": mode} | ({"meta_fit": "fold"} if mode == "late" else {})
    ran = arena.run(levels, train, test, folds={"n": 3, **folds}, stack=stack)
    learn = model(RandomForestClassifier(n_estimators=2, max_depth=3), n_seeds)
    hand: Hand = {"base/forest": (learn, ["X"]), "meta/forest": (learn, ["base/forest"])}
    fold_of, rows = folds_of(ran, train), arrays(train, test)
    n_repeats = fold_of.shape[1]
    assert n_repeats == (1 if folds.get("repeats_as") else folds.get("repeats", 1))
    stacks = [stack_by_hand(hand, rows, fold_of[:, r], mode, repeat=r) for r in range(n_repeats)]
    compare(ran, train, test, stacks, hand)


def test_repeats_of_early_stacks_are_averaged_as_logits_where_asked(arena: Any, binary: Any) -> None:
    train, test = binary
    levels = {
        "base": {"nb": sklearn_member("naive_bayes.GaussianNB")},
        "meta": {"log": sklearn_member("linear_model.LogisticRegression", "base/*/proba", **LOG)},
    }
    stack = {"averaging": "early", "average": "logit"}
    ran = arena.run(levels, train, test, folds={"n": 3, "repeats": 2}, stack=stack)
    hand: Hand = {
        "base/nb": (model(GaussianNB()), ["X"]),
        "meta/log": (model(LogisticRegression(**LOG)), ["base/nb"]),
    }
    fold_of, rows = folds_of(ran, train), arrays(train, test)
    stacks = [stack_by_hand(hand, rows, fold_of[:, r], "early", repeat=r) for r in range(2)]
    logs = np.mean([np.log(stack.views["meta/log"][0]) for stack in stacks], axis=0)
    np.testing.assert_allclose(ran.test("meta.log").loc[test["id"]], softmax(logs, axis=1), atol=1e-9)
    logs = np.mean([np.log(stack.oof["meta/log"]) for stack in stacks], axis=0)
    np.testing.assert_allclose(ran.oof("meta.log").loc[train["id"]], softmax(logs, axis=1), atol=1e-9)


def test_a_linear_meta_learner_of_values_gives_the_same_early_and_late(
    arena: Any, make_rows: Callable[..., pd.DataFrame]
) -> None:
    train, test = make_rows(100, 1, 0), make_rows(40, 2, 0, prefix="t").drop(columns="y")
    levels = {
        "base": {"knn": sklearn_member("neighbors.KNeighborsRegressor")},
        "meta": {"ridge": sklearn_member("linear_model.Ridge", "base/*/prediction", alpha=1.0)},
    }
    values = {"task": "regression", "metric": "rmse"}
    early, late = (arena.run(levels, train, test, stack={"averaging": m}, **values) for m in MODES[:2])
    np.testing.assert_allclose(early.test("meta.ridge"), late.test("meta.ridge"), atol=1e-9)
