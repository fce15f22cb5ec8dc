"""A spy in every place of a stack: which rows and labels each fit was given.

The spy is user code beside the config. It knows rows by a column of row numbers, and its predictions
are the number of the fit they came from, so that an OOF file tells which fit made each row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.prepare.net_texts import NetTokenPrepare
from stackfeat.data.prepare.texts import TextTerms
from stackfeat.engine import worker

SPY = '''
"""Writes down every row it is given."""
import json
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin


class Base(BaseEstimator):
    def __init__(self, log="", tag="", random_state=None, n_estimators=10, early_stopping_rounds=None):
        self.log, self.tag, self.random_state = log, tag, random_state
        self.n_estimators, self.early_stopping_rounds = n_estimators, early_stopping_rounds

    def fit(self, X, y, sample_weight=None, eval_set=(), verbose=None):
        log = Path(self.log)
        self.number_ = len(log.read_text().splitlines())
        self.feature_importances_ = np.ones(X.shape[1])
        self.best_iteration_ = 3
        parts = {"rows": X["rowno"].tolist(), "labels": np.asarray(y).tolist(), "held": [], "held_labels": []}
        for rows, labels in eval_set:
            parts["held"], parts["held_labels"] = rows["rowno"].tolist(), np.asarray(labels).tolist()
        with log.open("a") as file:
            file.write(json.dumps({"fit": self.number_, "tag": self.tag, **parts}) + "\\n")
        return self


class SpyClassifier(ClassifierMixin, Base):
    def fit(self, X, y, **given):
        self.classes_ = np.unique(y)
        return super().fit(X, y, **given)

    def predict_proba(self, X):
        first = np.full(len(X), (self.number_ + 1) / 10_000)
        return np.column_stack([first, *[(1 - first) / (len(self.classes_) - 1)] * (len(self.classes_) - 1)])


class SpyRegressor(RegressorMixin, Base):
    def predict(self, X):
        return np.full(len(X), (self.number_ + 1) / 10_000)


class SpyQuantiles(SpyRegressor):
    def predict(self, X):
        return np.tile(super().predict(X)[:, None], (1, 3))
'''


class Witness:
    """Notes in the spy's file which unit (member, repeat, fold) the fits that follow belong to."""

    def __init__(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = log
        log.write_text("")
        inner = worker._fit

        def noted(store: Any, recipe: Any, trust_code: bool) -> Any:
            unit = {
                "repeat": recipe.repeat,
                "fold": recipe.fold,
                "tag": recipe.member.get("params", {}).get("tag"),
            }
            with log.open("a") as file:
                file.write(json.dumps({"unit": unit}) + "\n")
            return inner(store, recipe, trust_code)

        monkeypatch.setattr(worker, "_fit", noted)

    def member(self, tag: str, kind: str = "SpyClassifier", **options: Any) -> dict[str, Any]:
        params = {"log": str(self.log), "tag": tag, **options.pop("params", {})}
        return {"estimator": f"spies:{kind}", "prepare": "none", "params": params, **options}

    def units(self) -> Iterator[tuple[str, int, Any, list[dict[str, Any]]]]:
        """Yield (tag, repeat, fold, its fits in order)."""
        unit, fits = None, []
        for line in [*self.log.read_text().splitlines(), '{"unit": null}']:
            event = json.loads(line)
            if "unit" not in event:
                fits.append(event)
                continue
            if unit is not None and unit["tag"] is not None:
                yield unit["tag"], unit["repeat"], unit["fold"], fits
            unit, fits = event["unit"], []


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Witness:
    return Witness(tmp_path / "spy.jsonl", monkeypatch)


def spied_levels(witness: Witness, kind: str = "SpyClassifier") -> dict[str, Any]:
    """Three levels of spies: plain, stopped early, gated with feature blocks of a net."""
    early = {"n_estimators": 20, "early_stopping_rounds": 2}
    # Pairs of folds left out are looked at by the plan's own tests.
    plain = {"nested": False}
    net = {
        "net": "mlp",
        "params": {"hidden": [4]},
        "train": {"epochs": 2, "patience": 1},
        "emit": [{"tap": "penultimate", "encode": ["geometry", "raw"]}],
    }
    output = "proba" if kind == "SpyClassifier" else "prediction"
    return {
        "base": {
            "plain": witness.member("base.plain", kind),
            "early": witness.member("base.early", kind, params=early),
            "net": net,
        },
        "meta": {
            "plain": witness.member("meta.plain", kind, inputs=[f"base/*/{output}", "table"]) | plain,
            "early": witness.member("meta.early", kind, inputs=["base/plain/*", "table"], params=early)
            | plain,
            "gated": witness.member("meta.gated", kind, inputs=["base/*/*", "table"]) | plain,
        },
        "top": {"plain": witness.member("top.plain", kind, inputs=["meta/*", "table"]) | plain},
    }


N_CLASSES = {"binary": 2, "multiclass": 3, "multilabel": 2, "ranking": 4}
"""Of the others values are drawn."""


def rows_of(n_rows: int, task: str, targets: tuple[str, ...] = ("y",)) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"id": [f"r{i}" for i in range(n_rows)], "rowno": np.arange(n_rows), "x": rng.normal(size=n_rows)}
    )
    n_classes = N_CLASSES.get(task, 0)
    for name in targets:
        frame[name] = rng.permutation(np.arange(n_rows) % n_classes) if n_classes else rng.normal(size=n_rows)
    frame["owner"] = rng.integers(0, n_rows // 5, n_rows)
    frame["when"] = rng.integers(0, n_rows // 2, n_rows)
    frame["given"] = rng.permutation(np.arange(n_rows) % 3)
    return frame


ROLES = ("owner", "when", "given")
CASES: dict[str, dict[str, Any]] = {
    "stratified": {"task": "multiclass"},
    "kfold": {"task": "regression"},
    "stratified_group": {"data": {"group": "owner"}},
    "time_and_group": {"data": {"time": "when", "group": "owner"}},
    "time_with_gap": {"data": {"time": "when"}, "folds": {"n": 4, "gap": 5}},
    "column": {"data": {"fold": "given"}},
    "repeats": {"folds": {"n": 2, "repeats": 2}},
    "repeats_as_blocks": {"folds": {"n": 2, "repeats": 2, "repeats_as": "blocks"}},
    "quantile": {"task": "quantile", "quantiles": [0.1, 0.5, 0.9]},
    "several_targets": {"task": "regression", "data": {"target": ["y", "z"]}},
    "multilabel": {"task": "multilabel", "data": {"target": ["y", "z"]}},
    "ranking": {"task": "ranking", "data": {"query": "owner"}},
    "texts": {"data": {"types": {"words": "text"}}},
}
SLOW_CASES: dict[str, dict[str, Any]] = {
    "stratified_binary": {},
    "group": {"data": {"group": "owner"}, "task": "regression"},
    "time": {"data": {"time": "when"}, "task": "regression"},
    "time_binary": {"data": {"time": "when"}},
    "window_of_time": {"data": {"time": "when"}, "folds": {"n": 4, "max_train_size": 40}},
    "repeats_of_groups": {"data": {"group": "owner"}, "folds": {"n": 3, "repeats": 2}},
    "labels_by_time": {"task": "multilabel", "data": {"target": ["y", "z"], "time": "when"}},
    "quantiles_of_groups": {"task": "quantile", "data": {"group": "owner"}, "quantiles": [0.1, 0.5, 0.9]},
}
SPIES = {"binary": "SpyClassifier", "multiclass": "SpyClassifier", "multilabel": "SpyClassifier"}
SPIES |= {"quantile": "SpyQuantiles"}
METRICS = {"regression": "rmse", "quantile": "pinball", "ranking": "ndcg@10"}
MARKED = [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_CASES)]


def given(options: dict[str, Any], n_rows: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return rows for a case, and the config of a run without its levels."""
    data, task = options.pop("data"), options["task"]
    frame = rows_of(n_rows, task, tuple(data.get("target", ["y"])))
    if "types" in data:
        frame["words"] = [f"one{i % 7} two{i % 11} three{i} four" for i in range(n_rows)]
    data = {**data, "drop": [role for role in ROLES if role not in data.values()]}
    others = {"metric": METRICS.get(task, "log_loss"), "code": {"spies": SPY}, "data": data}
    return frame, {**options, **others}


@pytest.mark.parametrize("case", MARKED)
def test_no_oof_row_comes_from_a_fit_on_that_row(case: str, witness: Witness, arena: Any) -> None:
    options = {"task": "binary", "folds": {"n": 3}, "data": {}, **(CASES | SLOW_CASES)[case]}
    frame, options = given(options, 120)
    data, task = options["data"], options["task"]
    is_time = "time" in data
    if is_time:
        options["folds"] = {**options["folds"], "n": 4}
    ran = arena.run(spied_levels(witness, SPIES.get(task, "SpyRegressor")), frame, **options)
    folds = ran.folds
    made_by: dict[tuple[str, int, Any], set[int]] = {}
    levels = {"base": 0, "meta": 1, "top": 2}
    n_gated: list[int] = []
    targets = [frame[name].to_numpy() for name in data.get("target", ["y"])]
    for tag, repeat, fold, fits in witness.units():
        made_by[tag, repeat, fold] = {fit["fit"] for fit in fits}
        level = levels[tag.split(".")[0]]
        allowed = allowed_rows(frame, data, folds, repeat, fold, level)
        for fit in fits:
            seen = np.array(fit["rows"] + fit["held"], dtype=int)
            assert set(seen) <= set(allowed), f"{tag} {fold} saw rows it must not see"
            assert len(set(seen)) == len(seen), f"{tag} {fold}: a row stands on both sides of a split"
            labels = fit["labels"] + fit["held_labels"]
            assert any(np.allclose(target[seen], labels) for target in targets)
            check_inner_split(frame, data, fit)
        whole = [fit for fit in fits if set(fit["rows"]) == set(allowed)]
        assert whole and whole[-1] == fits[-1], f"{tag} {fold}: the last fit uses every allowed row"
        assert len(whole) >= len(targets), f"{tag} {fold}: a fit of each target uses every allowed row"
        if "early" in tag:
            assert sum(bool(fit["held"]) for fit in fits) >= len(targets)
        if "gated" in tag:
            n_gated.append(len(fits) // len(targets))
    # On fewer than ten rows in a half of the folds there are none.
    assert max(n_gated) > 2, "the gate made short fits"
    assert {tag for tag, _, _ in made_by} == set(ran.members)
    if task != "ranking":
        # Within a list only the order of rows is passed on.
        check_values(ran, made_by, is_time)


def check_inner_split(frame: pd.DataFrame, data: dict[str, Any], fit: dict[str, Any]) -> None:
    """Rows that stop a fit early share no group with its rows, and are not earlier than them."""
    rows, held = (frame.iloc[np.array(fit[name], dtype=int)] for name in ("rows", "held"))
    if "group" in data or "query" in data:
        assert not set(rows["owner"]) & set(held["owner"])
    if "time" in data and len(held):
        assert rows["when"].max() < held["when"].min()


def allowed_rows(
    frame: pd.DataFrame, data: dict[str, Any], folds: Any, repeat: int, fold: Any, level: int
) -> np.ndarray:
    """The rows that may train pipeline `fold`, worked out from the data alone (and the fold of each row)."""
    fold_of = folds.fold_of(repeat)
    # Time: the base predicts folds from 0 on, each later level one fewer, and some rows never.
    usable = fold_of >= level - 1 if level and "time" in data else np.ones(len(frame), dtype=bool)
    if fold == "all":
        return np.flatnonzero(usable)
    predicted = fold_of == fold
    if "time" not in data:
        allowed = ~predicted
    else:
        when = frame["when"].to_numpy()
        allowed = when < when[predicted].min()
        # A gap, or a window's start, takes more rows away; at every level.
        allowed &= np.isin(np.arange(len(frame)), folds.splits[repeat][fold][0])
    if "group" in data or "query" in data:
        owner = frame["owner"].to_numpy()
        allowed &= ~np.isin(owner, owner[predicted])
    return np.flatnonzero(allowed & usable)


def check_values(ran: Any, made_by: dict[tuple[str, int, Any], set[int]], is_time: bool) -> None:
    """The OOF rows of fold k carry the number of a fit of unit k (and of its last one)."""
    folds, task = ran.folds, ran.planner.config.task
    output = "proba" if SPIES.get(task) == "SpyClassifier" else "prediction"
    for tag in {tag for tag, _, _ in made_by}:
        level, member = tag.split(".")
        means = np.zeros(folds.n_rows)
        for repeat in range(folds.n_repeats):
            for fold in range(folds.n_folds):
                if (tag, repeat, fold) not in made_by:
                    assert is_time
                    continue
                values = ran.stored(f"{level}/{member}", repeat, fold, output)
                # Of a label only the probability that a row has it is passed on.
                said = 1 - values if task == "multilabel" else values[:, :1]
                numbers = np.rint(said * 10_000 - 1)
                assert set(numbers.ravel()) <= made_by[tag, repeat, fold]
                means[folds.splits[repeat][fold][1]] += values[:, 0] / folds.n_repeats
        written = ran.oof(tag).iloc[:, 0].to_numpy()
        covered = np.isfinite(written)
        np.testing.assert_allclose(written[covered], means[covered], rtol=1e-12)


HELD = {**CASES, "time": SLOW_CASES["time"], "group": SLOW_CASES["group"]}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case, marks=() if case in ("stratified", "time_and_group", "repeats") else pytest.mark.slow
        )
        for case in HELD
    ],
)
def test_no_fit_of_any_level_is_given_a_held_out_row(case: str, witness: Witness, arena: Any) -> None:
    frame, options = given({"task": "binary", "folds": {"n": 3}, "data": {}, **HELD[case]}, 150)
    data = options["data"]
    frame["owner"] = frame["when"] // 3 if "time" in data else frame["owner"]
    frame["given"] = np.random.default_rng(8).permutation(np.arange(150) % 4) - 1
    is_time = "time" in data
    if is_time:
        options["folds"] = {**options["folds"], "n": 4}
    ran = arena.run(
        spied_levels(witness, SPIES.get(options["task"], "SpyRegressor")),
        frame,
        frame.drop(columns=data.get("target", ["y"])).assign(id=[f"t{i}" for i in range(150)]),
        stack={"holdout": "column" if "fold" in data else 0.2},
        **options,
    )
    folds = pd.read_csv(ran.result.folder / "folds.csv")
    held = folds["holdout"].to_numpy()[:150]
    assert 15 <= held.sum() <= 45
    seen: set[int] = set()
    for tag, repeat, fold, fits in witness.units():
        rows = {row for fit in fits for row in (*fit["rows"], *fit["held"])}
        assert not rows & set(np.flatnonzero(held)), f"{tag} {repeat} {fold} saw a held-out row"
        seen |= rows
    apart = frame[held]
    if "group" in data or "query" in data:
        assert not set(frame["owner"].iloc[sorted(seen)]) & set(apart["owner"])
    if is_time:
        assert frame["when"].iloc[sorted(seen)].max() < apart["when"].min()
    else:
        assert seen == set(np.flatnonzero(~held)), "every other row is learnt from"
    assert ran.result.leaderboard["holdout"].notna().all()


@pytest.mark.parametrize("kind", ["kfold", "time"])
def test_words_are_learnt_from_training_rows_alone(
    kind: str, arena: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[tuple[Any, str, list[str]]] = []
    unit: list[Any] = []
    fit_unit = worker._fit

    def noted(store: Any, recipe: Any, trust_code: bool) -> Any:
        unit[:] = [recipe.repeat, recipe.fold]
        return fit_unit(store, recipe, trust_code)

    def spied(cls: Any) -> None:
        fit = cls.fit

        def noted_fit(self: Any, table: Any, *given: Any, **named: Any) -> Any:
            if table.text_names:
                learnt.append((tuple(unit), type(self).__name__, list(table.texts[:, 0])))
            return fit(self, table, *given, **named)

        monkeypatch.setattr(cls, "fit", noted_fit)

    monkeypatch.setattr(worker, "_fit", noted)
    for cls in (TextTerms, NetTokenPrepare):
        spied(cls)
    train = {"epochs": 2, "patience": 1, "batch_size": 32}
    small = {"width": 4, "filters": 4, "hidden": 4, "dropout": 0.0}
    base = {
        "terms": {"estimator": "sklearn.linear_model.LogisticRegression", "prepare": "sparse"},
        # Finds its rounds on inner splits.
        "boosted": {"estimator": "lightgbm.LGBMClassifier", "params": {"learning_rate": 0.5}},
        "net": {"net": "mlp", "params": {"hidden": [4]}, "train": train},
        "tokens": {"net": "text_cnn", "params": small, "train": train},
    }
    trees = {**base["boosted"], "inputs": ["base/*/proba", "table"]}
    frame = rows_of(90, "binary").drop(columns=["owner", "given"])
    frame["words"] = [f"row{i} says more of {i % 5}" for i in range(90)]
    data = {"types": {"words": "text"}, **({"time": "when"} if kind == "time" else {"drop": ["when"]})}
    n_folds = 4 if kind == "time" else 3
    ran = arena.run({"base": base, "meta": {"trees": trees}}, frame, data=data, folds={"n": n_folds})
    found = set()
    for (repeat, fold), name, texts in learnt:
        rows = {int(text.split()[0].removeprefix("row")) for text in texts}
        # A nested fit leaves two folds out.
        apart = [] if fold == "all" else map(int, str(fold).split("-"))
        allowed = set(range(90)).intersection(*(ran.folds.splits[repeat][one][0] for one in apart))
        assert rows <= allowed, f"{name} learnt words of rows outside the training part of fold {fold}"
        found.add((name, fold))
    folds = range(n_folds)
    assert found >= {
        (name, fold) for name in ("TextTerms", "TextColumns", "NetTokenPrepare") for fold in folds
    }
