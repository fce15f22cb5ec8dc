"""`extract` against hand-written hooks, for every kind of input; nothing is left behind."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from stackfeat.errors import LayerNotFoundError, TapError, UsageError
from stackfeat.layers.extraction.extract import extract, read_rows
from stackfeat.layers.taps.edits import edited
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.runtime import fast_matmul_is_exact
from stackfeat.layers.taps.tap import Tap


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        nn.Linear(7, 24),
        nn.BatchNorm1d(24),
        nn.ReLU(inplace=True),
        nn.Linear(24, 12),
        nn.ReLU(inplace=True),
    ]
    net = nn.Sequential(*layers, nn.Linear(12, 3))
    nn.init.uniform_(net[1].running_mean)
    return net


def by_hooks(net: nn.Module, layer: str, *args: Tensor, side: str = "output", **kwargs: Tensor) -> np.ndarray:
    """One pass in eval mode with a hook written by hand."""
    kept: list[Tensor] = []
    module = net.get_submodule(layer)
    if side == "input":
        handle = module.register_forward_pre_hook(lambda _m, a: kept.append(a[0].detach().clone()))
    else:
        handle = module.register_forward_hook(lambda _m, _a, out: kept.append(out.detach().clone()))
    modes = [part.training for part in net.modules()]
    net.eval()
    with torch.no_grad():
        net(*args, **kwargs)
    handle.remove()
    for part, mode in zip(net.modules(), modes, strict=True):
        part.training = mode
    return kept[-1].numpy()


X = torch.randn(150, 7, generator=torch.Generator().manual_seed(1))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.left = nn.Linear(4, 5)
        self.right = nn.Linear(3, 5)
        self.head = nn.Linear(10, 2)

    def forward(self, a: Tensor, b: Tensor, scale: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        joined = torch.cat([self.left(a).relu(), self.right(b).tanh()], 1)
        return self.head(joined if scale is None else joined * scale), {"joined": joined}


A = torch.randn(50, 4, generator=torch.Generator().manual_seed(4))
B = torch.randn(50, 3, generator=torch.Generator().manual_seed(5))


class Items(Dataset[Any]):
    def __init__(self, *, named: bool) -> None:
        self.named = named

    def __len__(self) -> int:
        return len(A)

    def __getitem__(self, i: int) -> Any:
        if i >= len(A):
            raise IndexError(i)
        return {"b": B[i], "a": A[i], "target": i} if self.named else (A[i], B[i], i)


def foreign(items: list[Any]) -> tuple[np.ndarray, ...]:
    """Return a batch as arrays of the other byte order, as readers of old formats do."""
    return tuple(np.stack(column).astype(">f4") for column in zip(*items, strict=True))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(list(zip(A, B, range(len(A)), strict=True)))


def test_layers_agree_with_hooks_written_by_hand() -> None:
    net = make_net()
    found = extract(net, X, taps=["0", "2", "5:input", "5"], batch_size=32)
    assert list(found) == ["0", "2", "5:input", "5"]
    for key, (layer, side) in {"0": ("0", "output"), "5:input": ("5", "input"), "5": ("5", "output")}.items():
        np.testing.assert_allclose(found[key], by_hooks(net, layer, X, side=side), rtol=1e-5, atol=1e-6)
        assert found[key].dtype == np.float32
    assert found["2"].min() == 0.0 > found["0"].min()


def test_penultimate_is_the_default() -> None:
    net = make_net()
    (found,) = extract(net, X).items()
    assert found[0] == "5:input"
    np.testing.assert_allclose(found[1], by_hooks(net, "5", X, side="input"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "inputs",
    [
        (A, B),
        (A.numpy(), B.numpy().astype(np.float64)),
        (A.numpy().astype(">f4"), B.numpy().astype(">f8")),
        DataLoader(Items(named=False), batch_size=9, collate_fn=foreign),
        {"b": B, "a": A.numpy()},
        TensorDataset(A, B, torch.arange(50)),
        Items(named=False),
        Items(named=True),
        DataLoader(Items(named=False), batch_size=7),
        DataLoader(Items(named=True), batch_size=13),
        Stream(),
        DataLoader(Stream(), batch_size=11),
    ],
    ids=lambda inputs: type(inputs).__name__,
)
def test_every_kind_of_input_gives_the_same_rows(inputs: Any) -> None:
    net = TwoInputs()
    found = extract(net, inputs, taps=["head", "head:input"], batch_size=16)
    np.testing.assert_allclose(found["head"], by_hooks(net, "head", A, B), rtol=1e-5, atol=1e-6)
    assert found["head:input"].tobytes() == extract(net, (A, B), ["head:input"], 16)["head:input"].tobytes()


def test_files_are_mapped(tmp_path: Path) -> None:
    net = TwoInputs()
    np.savez(tmp_path / "plain.npz", a=A.numpy(), b=B.numpy())
    np.savez_compressed(tmp_path / "small.npz", b=B.numpy(), a=A.numpy())
    np.save(tmp_path / "x.npy", X.numpy())
    expected = by_hooks(net, "head", A, B)
    for name in ("plain.npz", "small.npz"):
        np.testing.assert_allclose(
            extract(net, tmp_path / name, "head")["head"], expected, rtol=1e-5, atol=1e-6
        )
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    plain = extract(make_net(), X, batch_size=16)["5:input"]
    for inputs in (mapped, str(tmp_path / "x.npy")):
        assert extract(make_net(), inputs, batch_size=16)["5:input"].tobytes() == plain.tobytes()


@pytest.mark.parametrize("size", [1, 7, 16, 64, 500])
def test_rows_are_the_same_bits_in_any_order_and_subset(size: int) -> None:
    net = make_net()
    whole = extract(net, X, batch_size=size)["5:input"]
    chosen = torch.randperm(len(X), generator=torch.Generator().manual_seed(6))[:77]
    assert extract(net, X[chosen], batch_size=size)["5:input"].tobytes() == whole[chosen.numpy()].tobytes()


@pytest.mark.skipif(
    not fast_matmul_is_exact(), reason="torch's own kernels for narrow layers depend on a row's place"
)
@pytest.mark.parametrize("n_columns", [3, 7, 50, 61])
@pytest.mark.parametrize("n_hidden", [1, 7, 30])
def test_rows_of_narrow_layers_are_the_same_bits(n_columns: int, n_hidden: int) -> None:
    torch.manual_seed(8)
    net = nn.Sequential(nn.Linear(n_columns, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 5))
    rows = torch.randn(300, n_columns)
    order = torch.randperm(300)
    for size in (16, 64):
        whole = extract(net, rows, taps="0", batch_size=size)["0"]
        assert extract(net, rows[order], taps="0", batch_size=size)["0"].tobytes() == whole[order].tobytes()
        assert extract(net, rows[:77], taps="0", batch_size=size)["0"].tobytes() == whole[:77].tobytes()


def test_nothing_is_left_behind_also_after_an_exception() -> None:
    net = make_net().train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    image = nn.Conv2d(1, 2, 3)
    net.register_module("unused", image)
    del net._modules["unused"]
    state = {name: values.clone() for name, values in net.state_dict().items()}
    pointers = [weight.data_ptr() for weight in net.parameters()]
    modes = [part.training for part in net.modules()]
    torch.manual_seed(9)
    before = torch.get_rng_state()
    matmul = torch.get_float32_matmul_precision()
    for precision in ("float32", "bf16", "autocast"):
        extract(net, X, precision=precision)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        extract(net, X[:5, :4])
    assert [part.training for part in net.modules()] == modes
    assert [weight.data_ptr() for weight in net.parameters()] == pointers
    assert not net[0].weight.requires_grad
    assert all(torch.equal(values, state[name]) for name, values in net.state_dict().items())
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in net.modules())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_float32_matmul_precision() == matmul
    assert torch.is_grad_enabled()


def test_the_net_can_be_trained_afterwards() -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(7, 2)
            self.kept: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.kept is None:
                self.kept = torch.ones(7)
            return self.line(x * self.kept)

    net = Caching()
    extract(net, X, "line")
    net(X).sum().backward()
    assert net.line.weight.grad is not None


def test_inputs_are_never_changed() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(7, 2))
    array = X.numpy().copy()
    found = extract(net, array, ["0", "0:input"], batch_size=16)
    assert array.tobytes() == X.numpy().tobytes()
    assert found["0:input"].tobytes() == array.tobytes()
    assert found["0"].min() == 0.0


def test_the_pass_ends_after_the_last_tap() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.n_calls = torch.zeros(1)
            self.line = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            self.n_calls += 1
            return self.line(x)

    net = nn.Sequential(nn.Linear(7, 4), Counting())
    extract(net, X, "0", batch_size=10)
    calls_in_dry_runs = float(net[1].n_calls)
    net[1].n_calls.zero_()
    extract(net, X, "0", batch_size=10)
    assert float(net[1].n_calls) == 0.0 < calls_in_dry_runs


def test_no_rows_give_empty_arrays() -> None:
    assert extract(make_net(), X[:0])["5:input"].shape == (0, 12)
    assert extract(make_net(), np.zeros((0, 7), np.float32), ["0"])["0"].shape == (0, 24)


def test_one_row_is_enough() -> None:
    net = make_net()
    np.testing.assert_allclose(
        extract(net, X[:1])["5:input"], by_hooks(net, "5", X, side="input")[:1], atol=1e-6
    )


@pytest.mark.parametrize("flatten", ["view", "flatten"])
def test_images_agree_whatever_their_layout(flatten: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 8, 3)
            self.head = nn.Linear(8 * 36, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).relu()
            return self.head(x.view(x.size(0), -1) if flatten == "view" else x.flatten(1))

    net, images = Net(), torch.randn(20, 3, 8, 8)
    strides = net.conv.weight.stride()
    found = extract(net, images, ["conv", "head:input"])
    expected = by_hooks(net, "conv", images)
    np.testing.assert_allclose(found["conv"], expected.mean((2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found["head:input"], np.maximum(expected, 0).reshape(20, -1), rtol=1e-4, atol=1e-5
    )
    assert extract(net, images, "conv", pool="none")["conv"].shape == (20, 8, 6, 6)
    assert net.conv.weight.stride() == strides


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.05), ("autocast", 0.05), ("float32", 1e-5)])
def test_every_precision_gives_float32_near_the_truth(precision: Any, tolerance: float) -> None:
    net = make_net()
    found = extract(net, X, "5:input", precision=precision)["5:input"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hooks(net, "5", X, side="input"), atol=tolerance)


def test_half_and_double_nets_get_inputs_of_their_kind() -> None:
    for kind in (torch.float64, torch.bfloat16):
        found = extract(make_net().to(kind), X, "5:input")["5:input"]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, by_hooks(make_net(), "5", X, side="input"), atol=0.05)


def test_rows_that_influence_each_other_are_refused() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 1)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.attention(x, x, x)[0].mean(1))

    with pytest.raises(TapError, match=r"rows influence each other.*batch_first"):
        extract(Attention(), torch.randn(8, 3, 4))


def test_a_changed_net_is_examined_anew() -> None:
    net = nn.Sequential(nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 2))
    assert extract(net, X)["2:input"].shape == (150, 4)
    net[2] = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    assert extract(net, X)["2.1:input"].shape == (150, 6)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_the_batch_is_halved_when_memory_runs_out(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    class Hungry(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(7, 3)
            self.sizes: list[int] = []

        def forward(self, x: Tensor) -> Tensor:
            self.sizes.append(len(x))
            if len(x) > 20:
                raise error
            return self.line(x)

    net = Hungry()
    found = extract(net, X, "line", batch_size=64)["line"]
    np.testing.assert_allclose(found, by_hooks(net.line, "", X), rtol=1e-5, atol=1e-6)
    assert {64, 32, 16} <= set(net.sizes)
    assert "out of memory: batch_size is now 16" in caplog.text


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((A, B[:3]), "equally many rows"),
        ({"a": A, "bb": B}, r"got 'bb'\. Did you mean 'b'\?"),
        ([1, 2, 3], "arrays or tensors of numbers"),
        (DataLoader(Items(named=False), shuffle=True), "shuffle=False"),
        (DataLoader(Items(named=False), batch_size=7, drop_last=True), "drop_last=False"),
        ("rows.txt", r"\.npy or \.npz"),
    ],
)
def test_inputs_that_make_no_sense_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        extract(TwoInputs(), inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"precision": "half"}, "precision must be one of"),
        ({"device": "gpu"}, "device must be one of"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        extract(make_net(), X, **options)


def test_a_layer_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(LayerNotFoundError, match="left"):
        extract(TwoInputs(), (A, B), "lefft")


class Given(nn.Module):
    """Passes what `make` makes of its rows through a layer that is tapped."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make, self.layer, self.head = make, nn.Identity(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.layer(self.make(x))
        return self.head(x)


def spectrum(x: Tensor) -> Tensor:
    return torch.complex(x, 2 * x + 1)


COMPLEX = {
    "columns": (spectrum, "auto", lambda x: np.hstack([x, 2 * x + 1])),
    "one column": (lambda x: spectrum(x)[:, 0], "auto", lambda x: np.stack([x[:, 0], 2 * x[:, 0] + 1], 1)),
    "half": (lambda x: spectrum(x).to(torch.complex32), "auto", lambda x: np.hstack([x, 2 * x + 1])),
    "double": (lambda x: spectrum(x).to(torch.complex128), "auto", lambda x: np.hstack([x, 2 * x + 1])),
    "sequence": (lambda x: spectrum(x)[:, None].repeat(1, 3, 1), "mean", lambda x: np.hstack([x, 2 * x + 1])),
    "largest": (
        lambda x: torch.stack([spectrum(x), spectrum(-x)], 1),
        "max",
        lambda x: np.hstack([np.maximum(x, -x), np.maximum(2 * x + 1, 1 - 2 * x)]),
    ),
    "maps": (
        lambda x: spectrum(x)[:, :, None, None].repeat(1, 1, 2, 2),
        "auto",
        lambda x: np.hstack([x, 2 * x + 1]),
    ),
    "flat": (
        lambda x: spectrum(x).reshape(-1, 2, 2),
        "flatten",
        lambda x: np.hstack([x, 2 * x + 1]),
    ),
    "shape": (
        lambda x: spectrum(x)[:, None],
        "none",
        lambda x: np.hstack([x, 2 * x + 1])[:, None],
    ),
    "steps first": (
        lambda x: spectrum(x)[None].repeat(3, 1, 1),
        "mean",
        lambda x: np.hstack([x, 2 * x + 1]),
    ),
}


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@pytest.mark.parametrize("name", COMPLEX)
def test_complex_values_give_real_and_imaginary_columns(name: str, tmp_path: Path) -> None:
    make, pool, truth = COMPLEX[name]
    x = torch.randn(20, 4)
    tolerance = 5e-3 if name == "half" else 1e-5
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*discards the imaginary part")
        for out in (None, tmp_path / "out"):
            got = extract(Given(make), x, "layer", pool=pool, out=out)["layer"]
            assert got.dtype == np.float32
            assert got == pytest.approx(truth(x.numpy()), abs=tolerance, rel=tolerance)
        read = read_rows(Given(make), [x], {"a": Tap("layer")}, device=torch.device("cpu"))[1]["a"]
        assert read.shape == (20, {"one column": 2, "flat": 4}.get(name, 8))
        net = Given(make)
        with tapped(net, "layer") as caught:
            net(x)
        assert torch.equal(torch.view_as_real(caught["layer"]), torch.view_as_real(make(x)))


KINDS = {
    "booleans": (lambda x: x > 0, lambda x: x > 0),
    "bytes": (lambda x: (x.abs() * 50).to(torch.uint8), lambda x: (np.abs(x) * 50).astype(np.uint8)),
    "ids": (lambda x: (x * 1000).long() + 2**23, lambda x: (x * 1000).astype(np.int64) + 2**23),
    "doubles": (lambda x: x.double() * 1e30, lambda x: x.astype(np.float64) * 1e30),
    "halves": (lambda x: x.bfloat16(), lambda x: torch.from_numpy(x).bfloat16().float().numpy()),
    "quantised": (
        lambda x: torch.quantize_per_tensor(x.clamp(-3, 3).round(), 1.0, 0, torch.qint8),
        lambda x: np.round(np.clip(x, -3, 3)),
    ),
    "sparse": (lambda x: x.relu().to_sparse(), lambda x: np.maximum(x, 0)),
    "sparse rows": (lambda x: x.relu().to_sparse_csr(), lambda x: np.maximum(x, 0)),
    "nested": (
        lambda x: torch.nested.nested_tensor([row.repeat(1 + int(row[0] > 0), 1) for row in x]),
        lambda x: x,
    ),
    "jagged": (
        lambda x: torch.nested.nested_tensor(
            [row.repeat(1 + int(row[0] > 0), 1) for row in x], layout=torch.jagged
        ),
        lambda x: x,
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_number_arrives_as_it_was(name: str, tmp_path: Path) -> None:
    make, truth = KINDS[name]
    x = torch.randn(20, 4)
    for out in (None, tmp_path):
        got = extract(Given(make), x, "layer", out=out)["layer"]
        assert got.dtype == np.float32
        assert np.asarray(got) == pytest.approx(truth(x.numpy()).astype(np.float32), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: x.long() + 2**30, r"whole numbers at tap 'layer'.*beyond 2\*\*24"),
        (lambda x: (x * 1e9).int(), r"whole numbers at tap 'layer'.*keeps their kind"),
        (lambda x: x.double() * 1e200, "values at tap 'layer' must fit into float32.*infinite"),
        (
            lambda x: torch.nested.nested_tensor([torch.ones(2, 1 + int(row[0] > 0), 4) * row for row in x]),
            "rows at tap 'layer' must differ in their length alone",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_would_be_lost_on_the_way_is_refused(make: Any, message: str, tmp_path: Path) -> None:
    x = torch.randn(20, 4)
    for options in ({}, {"out": tmp_path}):
        with pytest.raises(TapError, match=message):
            extract(Given(make), x, "layer", **options)
    with pytest.raises(TapError, match=message):
        read_rows(Given(make), [x], {"layer": Tap("layer")}, device=torch.device("cpu"))
    net = Given(make)
    with tapped(net, "layer") as caught:
        net(x)
    assert caught["layer"].dtype == make(x).dtype


class Repeated(nn.Module):
    """One layer that runs three times, each time on values of another shape."""

    def __init__(self, first: nn.Module, second: nn.Module, before: Any = None, after: Any = None) -> None:
        super().__init__()
        self.first, self.second, self.shared = first, second, nn.Dropout(0.1)
        self.before, self.after = before or nn.Identity(), after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.first(self.shared(self.before(x))))
        return self.shared(self.second(self.after(x)))


@pytest.mark.parametrize("pool", ["none", "mean", "auto"])
@pytest.mark.parametrize("batch_size", [16, 7, "auto"])
def test_a_layer_that_runs_on_several_shapes_is_read_at_its_last_call(pool: str, batch_size: Any) -> None:
    torch.manual_seed(0)
    table, steps, images = torch.randn(40, 4), torch.randn(40, 5, 4), torch.randn(40, 3, 8, 8)
    nets = [
        (Repeated(nn.Linear(4, 8), nn.Linear(8, 3)), table),
        (Repeated(nn.Linear(4, 8), nn.Linear(8, 3)), steps),
        (Repeated(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 3, stride=2)), images),
        # Steps folded into the batch at first, images at last a vector.
        (Repeated(nn.Linear(4, 8), nn.Linear(40, 3), nn.Flatten(0, 1), Unfolded(5)), steps),
        (Repeated(nn.Conv2d(3, 6, 3), nn.Linear(216, 2), after=nn.Flatten()), images),
    ]
    for net, x in nets:
        expected = net.eval()(x).detach()
        if pool != "none" and expected.ndim == 3:
            expected = expected.mean(1)
        if pool != "none" and expected.ndim == 4:
            expected = expected.mean((2, 3))
        found = extract(net, x, "shared", pool=pool, batch_size=batch_size)["shared"]
        torch.testing.assert_close(torch.from_numpy(found), expected)


class Unfolded(nn.Module):
    """Puts the steps of a sample side by side."""

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        self.n_steps = n_steps

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.n_steps * x.shape[1])


FLIPPED_THEN_KEPT = [
    (lambda v: v.flip(0), lambda v: v, None),
    (lambda v: v - v.mean(0), lambda v: v * 2, None),
    (lambda v: v, lambda v: v.flip(0), "another order"),
    (lambda v: v, lambda v: v + v.sum(0), "must not depend on other rows"),
]


@pytest.mark.parametrize(("first", "second", "message"), FLIPPED_THEN_KEPT)
@pytest.mark.parametrize("by_hand", [False, True])
def test_each_edit_is_examined_anew(first: Any, second: Any, message: str | None, by_hand: bool) -> None:
    net = make_net()

    def read(change: Any) -> np.ndarray:
        if by_hand:
            handle = net[0].register_forward_hook(lambda _m, _a, out: change(out))
            try:
                return extract(net, X, "3")["3"]
            finally:
                handle.remove()
        with edited(net, {"0": change}):
            return extract(net, X, "3")["3"]

    if message is None:
        with pytest.raises(TapError):
            read(first)
        with edited(net, {"0": second}):
            expected = by_hooks(net, "3", X)
        np.testing.assert_allclose(read(second), expected, rtol=1e-4, atol=1e-5)
        return
    read(first)
    with pytest.raises(TapError, match=message):
        read(second)


def test_an_edit_that_changes_the_width_is_examined_anew() -> None:
    net = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Flatten()).eval()
    for change, width in ((lambda v: v, 6), (lambda v: v[:, :3], 3), (lambda v: v.repeat(1, 2), 12)):
        with edited(net, {"0": change}):
            assert extract(net, X, "1")["1"].shape == (150, width)


def test_a_tap_behind_a_selection_of_rows_is_refused_at_any_batch_size() -> None:
    class Selecting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(7, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden: Tensor = self.a(x)
            return self.b(hidden[hidden[:, 0].topk((len(x) + 1) // 2).indices])

    net = Selecting().eval()
    assert extract(net, X, "a", batch_size=1)["a"].shape == (150, 5)
    for size in (1, 50):
        with pytest.raises(TapError, match="must have a row per sample"):
            extract(net, X, "b", batch_size=size)


def test_a_head_with_weights_in_the_order_of_a_fast_layer_is_still_the_head() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(4, 5, batch_first=True, bidirectional=True)
            self.head = nn.Linear(10, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            _, state = self.gru(x)
            return self.head(torch.cat([state[0], state[1]], dim=1))

    net, steps = Steps().eval(), torch.randn(21, 5, 4)
    with torch.no_grad():
        _, state = net.gru(steps)
    found = extract(net, steps, "penultimate")["head:input"]
    np.testing.assert_allclose(found, torch.cat([state[0], state[1]], 1).numpy(), atol=1e-5)
