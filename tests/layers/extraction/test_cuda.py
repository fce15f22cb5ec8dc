"""`extract` and taps on a GPU; without one the transfer is tried on a stand-in that keeps its order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stackfeat.layers.extraction import batch as transfer
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.extraction.placement import choose_device
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.marks import mark
from tests.cuda import on_gpu

X = torch.randn(1000, 20, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(inplace=True))
        self.head = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(mark("hidden", self.body(x) * 2))


def expected() -> np.ndarray:
    net = Net().double().eval()
    with torch.no_grad():
        return (net.body(X.double()) * 2).numpy()


@on_gpu
def test_a_net_on_the_cpu_runs_on_the_gpu_and_is_where_it_was_afterwards() -> None:
    net = Net()
    pointers = [weight.data_ptr() for weight in (*net.parameters(), *net.buffers())]
    state, generator = {name: v.clone() for name, v in net.state_dict().items()}, torch.cuda.get_rng_state()
    seen: list[str] = []
    handle = net.body[0].register_forward_hook(lambda _m, _a, out: seen.append(out.device.type))
    found = extract(net, X, "head:input")["head:input"]
    handle.remove()
    assert set(seen) == {"cuda"}
    np.testing.assert_allclose(found, expected(), rtol=1e-4, atol=1e-5)
    assert [weight.data_ptr() for weight in (*net.parameters(), *net.buffers())] == pointers
    assert all(torch.equal(values, state[name]) for name, values in net.state_dict().items())
    assert torch.equal(torch.cuda.get_rng_state(), generator)


@on_gpu
def test_a_net_on_the_gpu_stays_there_and_the_cpu_can_be_asked_for() -> None:
    net = Net().cuda()
    assert choose_device(net, "auto").type == "cuda"
    for device in ("auto", "cuda", "cuda:0", "cpu"):
        found = extract(net, X, "head:input", device=device)["head:input"]
        np.testing.assert_allclose(found, expected(), rtol=1e-4, atol=1e-5)
        assert {weight.device.type for weight in net.parameters()} == {"cuda"}


@on_gpu
@pytest.mark.parametrize("size", [16, 48, 256, 5000])
def test_copies_ahead_and_behind_lose_no_row(size: int, tmp_path: Path) -> None:
    net = Net()
    whole = extract(net, X, ["head:input", "head"], batch_size=size)
    np.testing.assert_allclose(whole["head:input"], expected(), rtol=1e-4, atol=1e-5)
    for inputs in (X.cuda(), X.numpy(), DataLoader(TensorDataset(X), batch_size=33)):
        for out in (None, tmp_path / f"{size}-{type(inputs).__name__}"):
            found = extract(net, inputs, ["head:input", "head"], batch_size=size, out=out)
            assert all(found[key].tobytes() == whole[key].tobytes() for key in whole)


@on_gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.1), ("autocast", 0.1), ("float32", 1e-4)])
def test_precisions_on_a_gpu(precision: Any, tolerance: float) -> None:
    seen: list[torch.dtype] = []
    net = Net()
    handle = net.head.register_forward_hook(lambda _m, _a, out: seen.append(out.dtype))
    found = extract(net, X, ["head:input", "head"], precision=precision)
    handle.remove()
    assert set(seen) == {torch.float32 if precision == "float32" else torch.bfloat16}
    assert found["head:input"].dtype == np.float32
    np.testing.assert_allclose(found["head:input"], expected(), atol=tolerance)
    assert {weight.dtype for weight in net.parameters()} == {torch.float32}


@on_gpu
def test_float32_is_not_rounded_to_less_whatever_the_user_has_set() -> None:
    wide = nn.Sequential(nn.Linear(2048, 64)).eval()
    x = torch.randn(64, 2048)
    exact = nn.functional.linear(x.double(), wide[0].weight.double(), wide[0].bias.double()).detach()
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        found = extract(wide, x, "0", device="cuda")["0"]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert float((torch.from_numpy(found).double() - exact).abs().max()) < 2e-5


@on_gpu
def test_the_batch_is_halved_when_the_memory_of_the_gpu_runs_out(caplog: pytest.LogCaptureFixture) -> None:
    class Hungry(Net):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 100:
                torch.empty(1 << 46, dtype=torch.uint8, device=x.device)
            return super().forward(x)

    found = extract(Hungry(), X, "head:input", batch_size=512)["head:input"]
    np.testing.assert_allclose(found, expected(), rtol=1e-4, atol=1e-5)
    assert "out of memory: batch_size is now 64" in caplog.text


@on_gpu
def test_a_parallel_net_gives_all_rows_in_order() -> None:
    net = nn.DataParallel(Net().cuda().eval())
    devices = list(net.device_ids)
    with tapped(net, ["body", "hidden#all", "module.head:input"]) as caught:
        net(X.cuda())
    (hidden,) = caught["hidden#all"]
    np.testing.assert_allclose(hidden.cpu(), expected(), rtol=1e-4, atol=1e-5)
    assert torch.equal(caught["module.head:input"], hidden)
    assert torch.equal(caught["body"] * 2, hidden)
    np.testing.assert_allclose(extract(net, X, "head:input")["head:input"], expected(), rtol=1e-4, atol=1e-5)
    assert net.device_ids == devices


@on_gpu
def test_masks_go_to_the_gpu_with_the_rows() -> None:
    net, x = nn.Sequential(nn.Linear(20, 4)), torch.randn(100, 7, 20)
    lengths = torch.randint(1, 8, (100,))
    steps = net(x).detach()
    wanted = torch.stack([row[:n].mean(0) for row, n in zip(steps, lengths, strict=True)])
    for told in ({"lengths": lengths}, {"mask": torch.arange(7)[None] < lengths[:, None]}):
        found = extract(net, x, "0", batch_size=32, **told)["0"]  # type: ignore[arg-type]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_batch_is_on_its_way_before_the_one_before_it_is_computed(pretended_cuda: list[str]) -> None:
    asked = pretended_cuda
    given = [[torch.full((2, 1), float(i))] for i in range(4)]

    def chunks() -> Iterator[list[Tensor]]:
        for i, columns in enumerate(given):
            asked.append(f"read {i}")
            yield columns

    def feed(columns: list[Tensor]) -> Any:
        asked.append(f"copy {int(columns[0][0, 0])}")
        return (columns[0],), {"mask": columns[0]}

    got = []
    for columns, (args, kwargs) in transfer.on_device(chunks(), feed, torch.device("cuda")):
        number = int(args[0][0, 0])
        assert columns[0] is given[number][0]
        assert kwargs["mask"] is args[0]
        got.append(number)
        asked.append(f"compute {number}")
    assert got == [0, 1, 2, 3]
    for i in range(4):
        assert asked.index(f"copy {i}") < asked.index(f"record {i}") < asked.index(f"computing waits for {i}")
        assert asked.index(f"computing waits for {i}") < asked.index(f"compute {i}")
        if i:
            assert asked.index(f"copy {i}") < asked.index(f"compute {i - 1}"), "one ahead"
        if i > 1:
            assert asked.index(f"read {i}") > asked.index(f"compute {i - 2}"), "and no more than one"
    assert asked.count("keep") == 8, "memory is kept for the computing stream, named arguments too"
    assert asked.count("pin") == 4


@pytest.mark.parametrize("n_batches", [0, 1, 2, 5])
def test_rows_are_written_one_batch_behind_and_none_is_lost(
    pretended_cuda: list[str], n_batches: int
) -> None:
    asked = pretended_cuda
    written: list[tuple[str, int, list[float]]] = []
    done: list[int] = []
    outputs = SimpleNamespace(
        write=lambda key, start, rows: written.append((key, start, rows[:, 0].tolist()))
    )

    def note(columns: list[Tensor]) -> None:
        done.append(len(columns[0]))

    delivery = transfer.Delivery(outputs, torch.device("cuda"), 6, note)  # type: ignore[arg-type]
    for i in range(n_batches):
        delivery.begin([torch.zeros(2 if i < n_batches - 1 else 1, 1)])
        rows = torch.full((2, 3), float(i), dtype=torch.bfloat16)
        delivery.take("a", rows)
        rows.fill_(-1)  # what a layer behind the tap may do
        delivery.take("b", torch.full((2, 3), float(10 * i)))
        assert len(done) == max(i - 1, 0), "written only when it has arrived"
        delivery.end()
    delivery.flush()
    delivery.flush()
    sizes = [2] * (n_batches - 1) + [1] * bool(n_batches)
    assert done == sizes
    assert delivery.n_done == 6 + sum(sizes)
    assert written == [
        (key, 6 + 2 * i, [float(factor * i)] * sizes[i])
        for i in range(n_batches)
        for key, factor in (("a", 1), ("b", 10))
    ]
    assert [line for line in asked if line.startswith("wait for")] == [
        f"wait for {i}" for i in range(n_batches)
    ]


def test_rows_are_read_through_pinned_copies_and_are_those_of_the_cpu(pretended_cuda: list[str]) -> None:
    found = extract(Net(), X.numpy(), ["head:input", "head"], batch_size=256, device="cuda")
    n_moved = pretended_cuda.count("pin")
    assert n_moved >= 4 and pretended_cuda.count("pinned buffer") == 2 * 4, "four batches of two taps"
    on_cpu = extract(Net(), X.numpy(), ["head:input", "head"], batch_size=256, device="cpu")
    assert pretended_cuda.count("pin") == n_moved, "nothing is copied for the CPU"
    for key, rows in on_cpu.items():  # matrix products take another path, as they do on a device
        np.testing.assert_allclose(found[key], rows, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("most", "size"), [(100, 64), (300, 256), (16, 16)])
def test_the_batch_is_halved_until_it_fits(
    most: int, size: int, pretended_cuda: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Hungry(Net):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return super().forward(x)

    found = extract(Hungry(), X, "head:input", batch_size=512, device="cuda")["head:input"]
    np.testing.assert_allclose(found, expected(), rtol=1e-4, atol=1e-5)
    assert f"out of memory: batch_size is now {size}" in caplog.text
    assert "empty cache" in pretended_cuda, "what the failed pass held is given back"
