"""What quantisation does to the values of a net.

In:  a module, a tensor.
Out: whether it rounds by a scale of the whole batch, so that a row's values depend on the others; other values
     of a quantised tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

BY_BATCH = ("torch.ao.nn.quantized.dynamic.", "torch.ao.nn.intrinsic.quantized.dynamic.")


def scales_by_batch(layer: nn.Module) -> bool:
    """Whether a layer rounds what it is given by a scale of the whole batch (dynamic quantisation).

    In float16 only the weights are rounded: nothing depends on other rows.
    """
    packed: Any = getattr(layer, "_packed_params", layer)
    dtype = getattr(packed, "dtype", None)
    return f"{type(layer).__module__}.".startswith(BY_BATCH) and dtype == torch.qint8


def disturbed(values: Tensor) -> Tensor:
    """Return other values of a quantised tensor, with its scale: those in the order from behind."""
    if values.qscheme() not in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return values
    other = values.dequantize().flatten().flip(0).reshape(values.shape) + 5 * values.q_scale()
    return torch.quantize_per_tensor(other, values.q_scale(), values.q_zero_point(), values.dtype)
