"""Nets for sequences: the points that every net must pass, with numbers, tokens and padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stackfeat.errors import UsageError
from stackfeat.layers.taps.hooks import tapped
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.zoo.sequences import TokenEmbedding, reversed_positions
from stackfeat.registry.names import NETS
from stackfeat.registry.resolve import resolve
from stackfeat.tasks.task import Task

TASK = Task("multiclass", ("a", "b", "c"))
SMALL: dict[str, dict[str, Any]] = {
    "transformer_encoder": {"width": 16, "heads": 2, "depth": 1, "dropout": 0.0},
    "gru": {"width": 8, "depth": 1, "dropout": 0.0},
    "tcn": {"width": 16, "depth": 2, "kernel": 3, "dropout": 0.0},
    "inception_time": {"filters": 6, "depth": 3, "kernel": 8, "dropout": 0.0},
}
every_net = pytest.mark.parametrize("name", SMALL)
kinds = pytest.mark.parametrize("kind", ["numbers", "tokens"])


def rows(kind: str, n: int = 64, steps: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sequences of different lengths; a mark on one real step tells the class. Padding is junk."""
    rng = np.random.default_rng(0)
    lengths, y = rng.integers(3, steps + 1, n), rng.integers(0, 3, n)
    place = (rng.random(n) * lengths).astype(int)
    if kind == "tokens":
        x = rng.integers(3, 9, (n, steps))
        x[np.arange(n), place] = y
    else:
        x = rng.normal(size=(n, steps, 3)).astype(np.float32) * 0.3
        x[np.arange(n), place, y] += 4
    return x, lengths.astype(np.int64), y.astype(np.int64)


def spec_of(name: str, x: np.ndarray, task: Task = TASK) -> NetSpec:
    return NetSpec(
        resolve(name, NETS, "net"),  # type: ignore[arg-type]
        SMALL[name],
        0,
        task.n_outputs,
        shapes={"x": x.shape[1:]},
        vocabulary={} if x.dtype.kind == "f" else {"x": 9},
        input_names=("x", "lengths"),
        optional=("lengths",),
    )


def fit(name: str, arrays: list[np.ndarray], y: np.ndarray, task: Task = TASK, **train: Any) -> FittedNet:
    options = TrainOptions(**{"epochs": 40, "batch_size": 32, "lr": 1e-2, **train})
    loss: Any = "cross_entropy" if task.classes else "mse"
    return fit_net(spec_of(name, arrays[0], task), TrainingSet(arrays, y, 0), Training(options, task, loss))


@every_net
@kinds
def test_it_overfits_a_few_rows_and_its_layers_are_read(name: str, kind: str) -> None:
    x, lengths, y = rows(kind)
    net = fit(name, [x, lengths], y)
    proba = net.predict([x, lengths])
    assert (proba.argmax(1) == y).mean() >= 0.98
    assert str(net.penultimate) == "head:input"
    layer = {
        "transformer_encoder": "encoder",
        "gru": "forwards.0",
        "tcn": "blocks.1",
        "inception_time": "blocks.2",
    }[name]
    caught = net.embed([x, lengths], ["penultimate", f"{layer}[0]" if name == "gru" else layer])
    assert all(len(values) == 64 and np.isfinite(values).all() for values in caught.values())
    np.testing.assert_array_equal(net.predict([x[:1], lengths[:1]]), proba[:1])
    again = FittedNet.from_state(net.state_bytes(), net.spec.cls)
    np.testing.assert_array_equal(again.predict([x, lengths]), proba)


@every_net
@kinds
def test_the_same_seed_gives_the_same_bytes(name: str, kind: str) -> None:
    x, lengths, y = rows(kind, 32)
    first, second = (fit(name, [x, lengths], y, epochs=2).state_bytes() for _ in range(2))
    assert first == second


@every_net
@kinds
def test_padding_changes_nothing_however_long_it_is(name: str, kind: str) -> None:
    x, lengths, y = rows(kind)
    net = fit(name, [x, lengths], y, epochs=3)
    junk = np.where(np.arange(12)[:, None] < lengths[:, None, None], 0, 5)
    other = x.copy()
    is_padding = np.arange(12) >= lengths[:, None]
    other[is_padding] = 5
    assert junk.any()
    longer = np.concatenate([other, other[:, :5] * 0 + 1], axis=1)
    wanted = net.predict([x, lengths])
    np.testing.assert_allclose(net.predict([other, lengths]), wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net.predict([longer, lengths]), wanted, rtol=1e-4, atol=1e-6)
    # Real steps do count: without lengths the padding is read.
    assert np.abs(net.predict([other, np.full(64, 12)]) - wanted).max() > 1e-3


@every_net
def test_rows_alone_are_rows_among_others(name: str) -> None:
    x, lengths, _ = rows("numbers")
    torch.manual_seed(0)
    module = spec_of(name, x).build().eval()
    with torch.no_grad():
        together = module(torch.from_numpy(x), torch.from_numpy(lengths))
        alone = torch.cat(
            [module(torch.from_numpy(x[i : i + 1]), torch.from_numpy(lengths[i : i + 1])) for i in range(8)]
        )
    torch.testing.assert_close(alone, together[:8], rtol=1e-4, atol=1e-5)


@every_net
def test_lengths_are_optional_and_one_step_is_enough(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(5, 1, 3)).astype(np.float32)
    module = spec_of(name, x).build().eval()
    assert module(torch.from_numpy(x)).shape == (5, 3)
    zero = module(torch.from_numpy(x), torch.zeros(5, dtype=torch.int64))
    assert zero.isfinite().all()


@pytest.mark.slow  # test_contract.py has both for every net
@every_net
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_trains_in_mixed_and_double_precision(name: str, dtype: torch.dtype) -> None:
    x, lengths, y = (torch.from_numpy(values) for values in rows("numbers", 32))
    torch.manual_seed(0)
    net = spec_of(name, x.numpy()).build()
    is_mixed = dtype == torch.bfloat16
    net, x = (net, x) if is_mixed else (net.double(), x.double())
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_mixed):
            output = net(x, lengths)
        loss = nn.functional.cross_entropy(output.float() if is_mixed else output, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.slow  # test_contract.py has values for every net
@every_net
def test_it_learns_values(name: str) -> None:
    x, lengths, y = rows("numbers")
    net = fit(name, [x, lengths], y * 30.0 + 100, Task("regression"))
    assert np.corrcoef(net.predict([x, lengths])[:, 0], y)[0, 1] > 0.95


@every_net
def test_unseen_tokens_are_all_alike(name: str) -> None:
    x, lengths, y = rows("tokens")
    x[x == 8] = 7  # never in training, though the vocabulary has it
    net = fit(name, [x, lengths], y, epochs=3)
    other = x.copy()
    other[:, 0] = 8
    seen, later, below = other.copy(), other.copy(), other.copy()
    later[:, 0], below[:, 0], seen[:, 0] = 5000, -3, 4
    wanted = net.predict([other, lengths])
    np.testing.assert_array_equal(net.predict([later, lengths]), wanted)
    np.testing.assert_array_equal(net.predict([below, lengths]), wanted)
    assert np.abs(net.predict([seen, lengths]) - wanted).max() > 1e-6


def test_an_unknown_token_is_the_zero_vector() -> None:
    table = TokenEmbedding(4, 3)
    assert table.eval()(torch.tensor([[1, 4]]))[0, 1].eq(0).all()
    assert not table(torch.tensor([[1]])).eq(0).any()  # an untrained table knows all tokens
    table.train()(torch.tensor([[1, 2]]))
    known = table.eval()(torch.tensor([[1, 2, 3, 9]]))[0]
    assert known.ne(0).any(1).tolist() == [True, True, False, False]


def test_backwards_starts_at_the_last_real_step() -> None:
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    assert reversed_positions(mask).tolist() == [[2, 1, 0, 3], [0, 1, 2, 3]]


def test_taps_are_pooled_over_real_steps() -> None:
    x, lengths, y = rows("numbers")
    net = fit("tcn", [x, lengths], y, epochs=1)
    caught = net.embed([x, lengths], ["reader"])["reader"]
    inputs = (torch.from_numpy(x), torch.from_numpy(lengths))
    with tapped(net.module, ["reader"]) as raw, torch.no_grad():
        net.module(*inputs)
    by_hand = np.stack([raw["reader"][i, : lengths[i]].mean(0).numpy() for i in range(64)])
    np.testing.assert_allclose(caught, by_hand, rtol=1e-4, atol=1e-5)


@every_net
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"a": (5, 2), "b": (3,)}, "one sequence; got the inputs a, b.*fusion"),
        ({"a": (1, 8, 8)}, r"got a with rows of shape \(1, 8, 8\)"),
    ],
)
def test_impossible_inputs_are_refused(name: str, shapes: Any, message: str) -> None:
    cls: Any = resolve(name, NETS, "net")
    with pytest.raises(UsageError, match=message):
        cls(n_outputs=2, shapes=shapes)
    with pytest.raises(UsageError, match=r"depth must be at least 1; got depth=0"):
        cls(n_outputs=2, shapes={"a": (5, 2)}, depth=0)


def test_heads_must_divide_the_width() -> None:
    cls: Any = resolve("transformer_encoder", NETS, "net")
    with pytest.raises(UsageError, match=r"multiple of heads; got width=10, heads=4"):
        cls(n_outputs=2, shapes={"a": (5, 2)}, width=10)
