"""Hostile data files and checkpoints: arrays, archives, weights, pictures; nothing in them runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.files.array_files import ArchiveFile, Npy
from stackfeat.data.files.images import read_images
from stackfeat.data.options import InputOptions
from stackfeat.data.schema.prediction_file import read_predictions
from stackfeat.errors import StackfeatError
from stackfeat.nets.weights import find_state, parse_checkpoint
from stackfeat.tasks.task import Task

HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }"


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


class Bomb:
    """Runs Python when it is unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return exec, (self.code,)


def objects(bird: Any) -> bytes:
    data = io.BytesIO()
    np.save(data, np.array([Bomb(bird.python)], dtype=object), allow_pickle=True)
    return data.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return data.getvalue()


NPY: dict[str, Callable[[Any], bytes]] = {
    "objects": objects,
    "a pickle": lambda bird: pickle.dumps(Bomb(bird.python)),
    "a million million rows": lambda bird: npy(HUGE),
    "a header that is code": lambda bird: npy(f"{{'descr': exec({bird.python!r}), 'shape': (1,)}}"),
    "a header that is deep": lambda bird: npy("(" * 60_000),
    "fields of objects": lambda bird: npy(
        "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }", pickle.dumps(Bomb(bird.python))
    ),
    "nothing": lambda bird: b"",
    "a zip file of pickles": lambda bird: zipped({"a.npy": objects(bird)}),
}


@pytest.mark.parametrize("name", NPY)
def test_a_hostile_npy_file_is_one_line(name: str, tmp_path: Path, canary: Any) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(NPY[name](canary))
    with pytest.raises(StackfeatError) as caught:
        np.asarray(Npy().array(path, "", "data.inputs.image.array", mapped=None))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("name", [name for name in NPY if "zip" not in name])
def test_a_hostile_array_of_a_npz_file_is_one_line(
    name: str, mapped: bool, tmp_path: Path, canary: Any
) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(zipped({"X.npy": NPY[name](canary)}))
    with pytest.raises(StackfeatError) as caught:
        ArchiveFile.open(path).read("X", "array 'X'", mapped=mapped)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NPY)
def test_hostile_imported_predictions_are_one_line(name: str, tmp_path: Path, canary: Any) -> None:
    path = tmp_path / "mate.npy"
    path.write_bytes(NPY[name](canary))
    with pytest.raises(StackfeatError) as caught:
        read_predictions(path, Task("binary", (0, 1)), id_name="id", target="y")
    assert "\n" not in str(caught.value)


def torch_file(content: Any, **options: Any) -> bytes:
    import torch

    data = io.BytesIO()
    torch.save(content, data, **options)
    return data.getvalue()


def archive(pickled: bytes) -> bytes:
    """A file of `torch.save` with any pickle in it."""
    return zipped({"archive/data.pkl": pickled, "archive/version": b"3", "archive/byteorder": b"little"})


def tarred(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return data.getvalue()


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.parts = (function, arguments)

    def __reduce__(self) -> Any:
        return self.parts


CHECKPOINTS: dict[str, Callable[[Any], bytes]] = {
    "a pickled object": lambda bird: torch_file({"w": Bomb(bird.python)}),
    "a pickled object, as of old": lambda bird: torch_file(
        {"w": Bomb(bird.python)}, _use_new_zipfile_serialization=False
    ),
    "a plain pickle": lambda bird: pickle.dumps(Bomb(bird.python)),
    "a pickle of the system": lambda bird: archive(pickle.dumps(Call(os.system, bird.shell))),
    "a pickle that evaluates": lambda bird: archive(b"cbuiltins\neval\n(V" + bird.python.encode() + b"\ntR."),
    "a pickle of getattr": lambda bird: archive(GETATTR),
    "a module": lambda bird: torch_file(_module()),
    "a tar file": lambda bird: tarred(
        {"storages": b"", "tensors": b"", "pickle": pickle.dumps(Bomb(bird.python))}
    ),
    "a broken zip file": lambda bird: torch_file({"w": 1})[:-30],
    "a pickle without end": lambda bird: archive(b"\x80\x02" + b"]" * 200_000),
    "a pickle of nothing": lambda bird: archive(b"."),
    "a persistent id": lambda bird: archive(b"\x80\x02(U\x07storageU\x03bad\x8a\x01\x00U\x03cpuK\x01tQ."),
    "nothing": lambda bird: b"",
    "text": lambda bird: b"weights",
}
GETATTR = b"\x80\x02cbuiltins\ngetattr\n(cos\npath\nU\x06systemtR."

SAFETENSORS: dict[str, bytes] = {
    "a header of 2**60 bytes": struct.pack("<Q", 2**60) + b"{}",
    "a header of 90 MB that is not there": struct.pack("<Q", 90_000_000) + b"{}",
    "a deep header": struct.pack("<Q", 500_000) + b'{"a":' * 100_000,
    "a million million numbers": (lambda text: struct.pack("<Q", len(text)) + text)(
        json.dumps({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    ),
    "numbers that overflow": (lambda text: struct.pack("<Q", len(text)) + text)(
        json.dumps({"w": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 0]}}).encode()
    ),
    "tensors in each other": (lambda text: struct.pack("<Q", len(text)) + text + bytes(64))(
        json.dumps(
            {
                "a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]},
                "b": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]},
            }
        ).encode()
    ),
    "another type": (lambda text: struct.pack("<Q", len(text)) + text)(
        json.dumps({"w": {"dtype": "os.system", "shape": [], "data_offsets": [0, 0]}}).encode()
    ),
    "nothing": b"",
    "seven bytes": b"\0" * 7,
}


def _module() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(2, 2))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_hostile_checkpoint_is_one_line(name: str, canary: Any) -> None:
    with pytest.raises(StackfeatError) as caught:
        find_state(parse_checkpoint(CHECKPOINTS[name](canary), "best.pt"), "best.pt", None)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("name", SAFETENSORS)
def test_hostile_safetensors_are_one_line(name: str, canary: Any) -> None:
    with pytest.raises(StackfeatError) as caught:
        parse_checkpoint(SAFETENSORS[name], "best.safetensors")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["pt", "old.pt", "safetensors"])
def test_damaged_checkpoints_are_read_or_refused(kind: str, canary: Any) -> None:
    import torch
    from safetensors.torch import save

    state = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.zeros(3)}
    data = (
        save(state)
        if kind == "safetensors"
        else torch_file(state, _use_new_zipfile_serialization=kind == "pt")
    )
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            parse_checkpoint(bytes(damaged[: rng.integers(len(damaged) // 2, len(damaged) + 1)]), f"x.{kind}")
        except StackfeatError as error:
            assert "\n" not in str(error)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"", *more: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


IMAGES: dict[str, Callable[[Any], bytes]] = {
    "a bomb": lambda bird: png(60_000, 60_000, zlib.compress(bytes(10_000_000))),
    "a bomb of text": lambda bird: png(
        8, 8, b"", *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(30_000_000)))] * 5
    ),
    "more pixels than 32 bits": lambda bird: png(2**31 - 1, 2**31 - 1),
    "a script": lambda bird: (
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n({bird.shell}) (w) file".encode()
    ),
    "a drawing": lambda bird: b'<svg xmlns="http://www.w3.org/2000/svg"><script>x</script></svg>',
    "a pickle": lambda bird: pickle.dumps(Bomb(bird.python)),
    "a pixmap of a million million pixels": lambda bird: b"P6 1000000 1000000 255\n",
    "nothing": lambda bird: b"",
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_hostile_picture_is_one_line(name: str, tmp_path: Path, canary: Any) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "a.png").write_bytes(IMAGES[name](canary))
    given = InputOptions(column="path", size=8, broken="error")
    with pytest.raises(StackfeatError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_images(pd.Series(["a.png"]), given, tmp_path, "data.inputs.image")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("path", ["../a.png", "/etc/passwd", "link.png", "pipe.png", "a\0.png"])
def test_paths_of_pictures_stay_inside(path: str, tmp_path: Path, canary: Any) -> None:
    pytest.importorskip("PIL")
    root = tmp_path / "images"
    root.mkdir()
    (tmp_path / "a.png").write_bytes(png(8, 8, zlib.compress(bytes(8 * 25))))
    (root / "link.png").symlink_to(tmp_path / "a.png")
    os.mkfifo(root / "pipe.png")
    given = InputOptions(column="path", size=8, broken="error")
    with pytest.raises(StackfeatError):
        read_images(pd.Series([path]), given, root, "data.inputs.image")
