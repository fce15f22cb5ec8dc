"""Snapshots: the whole state of a training between two epochs, as bytes.

In:  an attempt at training (net, optimizer, generators, losses), and a place for scratch files.
Out: bytes written now and then; put back, the training goes on as if it had never ended. Nothing
     is unpickled: the bytes are safetensors with a JSON header, and hashed before they are parsed.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError, StoreError
from stackfeat.nets.weights import pack_state, unpack_state
from stackfeat.store.run_files import Scratch

logger = logging.getLogger(__name__)

FORMAT = 1
SECONDS = "STACKFEAT_SNAPSHOT_SECONDS"
DEFAULT_SECONDS = 10.0
LARGEST_SHARE = 0.05
"""Of the time spent, at most this share goes into writing, however large the net is."""

Values = tuple[dict[str, Any], dict[str, Tensor]]


class Clock:
    """Says when the next snapshot is due; one for all trainings of a job."""

    def __init__(self) -> None:
        self.every = snapshot_seconds()
        self.last = time.monotonic()
        self.cost = 0.0

    def is_due(self) -> bool:
        return time.monotonic() - self.last >= max(self.every, self.cost / LARGEST_SHARE)

    def wrote(self, started: float) -> None:
        self.last = time.monotonic()
        self.cost = (self.last - started) if self.every else 0.0


class Snapshots:
    """Keeps the newest state of one training.

    Parameters
    ----------
    scratch : Scratch
        Where bytes are kept until the fold is done.
    name : str
        Of the training, among those of a job.
    clock : Clock, optional
        By default one of its own.
    """

    def __init__(self, scratch: Scratch, name: str, clock: Clock | None = None) -> None:
        self.scratch = scratch
        self.name = name
        self.clock = clock or Clock()
        self.enabled = True

    def part(self, name: str) -> Snapshots:
        """Return the snapshots of a training within this one."""
        return Snapshots(self.scratch, f"{self.name}.{name}", self.clock)

    def offer(self, state: Callable[[], Values]) -> None:
        """Write the state if a snapshot is due; a failure to write costs the snapshot, not the training."""
        if not self.enabled or not self.clock.is_due():
            return
        started = time.monotonic()
        header, tensors = state()
        try:
            self.scratch.write(self.name, pack_state(tensors, {"format": FORMAT, **header}))
        except (StoreError, MemberError) as error:
            self.enabled = False
            logger.warning("no snapshots of this fold (a killed one starts anew): %s", error)
        self.clock.wrote(started)

    def load(self, identity: Mapping[str, Any]) -> Values | None:
        """Return the newest state, if it is one of this very training."""
        data = self.scratch.read(self.name)
        if data is None:
            return None
        try:
            header, tensors = unpack_state(data)
        except MemberError as error:
            logger.warning("a snapshot is not readable, the fold starts anew: %s", error)
            return None
        if header.get("format") != FORMAT or header.get("identity") != dict(identity):
            logger.warning("a snapshot is of another training, the fold starts anew: %s", self.name)
            return None
        return header, tensors


def snapshot_seconds() -> float:
    """Return how many seconds lie between snapshots at least; 0: one after every epoch."""
    text = os.environ.get(SECONDS, "")
    try:
        seconds = float(text) if text else DEFAULT_SECONDS
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        logger.warning("%s must be a number of seconds; got %r; using %g", SECONDS, text, DEFAULT_SECONDS)
        return DEFAULT_SECONDS
    return seconds


def module_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and all buffers (those that `state_dict` leaves out too), by name."""
    return {name: values.data for name, values in module.named_parameters()} | dict(module.named_buffers())


def random_state(device: torch.device, order: torch.Generator) -> Values:
    """Return the state of every generator that training may draw from."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    header = {
        "python": [version, list(words), None if gauss is None else float(gauss).hex()],
        "numpy": [kind, int(position), int(has_gauss), float(cached).hex()],
    }
    tensors = {
        "rng.torch": torch.get_rng_state(),
        "rng.order": order.get_state(),
        "rng.numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
    }
    if device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    return header, tensors


def restore_random(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device, order: torch.Generator
) -> None:
    """Put every generator back to what `random_state` saw."""
    version, words, gauss = header["python"]
    random.setstate((version, tuple(words), None if gauss is None else float.fromhex(gauss)))
    kind, position, has_gauss, cached = header["numpy"]
    keys = tensors["rng.numpy"].numpy().astype(np.uint32)
    np.random.set_state((kind, keys, position, has_gauss, float.fromhex(cached)))  # noqa: NPY002
    torch.set_rng_state(tensors["rng.torch"])
    order.set_state(tensors["rng.order"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)
