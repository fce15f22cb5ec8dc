"""Weights to start from: prefixes, heads that are reset, parts that are frozen or slower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stackfeat.errors import MemberError, UsageError
from stackfeat.nets.outputs import Head
from stackfeat.nets.training.optimizer import FlatAdamW
from stackfeat.nets.weights import (
    Checkpoint,
    fit_weights,
    freeze_parameters,
    load_weights,
    match_parameters,
    parameter_blocks,
    parse_checkpoint,
    slow_down,
)


class Net(nn.Module):
    def __init__(self, n_outputs: int = 3) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 4)
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(2)])
        self.head = nn.Linear(4, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)  # type: ignore[no-any-return]


def test_a_reset_touches_last_layers_only() -> None:
    torch.manual_seed(0)
    model, other = Net(3), Net(7)
    before = model.head.weight.clone()
    assert fit_weights(model, other.state_dict(), "a.pt", resets_head=True) == ["head.weight", "head.bias"]
    assert torch.equal(model.stem.weight, other.stem.weight) and torch.equal(model.head.weight, before)
    with pytest.raises(UsageError, match=r"head.weight \(7, 4\) instead of \(3, 4\)"):
        fit_weights(model, other.state_dict(), "a.pt")
    first = {**Net().state_dict(), "stem.weight": torch.zeros(4, 9)}
    with pytest.raises(UsageError, match="only last layers can be reset"):
        fit_weights(model, first, "a.pt", resets_head=True)


def test_a_head_of_another_name_is_reset_too() -> None:
    state = {key.replace("head.", "classifier.1."): value for key, value in Net(7).state_dict().items()}
    assert fit_weights(Net(), state, "a.pt", resets_head=True) == ["head.weight", "head.bias"]
    early = {"extra.weight": torch.zeros(1), **Net().state_dict()}
    with pytest.raises(UsageError, match=r"unexpected: extra.weight"):
        fit_weights(Net(), early, "a.pt", resets_head=True)


def test_nothing_fits_is_no_reset() -> None:
    with pytest.raises(UsageError, match=r"missing: stem\.weight"):
        fit_weights(Net(), {"a": torch.zeros(1)}, "a.pt", resets_head=True)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module."]
)
def test_prefixes_are_taken_away(prefix: str) -> None:
    source, model = Net(), Net()
    fit_weights(model, {prefix + key: value for key, value in source.state_dict().items()}, "a.pt")
    assert torch.equal(model.head.weight, source.head.weight)


def test_a_prefix_of_the_model_itself_stays() -> None:
    wrapped = nn.ModuleDict({"model": nn.Linear(2, 1)})
    state = {key: value + 1 for key, value in wrapped.state_dict().items()}
    fit_weights(wrapped, state, "a.pt")
    assert torch.equal(wrapped["model"].weight, state["model.weight"])  # type: ignore[arg-type]


def test_bytes_and_files_read_the_same(tmp_path: Path) -> None:
    source = Net()
    torch.save(source.state_dict(), tmp_path / "a.pt")
    model = Net()
    load_weights(model, tmp_path / "a.pt")
    loaded = parse_checkpoint((tmp_path / "a.pt").read_bytes(), "a.pt")
    assert torch.equal(loaded["head.weight"], model.head.weight)
    with pytest.raises(
        UsageError, match="must hold tensors only; got other objects, or a damaged file; save"
    ):
        parse_checkpoint((tmp_path / "a.pt").read_bytes()[:100], "a.pt")
    with pytest.raises(UsageError, match="whole safetensors file"):
        parse_checkpoint(b"x" * 20, "a.safetensors")


def test_blocks_are_children_and_items_of_lists() -> None:
    names = [sorted({name.rpartition(".")[0] for name in block}) for block in parameter_blocks(Net())]
    assert names == [["stem"], ["layers.0.0"], ["layers.0.1"], ["layers.1.0"], ["layers.1.1"], ["head"]]


def test_rates_go_down_from_the_head_and_names_count_more() -> None:
    model = Net()
    slow_down(model, 0.5, {"head": 3.0})
    rates = {name: getattr(p, "lr_factor", 1.0) for name, p in model.named_parameters()}
    assert rates["head.weight"] == 3.0 and rates["layers.1.1.bias"] == 0.5 and rates["stem.weight"] == 0.5**5


def test_the_optimizer_follows_the_factors_as_groups_of_torch_would() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2), nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    slow_down(ours, None, {"weight": 0.1})
    flat = FlatAdamW(ours, lr=0.01, weight_decay=0.0)
    groups = [{"params": [theirs.weight], "lr": 0.001}, {"params": [theirs.bias], "lr": 0.01}]
    plain = torch.optim.AdamW(groups, weight_decay=0.0)
    for step in range(5):
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        for model, optimizer in ((ours, flat), (theirs, plain)):
            optimizer.zero_grad()
            model(x).pow(2).sum().backward()
        flat.step(factor=1.0, clip_norm=None)
        plain.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-7)
    assert torch.allclose(ours.bias, theirs.bias, atol=1e-7)


def test_frozen_norms_keep_their_statistics_in_training() -> None:
    model = Net()
    freeze_parameters(model, ["layers.0"])
    model.train()
    kept = model.layers[0][1].running_mean.clone()  # type: ignore[index,union-attr,operator]
    model(torch.randn(16, 2) + 5)
    assert torch.equal(model.layers[0][1].running_mean, kept)  # type: ignore[index,arg-type]
    assert not torch.equal(model.layers[1][1].running_mean, torch.zeros(4))  # type: ignore[index,arg-type]
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == [
        "layers.0.0.weight",
        "layers.0.0.bias",
        "layers.0.1.weight",
        "layers.0.1.bias",
    ]


@pytest.mark.parametrize(
    ("pattern", "count"), [("stem", 2), ("layers.*", 8), ("*.bias", 6), ("head.weight", 1), ("layers.?.1", 0)]
)
def test_names_modules_and_globs_mean_parameters(pattern: str, count: int) -> None:
    if count:
        assert len(match_parameters(Net(), pattern, "freeze")) == count
        return
    with pytest.raises(MemberError, match="which none is called"):
        match_parameters(Net(), pattern, "freeze")


def read_by(head: Head, order: list[int]) -> Head:
    return Checkpoint(b"", "net.pt", order=order).read_by(head)


def test_columns_are_read_in_the_order_of_the_checkpoint() -> None:
    output = np.array([[0.1, 0.2, 0.7]])
    head = read_by(Head("proba", mean=3.0, scale=2.0), [2, 0, 1])
    assert np.allclose(head.predictions(output), [[0.7, 0.1, 0.2]])
    logits = read_by(Head("logits"), [2, 0, 1]).predictions(np.log(output))
    assert np.allclose(logits, [[0.7, 0.1, 0.2]])
    # One column speaks for the second class that the checkpoint knows.
    one = read_by(Head("proba", one_column=True), [1, 0])
    assert np.allclose(one.predictions(np.array([[0.8]])), [[0.8, 0.2]])
    value = read_by(Head("value", mean=3.0, scale=2.0), [])
    assert value.predictions(np.array([[1.5]])).tolist() == [[1.5]]
