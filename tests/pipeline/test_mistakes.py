"""Mistakes that people make: `check` and `run` name each before any work starts, with its place and remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.projects import Project

Config = dict[str, Any]
Table = dict[str, list[Any]]

N = 60


def train_table() -> Table:
    rng = np.random.default_rng(0)
    return {
        "row_id": list(range(1, N + 1)),
        "age": rng.integers(18, 80, N).tolist(),
        "income": rng.normal(50, 10, N).round(2).tolist(),
        "city": rng.choice(["rome", "paris", "bern"], N).tolist(),
        "owner": rng.integers(0, 12, N).tolist(),
        "day": [f"2024-01-{1 + i % 28:02d}" for i in range(N)],
        "weight": rng.uniform(0.5, 2.0, N).round(3).tolist(),
        "split": [i % 4 for i in range(N)],
        "label": ["yes" if i % 3 else "no" for i in range(N)],
        "price": rng.lognormal(3, 1, N).round(2).tolist(),
    }


def test_table() -> Table:
    rows = train_table()
    rows["row_id"] = [f"{1000 + i}" for i in range(N)]
    return {
        name: values for name, values in rows.items() if name not in ("label", "price", "weight", "split")
    }


test_table.__test__ = False  # type: ignore[attr-defined]


def good_config() -> Config:
    return {
        "task": "binary",
        "metric": "log_loss",
        "data": {
            "train": "train.csv",
            "test": "test.csv",
            "sample_submission": "sample.csv",
            "id": "row_id",
            "target": "label",
            "drop": ["price", "weight", "split"],
        },
        "folds": {"n": 3},
        "levels": {
            "base": {
                "lr": {"estimator": "sklearn.linear_model.LogisticRegression", "params": {"C": 1.0}},
                "mlp": {"net": "mlp", "params": {"hidden": [8]}, "train": {"epochs": 2}, "emit": ["proba"]},
                "mate": {"predictions": {"oof": "mate_oof.csv", "test": "mate_test.csv"}},
            },
            "final": {"soft": {"vote": "soft", "inputs": ["base/*/proba"]}},
        },
        "executor": {"kind": "inline"},
    }


def csv_text(table: Table) -> str:
    rows = zip(*table.values(), strict=True)
    return "\n".join([",".join(table), *(",".join(map(str, row)) for row in rows)]) + "\n"


def predictions(table: Table) -> Table:
    return {
        "row_id": table["row_id"],
        "yes": [0.7] * len(table["row_id"]),
        "no": [0.3] * len(table["row_id"]),
    }


class Files:
    """The files of a project as tables, written when they are right or wrong enough."""

    def __init__(self) -> None:
        self.train, self.test = train_table(), test_table()
        self.sample: Table = {"row_id": self.test["row_id"], "label": [0] * N}
        self.oof, self.mate = predictions(self.train), predictions(self.test)
        self.config = good_config()

    def write(self, folder: Path) -> Project:
        tables = {"train": self.train, "test": self.test, "sample": self.sample}
        for name, table in (tables | {"mate_oof": self.oof, "mate_test": self.mate}).items():
            (folder / f"{name}.csv").write_text(csv_text(table))
        (folder / "c.yaml").write_text(json.dumps(self.config, indent=1))
        return Project(folder)


Mistake = Callable[[Files], Any]


def at(*keys: str, value: Any) -> Mistake:
    """Set an option of the config."""

    def change(files: Files) -> None:
        place = files.config
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value

    return change


def cell(table: str, column: str, row: int, value: Any) -> Mistake:
    """Put a value into a cell."""

    def change(files: Files) -> None:
        getattr(files, table)[column][row] = value

    return change


def column(table: str, name: str, values: Callable[[Table], list[Any]]) -> Mistake:
    """Replace a column."""

    def change(files: Files) -> None:
        rows = getattr(files, table)
        rows[name] = values(rows)

    return change


def renamed(table: str, old: str, new: str) -> Mistake:
    """Rename a column, or leave it out where the new name is empty."""

    def change(files: Files) -> None:
        rows = getattr(files, table)
        changed = {new if name == old else name: values for name, values in rows.items()}
        changed.pop("", None)
        setattr(files, table, changed)

    return change


def all_of(*changes: Mistake) -> Mistake:
    def change(files: Files) -> None:
        for one in changes:
            one(files)

    return change


LR = ("levels", "base", "lr")
MLP = ("levels", "base", "mlp")
REGRESSION = all_of(
    at("task", value="regression"),
    at("metric", value="rmse"),
    at("data", "target", value="price"),
    at("data", "drop", value=["label", "weight", "split"]),
    at("levels", value={"base": {"ridge": {"estimator": "sklearn.linear_model.Ridge"}}}),
    renamed("sample", "label", "price"),
)
WITH_TIME = at("data", "time", value="day")
MISTAKES: list[tuple[str, Mistake, int, str]] = [
    # Names of options.
    (
        "top key misspelt",
        at("metrics", value="auc"),
        2,
        r"'metrics' is not an option here.*Did you mean 'metric'\?",
    ),
    ("data key misspelt", at("data", "targt", value="label"), 2, r"data\.targt.*Did you mean 'target'\?"),
    ("folds key misspelt", at("folds", "repeat", value=2), 2, r"folds\.repeat.*Did you mean 'repeats'\?"),
    ("train key misspelt", at(*MLP, "train", "epoch", value=2), 2, r"Did you mean 'epochs'\?"),
    (
        "member key misspelt",
        at(*LR, "param", value={}),
        2,
        r"levels\.base\.lr\.param.*Did you mean 'params'\?",
    ),
    ("vote misspelt", at("levels", "final", "soft", "vote", value="sotf"), 2, r"Did you mean 'soft'\?"),
    ("executor misspelt", at("executor", "kind", value="inlin"), 2, r"Did you mean 'inline'\?"),
    ("task misspelt", at("task", value="binry"), 2, r"Did you mean 'binary'\?"),
    ("metric misspelt", at("metric", value="log_los"), 2, r"Did you mean 'log_loss'\?"),
    ("metric of another task", at("metric", value="rmse"), 2, r"metric must fit task binary; got 'rmse'"),
    ("net misspelt", at(*MLP, "net", value="mpl"), 2, r"Did you mean 'mlp'\?"),
    (
        "class misspelt",
        at(*LR, "estimator", value="sklearn.linear_model.LogisticRegresion"),
        2,
        "Did you mean",
    ),
    (
        "regressor for classes",
        at(*LR, "estimator", value="lightgbm.LGBMRegressor"),
        2,
        "must be a classifier",
    ),
    ("input misspelt", at("levels", "final", "soft", "inputs", value=["bse/*/proba"]), 2, "bse/"),
    # Parameters.
    (
        "parameter misspelt",
        at(*LR, "params", value={"max_itr": 5}),
        2,
        r"no parameter 'max_itr'.*Did you mean 'max_iter'\?",
    ),
    (
        "parameter out of range",
        at(*LR, "params", value={"C": -1}),
        2,
        r"params\.C: must be a number above 0; got -1",
    ),
    (
        "parameter of another type",
        at(*LR, "params", value={"max_iter": 1.5}),
        2,
        r"must be a whole number of at least 0",
    ),
    (
        "word unknown",
        at(*LR, "params", value={"solver": "lbfsg"}),
        2,
        r"got 'lbfsg'\. Did you mean 'lbfgs'\?",
    ),
    (
        "net parameter misspelt",
        at(*MLP, "params", value={"hiden": [8]}),
        2,
        r"no parameter 'hiden'.*Did you mean 'hidden'\?",
    ),
    ("net parameter no list", at(*MLP, "params", value={"hidden": 8}), 2, "must be a list of whole numbers"),
    ("dropout of 5", at(*MLP, "params", value={"dropout": 5}), 2, "at least 0 and below 1; got 5"),
    (
        "booster parameter misspelt",
        at(*LR, value={"estimator": "lightgbm.LGBMClassifier", "params": {"n_estimator": 3}}),
        2,
        r"Did you mean 'n_estimators'\?",
    ),
    (
        "booster out of range",
        at(*LR, value={"estimator": "lightgbm.LGBMClassifier", "params": {"num_leaves": 1}}),
        2,
        "above 1 and at most 131072; got 1",
    ),
    (
        "tap unknown",
        at(*MLP, "emit", value=["proba", "block.0"]),
        2,
        r"no layer 'block'; it names .*Did you mean 'blocks'\?",
    ),
    # Columns.
    (
        "target absent",
        at("data", "target", value="lable"),
        3,
        r"data\.target must be a column.*'lable'.*Did you mean 'label'\?",
    ),
    ("id absent", at("data", "id", value="rowid"), 3, r"data\.id must be a column.*Did you mean 'row_id'\?"),
    (
        "group absent",
        at("data", "group", value="ownr"),
        3,
        r"data\.group must be a column.*Did you mean 'owner'\?",
    ),
    ("time absent", at("data", "time", value="date"), 3, r"data\.time must be a column.*'date'"),
    (
        "weight absent",
        at("data", "weight", value="wieght"),
        3,
        r"data\.weight must be a column.*Did you mean 'weight'\?",
    ),
    (
        "type of no column",
        at("data", "types", value={"citi": "categorical"}),
        3,
        r"data\.types must be a column.*Did you mean 'city'\?",
    ),
    (
        "drop matches nothing",
        at("data", "drop", value=["prize", "weight", "split"]),
        3,
        r"data\.drop must match a column.*Did you mean 'price'\?",
    ),
    (
        "input matches nothing",
        at("data", "inputs", value={"table": {"columns": ["num_*", "age"]}}),
        3,
        r"data\.inputs\.table must match a column; got 'num_\*'",
    ),
    (
        "target as input",
        at("data", "inputs", value={"table": {"columns": ["age", "label"]}}),
        3,
        "the target 'label' cannot be an input",
    ),
    ("target is the id", at("data", "id", value="label"), 2, "must be a column of its own; got 'label'"),
    ("role is dropped", at("data", "drop", value=["row_id"]), 2, r"'row_id' is dropped and is data\.id"),
    (
        "type numeric of words",
        at("data", "types", value={"city": "numeric"}),
        3,
        r"types\.city.*every cell must be a number|column 'city'.*every cell must be a number",
    ),
    # Targets.
    (
        "binary with three values",
        cell("train", "label", 4, "maybe"),
        3,
        "task binary needs exactly 2 classes; got 3.*use task: multiclass",
    ),
    ("target missing in a row", cell("train", "label", 4, ""), 3, "every training row must have a target"),
    (
        "one class only",
        column("train", "label", lambda rows: ["yes"] * N),
        3,
        "at least 2 classes; got 'yes' in every row",
    ),
    (
        "words as amounts",
        all_of(REGRESSION, at("data", "target", value="city"), at("data", "drop", value=["label", "price"])),
        3,
        "column 'city'.*every cell must be a number",
    ),
    (
        "names as classes",
        all_of(
            at("task", value="multiclass"), column("train", "label", lambda rows: [f"n{i}" for i in range(N)])
        ),
        3,
        "a class must have many rows; got 60 classes",
    ),
    (
        "negative target for rmsle",
        all_of(REGRESSION, at("metric", value="rmsle"), cell("train", "price", 3, -1.0)),
        3,
        "needs a target of at least 0",
    ),
    (
        "a target of 0 for mape",
        all_of(REGRESSION, at("metric", value="mape"), cell("train", "price", 3, 0.0)),
        3,
        "metric mape needs targets other than 0.*use smape or mae",
    ),
    (
        "positive class unknown",
        at("data", "positive", value="Yes!"),
        3,
        r"data\.positive must be one of 'no', 'yes'",
    ),
    (
        "class weight of no class",
        at(*LR, "params", value={"class_weight": {"yes": 1, "nope": 2}}),
        3,
        "must name classes.*got 'nope'",
    ),
    # Rows.
    (
        "id twice",
        cell("train", "row_id", 5, 1),
        3,
        r"ids in 'row_id' must be unique; got '1' more than once, in rows 1, 6",
    ),
    ("id missing", cell("train", "row_id", 5, ""), 3, "every row must have an id"),
    ("id twice in test", cell("test", "row_id", 5, "1000"), 3, "test.csv: ids in 'row_id' must be unique"),
    ("test without a column", renamed("test", "income", ""), 3, "test.csv: .*income"),
    ("test without ids", renamed("test", "row_id", "rid"), 3, "test.csv: .*row_id"),
    ("test cell no number", cell("test", "income", 3, "abc"), 3, "test.csv: column 'income'.*'abc' in row 4"),
    (
        "group missing in a row",
        all_of(at("data", "group", value="owner"), cell("train", "owner", 3, "")),
        3,
        "every row must have a group",
    ),
    (
        "time that is none",
        all_of(WITH_TIME, column("train", "day", lambda rows: ["someday"] * N)),
        3,
        "time must be numbers or dates",
    ),
    (
        "time missing in a row",
        all_of(WITH_TIME, cell("train", "day", 3, "")),
        3,
        "every row must have a time",
    ),
    (
        "negative weight",
        all_of(
            at("data", "weight", value="weight"),
            at("data", "drop", value=["price", "split"]),
            cell("train", "weight", 2, -1),
        ),
        3,
        "weights must be at least 0; got -1",
    ),
    (
        "one given fold",
        all_of(
            at("data", "fold", value="split"),
            at("data", "drop", value=["price", "weight"]),
            column("train", "split", lambda rows: [0] * N),
        ),
        3,
        "folds must be numbered 0, 1.*at least two; got 0",
    ),
    (
        "gap in given folds",
        all_of(
            at("data", "fold", value="split"),
            at("data", "drop", value=["price", "weight"]),
            column("train", "split", lambda rows: [2 * (i % 3) for i in range(N)]),
        ),
        3,
        "without gaps",
    ),
    (
        "fewer groups than folds",
        all_of(
            at("data", "group", value="owner"),
            column("train", "owner", lambda rows: [i % 2 for i in range(N)]),
        ),
        3,
        r"a group for each fold; got 2 groups, folds\.n=3",
    ),
    (
        "rarer class than folds",
        all_of(at("folds", "n", value=50)),
        3,
        "each class must have at least 50 rows",
    ),
    ("group without a column", at("folds", "kind", value="group"), 2, r"needs a column; got no data\.group"),
    # Other files.
    (
        "train absent",
        at("data", "train", value="trian.csv"),
        2,
        r"there is no file 'trian.csv'.*Did you mean 'train.csv'\?",
    ),
    (
        "test absent",
        at("data", "test", value="tset.csv"),
        2,
        r"there is no file 'tset.csv'.*Did you mean 'test.csv'\?",
    ),
    (
        "sample of other ids",
        column("sample", "row_id", lambda rows: list(range(N))),
        3,
        "sample_submission.*must be in the test file",
    ),
    (
        "sample of too few rows",
        lambda files: files.sample.update({name: values[:-1] for name, values in files.sample.items()}),
        3,
        "must name every test row",
    ),
    (
        "sample of other columns",
        lambda files: files.sample.update(other=[0] * N),
        3,
        "an id and one column, or an id and a column for each class",
    ),
    ("imported without a class", renamed("oof", "yes", "oui"), 3, r"mate\.predictions\.oof: .*mate_oof.csv"),
    ("imported without ids", renamed("oof", "row_id", "key"), 3, "must have the id column 'row_id'"),
    (
        "imported of fewer rows",
        lambda files: files.oof.update({name: values[1:] for name, values in files.oof.items()}),
        3,
        "must have a row for every training row; missing are 1 ids, such as '1'",
    ),
    (
        "imported file absent",
        at("levels", "base", "mate", "predictions", "oof", value="mate_of.csv"),
        2,
        r"Did you mean 'mate_oof.csv'\?",
    ),
]
IDS = [name for name, *_ in MISTAKES]


def test_the_files_are_right_where_nobody_made_a_mistake(tmp_path: Path) -> None:
    said = Files().write(tmp_path).cli("check", tmp_path / "c.yaml")
    assert said.code == 0, said.err
    assert "60 training rows, 5 columns besides those with a role, 60 test rows" in said.out
    assert "warning" not in said.out


@pytest.mark.parametrize(("name", "mistake", "code", "says"), MISTAKES, ids=IDS)
def test_a_mistake_is_named_with_its_place(
    name: str, mistake: Mistake, code: int, says: str, tmp_path: Path
) -> None:
    files = Files()
    mistake(files)
    said = files.write(tmp_path).cli("check", tmp_path / "c.yaml")
    assert said.code == code, said.err or said.out
    assert re.search(says, said.err), said.err
    assert re.search(r"c\.yaml:\d+: [\w.]+: ", said.err), said.err
    assert "bug" not in said.err and "Traceback" not in said.err


@pytest.mark.parametrize(("name", "mistake", "code", "says"), MISTAKES[::3], ids=IDS[::3])
def test_a_run_names_it_too_before_any_work(
    name: str, mistake: Mistake, code: int, says: str, tmp_path: Path, fits: list[str]
) -> None:
    files = Files()
    mistake(files)
    said = files.write(tmp_path).cli("run", tmp_path / "c.yaml")
    assert said.code == code, said.err or said.out
    assert re.search(says, said.err), said.err
    assert fits == []
    assert not (tmp_path / "runs").exists()


def test_everything_is_said_in_one_go(tmp_path: Path) -> None:
    files = Files()
    for name in ("data key misspelt", "parameter misspelt", "id absent", "type of no column", "test absent"):
        MISTAKES[IDS.index(name)][1](files)
    said = files.write(tmp_path).cli("check", tmp_path / "c.yaml")
    # What is wrong with the config counts; of files that are there all else is said.
    assert said.code == 2
    for words in ("data.targt", "max_itr", "tset.csv"):
        assert words in said.err
    at("data", "test", value="test.csv")(files)
    at("data", "group", value="ownr")(files)
    said = files.write(tmp_path).cli("check", tmp_path / "c.yaml")
    assert said.code == 2
    for words in ("data.targt", "max_itr", "'rowid'", "'citi'", "'ownr'"):
        assert words in said.err
    lines = [int(line) for line in re.findall(r"c\.yaml:(\d+):", said.err)]
    assert len(lines) >= 5


WARNINGS: list[tuple[str, Mistake, str]] = [
    (
        "group is the row",
        all_of(
            at("data", "group", value="key"), column("train", "key", lambda rows: [f"k{i}" for i in range(N)])
        ),
        "data.group: 'key' differs in every row",
    ),
    (
        "copy of the target",
        all_of(
            *(
                column(table, "said", lambda rows: [str(i % 3 > 0) for i in range(N)])
                for table in ("train", "test")
            )
        ),
        "said: every value goes with one value of the target",
    ),
    (
        "target under another scale",
        all_of(
            REGRESSION,
            column("train", "euros", lambda rows: [2 * one for one in rows["price"]]),
            column("test", "euros", lambda rows: list(range(N))),
        ),
        "euros: every value goes with one value",
    ),
    (
        "class only in test",
        column("test", "label", lambda rows: ["yes", "no", "never"] * (N // 3)),
        "only the test file has cannot be learnt: 'never'",
    ),
    (
        "ids in both files",
        column("test", "row_id", lambda rows: list(range(1, N + 1))),
        "60 ids are in both the training and the test file",
    ),
    (
        "column of other numbers",
        column("test", "income", lambda rows: [1000 * float(one) for one in rows["income"]]),
        "column 'income'",
    ),
]


@pytest.mark.parametrize(("name", "mistake", "says"), WARNINGS, ids=[name for name, *_ in WARNINGS])
def test_what_may_be_meant_is_a_warning(name: str, mistake: Mistake, says: str, tmp_path: Path) -> None:
    files = Files()
    del files.config["data"]["sample_submission"]
    del files.config["levels"]["base"]["mate"]
    mistake(files)
    said = files.write(tmp_path).cli("check", tmp_path / "c.yaml")
    assert said.code == 0, said.err
    assert any(says in line for line in said.out.splitlines() if line.startswith("  warning: ")), said.out
