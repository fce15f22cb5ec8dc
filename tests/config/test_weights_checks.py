"""Members with given weights: the leak is explained, and what does not go together is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stackfeat.config import LoadedConfig, dump_config
from stackfeat.errors import ConfigError
from stackfeat.members.net_options import NetOptions

Load = Callable[..., LoadedConfig]
OLD = "net: mlp\n      params: {hidden: [32]}\n      train: {epochs: 5, lr: 1e-3}\n      emit: [proba, penultimate]"


@pytest.fixture
def member(good: str, folder: Path) -> Callable[[str], str]:
    """The good config with another net member, written as one flow mapping."""
    for name in [*(f"m{fold}.pt" for fold in range(6)), "one.pt", "mine.csv", "a.txt"]:
        (folder / name).write_text("x\n")
    assert OLD in good

    def write(options: str) -> str:
        text = good.replace("    mlp:\n      " + OLD, f"    mlp: {{net: mlp, {options}}}")
        return text.replace('"base/*/*"', '"base/*/*"')

    return write


SOUND = [
    "weights: 'm{fold}.pt', folds: mine.csv",
    "weights: 'm{fold1}.pt', folds: mine.csv, classes: [a, b, c], state_key: model, output_item: 1",
    "weights: 'm{fold}.pt', folds: mine.csv, emit: proba",
    "weights: one.pt, train: {epochs: 2}, freeze: ['blocks.*'], lr_decay: 0.8, lrs: {head: 2}, head: reset",
    "weights: 'm{fold}.pt', folds: mine.csv, train: {}",
]


@pytest.mark.parametrize("options", SOUND)
def test_sound_members_load_and_round_trip(options: str, load: Load, member: Callable[[str], str]) -> None:
    config = load(member(options)).config
    again = load(dump_config(config)).config
    assert again == config
    first, second = (one.levels["base"]["mlp"] for one in (config, again))
    assert isinstance(first, NetOptions) and isinstance(second, NetOptions)
    assert first.is_tuned is second.is_tuned is ("train" in options)


def test_a_frozen_net_hands_on_no_predictions_by_itself(load: Load, member: Callable[[str], str]) -> None:
    text = member("weights: one.pt, frozen: true").replace("base/mlp/proba", "meta/gated/proba")
    text = text.replace(", meta/gated/proba]", "]")
    options = load(text).config.levels["base"]["mlp"]
    assert isinstance(options, NetOptions)
    assert not options.emits("proba") and options.taps()[0].encode == ("raw", "geometry")
    named = NetOptions(net="a:B", weights="w.pt", frozen=True, emit=("fc", {"tap": "x", "pool": "mean"}))  # type: ignore[arg-type]
    assert [tap.encode for tap in named.taps()] == [("raw", "geometry")] * 2
    own = NetOptions(net="a:B", weights="w.pt", frozen=True, emit=({"tap": "x", "encode": "aligned"},))  # type: ignore[arg-type]
    assert own.taps()[0].encode == ("aligned",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("weights: 'm{fold}.pt'", r"need to say which rows .* a net that was trained on label i.* Add folds"),
        ("weights: one.pt", "one net for all folds has seen the labels it would be asked to predict"),
        ("weights: one.pt, folds: mine.csv, train: {}", "folds say which rows each checkpoint did not see"),
        ("weights: 'm{fold}.pt', frozen: true", "frozen is one net for all folds"),
        ("weights: one.pt, frozen: true, folds: mine.csv", "so it has no folds"),
        ("weights: one.pt, frozen: true, train: {epochs: 2}", "a frozen net is not trained"),
        ("weights: 'm{flod}.pt', folds: mine.csv", r"got \{flod\} .*Did you mean 'fold'\?"),
        ("weights: 'm{fold}{fold1}.pt', folds: mine.csv", "got both"),
        ("weights: 'n{fold}.pt', folds: mine.csv", r"there is no file 'n0.pt'.*Did you mean"),
        ("weights: 'm{fold}.pt', folds: our.csv", "there is no file 'our.csv'"),
        ("weights: '../m{fold}.pt', folds: mine.csv", "paths stay inside"),
        ("weights: a.txt, frozen: true", "must be a file of .safetensors, .pt"),
        ("weights: 'm{fold}.pt', folds: mine.csv, freeze: [a]", "freeze is about fine-tuning; got no train"),
        ("weights: 'm{fold}.pt', folds: mine.csv, lr_decay: 0.5", "lr_decay is about fine-tuning"),
        ("weights: 'm{fold}.pt', folds: mine.csv, head: reset", "a head that starts anew has learnt nothing"),
        ("weights: 'm{fold}.pt', folds: mine.csv, seeds: 2", r"2 seeds need a checkpoint each.*Use \{seed\}"),
        ("weights: one.pt, train: {}, head: reset, classes: [a, b, c]", "the order of a head that is kept"),
        ("state_key: model", "state_key is about given weights; got no weights"),
        ("freeze: [a]", "freeze is about given weights"),
        ("classes: [a, b]", "classes is about given weights"),
        ("weights: one.pt, train: {}, lrs: {a: 0}", "factors must be above 0; got a: 0. Use freeze"),
    ],
)
def test_wrong_members_are_explained(
    options: str, message: str, load: Load, member: Callable[[str], str]
) -> None:
    with pytest.raises(ConfigError) as error:
        load(member(options))
    assert re.search(message, str(error.value)), error.value


def test_folds_of_the_training_file_are_enough(load: Load, member: Callable[[str], str]) -> None:
    text = member("weights: 'm{fold}.pt'").replace("  id: row_id", "  id: row_id\n  fold: owner_id")
    load(text + "folds: {kind: column}\n")
    load(text)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("folds: {repeats: 2}\n", r"each of 2 repeats has its own folds.*Use \{repeat\}"),
        ("stack: {averaging: refit}\n", "refit needs a model of all rows"),
        ("folds: {repeats: 2, repeats_as: blocks}\n", "checkpoints are not trained"),
    ],
)
def test_what_asks_for_other_models_is_refused(
    more: str, message: str, load: Load, member: Callable[[str], str]
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(member("weights: 'm{fold}.pt', folds: mine.csv") + more)


def test_pictures_need_their_size_and_scale(load: Load, member: Callable[[str], str]) -> None:
    text = member("weights: one.pt, frozen: true").replace(
        "  id: row_id", "  id: row_id\n  inputs: {image: {column: x, size: 32}}"
    )
    with pytest.raises(ConfigError, match="'image' says no normalize"):
        load(text)
    with pytest.raises(ConfigError, match="does not know the mean and spread"):
        load(text.replace("size: 32", "size: 32, normalize: standard"))
