"""A CUDA device that is pretended: tensors stay on the CPU, and what is asked of the device is written down.

In:  a test that takes the fixture `pretended_cuda`, or is marked `on_gpu`.
Out: code that believes to compute on a GPU, so that its decisions (device, precision, copies, retries) can be seen
     without one. What kernels compute there, and how fast, only a device can tell: `make test-gpu`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")


def is_cuda(value: object) -> bool:
    if isinstance(value, str):
        return value.partition(":")[0] == "cuda"
    return isinstance(value, torch.device) and value.type == "cuda"


class Event:
    def __init__(self, log: list[str]) -> None:
        self.log, self.number = log, sum(line.startswith("event") for line in log)
        log.append(f"event {self.number}")

    def record(self) -> None:
        self.log.append(f"record {self.number}")

    def synchronize(self) -> None:
        self.log.append(f"wait for {self.number}")


class Stream:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def wait_stream(self, _other: Any) -> None:
        self.log.append("copying waits for computing")

    def wait_event(self, event: Event) -> None:
        self.log.append(f"computing waits for {event.number}")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class OnTheCpu(TorchFunctionMode):
    """Takes the CPU wherever the device is asked for, and notes the tensors that would have gone there."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        given = dict(kwargs or {})
        if given.pop("pin_memory", False):
            self.log.append("pinned buffer")
        named = is_cuda(given.get("device"))
        if named or any(map(is_cuda, args)):
            if func is Tensor.to:
                self.log.append("to the device")
            given |= {"device": CPU} if named else {}
            args = [CPU if is_cuda(value) else value for value in args]
        return func(*args, **given)


@contextmanager
def pretend_cuda(monkeypatch: pytest.MonkeyPatch, *, bfloat16: bool = True) -> Iterator[list[str]]:
    """Pretend a device for as long as the block lasts; yield the log."""
    log: list[str] = []
    replaced = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "is_bf16_supported": lambda *_, **__: bfloat16,
        "empty_cache": lambda: log.append("empty cache"),
        "synchronize": lambda *_: None,
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda *_: None,
        "Stream": lambda *_: Stream(log),
        "current_stream": lambda *_: Stream(log),
        "stream": lambda stream: stream,
        "Event": lambda *_, **__: Event(log),
    }
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: log.append("pin") or self)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, _stream: log.append("keep"), raising=False)
    with OnTheCpu(log):
        yield log


needs_gpu = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none here"),
)


def on_gpu(test: Any) -> Any:
    """Mark a test that a real device alone can pass."""
    for mark in needs_gpu:
        test = mark(test)
    return test
