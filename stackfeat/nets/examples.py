"""Nets and inputs that the command line names: a class and its params, shapes, arrays.

In:  a class with params; a shape such as 2x3x224x224; arrays.
Out: a module; tensors to run it on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.errors import UsageError


def construct(cls: Callable[..., Any], params: Mapping[str, Any]) -> nn.Module:
    """Return ``cls(**params)``; a module that exists already is taken as it is.

    Raises
    ------
    UsageError
        If the arguments do not fit, or it makes no module.
    """
    if isinstance(cls, nn.Module):
        return cls
    name = getattr(cls, "__name__", repr(cls))
    if not callable(cls):
        raise UsageError(f"a net must be a class or a function that makes one; got {name}; name another")
    try:
        inspect.signature(cls).bind(**params)
    except TypeError as error:
        raise UsageError(
            f"the arguments must fit {name}{inspect.signature(cls)}; got {sorted(params)} ({error}); "
            "give them with --params '{\"name\": value}'"
        ) from error
    made = cls(**params)
    if not isinstance(made, nn.Module):
        raise UsageError(f"{name} must return a torch.nn.Module; got {type(made).__name__}; name another")
    return made


def made_up_input(shape: tuple[int, ...], kind: str) -> Tensor:
    """Return normal numbers, or the code 0 for int64, which every embedding has."""
    if kind == "int64":
        return torch.zeros(shape, dtype=torch.int64)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def to_tensors(arrays: Sequence[np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(np.array(array)) for array in arrays]
