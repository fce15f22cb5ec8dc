"""Inputs on disk: read batch by batch, with the results of inputs in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stackfeat.errors import MemberError
from stackfeat.layers.extraction.inputs import LazyColumn, is_lazy, select
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.batches import Rows, batches
from stackfeat.nets.training.fit import TrainingSet, fit_net, untrained_net
from stackfeat.nets.training.loop import Training
from stackfeat.tasks.task import Task

THREE = Task("multiclass", ("a", "b", "c"))
SHAPE = (3, 8, 6)


class Files:
    """Knows shape, dtype and length, and reads rows by number; nothing else."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.asked: list[int] = []
        self.threads: set[str] = set()

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        assert isinstance(rows, np.ndarray) and rows.dtype == np.int64
        self.asked.append(len(rows))
        self.threads.add(threading.current_thread().name)
        return self.values[rows]


def make_images(n_rows: int = 150) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n_rows)
    return (rng.normal(size=(n_rows, *SHAPE)) + y[:, None, None, None]).astype(np.float32), y


def conv(n_outputs: int) -> nn.Module:
    layers = [
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, n_outputs),
    ]
    return nn.Sequential(*layers)


def fit(x: Any, y: np.ndarray, **options: Any) -> FittedNet:
    given = TrainOptions(**{"epochs": 3, "batch_size": 32, **options})
    inner = None if given.patience is None else (np.arange(100), np.arange(100, 150))
    spec = NetSpec(conv, {}, 0, 3)
    return fit_net(spec, TrainingSet((x,), y, 1), Training(given, THREE, "cross_entropy", inner=inner))


@pytest.mark.parametrize("options", [{}, {"patience": 2}, {"mixup": 0.2, "cutmix": 1.0}], ids=str)
def test_lazy_inputs_give_the_bytes_of_inputs_in_memory(options: dict[str, Any], tmp_path: Path) -> None:
    x, y = make_images()
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, x.shape)
    mapped[:] = x
    whole = fit(x, y, **options)
    for lazy in (mapped, Files(x)):
        net = fit(lazy, y, **options)
        assert net.state_bytes() == whole.state_bytes()
        assert net.predict((lazy,)).tobytes() == whole.predict((x,)).tobytes()
        taps = {"a": "penultimate"}
        assert net.embed((lazy,), taps)["a"].tobytes() == whole.embed((x,), taps)["a"].tobytes()


def test_no_more_than_a_few_batches_are_read_at_once_by_one_thread_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stackfeat.nets.training.batches.CHUNK_BYTES", {"cpu": 32 * 4 * int(np.prod(SHAPE))})
    x, y = make_images()
    files = Files(x)
    fit(files, y)
    assert max(files.asked) <= 32
    assert sum(files.asked) >= 3 * 150
    names = {name for name in files.threads if name.startswith("stackfeat-rows")}
    assert names, "training reads ahead"
    assert not any(thread.name.startswith("stackfeat-rows") for thread in threading.enumerate())


def test_an_error_of_the_reader_reaches_the_user_and_ends_its_thread() -> None:
    class Broken(Files):
        def __getitem__(self, rows: np.ndarray) -> np.ndarray:
            if len(self.asked) > 8:
                raise MemberError("image 7 cannot be read")
            return super().__getitem__(rows)

    x, y = make_images()
    with pytest.raises(MemberError, match="image 7 cannot be read"):
        fit(Broken(x), y, epochs=50)
    assert not any(thread.name.startswith("stackfeat-rows") for thread in threading.enumerate())


def test_batches_of_lazy_and_plain_columns_side_by_side() -> None:
    x, y = make_images()
    table = torch.arange(150.0)[:, None]
    rows = Rows((LazyColumn(Files(x), np.arange(0, 150, 2)), table[::2]), torch.from_numpy(y[::2]))
    order = torch.randperm(75)
    seen = list(batches(rows, order, 16))
    assert [len(batch) for batch in seen] == [16, 16, 16, 16, 11]
    numbers = torch.cat([batch.tensors[1] for batch in seen])[:, 0].long()
    assert torch.equal(numbers, order * 2)
    np.testing.assert_array_equal(torch.cat([batch.tensors[0] for batch in seen]).numpy(), x[numbers.numpy()])


def test_columns_are_chosen_without_reading_and_bytes_become_numbers() -> None:
    files = Files(np.arange(40, dtype=np.uint8).reshape(10, 4))
    column = select(select(files, np.array([9, 8, 3])), np.array([0, 2]))
    assert len(column) == 2 and files.asked == []
    assert column[:1].tolist() == [[36, 37, 38, 39]]
    assert column[torch.tensor([1])].dtype == torch.int64
    assert is_lazy(files) and not is_lazy(np.zeros(3)) and not is_lazy(torch.zeros(3)) and not is_lazy([1])


def test_an_untrained_net_reads_a_few_rows() -> None:
    x, _ = make_images()
    files = Files(x)
    untrained_net(NetSpec(conv, {}, 0, 3), (files,), task=THREE, seed=0)
    assert sum(files.asked) <= 64


SCRIPT = """
import resource, sys, numpy as np, torch
from torch import nn
from stackfeat.nets.build import NetSpec
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.options import TrainOptions
from stackfeat.tasks.task import Task

class Made:
    shape, dtype = (int(sys.argv[1]), 1, 28, 28), np.dtype("float32")
    def __len__(self): return self.shape[0]
    def __getitem__(self, rows):
        return np.broadcast_to((rows % 7).astype("float32")[:, None, None, None], (len(rows), 1, 28, 28)).copy()

class Pictures(Made):
    def __getitem__(self, rows):
        pixels = np.load(sys.argv[2], mmap_mode="r")  # opened anew: pages read are not held
        return pixels[rows].astype("float32")[:, None] / 255

def net(n_outputs):
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(49, n_outputs))

x = Pictures() if len(sys.argv) > 2 else Made()
training = Training(TrainOptions(epochs=1), Task("binary", ("a", "b")), "cross_entropy")
fitted = fit_net(NetSpec(net, {}, 0, 2), TrainingSet((x,), np.arange(len(x)) % 2, 0), training)
fitted.predict((x,))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(*arguments: object) -> int:
    """Largest resident memory of a process that trains and predicts, in MB."""
    run = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return int(subprocess.run(run, capture_output=True, text=True, env=environment, check=True).stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows() -> None:
    small, large = peak(2_000), peak(200_000)  # 6 MB and 627 MB of images
    assert large - small < 40, f"{small} MB, {large} MB"


@pytest.mark.slow
@pytest.mark.data
def test_memory_does_not_grow_with_the_pictures_of_fashion_mnist(tmp_path: Path) -> None:
    source = Path(__file__).parents[4] / "shared/data/fashion_mnist/data.npz"
    if not source.is_file():
        pytest.skip("the real data sets are not beside the checkout")
    with np.load(source) as archive:
        np.save(tmp_path / "x.npy", archive["X"][:60_000])
    small, large = peak(6_000, tmp_path / "x.npy"), peak(60_000, tmp_path / "x.npy")  # 188 MB as float32
    assert large - small < 40, f"{small} MB, {large} MB"
