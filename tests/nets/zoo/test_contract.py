"""The contract: what holds for every net that a config may name."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from stackfeat.layers.taps.runtime import pinned
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.outputs import Head, row_losses
from stackfeat.nets.training.fit import untrained_net
from stackfeat.registry.names import NETS

from .contract import NET_KINDS, TASKS, VARIANTS, Example, example_of, fit, spec_of, target_of, tensors

every_net = pytest.mark.parametrize("variant", VARIANTS)
every_task = pytest.mark.parametrize("task", TASKS)


def build(variant: str, task: str, example: Example, seed: int = 0) -> nn.Module:
    with pinned(seed):
        return spec_of(variant, TASKS[task], example).build()


@cache
def briefly_trained(variant: str, task: str) -> tuple[Example, FittedNet]:
    """Rows, and a net after an epoch on them, for tests that only read it."""
    example = example_of(variant)
    return example, fit(variant, TASKS[task], example, epochs=1)


def train_loss(module: nn.Module, task: str, example: Example, dtype: torch.dtype) -> torch.Tensor:
    """The loss of one batch, in training mode, as the training loop takes it."""
    is_values = not TASKS[task].classes
    y = torch.from_numpy(target_of(example, TASKS[task]))
    output = module.train()(*tensors(example.arrays, dtype))
    head = Head("value" if is_values else "logits")
    return row_losses(head, "mse" if is_values else "cross_entropy", output, y, 0.0).mean()


def test_every_net_of_the_table_is_tried() -> None:
    assert set(NET_KINDS) == set(NETS)


@every_task
@every_net
def test_a_row_gives_a_score_for_each_class_or_a_value(variant: str, task: str) -> None:
    example = example_of(variant, 7)
    output = build(variant, task, example).eval()(*tensors(example.arrays))
    assert output.shape == (7, TASKS[task].n_outputs)
    assert output.dtype == torch.float32


@every_task
@every_net
def test_the_penultimate_features_are_found_and_read(variant: str, task: str) -> None:
    example, net = briefly_trained(variant, task)
    assert net.penultimate is not None, net.penultimate_problem
    features = net.embed(example.arrays, ["penultimate"])["penultimate"]
    assert features.shape[0] == 64 and features.shape[1] >= 8
    assert np.isfinite(features).all() and features.std() > 0


@every_net
def test_every_layer_that_runs_can_be_tapped(variant: str) -> None:
    example = example_of(variant)
    net = fit(variant, TASKS["multiclass"], example, epochs=1)
    ran: list[str] = []
    for name, layer in net.module.named_modules():
        if name:
            layer.register_forward_hook(lambda *_, name=name: ran.append(name))
    net.module(*tensors(example.arrays))
    assert ran
    for name in dict.fromkeys(ran):
        assert len(net.embed(example.arrays, [name])[name]) == 64


@every_net
def test_a_seed_decides_every_bit(variant: str) -> None:
    example = example_of(variant)
    one, same, other = (fit(variant, TASKS["binary"], example, seed=s, epochs=2) for s in (1, 1, 2))
    assert one.state_bytes() == same.state_bytes()
    assert one.state_bytes() != other.state_bytes()


@every_net
def test_an_untrained_net_is_that_of_its_seed_and_has_features(variant: str) -> None:
    example = example_of(variant)
    one, same = (
        untrained_net(
            spec_of(variant, TASKS["binary"], example), example.arrays, task=TASKS["binary"], seed=3
        )
        for _ in range(2)
    )
    features = [net.embed(example.arrays, ["penultimate"])["penultimate"] for net in (one, same)]
    assert np.array_equal(*features) and features[0].std() > 0


# Versions of a net differ in their inside: one task will do for them.
EVERY_DAY = {*product(VARIANTS, ["multiclass"]), *product(NETS, ["regression"])}


@pytest.mark.parametrize(
    ("variant", "task"),
    [
        pytest.param(*pair, marks=() if pair in EVERY_DAY else pytest.mark.slow)
        for pair in product(VARIANTS, TASKS)
    ],
)
def test_it_overfits_64_rows(variant: str, task: str) -> None:
    example = example_of(variant)
    y = target_of(example, TASKS[task])
    params = VARIANTS[variant][1]
    net = fit(
        variant,
        TASKS[task],
        example,
        epochs=150 if "periodic" in variant else 100,
        batch_size=64,
        weight_decay=0.0,
        lr=rate(variant),
    )
    predicted = net.predict(example.arrays)
    assert predicted.shape == (64, TASKS[task].n_outputs), params
    if TASKS[task].classes:
        assert (predicted.argmax(axis=1) == y).mean() >= 0.98
    else:
        assert np.mean((predicted[:, 0] - y) ** 2) < 0.05 * np.var(y)


def rate(variant: str) -> float:
    """A learning rate for few steps; the nets' own are for many."""
    return 0.05 if variant.startswith("realmlp") else 0.01


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=() if name in NETS else pytest.mark.slow) for name in VARIANTS]
)
def test_it_trains_in_bfloat16(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackfeat.layers.taps.runtime.has_amp", lambda device: True)
    example = example_of(variant)
    net = fit(variant, TASKS["multiclass"], example, epochs=30, lr=rate(variant))
    assert all(values.dtype == torch.float32 for values in net.module.parameters())
    assert net.report.retries == 0
    assert net.report.losses[-1] < 0.7 * net.report.losses[0]


@every_task
@every_net
def test_it_runs_backwards_in_float64(variant: str, task: str) -> None:
    example = example_of(variant)
    module = build(variant, task, example).double()
    loss = train_loss(module, task, example, torch.float64)
    loss.backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    assert all(g is not None and g.dtype == torch.float64 for g in gradients.values()), gradients.keys()
    assert all(bool(torch.isfinite(g).all()) for g in gradients.values() if g is not None)
    assert module.eval()(*tensors(example.arrays, torch.float64)).dtype == torch.float64


@every_net
def test_one_row_is_a_batch_and_no_row_none(variant: str) -> None:
    example, net = briefly_trained(variant, "multiclass")
    whole = net.predict(example.arrays)
    one = net.predict(tuple(array[5:6] for array in example.arrays))
    assert np.array_equal(one[0], whole[5])
    assert net.predict(tuple(array[:0] for array in example.arrays)).shape == (0, 3)


@every_net
def test_odd_rows_get_finite_predictions(variant: str) -> None:
    example, net = briefly_trained(variant, "multiclass")
    predicted = net.predict(example.odd)
    assert np.isfinite(predicted).all()
    np.testing.assert_allclose(predicted.sum(axis=1), 1)


@every_net
def test_a_row_does_not_depend_on_the_others(variant: str) -> None:
    example, net = briefly_trained(variant, "multiclass")
    module, other = net.module, example_of(variant, seed=1)
    mixed = tuple(np.concatenate([a[:8], b[8:16]]) for a, b in zip(example.arrays, other.arrays, strict=True))
    with torch.no_grad():
        alone = module(*tensors(tuple(array[:8] for array in example.arrays)))
        among_others = module(*tensors(mixed))[:8]
    torch.testing.assert_close(among_others, alone)


@every_net
def test_bytes_bring_the_same_net_back(variant: str) -> None:
    example, net = briefly_trained(variant, "multiclass")
    again = FittedNet.from_state(net.state_bytes(), net.spec.cls, threads=1)
    assert np.array_equal(again.predict(example.odd), net.predict(example.odd))
    assert again.state_bytes() == net.state_bytes()


@every_net
def test_what_is_learnt_of_rows_beforehand_is_stored_with_the_net(variant: str) -> None:
    example, net = briefly_trained(variant, "binary")
    task, other = TASKS["binary"], example_of(variant, seed=1)
    first, second = net.spec.prepared, fit(variant, task, other, epochs=1).spec.prepared
    assert first == spec_of(variant, task, example).prepared
    assert first in (None, {}) or first != second


@pytest.mark.parametrize("variant", [name for name in VARIANTS if NET_KINDS[VARIANTS[name][0]] == "table"])
@pytest.mark.parametrize("part", ["numbers", "categories"])
def test_a_table_may_have_numbers_or_categories_alone(variant: str, part: str) -> None:
    whole = example_of(variant)
    numeric, codes = whole.arrays
    keep = (slice(None), slice(0)) if part == "numbers" else (slice(0), slice(None))
    some = replace(
        whole,
        arrays=(numeric[:, keep[0]], codes[:, keep[1]]),
        odd=(whole.odd[0][:, keep[0]], whole.odd[1][:, keep[1]]),
        cardinalities=whole.cardinalities[keep[1]],
    )
    net = fit(variant, TASKS["multiclass"], some, epochs=40, lr=rate(variant))
    assert net.report.losses[-1] < 0.9 * net.report.losses[0]
    assert np.isfinite(net.predict(some.odd)).all()
    assert len(net.embed(some.arrays, ["penultimate"])["penultimate"]) == 64
