"""What the ``forward`` of a module takes.

In:  any module: of a class, with a forward of its own, partial, decorated, scripted or traced.
Out: its parameters without ``self``, as `inspect` has them; the arguments of a call by name; which arguments may
     be given an array that has another name.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from inspect import Parameter
from typing import Any

import torch
from torch import nn

Parameters = tuple[Parameter, ...]

UNKNOWN: Parameters = (
    Parameter("args", Parameter.VAR_POSITIONAL),
    Parameter("kwargs", Parameter.VAR_KEYWORD),
)
"""Of what tells nothing: it may be given anything."""
BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
ARRAY_TYPES = ("Tensor", "ndarray", "Any", "object")


def forward_parameters(module: nn.Module) -> Parameters:
    """Return the parameters of ``module.forward``; `UNKNOWN` where nothing tells them."""
    if isinstance(module, torch.jit.ScriptModule):
        return scripted_parameters(module)
    cls: Any = type(module)
    return read_parameters(module.forward) if "forward" in vars(module) else class_parameters(cls)


@lru_cache(maxsize=1024)
def class_parameters(cls: Any) -> Parameters:
    """Return those of a class, worked out once: a signature takes longer than a layer."""
    found = read_parameters(cls.forward)
    is_bound = not isinstance(inspect.getattr_static(cls, "forward"), staticmethod)
    return found[1:] if is_bound and found and found[0].kind in BY_POSITION else found


def read_parameters(forward: Any) -> Parameters:
    try:
        return tuple(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        return UNKNOWN


def scripted_parameters(module: torch.jit.ScriptModule) -> Parameters:
    schema: Any = getattr(getattr(module, "forward", None), "schema", None)
    if schema is None:
        return UNKNOWN
    return tuple(
        Parameter(
            argument.name,
            Parameter.POSITIONAL_OR_KEYWORD,
            default=argument.default_value if argument.has_default_value() else Parameter.empty,
            annotation=str(argument.type),
        )
        for argument in schema.arguments[1:]
    )


def arguments_by_name(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name; those of ``*args`` have none."""
    positional = [p.name for p in forward_parameters(module) if p.kind in BY_POSITION]
    return {**dict(zip(positional, args, strict=False)), **kwargs}


def is_required(parameter: Parameter) -> bool:
    """Whether a call must give this argument."""
    return parameter.default is parameter.empty and parameter.kind in (*BY_POSITION, Parameter.KEYWORD_ONLY)


def takes_array(parameter: Parameter) -> bool:
    """Whether an argument without a name that matches may be an array: not a flag, a number or a cache."""
    if parameter.kind not in BY_POSITION:
        return False
    kind = parameter.annotation
    text = kind if isinstance(kind, str) else getattr(kind, "__name__", None) or str(kind)
    text = str(kind) if text in ("Optional", "Union") else text
    is_array = kind is parameter.empty or any(name in text for name in ARRAY_TYPES)
    return is_required(parameter) or (parameter.default is None and is_array)
