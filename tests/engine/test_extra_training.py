"""Extra rows in a run: what fits are given, what it is worth, what is left out, and what goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.audit.provenance import check_provenance
from stackfeat.config import load_config
from stackfeat.data.samples import load_samples
from stackfeat.data.splits.folds import load_folds
from stackfeat.engine import extra_training
from stackfeat.engine.jobs import EXTRA_ROWS, pack_rows, unpack_rows
from stackfeat.engine.recipes import ExtraFactorRecipe
from stackfeat.errors import ConfigError, DataError
from stackfeat.output.provenance import read_provenance
from stackfeat.pipeline.check import describe_plan
from stackfeat.pipeline.prepare import make_planner, open_store
from stackfeat.pipeline.run import run

TREE = {"estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 3}}
NET = {"net": "mlp", "params": {"hidden": [4]}, "train": {"epochs": 1}, "emit": ["proba"]}
LEVELS: dict[str, Any] = {
    "base": {"tree": TREE},
    "final": {"soft": {"vote": "soft", "inputs": ["base/*/proba"]}},
}


def frame(n_rows: int, seed: int, first: str = "r") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n_rows, 3)).round(3), columns=["a", "b", "c"])
    X["k"] = rng.choice(["u", "v"], n_rows)
    X["y"] = np.where(X["a"] * X["b"] + X["c"] / 2 + rng.normal(size=n_rows) / 5 > 0, "yes", "no")
    return X.assign(id=[f"{first}{i}" for i in range(n_rows)])


class Folder:
    """A folder with a training file, a file of extra rows and a config."""

    def __init__(self, path: Path, train: pd.DataFrame, extra: pd.DataFrame) -> None:
        self.path = path
        train.to_csv(path / "train.csv", index=False)
        extra.to_csv(path / "more.csv", index=False)

    def config(self, extra: Any = None, data: Any = None, **others: Any) -> Path:
        files = {"train": "train.csv", "id": "id", "target": "y", **(data or {})}
        config = {
            "task": "binary",
            "metric": "log_loss",
            "data": {**files, "extra": {"train": "more.csv", **(extra or {})}},
            "folds": {"n": 3},
            "levels": LEVELS,
            "executor": {"kind": "inline"},
            **others,
        }
        (self.path / "config.yaml").write_text(json.dumps(config))
        return self.path / "config.yaml"

    def planner(self) -> Any:
        loaded = load_config(self.path / "config.yaml")
        return make_planner(loaded, open_store(loaded))

    def check(self) -> Any:
        planner = self.planner()
        index = read_provenance(planner.loaded.folder / planner.config.run_dir)
        store, recipes = planner.store, planner.recipes
        samples, folds = (store.read(recipe.key) for recipe in (recipes.samples, recipes.folds))
        folder = planner.loaded.folder / planner.config.run_dir
        return check_provenance(store, index, load_samples(samples), load_folds(folds), folder)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    train = frame(90, 0)
    copies = train.iloc[:20].assign(id=[f"copy{i}" for i in range(20)])
    return Folder(tmp_path, train, pd.concat([frame(60, 1, "e"), copies, train.iloc[20:30]]))


def test_every_member_of_the_first_level_gets_extra_rows_and_no_fold_those_it_predicts(
    folder: Folder,
) -> None:
    config = folder.config(
        {"factor": 1}, levels={"base": {"tree": TREE, "net": NET}, "final": LEVELS["final"]}
    )
    result = run(config)
    assert not result.failed
    planner = folder.planner()
    store, plan = planner.store, planner.plan()
    folds = load_folds(store.read(planner.recipes.folds.key))
    ids = load_samples(store.read(planner.recipes.samples.key)).ids
    extra = load_samples(store.read(planner.recipes.extra.key))
    for member in ("base/tree", "base/net"):
        for fold in range(3):
            entry = store.read(plan.fits[member, 0, fold])
            used = np.flatnonzero(unpack_rows(entry.array(EXTRA_ROWS), extra.n_rows))
            predicted = [int(name[1:]) for name in ids[folds.splits[0][fold][1]]]
            wanted = [i for i in range(90) if not (i >= 60 and i - 60 in predicted)]
            assert used.tolist() == wanted
            assert entry.json("info")["report"]["extra"] == {"rows": len(wanted), "factor": 1.0}
    assert "extra" not in store.read(plan.fits["final/soft", 0, 0]).recipe
    assert folder.check().faults == []
    assert run(config).leaderboard["cached"].all()


def test_a_fit_that_was_given_a_row_it_predicts_does_not_pass_the_audit(folder: Folder) -> None:
    run(folder.config({"factor": 1}))
    planner = folder.planner()
    store, key = planner.store, planner.plan().fits["base/tree", 0, 0]
    entry = store.read(key)
    arrays = {name: entry.array(name.removesuffix(".npy")) for name in entry.files if name.endswith(".npy")}
    arrays[f"{EXTRA_ROWS}.npy"] = pack_rows(slice(None), 90)
    others = {name: entry.bytes(name) for name in entry.files if name not in arrays}
    shutil.rmtree(entry.path)
    with store.write(key, entry.kind, entry.recipe) as writer:
        for name, values in arrays.items():
            writer.array(name.removesuffix(".npy"), values)
        for name, content in others.items():
            writer.bytes(name, content)
    found = folder.check()
    assert {(fault.kind, fault.member) for fault in found.faults if fault.is_leak} == {
        ("own label", "base/tree")
    }


def test_auto_leaves_out_rows_whose_labels_are_turned_round_and_asks_once_a_fold(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra_training, "N_SPLITS", 2)
    levels = {"base": {"tree": TREE, "other": {**TREE, "params": {"max_depth": 2}}}}
    frame(240, 0).to_csv(folder.path / "train.csv", index=False)
    turned = frame(300, 5, "t").assign(y=lambda rows: np.where(rows["y"] == "yes", "no", "yes"))
    for extra, factor in ((frame(300, 5, "t"), 1.0), (turned, 0.0)):
        extra.to_csv(folder.path / "more.csv", index=False)
        ran = run(folder.config(levels=levels))
        assert f"extra rows train in {3 * int(factor)} of 3 folds" in ran.notes
        planner = folder.planner()
        plan, store = planner.plan(), planner.store
        reports = [
            store.read(plan.fits[f"base/{member}", 0, k]).json("info")["report"]
            for member in levels["base"]
            for k in range(3)
        ]
        assert [report["extra"]["factor"] for report in reports] == [factor] * 6
    assert len(store.keys(ExtraFactorRecipe.stage)) == 6


def test_the_bytes_of_the_file_change_fits_and_neither_rows_nor_folds(folder: Folder) -> None:
    folder.config()
    before = folder.planner()
    frame(50, 7, "e").to_csv(folder.path / "more.csv", index=False)
    after = folder.planner()
    for name in ("samples", "folds"):
        assert getattr(before.recipes, name).key == getattr(after.recipes, name).key
    assert before.recipes.extra.key != after.recipes.extra.key
    assert before.plan().fits["base/tree", 0, 0] != after.plan().fits["base/tree", 0, 0]
    folder.config({"factor": 0.5})
    assert folder.planner().plan().fits["base/tree", 0, 0] != after.plan().fits["base/tree", 0, 0]


def test_check_tells_how_many_there_are_before_and_after_a_run(folder: Folder) -> None:
    loaded = load_config(folder.config({"factor": 1}, stack={"holdout": 0.2}))
    assert "90 extra rows" in str(describe_plan(loaded))
    run(loaded)
    said = str(describe_plan(loaded))
    assert "90 extra rows, which train and are never scored" in said
    assert "of them are left out: they share an id, a group or all features with held-out rows" in said


def test_extra_rows_that_share_something_with_held_out_rows_are_in_no_fit(folder: Folder) -> None:
    run(folder.config({"factor": 1}, stack={"holdout": 0.2}))
    planner = folder.planner()
    held = load_samples(planner.store.read(planner.recipes.holdout.key))
    extra = load_samples(planner.store.read(planner.recipes.extra.key))
    numbers = [int(name[1:]) for name in held.ids]
    shared = {f"copy{i}" for i in numbers if i < 20} | {f"r{i}" for i in numbers if 20 <= i < 30}
    assert shared and not shared & set(extra.ids)
    assert extra.n_rows == 90 - len(shared)
    found = folder.check()
    assert found.n_held == len(numbers) and found.faults == []


def broken(extra: pd.DataFrame, how: str) -> pd.DataFrame:
    return {
        "class": lambda: extra.assign(y=extra["y"].replace("yes", "yess")),
        "target": lambda: extra.assign(y=[None, *extra["y"][1:]]),
        "column": lambda: extra.rename(columns={"b": "bb"}),
        "no target": lambda: extra.drop(columns="y"),
        "cell": lambda: extra.assign(a="much"),
    }[how]()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("class", "must be one of the training file's classes .*'yess'.*Did you mean 'yes'"),
        ("target", "every training row must have a target"),
        ("column", "missing here: b; only here: bb; .*Did you mean 'bb'"),
        ("no target", "missing here: y; only here: none"),
        ("cell", "must be a number"),
    ],
)
def test_a_file_that_does_not_fit_the_training_file_is_refused(folder: Folder, how: str, says: str) -> None:
    broken(frame(30, 3, "e"), how).to_csv(folder.path / "more.csv", index=False)
    with pytest.raises(DataError, match=says):
        run(folder.config())


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"factor": 0}, "greater than 0|above 0"),
        ({"factor": "often"}, "factor"),
        ({"train": "mre.csv"}, "no file 'mre.csv'.*Did you mean 'more.csv'"),
        ({"train": "train.csv"}, "must be another file than data.train"),
        ({"weight": 1}, "'weight' is not an option here"),
    ],
)
def test_a_config_that_misuses_them_is_refused(folder: Folder, extra: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(folder.config(extra))


def test_extra_rows_are_rows_of_tables(folder: Folder) -> None:
    inputs = {"table": {"columns": ["a", "b"]}, "image": {"array": "{name}_images.npy"}}
    np.save(folder.path / "train_images.npy", np.zeros((90, 1, 8, 8), dtype=np.float32))
    with pytest.raises(ConfigError, match="extra rows are rows of tables; got the input 'image'"):
        load_config(folder.config(data={"inputs": inputs}))


def test_groups_and_times_of_both_files_are_compared(tmp_path: Path) -> None:
    train = frame(60, 0).assign(who=lambda rows: [f"p{i // 6}" for i in range(60)])
    extra = frame(40, 1, "e").drop(columns="id").assign(who=[f"p{i // 2}" for i in range(40)])
    folder = Folder(tmp_path, train, extra)
    run(folder.config({"factor": 1}, data={"group": "who"}))
    planner = folder.planner()
    store, plan = planner.store, planner.plan()
    folds = load_folds(store.read(planner.recipes.folds.key))
    for fold in range(3):
        used = np.flatnonzero(unpack_rows(store.read(plan.fits["base/tree", 0, fold]).array(EXTRA_ROWS), 40))
        predicted = {i // 6 for i in folds.splits[0][fold][1]}
        assert used.tolist() == [i for i in range(40) if i // 2 not in predicted]
    assert folder.check().faults == []


def test_where_folds_follow_time_no_fold_trains_on_later_extra_rows(tmp_path: Path) -> None:
    train = frame(100, 0).assign(day=pd.date_range("2024-01-01", periods=100).astype(str))
    extra = frame(60, 1, "e").assign(day=pd.date_range("2024-01-01", periods=60, freq="2D").astype(str))
    folder = Folder(tmp_path, train, extra)
    run(folder.config({"factor": 1}, data={"time": "day"}, stack={"holdout": 0.1}))
    planner = folder.planner()
    store, plan = planner.store, planner.plan()
    folds = load_folds(store.read(planner.recipes.folds.key))
    kept = load_samples(store.read(planner.recipes.extra.key))
    # The latest ten rows are held out of all levels.
    assert kept.n_rows == 45
    for fold in range(3):
        used = unpack_rows(store.read(plan.fits["base/tree", 0, fold]).array(EXTRA_ROWS), kept.n_rows)
        last = folds.splits[0][fold][0].max()
        assert np.flatnonzero(used).tolist() == [i for i in range(45) if 2 * i <= last]
    assert folder.check().faults == []


@pytest.mark.parametrize(
    ("train", "extra", "says"),
    [
        ("2024-01-%02d", "%d", "time must be dates, as in the training file; got numbers"),
        ("%d", "2024-01-%02d", "time must be numbers, as in the training file; got dates"),
        ("%d", "", "every row must have a time"),
    ],
)
def test_times_that_cannot_be_compared_are_refused(tmp_path: Path, train: str, extra: str, says: str) -> None:
    """Numbers would be seconds since 1970: every extra row would be earlier than all training rows, or later."""
    rows = [frame(60, 0).assign(day=[train % (1 + i // 2) for i in range(60)])]
    rows += [frame(20, 1, "e").assign(day=[extra % (1 + i) if extra else None for i in range(20)])]
    folder = Folder(tmp_path, *rows)
    config = folder.config({"factor": 1}, data={"time": "day"})
    with pytest.raises(DataError, match=says):
        run(config)


def test_values_are_learnt_on_the_scale_of_the_training_file(tmp_path: Path) -> None:
    train, extra = (
        frame(40, seed, "re"[seed]).assign(y=lambda rows: rows["a"].abs() * 10) for seed in (0, 1)
    )
    folder = Folder(tmp_path, train, extra.drop(columns="id"))
    tree = {"base": {"tree": {"estimator": "sklearn.tree.DecisionTreeRegressor"}}}
    config = folder.config({"factor": 2}, task="regression", metric="rmsle", levels=tree)
    run(config)
    planner = folder.planner()
    stored = load_samples(planner.store.read(planner.recipes.extra.key))
    np.testing.assert_allclose(stored.labels, np.log1p(extra["y"]))
    assert stored.ids[0] == "extra row 0"
    extra.assign(y=-1.0).to_csv(tmp_path / "more.csv", index=False)
    with pytest.raises(DataError, match="members learn log1p of the target, which must be at least 0"):
        run(config)


def test_an_extra_row_weighs_its_factor_times_its_own_weight(tmp_path: Path) -> None:
    """A tree of one leaf predicts the weighted mean, which is worked out by hand."""
    train, extra = (frame(40, seed, "re"[seed]) for seed in (0, 1))
    train, extra = (rows.assign(y=rows["a"], w=np.arange(40) + 1.0) for rows in (train, extra))
    folder = Folder(tmp_path, train, extra)
    params = {"max_leaf_nodes": 2, "min_samples_leaf": 1.0 - 1e-9}
    dummy = {"base": {"mean": {"estimator": "sklearn.tree.DecisionTreeRegressor", "params": params}}}
    others = {"task": "regression", "metric": "rmse", "levels": dummy, "data": {"weight": "w"}}
    result = run(folder.config({"factor": 0.5}, **others))
    planner = folder.planner()
    folds = load_folds(planner.store.read(planner.recipes.folds.key))
    oof = pd.read_csv(result.folder / "oof/base.mean.csv")["prediction"].to_numpy()
    for fitted, predicted in folds.splits[0]:
        values = np.concatenate([train["y"].to_numpy()[fitted], extra["y"]])
        weights = np.concatenate([train["w"].to_numpy()[fitted], 0.5 * extra["w"]])
        assert oof[predicted] == pytest.approx(np.average(values, weights=weights))


def test_an_estimator_that_takes_no_weights_says_so(folder: Folder) -> None:
    levels = {"base": {"knn": {"estimator": "sklearn.neighbors.KNeighborsClassifier"}, "tree": TREE}}
    with pytest.raises(
        ConfigError, match=r"base\.knn.*sample_weight.*data\.extra\.factor.*KNeighborsClassifier"
    ):
        run(folder.config({"factor": 0.5}, levels=levels))
    assert not run(folder.config({"factor": 1}, levels=levels)).failed
