"""Where and how torch runs: device, threads, seeds, the path of matrix products.

In:  a device name, a seed, a number of threads.
Out: a `torch.device`, and context managers that put every setting back.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import nn

from stackfeat.errors import TapError, UsageError
from stackfeat.executors.shared import Shared, Undo
from stackfeat.layers.taps.marks import RUNNING

_ONE_AT_A_TIME = threading.RLock()
DEVICE_KINDS = ("auto", "cpu", "cuda", "mps")


FAST_PATH, MATMUL, STANCE, GENERATORS = Shared(), Shared(), Shared(), Shared()


class NetsInUse:
    """The nets that are read: a net, or one that shares a part with it, is read by one thread at a time."""

    def __init__(self) -> None:
        self.turn = threading.Condition()
        self.users: dict[int, list[int]] = {}

    @contextmanager
    def use(self, net: nn.Module) -> Iterator[None]:
        """Keep other threads waiting for as long as a block lasts."""
        me, parts = threading.get_ident(), {id(part) for part in net.modules()}
        with self.turn:
            self.turn.wait_for(lambda: all(set(self.users.get(part, ())) <= {me} for part in parts))
            for part in parts:
                self.users.setdefault(part, []).append(me)
        try:
            yield
        finally:
            with self.turn:
                for part in parts:
                    self.users[part].remove(me)
                    if not self.users[part]:
                        del self.users[part]
                self.turn.notify_all()


NETS = NetsInUse()


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; ``auto`` is the first CUDA device, or the CPU.

    Raises
    ------
    UsageError
        If the name is unknown or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = name.split(":")[0]
    if kind not in DEVICE_KINDS:
        raise UsageError(
            f"device must be one of {', '.join(DEVICE_KINDS)} (or 'cuda:1'); got device={name!r}; use 'auto'"
        )
    missing = (kind == "cuda" and not torch.cuda.is_available()) or (
        kind == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise UsageError(f"device must exist on this machine; got device={name!r}; use 'cpu' or 'auto'")
    return torch.device(name)


def device_or_cpu(name: str) -> torch.device:
    """Return the device called `name`, or the CPU where this machine has none such."""
    try:
        return pick_device(name)
    except UsageError:
        return torch.device("cpu")


def try_device(name: str) -> str:
    """Run a small product on a device and say what happened; used by ``doctor --full``."""
    device = pick_device(name)
    total = float((torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum())
    state = "right" if total == 512.0 else f"WRONG ({total} instead of 512)"
    training = "float32"
    if has_amp(device):
        training = "bfloat16" if device.type == "cuda" else "float32, images in bfloat16"
    return f"{device}: product {state}, trains in {training}, torch {torch.__version__}"


def has_amp(device: torch.device) -> bool:
    """Say whether a device computes in bfloat16 by itself; elsewhere it is emulated, and slow."""
    if device.type == "cpu":
        can = torch.cpu.get_capabilities()
        return bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def use_amp(amp: str, device: torch.device, images: bool = False) -> bool:
    """Resolve the option `amp`: by the net and the type of the device, never by timing.

    A CPU gains much in convolutions over `images` and little elsewhere (docs/benchmarks.md).

    Raises
    ------
    UsageError
        If it is asked for on a GPU that cannot compute in bfloat16.
    """
    if amp == "on" and device.type == "cuda" and not has_amp(device):
        raise UsageError(
            "amp: on must run on a device that computes in bfloat16; got one that does not; use amp: auto"
        )
    return amp == "on" or (amp == "auto" and (images or device.type == "cuda") and has_amp(device))


@lru_cache(maxsize=1)
def fast_matmul_is_exact() -> bool:
    """Say whether ``medium`` matrix products keep float32 accuracy on this CPU.

    The setting selects oneDNN, about twice as fast on many CPUs and as exact, but real bfloat16
    arithmetic where the CPU has units for it. The answer depends on the machine, never on timings.
    """
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(256, 256, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        error = ((left @ right).double() - exact).abs().max() / exact.abs().max()
    finally:
        torch.set_float32_matmul_precision(before)
    return bool(error < 1e-5)


@contextmanager
def pinned(seed: int, threads: int | None = None, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch, numpy and `random`, fix the threads, and put all of it back afterwards.

    Parameters
    ----------
    seed : int
        Seed of the global generators for as long as the block lasts.
    threads : int, optional
        Threads of torch within the block; by default as they are.
    device : torch.device, optional
        On CUDA its generator is restored too, and deterministic kernels are used where they exist.
    """
    on_cuda = device is not None and device.type == "cuda"
    cuda_devices = [device.index or 0] if device is not None and on_cuda else []
    with _ONE_AT_A_TIME, restoring_generators(cuda_devices), fixed_arithmetic(threads, on_cuda=on_cuda):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        yield


@contextmanager
def restoring_generators(cuda_devices: Sequence[int] = ()) -> Iterator[None]:
    """Put the generators of torch, numpy and `random` back to where they were."""

    def remember() -> Undo:
        python_state, torch_state = random.getstate(), torch.get_rng_state()
        numpy_state = np.random.get_state()  # noqa: NPY002  a user's net may draw from the global generator

        def undo() -> None:
            random.setstate(python_state)
            torch.set_rng_state(torch_state)
            np.random.set_state(numpy_state)  # noqa: NPY002

        return undo

    cuda_states = [(device, torch.cuda.get_rng_state(device)) for device in cuda_devices]
    try:
        with GENERATORS.use(remember):
            yield
    finally:
        for device, state in cuda_states:
            torch.cuda.set_rng_state(state, device)


@contextmanager
def fixed_arithmetic(threads: int | None = None, *, on_cuda: bool = False) -> Iterator[None]:
    """Fix what decides the bytes of a result: threads, matmul path, deterministic kernels on CUDA.

    All of it, and torch's generators, belong to the process: other threads wait until the block ends.
    """
    with _ONE_AT_A_TIME, matmul_path("cuda" if on_cuda else "cpu"):
        n_threads = torch.get_num_threads()
        mode = torch.get_deterministic_debug_mode()
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            if on_cuda:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True, warn_only=True)
            yield
        finally:
            torch.set_num_threads(n_threads)
            if (
                torch.get_deterministic_debug_mode() != mode
            ):  # only then, as torch imports its compiler for that
                torch.use_deterministic_algorithms(mode > 0, warn_only=mode == 1)


def matmul_path(device_kind: str) -> AbstractContextManager[None]:
    """Take oneDNN's matrix products where they are true float32; never a setting that rounds."""
    precision = "medium" if device_kind == "cpu" and fast_matmul_is_exact() else "highest"

    def change() -> Undo:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        return partial(torch.set_float32_matmul_precision, before)

    return MATMUL.use(change, precision)


def without_values(model: nn.Module) -> str | None:
    """Say which weights of a net have no values, and what to do; None where all have."""
    named = [*model.named_parameters(), *model.named_buffers()]
    empty = [name for name, weight in named if weight.device.type == "meta"]
    if not empty:
        return None
    return (
        f"every weight must have values; got weights on the meta device ({', '.join(empty[:3])}); fill them: "
        "model.to_empty(device='cpu'), then model.load_state_dict(...)"
    )


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Put back what a forward pass may change, also after an exception.

    Every submodule's own train flag, every `requires_grad`, every buffer (running statistics of nets
    that turn training on themselves), and the generators of torch, numpy and `random`.

    Raises
    ------
    TapError
        If the net has lazy layers that have no shape yet: a first pass would change it for good. If weights
        are on the meta device, where they have no values.
    """
    lazy = [
        name
        for name, part in model.named_modules()
        if any(isinstance(w, nn.parameter.UninitializedParameter) for w in part.parameters(recurse=False))
    ]
    if lazy:
        raise TapError(
            f"every layer must have its shape; got lazy layers {', '.join(lazy[:5])}; run one batch through the "
            "net first"
        )
    if problem := without_values(model):
        raise TapError(problem)
    gradients = [(weight, weight.requires_grad) for weight in model.parameters()]
    buffers = [
        (part, name, values, values.clone())
        for part in model.modules()
        for name, values in part._buffers.items()
        if values is not None
    ]
    devices = {weight.device.index or 0 for weight in model.parameters() if weight.device.type == "cuda"}
    with restoring_generators(sorted(devices)), restoring_modes(model):
        try:
            yield
        finally:
            for weight, needed in gradients:
                weight.requires_grad_(needed)
            with torch.no_grad():
                for part, name, values, before in buffers:
                    part._buffers[name] = values
                    if not torch.equal(values, before):
                        values.copy_(before)


@contextmanager
def restoring_modes(module: nn.Module) -> Iterator[None]:
    """Give every submodule its own train flag back; other threads that read a part of it wait."""
    with NETS.use(module):
        flags = [(part, part.training) for part in module.modules()]
        try:
            yield
        finally:
            for part, training in flags:
                if part.training != training:
                    part.training = training


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put `module` in eval mode for passes of our own; every submodule gets its own flag back.

    Blocks that were open before, such as the user's `tapped`, do not hear these passes.
    """
    with restoring_modes(module):
        if any(part.training for part in module.modules()):
            try:
                module.eval()
            except NotImplementedError:  # a part that was exported, and has no mode
                for part in module.modules():
                    part.training = False
        RUNNING.n_readers += 1
        try:
            yield
        finally:
            RUNNING.n_readers -= 1


@contextmanager
def replaced_attributes(changes: Sequence[tuple[nn.Module, str, Any]]) -> Iterator[None]:
    """Give parts other attributes (part, name, value), and put back what there was."""
    before = [vars(part).get(name) for part, name, _ in changes]
    try:
        for part, name, value in changes:
            vars(part)[name] = value
        yield
    finally:
        for (part, name, _), value in zip(changes, before, strict=True):
            vars(part)[name] = value
            if value is None:
                del vars(part)[name]


def plain_transformers() -> AbstractContextManager[None]:
    """Turn off the fused path of transformer layers, which skips layers and makes nested tensors."""

    def change() -> Undo:
        enabled = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        return partial(torch.backends.mha.set_fastpath_enabled, enabled)

    return FAST_PATH.use(change)


def compiler_stands_back() -> AbstractContextManager[None]:
    """Run compiled code as it was written."""

    def change() -> Undo:
        stance: Any = torch.compiler.set_stance("force_eager")
        return partial(stance.__exit__, None, None, None)

    return STANCE.use(change)
