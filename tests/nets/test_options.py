"""Training options that a net's class declares hold where the config says nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stackfeat.errors import ConfigError
from stackfeat.members.net_options import NetOptions
from stackfeat.nets.options import TrainOptions, training_defaults, with_training_defaults
from stackfeat.registry.names import NET_TRAINING, NETS


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_the_table_holds_options_of_training_by_name_and_by_path(name: str, task: str) -> None:
    assert NET_TRAINING.keys() <= NETS.keys()
    defaults = training_defaults(name, task)
    assert TrainOptions(**defaults).model_fields_set == defaults.keys()
    assert training_defaults(NETS[name], task) == defaults


def test_only_what_the_config_leaves_open_is_filled_in() -> None:
    train = with_training_defaults("realmlp", TrainOptions(lr=5e-3, epochs=7), "multiclass")
    assert (train.lr, train.epochs) == (5e-3, 7)  # the first is also the general default
    assert (train.schedule, train.clip_norm) == ("coslog4", None)
    assert with_training_defaults("realmlp", TrainOptions(), "binary").lr == 0.04
    assert with_training_defaults("realmlp", TrainOptions(), "regression").lr == 0.1


def test_options_filled_in_once_stay() -> None:
    once = NetOptions(net="realmlp").resolved("binary", Path())
    again = NetOptions.model_validate(once.to_json()).resolved("regression", Path())
    assert again.train == once.train
    assert with_training_defaults("mlp", TrainOptions(), "binary") == TrainOptions()


def write(folder: Path, declared: str) -> str:
    (folder / "my_declared_net.py").write_text(
        "raise RuntimeError('imported')\n"
        f"class Other:\n    train_defaults = {{'lr': 9.0}}\nclass Net:\n    {declared}\n"
    )
    return "my_declared_net:Net"


def test_a_users_class_is_read_and_not_imported(tmp_path: Path) -> None:
    net, nothing = (
        write(tmp_path, "train_defaults: dict = {'lr': 0.3, 'regression': {'epochs': 3}}"),
        TrainOptions(),
    )
    assert with_training_defaults(net, nothing, "regression", tmp_path) == TrainOptions(lr=0.3, epochs=3)
    assert with_training_defaults(net, nothing, "binary", tmp_path) == TrainOptions(lr=0.3)
    assert "my_declared_net" not in sys.modules
    net = write(tmp_path, "width = 3  # nothing declared")
    assert with_training_defaults(net, nothing, "binary", tmp_path) == nothing
    assert with_training_defaults("no_such_module:Net", nothing, "binary", tmp_path) == nothing


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("train_defaults = {'learning_rte': 1}", "must name options of train; got 'learning_rte'"),
        ("train_defaults = {'epoch': 1}", "Did you mean 'epochs'"),
        (
            "train_defaults = {'lr': -1}",
            "must fit the options of train; .*lr: Input should be greater than 0",
        ),
        ("train_defaults = {'patience': 3}", "remove patience"),
        ("train_defaults = ['lr']", r"must be a dict of training options; got \['lr'\]"),
        ("train_defaults = dict(lr=1)", r"must be a plain value; got 'dict\(lr=1\)'"),
    ],
)
def test_what_cannot_be_declared_is_refused(declared: str, message: str, tmp_path: Path) -> None:
    train = TrainOptions(early_stopping="fixed")
    with pytest.raises(ConfigError, match=message):
        with_training_defaults(write(tmp_path, declared), train, "binary", tmp_path)
