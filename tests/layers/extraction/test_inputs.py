"""Padded sequences in `extract`: every way a net is told of padding, against a mean written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from stackfeat.errors import TapError, UsageError
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.taps.tap import Tap

N, STEPS, WIDTH = 40, 9, 8
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(N, STEPS, WIDTH, generator=GENERATOR)
LENGTHS = torch.randint(1, STEPS + 1, (N,), generator=GENERATOR)
LENGTHS[5] = STEPS
KEEP = torch.arange(STEPS)[None] < LENGTHS[:, None]


class Head(nn.Module):
    """A body over steps, called `body`, and a head over the first step."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(WIDTH, 2)


def make_encoder() -> nn.TransformerEncoder:
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class BySourceMask(Head):
    def forward(self, x: Tensor, src_key_padding_mask: Tensor) -> Tensor:
        return self.head(self.body(x, src_key_padding_mask=src_key_padding_mask)[:, 0])


class ByKeyMask(Head):
    def forward(self, x: Tensor, key_padding_mask: Tensor) -> Tensor:
        return self.head(self.body(x)[:, 0] * (~key_padding_mask).sum(1, keepdim=True))


class ByAttentionMask(Head):
    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.body(x)[:, 0] * attention_mask.sum(1, keepdim=True))


class ByLengths(Head):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.body(x)[:, 0] * lengths[:, None])


class Computed(Head):
    """The mask is found inside, from steps of zeros, and reaches the encoder by position."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x, None, (x == 0).all(2))[:, 0])


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.attention(x, x, x, padding, need_weights=False)[0]


class InsideAttention(Head):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x, (x == 0).all(2))[:, 0])


class Backbone(nn.Module):
    """Told by name, in one of the ways that nets of this kind have."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.line, self.kind = nn.Linear(WIDTH, WIDTH), kind

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        return self.line(x)


class InsideBackbone(Head):
    def forward(self, x: Tensor) -> Tensor:
        keep = ~(x == 0).all(2)
        told = {
            "whole": lambda: keep.long(),
            "four": lambda: keep[:, None, None].to(x.dtype),
            "added": lambda: torch.zeros(keep.shape).masked_fill(~keep, torch.finfo(x.dtype).min)[
                :, None, None
            ],
            "infinite": lambda: torch.zeros(keep.shape).masked_fill(~keep, float("-inf")),
        }[self.body.kind]()
        return self.head(self.body(x, attention_mask=told)[:, 0])


class StepsFirst(Head):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.body(x.transpose(0, 1))[0][0] * lengths[:, None])


class Convolved(Head):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.body(x.transpose(1, 2))[:, :, 0] * lengths[:, None])


ZEROED = X * KEEP[:, :, None]
LINE = nn.Linear(WIDTH, WIDTH)
CASES: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "src_key_padding_mask": (lambda: BySourceMask(make_encoder()), (X, ~KEEP)),
    "src_key_padding_mask by name": (
        lambda: BySourceMask(make_encoder()),
        {"src_key_padding_mask": ~KEEP, "x": X},
    ),
    "key_padding_mask": (lambda: ByKeyMask(LINE), (X, ~KEEP)),
    "attention_mask": (lambda: ByAttentionMask(LINE), (X, KEEP.long())),
    "attention_mask of floats": (lambda: ByAttentionMask(LINE), {"x": X, "attention_mask": KEEP.float()}),
    "lengths": (lambda: ByLengths(LINE), (X, LENGTHS)),
    "lengths by name": (lambda: ByLengths(LINE), {"lengths": LENGTHS, "x": X}),
    "computed inside": (lambda: Computed(make_encoder()), ZEROED),
    "attention inside": (lambda: InsideAttention(Attending()), ZEROED),
    **{
        f"backbone inside, {kind}": (lambda kind=kind: InsideBackbone(Backbone(kind)), ZEROED)  # type: ignore[misc]
        for kind in ("whole", "four", "added", "infinite")
    },
    "steps first": (lambda: StepsFirst(nn.GRU(WIDTH, WIDTH)), (X, LENGTHS)),
    "channels first": (lambda: Convolved(nn.Conv1d(WIDTH, WIDTH, 3, padding=1)), (X, LENGTHS)),
}


def steps_by_hand(net: nn.Module, inputs: Any) -> Tensor:
    """What the body returns, as (rows, steps, columns), by a hook."""
    kept: list[Tensor] = []
    handle = net.body.register_forward_hook(
        lambda _m, _a, out: kept.append((out[0] if isinstance(out, tuple) else out).detach().clone())
    )
    args, kwargs = (
        ((), inputs) if isinstance(inputs, dict) else (inputs if isinstance(inputs, tuple) else (inputs,), {})
    )
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad():
        net.eval()(*args, **kwargs)
    torch.backends.mha.set_fastpath_enabled(True)
    handle.remove()
    if isinstance(net, StepsFirst):
        return kept[0].transpose(0, 1)
    return kept[0].transpose(1, 2) if isinstance(net, Convolved) else kept[0]


def masked_mean(steps: Tensor, lengths: Tensor = LENGTHS) -> np.ndarray:
    return torch.stack([row[:n].mean(0) for row, n in zip(steps, lengths, strict=True)]).numpy()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch_size", [16, "auto"])
def test_padding_is_found_however_the_net_is_told(case: str, batch_size: Any) -> None:
    make, inputs = CASES[case]
    net = make()
    steps = steps_by_hand(net, inputs)
    found = extract(net, inputs, "body", batch_size=batch_size)["body"]
    expected = masked_mean(steps)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - steps.mean(1).numpy()).max() > 0.05, "else padding would not show"


def test_a_batch_without_padding_is_not_taken_for_one_of_padding_alone() -> None:
    """A mask that is added to scores is all zeros then, as an attention mask of only padding would be."""
    net, x = InsideBackbone(Backbone("added")), torch.randn(20, STEPS, WIDTH)
    np.testing.assert_allclose(
        extract(net, x, "body")["body"], net.body.line(x).mean(1).detach(), rtol=1e-4, atol=1e-5
    )


def test_a_causal_mask_is_not_taken_for_padding() -> None:
    class Causal(Head):
        def forward(self, x: Tensor) -> Tensor:
            steps = x.shape[1]
            return self.head(self.body(x, attention_mask=torch.ones(steps, steps).tril())[:, 0])

    net, x = Causal(Backbone("whole")), torch.randn(40, 16, WIDTH)
    found = extract(net, x, "body", batch_size=16)["body"]
    np.testing.assert_allclose(found, net.body.line(x).mean(1).detach(), rtol=1e-4, atol=1e-5)


def test_as_many_steps_as_rows_are_no_trouble() -> None:
    net, x, lengths = ByLengths(nn.Linear(WIDTH, WIDTH)), torch.randn(40, 16, WIDTH), LENGTHS
    wanted = masked_mean(net.body(x).detach(), lengths)
    keep = torch.arange(16)[None] < lengths[:, None]
    hidden = Hidden(net.body)
    for found in (
        extract(net, (x, lengths), "body", batch_size=16),
        extract(hidden, x, "body", batch_size=16, lengths=lengths),
        extract(hidden, x, "body", batch_size=16, mask=keep),
    ):
        np.testing.assert_allclose(found["body"], wanted, rtol=1e-4, atol=1e-5)


def test_the_mask_of_the_source_is_not_taken_for_that_of_the_target() -> None:
    class Translating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.core = nn.Transformer(WIDTH, 2, 1, 1, 16, batch_first=True)

        def forward(self, source: Tensor, target: Tensor, padding: Tensor) -> Tensor:
            return self.core(source, target, src_key_padding_mask=padding, memory_key_padding_mask=padding)[
                :, 0
            ]

    net, target = Translating().eval(), torch.randn(N, STEPS, WIDTH)
    taps = ["core.encoder", "core.decoder", "core.decoder.layers.0.linear1", "core"]
    found = extract(net, (X, target, ~KEEP), taps)
    with torch.no_grad():
        memory = net.core.encoder(X, src_key_padding_mask=~KEEP)
        decoded = net.core(X, target, src_key_padding_mask=~KEEP, memory_key_padding_mask=~KEEP)
    np.testing.assert_allclose(found["core.encoder"], masked_mean(memory), rtol=1e-4, atol=1e-5)
    for key in ("core", "core.decoder"):
        np.testing.assert_allclose(found[key], decoded.mean(1), rtol=1e-4, atol=1e-5)
    whole = extract(net, (X, target, ~KEEP), taps[2], pool="none")[taps[2]]
    np.testing.assert_allclose(found[taps[2]], whole.mean(1), rtol=1e-4, atol=1e-5)


class Hidden(Head):
    """No argument and no layer says where padding is."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[:, 0])


class Rows(Dataset[Any]):
    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Tensor:
        return X[i]


@pytest.mark.parametrize(
    "inputs",
    [X, X.numpy(), (X,), {"x": X}, TensorDataset(X), Rows(), DataLoader(TensorDataset(X), batch_size=7)],
    ids=lambda inputs: type(inputs).__name__,
)
@pytest.mark.parametrize(
    "told", [{"mask": KEEP.numpy()}, {"mask": KEEP.long()}, {"lengths": LENGTHS.numpy()}]
)
def test_a_mask_that_cannot_be_found_is_given(inputs: Any, told: dict[str, Any]) -> None:
    net = Hidden(nn.Linear(WIDTH, WIDTH))
    steps = net.body(X).detach()
    found = extract(net, inputs, ["body", "head"], batch_size=16, **told)
    np.testing.assert_allclose(found["body"], masked_mean(steps), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["head"], net.head(steps[:, 0]).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["max", "last", "mean"])
def test_a_given_mask_counts_for_every_pooling_and_before_what_the_net_says(pool: Any) -> None:
    net = ByLengths(nn.Linear(WIDTH, WIDTH))
    steps, half = net.body(X).detach(), (LENGTHS + 1) // 2
    keep = torch.arange(STEPS)[None] < half[:, None]
    expected = {
        "mean": masked_mean(steps, half),
        "max": torch.stack([row[:n].amax(0) for row, n in zip(steps, half, strict=True)]).numpy(),
        "last": torch.stack([row[n - 1] for row, n in zip(steps, half, strict=True)]).numpy(),
    }[pool]
    for told in ({"mask": keep}, {"lengths": half}):
        found = extract(net, (X, LENGTHS), "body", pool=pool, **told)["body"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_given_mask_goes_with_files_and_resuming(tmp_path: Path) -> None:
    net = Hidden(nn.Linear(WIDTH, WIDTH))
    expected = extract(net, X, "body", batch_size=16, mask=KEEP)["body"]
    loader = DataLoader(TensorDataset(X), batch_size=7)
    for folder, inputs in (("a", X), ("b", loader)):
        for _ in range(2):
            found = extract(net, inputs, "body", batch_size=16, mask=KEEP, out=tmp_path / folder)["body"]
            assert found.tobytes() == expected.tobytes()
    with pytest.warns(UserWarning, match="input rows changed"):
        other = KEEP.clone()
        other[30, 0] = ~other[30, 0]
        extract(net, X, "body", batch_size=16, mask=other, out=tmp_path / "a")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"mask": KEEP, "lengths": LENGTHS}, "give one of them"),
        ({"mask": KEEP[:7]}, "a row per sample; got 7 rows for 40"),
        ({"mask": KEEP[0]}, r"\(n_rows, n_steps\), or .*; got shape=\(9,\)"),
        ({"mask": torch.where(KEEP, 0.0, -1e9)}, "give mask == 0"),
        ({"mask": "attention"}, "arrays or tensors"),
        ({"lengths": LENGTHS[:3]}, "a row per sample; got 3 rows for 40"),
        ({"lengths": LENGTHS.float()}, r"whole numbers of shape \(n_rows,\)"),
        ({"lengths": KEEP}, r"whole numbers of shape \(n_rows,\)"),
        ({"lengths": LENGTHS - 9}, "0 or more"),
    ],
)
def test_masks_and_lengths_of_another_shape_are_refused(told: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        extract(Hidden(LINE), X, "body", **told)


def test_a_mask_that_is_no_use_is_refused() -> None:
    net = Hidden(LINE)
    with pytest.raises(TapError, match=r"got 8 steps, and 9 at tap 'body'"):
        extract(net, X, "body", mask=KEEP[:, :8])
    with pytest.raises(TapError, match=r"mask must be used at a tap.*\(head\)"):
        extract(net, X, "head", mask=KEEP)
    with pytest.raises(TapError, match="lengths must be used at a tap"):
        extract(net, X, Tap("body", pool="flatten"), lengths=LENGTHS)


def test_rows_of_a_loader_that_has_more_than_the_mask_are_refused() -> None:
    class Stream(torch.utils.data.IterableDataset[Tensor]):
        def __iter__(self) -> Any:
            return iter(X)

    with pytest.raises(UsageError, match="the loader gave 40 and more"):
        extract(Hidden(LINE), Stream(), "body", batch_size=64, mask=KEEP[:30])


def test_batches_of_other_lengths_go_with_lengths_and_not_with_a_mask() -> None:
    rows = [X[i, : (5 if i < 16 else STEPS)] for i in range(32)]
    lengths = LENGTHS[:32].clamp(max=5)
    loader = DataLoader(rows, batch_size=16)  # type: ignore[arg-type]
    net = Hidden(nn.Linear(WIDTH, WIDTH))
    found = extract(net, loader, "body", batch_size=16, lengths=lengths)["body"]
    np.testing.assert_allclose(found, masked_mean(net.body(X[:32]).detach(), lengths), rtol=1e-4, atol=1e-5)
    with pytest.raises(TapError, match="give lengths instead"):
        extract(net, loader, "body", batch_size=16, mask=KEEP[:32, :5])


class TakesAnything(nn.Module):
    """As every forward of transformers: all arguments have defaults, and others are taken and not read."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(
        self, x: Tensor | None = None, attention_mask: Tensor | None = None, scale: float = 1.0, **others: Any
    ) -> Tensor:
        return self.fc(torch.zeros(1, 3) if x is None else x) * scale


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("table",), r"forward \(x, attention_mask, scale\); got 'table', which only \*\*kwargs would take"),
        (("a", "b"), "got 'a', which only"),
        (("x", "attention_maks"), "got 'attention_maks', .* Did you mean 'attention_mask'"),
    ],
)
def test_what_only_kwargs_would_swallow_is_refused(given: tuple[str, ...], message: str) -> None:
    inputs = {name: torch.randn(20, 3) for name in given}
    with pytest.raises(UsageError, match=message):
        extract(TakesAnything(), inputs, ["fc"])
    rows = [{name: values[i] for name, values in inputs.items()} for i in range(20)]
    with pytest.raises(UsageError, match=message):
        extract(TakesAnything(), DataLoader(rows, batch_size=5), ["fc"])


def test_names_beside_those_that_reach_an_argument_are_passed_on() -> None:
    class Net(TakesAnything):
        def forward(self, x: Tensor | None = None, **others: Any) -> Tensor:
            return self.fc(x + others["shift"])

    net, x, shift = Net(), torch.randn(20, 3), torch.randn(20, 3)
    found = extract(net, {"x": x, "shift": shift}, ["fc"])["fc"]
    np.testing.assert_allclose(found, net.fc(x + shift).detach().numpy(), rtol=1e-5, atol=1e-6)
