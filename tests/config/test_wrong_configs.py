"""Every wrong config is refused at its line, with what must hold and a did-you-mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stackfeat.config import LoadedConfig
from stackfeat.errors import ConfigError, TrustError

Load = Callable[..., LoadedConfig]
Row = dict[str, Any]


def edited(good: str, old: str, new: str) -> str:
    assert good.count(old) == 1, old
    return good.replace(old, new)


def table(name: str) -> list[Any]:
    """Return the rows of a table beside this file, each a test case named by what it is about."""
    rows = YAML(typ="safe", pure=True).load(Path(__file__).with_name(name).read_text())
    return [pytest.param(row, id=row["what"]) for row in rows]


def problems_at(load: Load, text: str, line: int) -> str:
    """Return the messages at a line, as they are printed."""
    with pytest.raises(ConfigError) as error:
        load(text)
    texts = [str(problem) for problem in error.value.problems if problem.line == line]
    assert all(re.search(rf"c\.yaml:{line}: ", text) for text in texts)
    assert texts, f"nothing at line {line}: {error.value}"
    return "\n".join(texts)


@pytest.mark.parametrize("row", table("wrong_configs.yaml"))
def test_a_wrong_config_is_explained_at_its_line(row: Row, load: Load, good: str) -> None:
    found = problems_at(load, edited(good, row["old"], row["new"]), row["line"])
    assert re.search(row["says"].replace("?", r"\?"), found)


@pytest.mark.parametrize("row", table("not_built.yaml"))
def test_an_option_that_is_not_built_is_named(row: Row, load: Load, good: str) -> None:
    found = problems_at(load, edited(good, row["old"], row["new"]), row["line"])
    assert re.search(f"{re.escape(row['what'])}.* is not built yet; ", found)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vote: soft", "vote: hard", "hard counts votes for classes; got task=regression"),
        ("lr: 1e-3", "class_weight: balanced", "needs classes; got task=regression"),
        ("lr: 1e-3", "mixup: 0.2", "needs classes; got task=regression, mixup=0.2"),
        ("lr: 1e-3", "cutmix: 1.0", "needs classes; got task=regression, cutmix=1.0"),
        ("lr: 1e-3", "loss: cross_entropy", "must be auto or mse or mae or huber"),
        ("emit: [prediction", "emit: [proba", "in a regression task the output is 'prediction'; got 'proba'"),
        ("base/mlp/prediction", "base/mlp/proba", "In a regression task the output is 'prediction'"),
        ("LGBMRegressor", "LGBMClassifier", "must be a regressor"),
        ("net: mlp", "output: logits\n      net: mlp", "must be auto or value"),
        ("id: row_id", "positive: bad", "only classes can be positive"),
        ("metric: rmse", "metric: rmse\nfolds: {kind: stratified}", "needs classes; got task=regression"),
        ("metric: rmse", "metric: rmse\nstack: {average: logit}", "logit averages probabilities"),
    ],
)
def test_what_needs_classes_is_refused_in_regression(
    load: Load, good: str, old: str, new: str, message: str
) -> None:
    swaps = {"multiclass": "regression", "log_loss": "rmse", "Classifier": "Regressor", "proba": "prediction"}
    text = good
    for before, after in swaps.items():
        text = text.replace(before, after)
    load(text)
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        load(edited(text, old, new))


def test_all_problems_are_reported_at_once_in_order_of_lines(load: Load, good: str) -> None:
    text = good.replace("multiclass", "multi").replace("log_loss", "log_los").replace("train.csv", "no.csv")
    text = text.replace("epochs: 5", "epochs: x").replace("lr: 1e-3", "lrr: 1").replace("LGBMC", "LGBMX")
    text = text.replace("vote: soft", "vote: sof")
    with pytest.raises(ConfigError) as error:
        load(text)
    assert [problem.line for problem in error.value.problems] == [1, 2, 4, 13, 13, 15, 19]


def test_trust_alone_is_a_trust_error_and_can_be_given(load: Load, folder: Path, good: str) -> None:
    text = good.replace("net: mlp", 'net: "mine:Net"')
    (folder / "mine.py").write_text("raise SystemExit('imported')\nclass Net: ...\n")
    with pytest.raises(TrustError, match="--trust-code"):
        load(text)
    load(text, trust_code=True)
    with pytest.raises(ConfigError, match=r"has no 'Nett'\. Did you mean 'Net'"):
        load(text.replace("mine:Net", "mine:Nett"), trust_code=True)


@pytest.mark.parametrize("text", ["", "- a", "hello", "42"])
def test_what_is_no_mapping_is_refused_at_line_1(load: Load, text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"c\.yaml:1: a config must be a mapping with task, metric, data, levels; got"
    ):
        load(text)
