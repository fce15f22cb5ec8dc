"""Files of `extract`: the same bytes as in memory, after a kill too; a full disk is an error."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stackfeat.errors import DataWarning, StoreError, UsageError
from stackfeat.layers.activations.probe import PROBE_ROWS
from stackfeat.layers.extraction import files as extract_files
from stackfeat.layers.extraction import resume as extract_resume
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.extraction.resume import RowSample
from stackfeat.structure import structured

ROOT = Path(__file__).resolve().parents[3]
X = torch.randn(500, 6, generator=torch.Generator().manual_seed(1))


class Counting(nn.Module):
    def __init__(self, stop_at: int = 10**9) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(6, 9)
        self.head = nn.Linear(9, 2)
        self.stop_at = stop_at
        self.n_rows = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.n_rows > self.stop_at:
            raise KeyboardInterrupt
        self.n_rows += len(x)
        return self.head(self.line(x))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_resume, "CHUNK_BYTES", 1000)


def test_files_hold_the_bytes_of_memory(tmp_path: Path) -> None:
    expected = extract(Counting(), X, ["line", "head:input"], batch_size=16)
    found = extract(Counting(), X, ["line", "head:input"], batch_size=16, out=tmp_path / "new" / "folder")
    for key, values in expected.items():
        assert isinstance(found[key], np.memmap)
        assert found[key].tobytes() == values.tobytes()
    names = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert names == ["extraction.json", "head%3Ainput.npy", "line.npy"]
    assert np.load(tmp_path / "new" / "folder" / "line.npy").tobytes() == expected["line"].tobytes()


def test_a_stream_of_unknown_length_is_written_too(tmp_path: Path) -> None:
    class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(X)

    expected = extract(Counting(), X, "line", batch_size=16)["line"]
    for out in (None, tmp_path):
        assert (
            extract(Counting(), Stream(), "line", batch_size=16, out=out)["line"].tobytes()
            == expected.tobytes()
        )


def test_no_rows_give_a_file_without_rows(tmp_path: Path) -> None:
    assert extract(Counting(), X[:0], "line", out=tmp_path)["line"].shape == (0, 9)
    assert np.load(tmp_path / "line.npy").shape == (0, 9)


@pytest.mark.parametrize("as_loader", [False, True])
def test_an_interrupted_call_goes_on_with_the_same_bytes(tmp_path: Path, as_loader: bool) -> None:
    inputs = DataLoader(TensorDataset(X), batch_size=7) if as_loader else X
    net = Counting(stop_at=300)
    with pytest.raises(KeyboardInterrupt):
        extract(net, inputs, "line", batch_size=16, out=tmp_path)
    assert not (tmp_path / "line.npy").exists()
    done = json.loads((tmp_path / "extraction.json").read_text("utf-8"))["n_done"]
    assert 200 < done < 320
    net.stop_at, net.n_rows = 10**9, 0
    found = extract(Counting(), inputs, "line", batch_size=16, out=tmp_path)["line"]
    assert found.tobytes() == extract(Counting(), X, "line", batch_size=16)["line"].tobytes()


def test_only_the_missing_rows_are_computed(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract(Counting(stop_at=300), X, "line", batch_size=16, out=tmp_path)
    net = Counting()
    extract(net, X, "line", batch_size=16, out=tmp_path)
    assert net.n_rows < 300
    net.n_rows = 0
    extract(net, X, "line", batch_size=16, out=tmp_path)
    assert net.n_rows < 20, "a finished folder is opened, not computed"


@pytest.mark.parametrize("what", ["rows", "weights", "batch_size", "reboot", "record", "file"])
def test_what_does_not_agree_starts_anew_and_says_so(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        extract(Counting(stop_at=300), X, "line", batch_size=16, out=tmp_path)
    net, rows, size = Counting(), X.clone(), 16
    if what == "rows":
        rows[100, 0] += 1
    if what == "weights":
        nn.init.ones_(net.line.bias)
    if what == "batch_size":
        size = 32
    if what == "reboot":
        monkeypatch.setattr(extract_resume, "boot_id", lambda: "another")
    if what == "record":
        (tmp_path / "extraction.json").write_text("{", "utf-8")
    if what == "file":
        (tmp_path / "line.npy.part").unlink()
    if what == "reboot":
        found = extract(net, rows, "line", batch_size=size, out=tmp_path)["line"]
    else:
        with pytest.warns(DataWarning, match="starts from the first row"):
            found = extract(net, rows, "line", batch_size=size, out=tmp_path)["line"]
    assert found.tobytes() == extract(net, rows, "line", batch_size=size)["line"].tobytes()


KILLED = """
import sys, time, torch
from torch import nn
from stackfeat.layers.extraction import resume as extract_resume
from stackfeat.layers.extraction.extract import extract
extract_resume.CHUNK_BYTES = 1000
torch.manual_seed(0)
class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(6, 9)
        self.n_calls = 0
    def forward(self, x):
        self.n_calls += 1
        while sys.argv[2] == "hang" and self.n_calls > 60:
            time.sleep(1)
        return self.line(x)
x = torch.randn(2000, 6, generator=torch.Generator().manual_seed(1))
extract(Slow(), x, "line", batch_size=16, out=sys.argv[1])
"""


def test_a_killed_process_leaves_what_the_next_one_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(folder: str, how: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / folder), how], env=environment)

    killed, record = start("killed", "hang"), tmp_path / "killed" / "extraction.json"
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if record.exists() and json.loads(record.read_text("utf-8"))["n_done"] > 300:
            break
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 300 < json.loads(record.read_text("utf-8"))["n_done"] < 2000
    assert start("killed", "go").wait() == 0
    monkeypatch.setattr("stackfeat.layers.extraction.resume.CHUNK_BYTES", 1000)
    monkeypatch.setattr(sys, "argv", ["-c", str(tmp_path / "whole"), "go"])
    exec(KILLED, {})
    assert (tmp_path / "killed/line.npy").read_bytes() == (tmp_path / "whole/line.npy").read_bytes()


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_full_disk_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(extract_files.os, call, full)
    with pytest.raises(StoreError, match=r"bytes wanted.*No space left.*free disk space") as caught:
        extract(Counting(), X, "line", out=tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "line.npy").exists()
    monkeypatch.undo()
    assert extract(Counting(), X, "line", out=tmp_path)["line"].shape == (500, 9)


def test_out_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="must be a folder"):
        extract(Counting(), X, out=tmp_path / "file")


MEASURED = """
import os, resource, sys
import numpy as np, torch
from torch import nn
from stackfeat.layers.extraction.extract import extract
n, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
net = nn.Sequential(nn.Linear(100, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
extract(net, torch.randn(100, 100))
idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
x = np.load(folder + "/x.npy", mmap_mode="r")
extract(net, x, out=folder)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle) / 1024)
"""


def peak_megabytes(n_rows: int, folder: Path) -> float:
    rows = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.float32, shape=(n_rows, 100))
    generator = np.random.default_rng(0)
    for start in range(0, n_rows, 50_000):
        part = rows[start : start + 50_000]
        part[:] = generator.standard_normal(part.shape, dtype=np.float32)
    rows.flush()
    del rows
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(n_rows), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    assert peak_megabytes(100_000, tmp_path) < 80  # the files have 40 and 102 MB


@pytest.mark.slow
def test_a_million_rows_need_little_memory(tmp_path: Path) -> None:
    assert peak_megabytes(1_000_000, tmp_path) < 150  # the files have 400 and 1,024 MB


class Items(torch.utils.data.Dataset[Tensor]):
    """Rows made one by one; `asked` tells which."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Tensor:
        self.asked.append(i)
        return self.rows[i]


class Drawing(torch.utils.data.Sampler[int]):
    """A sampler of one's own, which nothing can tell from one that keeps the order."""

    n_passes = 0

    def __iter__(self) -> Iterator[int]:
        Drawing.n_passes += 1
        return iter(np.random.default_rng(Drawing.n_passes).permutation(len(X)).tolist())

    def __len__(self) -> int:
        return len(X)


def interrupted(inputs: object, folder: Path) -> int:
    """Stop in the middle; return the number of rows done."""
    with pytest.raises(KeyboardInterrupt):
        extract(Counting(stop_at=300), inputs, "line", batch_size=16, out=folder)
    return int(json.loads((folder / "extraction.json").read_text("utf-8"))["n_done"])


@pytest.mark.parametrize("row", [20, 150, 299])
def test_one_other_row_of_a_loader_starts_anew(tmp_path: Path, row: int) -> None:
    """Behind the first rows too: the loader is read again from its start in any case."""
    n_done = interrupted(DataLoader(TensorDataset(X), batch_size=7), tmp_path)
    assert n_done > 250
    other = X.clone()
    other[min(row, n_done - 1), 3] += 1e-3
    with pytest.warns(DataWarning, match="input rows changed"):
        found = extract(
            Counting(), DataLoader(TensorDataset(other), batch_size=7), "line", batch_size=16, out=tmp_path
        )
    assert found["line"].tobytes() == extract(Counting(), other, "line", batch_size=16)["line"].tobytes()


def test_a_loader_that_draws_starts_anew(tmp_path: Path) -> None:
    interrupted(DataLoader(TensorDataset(X), sampler=Drawing()), tmp_path)
    with pytest.warns(DataWarning, match="shuffled or augmented"):
        found = extract(
            Counting(), DataLoader(TensorDataset(X), sampler=Drawing()), "line", batch_size=16, out=tmp_path
        )["line"]
    # Rows in the order of one pass: none is missing, none is there twice.
    order = np.random.default_rng(Drawing.n_passes).permutation(len(X))
    expected = extract(Counting(), X, "line", batch_size=16)["line"]
    np.testing.assert_allclose(found, expected[order], rtol=1e-5, atol=1e-6)


def test_a_loader_is_read_once_to_compare_and_to_go_on(tmp_path: Path) -> None:
    n_done = interrupted(DataLoader(TensorDataset(X), batch_size=7), tmp_path)
    items, net = Items(X), Counting()
    found = extract(net, DataLoader(items, batch_size=9), "line", batch_size=16, out=tmp_path)["line"]
    assert items.asked == [*range(9), *range(len(X))], "the first batch says what the rows look like"
    assert net.n_rows < len(X) - n_done + 50
    assert found.tobytes() == extract(Counting(), X, "line", batch_size=16)["line"].tobytes()


def test_of_a_dataset_a_sample_is_compared(tmp_path: Path) -> None:
    n_done = interrupted(Items(X), tmp_path)
    items, net = Items(X), Counting()
    found = extract(net, items, "line", batch_size=16, out=tmp_path)["line"]
    assert found.tobytes() == extract(Counting(), X, "line", batch_size=16)["line"].tobytes()
    assert 64 <= sum(i < n_done for i in items.asked) <= 130
    later = Counter(i for i in items.asked if i >= n_done)
    assert sorted(later) == list(range(n_done, len(X)))
    assert later.total() <= len(later) + PROBE_ROWS  # those that show what the net does with rows
    assert net.n_rows < len(X) - n_done + 50


def test_other_rows_of_a_dataset_start_anew(tmp_path: Path) -> None:
    interrupted(Items(X), tmp_path)
    other = X.clone()
    other[100:108] += 1
    with pytest.warns(DataWarning, match="input rows changed"):
        found = extract(Counting(), Items(other), "line", batch_size=16, out=tmp_path)["line"]
    assert found.tobytes() == extract(Counting(), other, "line", batch_size=16)["line"].tobytes()


def test_finished_files_of_a_loader_are_opened_if_its_rows_are_the_same(tmp_path: Path) -> None:
    def loader(rows: Tensor) -> DataLoader[Any]:
        return DataLoader(TensorDataset(rows), batch_size=7)

    first = extract(Counting(), loader(X), "line", batch_size=16, out=tmp_path)["line"].tobytes()
    net = Counting()
    assert extract(net, loader(X), "line", batch_size=16, out=tmp_path)["line"].tobytes() == first
    assert net.n_rows < 5 * PROBE_ROWS  # no more than the dry run
    other = X.clone()
    other[450] += 1
    with pytest.warns(DataWarning, match="input rows changed"):
        changed = extract(Counting(), loader(other), "line", batch_size=16, out=tmp_path)["line"]
    assert changed.tobytes() == extract(Counting(), other, "line", batch_size=16)["line"].tobytes()


@given(st.lists(st.integers(1, 70), min_size=1, max_size=12))
def test_the_sample_does_not_depend_on_chunks_and_stays_small(sizes: list[int]) -> None:
    rows = torch.arange(2.0 * sum(sizes)).reshape(-1, 2)
    whole, cut, start = RowSample(), RowSample(), 0
    whole.add(0, [rows])
    for size in sizes:
        cut.add(start, [rows[start : start + size]])
        start += size
    assert cut == whole == structured(RowSample, json.loads(json.dumps(asdict(cut))), "the sample")
    assert cut.rows == list(range(0, len(rows), cut.stride))
    assert len(cut.rows) <= 128
    assert cut.stride == 1 or len(cut.rows) > 64
    assert cut.agrees([rows[cut.rows]])
    rows[cut.rows[-1], 1] += 1
    assert not cut.agrees([rows[cut.rows]])


@pytest.mark.parametrize("name", ["line.npy", "line.npy.part"])
def test_a_file_of_the_users_own_is_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(UsageError, match="which no extraction has written; choose another folder"):
        extract(Counting(), X, "line", batch_size=16, out=tmp_path)
    assert (tmp_path / name).read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_files_of_earlier_taps_stay_ours(tmp_path: Path) -> None:
    first = extract(Counting(), X, "line", batch_size=16, out=tmp_path)["line"].tobytes()
    extract(Counting(), X, "head:input", batch_size=16, out=tmp_path)
    with pytest.warns(DataWarning, match="changed since"):
        assert extract(Counting(), X, "line", batch_size=16, out=tmp_path)["line"].tobytes() == first


@pytest.mark.filterwarnings("ignore::stackfeat.errors.DataWarning")
@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("recipe"),
        lambda state: state.update(recipe={}),
        lambda state: state.update(recipe={"keys": [3]}),
        lambda state: state.update(sample={"stride": 0, "sums": {"x": 1}}),
        lambda state: state.update(n_done="500"),
        lambda state: state.update(checksums=None),
        lambda state: state.update(written=[["../x"]]),
    ],
)
def test_a_record_of_another_structure_starts_anew(change: Any, tmp_path: Path) -> None:
    expected = extract(Counting(), X, ["line"], batch_size=16, out=tmp_path)["line"].tobytes()
    path = tmp_path / extract_resume.RECORD
    state = json.loads(path.read_bytes())
    change(state)
    path.write_text(json.dumps(state))
    assert extract(Counting(), X, ["line"], batch_size=16, out=tmp_path)["line"].tobytes() == expected
