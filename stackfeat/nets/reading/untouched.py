"""Leave a net as it was, whatever runs in between.

In:  a module.
Out: a context after which modes, weights, buffers, gradient flags and random generators are as before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from stackfeat.errors import TapError


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put back what a forward pass may change, also after an exception.

    Every submodule's own train flag, every `requires_grad`, every buffer (running statistics of nets
    that turn training on themselves), and the generators of torch, numpy and `random`.

    Raises
    ------
    TapError
        If the net has lazy layers that have no shape yet: a first pass would change it for good.
    """
    lazy = [name for name, part in model.named_modules() if is_uninitialised(part)]
    if lazy:
        raise TapError(
            f"every layer must have its shape; got lazy layers {', '.join(lazy[:5])}; run one batch through the "
            "net first"
        )
    flags = [(part, part.training) for part in model.modules()]
    gradients = [(weight, weight.requires_grad) for weight in model.parameters()]
    buffers = [
        (part, name, values, values.clone()) for part in model.modules() for name, values in own_buffers(part)
    ]
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = {weight.device.index or 0 for weight in model.parameters() if weight.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=sorted(devices)):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        for part, training in flags:
            part.training = training
        for weight, needed in gradients:
            weight.requires_grad_(needed)
        with torch.no_grad():
            for part, name, values, before in buffers:
                part._buffers[name] = values
                if not torch.equal(values, before):
                    values.copy_(before)


def own_buffers(part: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [(name, values) for name, values in part._buffers.items() if values is not None]


def is_uninitialised(part: nn.Module) -> bool:
    return any(
        isinstance(weight, nn.parameter.UninitializedParameter) for weight in part.parameters(recurse=False)
    )
