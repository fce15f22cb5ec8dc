"""Put a trained net where and how it runs fastest, for as long as a block lasts.

In:  a module, a device, a precision, whether images should be channels-last.
Out: the same module with other memory behind its weights; its own memory is put back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from stackfeat.errors import UsageError
from stackfeat.layers.extraction.fast_layers import fast_layers, inplace_relu, takes_ordered_weights
from stackfeat.layers.extraction.files import pooled_array
from stackfeat.layers.taps.runtime import fast_matmul_is_exact, matmul_path, pick_device

Precision = Literal["float32", "bf16", "autocast"]
LONGEST_PLAIN = 512
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class Placement:
    """Device, number format and memory layout of a forward pass.

    Attributes
    ----------
    device : torch.device
    precision : {"float32", "bf16", "autocast"}
    channels_last, plain_attention : bool
        How images lie, and whether attention is plain matrix products.
    few_rows : bool
        Whether a pass or two is all there is.
    is_fixed : bool
        Whether everything else follows from the net, shapes and device alone, never from values or timings.
    as_written : tuple of str
        Layers that call the functions of their own code, since taps read, or edits change, those.
    """

    device: torch.device
    precision: Precision = "float32"
    channels_last: bool = False
    plain_attention: bool = False
    few_rows: bool = False
    is_fixed: bool = False
    as_written: tuple[str, ...] = ()

    @property
    def orders_weights(self) -> bool:
        """Whether convolutions get weights in oneDNN's order: that takes as long as it saves in one pass."""
        return self.is_fast and not self.few_rows

    @property
    def is_fast(self) -> bool:
        """Whether layers of torch run without their detours."""
        return self.device.type == "cpu" and self.precision == "float32" and fast_matmul_is_exact()

    @contextmanager
    def apply(self, model: nn.Module) -> Iterator[None]:
        """Move weights and buffers; on the way out they are the tensors they were, bit for bit."""
        keep_freed_memory()
        swapped: list[tuple[Tensor, Tensor]] = []
        try:
            with torch.no_grad():
                for tensor, moved in self.moved_tensors(model):
                    swapped.append((tensor, tensor.data))
                    tensor.data = moved
            with ExitStack() as stack:
                stack.enter_context(matmul_path(self.device.type))
                if self.plain_attention:
                    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
                if self.is_fast:
                    stack.enter_context(inplace_relu(model))
                    stack.enter_context(
                        fast_layers(
                            model,
                            attention=self.plain_attention,
                            order_weights=self.orders_weights,
                            but=self.as_written,
                        )
                    )
                if self.precision == "autocast":
                    stack.enter_context(torch.autocast(self.device.type, dtype=torch.bfloat16))
                yield
        finally:
            with torch.no_grad():
                for tensor, data in swapped:
                    tensor.data = data

    def moved_tensors(self, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the weights and buffers that have to move, and what they become."""
        if self.is_fixed and not self.channels_last:
            return  # the net is where it is to be
        kernels = {
            id(part.weight)
            for part in model.modules()
            if isinstance(part, CONVOLUTIONS) and not (self.orders_weights and takes_ordered_weights(part))
        }
        for tensor in (*model.parameters(), *model.buffers()):
            is_kernel = self.channels_last and id(tensor) in kernels and tensor.ndim == 4
            if self.precision == "bf16" or tensor.device != self.device:
                is_rounded = self.precision == "bf16" and tensor.is_floating_point()
                layout = torch.channels_last if is_kernel else torch.preserve_format
                dtype = torch.bfloat16 if is_rounded else tensor.dtype
                yield tensor, tensor.data.to(self.device, dtype, memory_format=layout)
            elif is_kernel:
                yield tensor, as_channels_last(tensor.data)

    def feed(self, tensor: Tensor, dtype: torch.dtype, n_rows: int) -> Tensor:
        """Return a column as the net takes it: on the device, in its float format, `n_rows` rows."""
        if tensor.device != self.device:
            tensor = tensor.to(self.device, non_blocking=True)
        if tensor.is_floating_point():
            tensor = tensor.to(torch.bfloat16 if self.precision == "bf16" else dtype)
            if tensor.ndim == 4 and self.channels_last:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
        n_missing = n_rows - len(tensor)
        return filled(tensor, n_missing) if n_missing else tensor


def as_channels_last(weight: Tensor) -> Tensor:
    """Return a weight in the layout of the images, in memory that the process already has."""
    is_plain = weight.device.type == "cpu" and weight.dtype is torch.float32
    if not is_plain or weight.is_contiguous(memory_format=torch.channels_last):
        return weight.contiguous(memory_format=torch.channels_last)
    n_out, n_in, height, width = weight.shape
    last = torch.from_numpy(pooled_array((n_out, height, width, n_in))).permute(0, 3, 1, 2)
    return last.copy_(weight)


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Free one large block, so that the C library stops giving every large block back to the system.

    glibc learns from what is freed: after a block of up to 32 MB such blocks come from memory the
    process keeps (at most twice as much). Until then each activation and each moved weight is made of
    fresh pages, which costs more than computing it in small nets.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def filled(tensor: Tensor, n_missing: int) -> Tensor:
    """Repeat the last row, or zeros where there is none: values of another kind could overflow."""
    if len(tensor) == 0:
        return tensor.new_zeros(n_missing, *tensor.shape[1:])
    last = tensor[-1:].expand(n_missing, *tensor.shape[1:])
    joined = torch.cat([tensor, last])
    is_image = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return joined.contiguous(memory_format=torch.channels_last) if is_image else joined


def float_dtype(model: nn.Module) -> torch.dtype:
    """Return the format that the net computes in."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def choose_device(model: nn.Module, name: str) -> torch.device:
    """Return the device to run on; ``auto`` leaves a net on a GPU where it is."""
    tensors = chain(model.parameters(), model.buffers())
    here = next((tensor.device for tensor in tensors), torch.device("cpu"))
    return here if name == "auto" and here.type != "cpu" else pick_device(name)


def pays_plain_attention(inputs: list[Tensor], device: torch.device) -> bool:
    """Say whether attention should be plain matrix products.

    The fused kernel of the CPU is five times slower on oneDNN's path. Products need memory for
    steps x steps, so long sequences keep the fused one.
    """
    steps = [c.shape[1] for c in inputs if c.ndim == 3 or (c.ndim == 2 and not c.is_floating_point())]
    return device.type == "cpu" and fast_matmul_is_exact() and max(steps, default=0) <= LONGEST_PLAIN


def check_precision(precision: str) -> Precision:
    if precision not in get_args(Precision):
        raise UsageError(
            f"precision must be one of {', '.join(get_args(Precision))}; got precision={precision!r}; use 'float32'"
        )
    return cast(Precision, precision)


def may_be_channels_last(model: nn.Module, inputs: list[Tensor], device: torch.device) -> bool:
    """Say whether images could lie channels-last: on the CPU it is up to three times as fast."""
    has_images = any(column.ndim == 4 and column.is_floating_point() for column in inputs)
    has_kernels = any(isinstance(part, CONVOLUTIONS) for part in model.modules())
    return device.type in ("cpu", "cuda") and has_images and has_kernels
