"""Training options that a net's class declares hold where the config says nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stackfeat.errors import ConfigError
from stackfeat.members.net_options import NetOptions
from stackfeat.nets.options import TrainOptions, epochs_of, training_defaults, with_training_defaults
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
    assert with_training_defaults("realmlp", TrainOptions(), "binary").base_lr == 0.04
    assert with_training_defaults("realmlp", TrainOptions(), "regression").base_lr == 0.1


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


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "n_steps"),
    [
        (20, 16, 200),  # two batches an epoch: more epochs, up to the least number of steps
        (100, 16, 420),
        (159, 16, 600),
        (320, 32, 600),
        (1000, 96, 660),
        (2560, 256, 600),
        (50_000, 256, 11_760),
    ],
)
def test_batches_are_a_tenth_of_the_rows_and_steps_have_a_floor(
    n_rows: int, batch_size: int, n_steps: int
) -> None:
    pace = TrainOptions().pace(n_rows)
    assert (pace.batch_size, pace.n_steps) == (batch_size, n_steps)
    assert pace.epochs == (100 if n_rows == 20 else 60)


def test_the_rate_is_lower_in_small_batches_unless_steps_are_few() -> None:
    assert TrainOptions().pace(50_000).lr == TrainOptions().pace(2560).lr == 5e-3
    assert TrainOptions().pace(159).lr == pytest.approx(5e-3 / 4)
    assert TrainOptions(epochs=20).pace(160).lr == pytest.approx(5e-3 * 160 / 200)
    assert TrainOptions(epochs=1).pace(160).lr == 5e-3
    assert TrainOptions(batch_size=1024).pace(50_000).lr == 5e-3, "never above the base"
    assert TrainOptions(base_lr=0.04).pace(660).lr == pytest.approx(0.02)


@pytest.mark.parametrize("n_rows", [2, 17, 150, 4000, 10**6])
def test_what_is_given_is_used_as_it_is(n_rows: int) -> None:
    assert TrainOptions(epochs=3, batch_size=7, lr=0.3).pace(n_rows)[:3] == (3, 7, 0.3)
    assert TrainOptions(batch_size=5).pace(n_rows).batch_size == 5
    assert TrainOptions(largest_batch=64).pace(n_rows).batch_size <= 64
    assert TrainOptions(largest_batch=8).pace(n_rows).batch_size == 8


@pytest.mark.parametrize("name", NETS)
def test_every_net_makes_enough_steps_on_few_rows(name: str) -> None:
    train = with_training_defaults(name, TrainOptions(), "binary")
    for n_rows in (30, 100, 300, 1000):
        pace = train.pace(n_rows)
        assert pace.n_steps >= 200
        assert pace.batch_size <= max(16, n_rows / 10)
        assert pace.lr <= train.base_lr


def test_epochs_are_searched_where_none_are_given_from_50_to_50000_rows() -> None:
    assert [
        n for n in (10, 49, 50, 891, 5001, 50_000, 50_001, 10**6) if TrainOptions().searches_epochs(n)
    ] == [
        50,
        891,
        5001,
        50_000,
    ]
    for given in ({"epochs": 60}, {"patience": 10}, {"early_stopping": "fixed"}):
        assert not TrainOptions(**given).searches_epochs(891)
    assert TrainOptions().stopping == TrainOptions(early_stopping="fixed").stopping == "fixed"
    assert TrainOptions(patience=10).stopping == "refit"


def test_the_search_goes_far_enough_for_narrow_nets() -> None:
    for n_rows, epochs in ((48, 667), (120, 250), (1000, 182), (4000, 125), (4500, 112)):
        search = TrainOptions().search(n_rows)
        assert (search.pace(n_rows).epochs, search.stopping) == (epochs, "refit")
        assert search.pace(n_rows).n_steps >= 2000


def test_training_ends_where_its_loss_begins_to_rise_for_sure() -> None:
    falling = [1 / epoch for epoch in range(1, 61)]
    assert epochs_of(falling) == 60
    assert epochs_of(falling[:1]) == 1
    overfitted = [0.7, 0.69, 0.7, 0.72, 0.75, 0.8, 0.9, 1.0, 1.2, 1.4]
    assert 3 <= epochs_of(overfitted) <= 6
    flat = [1.0, 0.5, *[0.2, 0.21, 0.19, 0.205] * 5]
    assert epochs_of(flat) == len(flat), "few rows cannot tell these apart"
    assert epochs_of([0.5, float("inf"), 0.4]) == 3, "nothing can be told"
