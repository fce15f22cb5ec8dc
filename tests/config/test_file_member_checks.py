"""Configs with imported members are checked before a file is opened."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stackfeat.config import LoadedConfig, dump_config
from stackfeat.engine.graph import build_graph
from stackfeat.errors import ConfigError

Load = Callable[..., LoadedConfig]
GBM = "gbm: {estimator: lightgbm.LGBMClassifier, params: {class_weight: {0: 1, 1: 5}}}"


@pytest.fixture
def mate(good: str, folder: Path) -> Callable[[str], str]:
    """The good config with an imported member in the place of the trees."""
    for name in ("oof.csv", "test.csv", "test0.csv", "test1.csv", "ids.csv", "oof.npy"):
        (folder / name).write_text("x\n")

    def write(files: str, more: str = "") -> str:
        return good.replace(GBM, f"mate: {{predictions: {{{files}}}{more}}}")

    return write


def test_sound_members_load(load: Load, mate: Callable[[str], str]) -> None:
    for files in (
        "oof: oof.csv, test: test.csv",
        "oof: oof.csv, test: test.csv, folds: ids.csv, score: 0.3",
        "oof: oof.npy, oof_ids: ids.csv, test: test.csv, classes: [a, b, c]",
    ):
        load(mate(files))
    load(mate("oof: oof.csv, test: 'test{fold}.csv'") + "folds: {n: 2}\n")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("oof: oof.csv", "data.test is given, so this member needs its test rows"),
        ("oof: off.csv, test: test.csv", r"there is no file 'off.csv' .*Did you mean 'oof.csv'\?"),
        ("oof: oof.csv, test: 'test{fold}.csv'", "there is no file 'test2.csv'"),
        ("oof: oof.csv, test: 'test{flod}.csv'", r"got \{flod\} .*Did you mean 'fold'\?"),
        ("oof: 'oof{fold}.csv', test: test.csv", r"must be the name of one file; got 'oof\{fold\}.csv'"),
        ("oof: oof.pkl, test: test.csv", "must be a file of .csv, .tsv, .txt, .parquet, .feather, .npy"),
        ("oof: ../oof.csv, test: test.csv", "paths stay inside"),
        ("oof: oof.csv, test: test.csv, oof_ids: ids.csv", "belongs to an npy file; got oof='oof.csv'"),
        ("oof: oof.csv, test: test.csv, classes: [a, b]", "names the columns of npy files"),
    ],
)
def test_wrong_members_are_explained(
    files: str, message: str, load: Load, mate: Callable[[str], str]
) -> None:
    with pytest.raises(ConfigError) as error:
        load(mate(files))
    assert re.search(r"c.yaml:15: levels.base.mate.predictions", str(error.value))
    assert re.search(message, str(error.value))


def test_ids_are_needed(load: Load, mate: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError, match=r"aligned by id, never by position; got no data\.id"):
        load(mate("oof: oof.csv, test: test.csv").replace("  id: row_id\n", ""))


@pytest.mark.parametrize("estimator", ["lightgbm.LGBMClassifier", "sklearn.ensemble.RandomForestClassifier"])
def test_trees_that_read_one_test_file_are_refused(
    estimator: str, load: Load, mate: Callable[..., str]
) -> None:
    trees = f"    trees: {{estimator: {estimator}, inputs: [base/*/proba]}}\n  final:"
    text = mate("oof: oof.csv, test: test.csv").replace("  final:", trees)
    with pytest.raises(ConfigError, match="meta/trees is made of trees and reads 'base/mate/proba'"):
        load(text)
    load(mate("oof: oof.csv, test: test.csv", ", allow_early: true").replace("  final:", trees))
    load(text.replace("test: test.csv}", "test: 'test{fold}.csv'}") + "folds: {n: 2}\n")


def test_a_pool_is_as_many_members_as_it_has_files(
    load: Load, mate: Callable[[str], str], folder: Path
) -> None:
    (folder / "oof").mkdir()
    for name in "ab":
        (folder / f"oof/{name}.csv").write_text("x\n")
    text = mate("files: 'oof/*.csv', test: 'oof/*.csv'").replace('"meta/*"', '"meta/*", "base/mate:*"')
    config = load(text).config
    graph = build_graph(config.levels, config.task)
    assert graph.node("final/soft").blocks == (
        "meta/gated/proba",
        "base/mate:a/proba",
        "base/mate:b/proba",
        "base/mlp/proba",
    )
    # The resolved config names the glob, so that it finds the same files when it is loaded again.
    assert load(dump_config(config)).config == config
    assert "mate:" in dump_config(config) and "mate:a" not in dump_config(config)


def test_what_is_wrong_with_a_pool_is_one_problem(load: Load, mate: Callable[[str], str]) -> None:
    text = mate("files: 'off/*.csv', test: 'off/*.csv'").replace('"meta/*"', '"base/mate:*"')
    with pytest.raises(ConfigError) as error:
        load(text)
    assert [problem.where for problem in error.value.problems] == ["levels.base.mate.predictions.files"]
    with pytest.raises(ConfigError, match="'score' is not an option here"):
        load(mate("files: 'off/*.csv', score: 0.3"))
