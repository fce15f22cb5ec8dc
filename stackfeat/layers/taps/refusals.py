"""What a net refuses, said in words that name the layer.

In:  the error that ended a forward pass, the net, what it was given.
Out: a `NetRefusedError`: which layer refused, what it was given, its own message, what to do.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from stackfeat.errors import NetRefusedError, StackfeatError, machine_fault
from stackfeat.layers.taps.layers import unique_layers, unwrap
from stackfeat.layers.taps.signature import UNKNOWN, forward_parameters, is_required
from stackfeat.layers.taps.values import all_tensors, parts

LONGEST_MESSAGE = 400
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out: CUDA has a class for it, the CPU a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(part in str(error) for part in NO_MEMORY)
    )


@contextmanager
def refusals(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str = "these inputs"
) -> Iterator[None]:
    """Turn what a forward pass raises into a `NetRefusedError`; errors of ours and of memory stay as they are.

    Parameters
    ----------
    model : nn.Module
    args, kwargs
        What it is called with.
    what : str
        What these are called in the message.
    """
    try:
        yield
    except StackfeatError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or machine_fault(error) is not None:
            raise
        raise refused(model, args, kwargs, error, what) from error


def refused(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: Exception, what: str
) -> NetRefusedError:
    """Return the error that says which layer refused what."""
    return NetRefusedError(f"the net must run on {what}; got {explained(model, args, kwargs, error)}")


def explained(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: Exception) -> str:
    """Return what an error says, which layer it came from, what that was given, and what to do."""
    names = {id(layer): name for name, layer in unique_layers(model).items()}
    called = last_called(error, names)
    layer, given = called if called is not None else (model, (args, dict(kwargs)))
    name = names[id(layer)]
    where = f"layer {name!r} ({type(layer).__name__})" if name else f"{type(model).__name__} itself"
    advice = need_of(layer, given) or (missing_of(model, args, kwargs, error) if layer is model else "")
    if not advice:
        advice = "give arguments as forward takes them, in any number of rows"
    return f"{type(error).__name__}: {message_of(error)}, in {where}, which was given {described(*given)}; {advice}"


@contextmanager
def refusals_noted(model: nn.Module) -> Iterator[None]:
    """Add to an error of a pass, which stays as it is, a note on the layer that refused."""
    try:
        yield
    except StackfeatError:
        raise
    except Exception as error:
        whole = unwrap(model)
        called = last_called(error, {id(part): "" for part in whole.modules()})
        if called is not None:
            error.add_note(f"stackfeat: {explained(whole, *called[1], error)}")
        raise


def message_of(error: Exception) -> str:
    """Return what an error says, in one line: the last of scripted code, which begins with its own traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    text = lines[-1] if isinstance(error, torch.jit.Error) or "TorchScript" in str(error) else lines[0]
    return text[:LONGEST_MESSAGE].rstrip(".")


Given = tuple[tuple[Any, ...], dict[str, Any]]


def last_called(error: Exception, names: Mapping[int, str]) -> tuple[nn.Module, Given] | None:
    """Return the innermost layer whose call an error went through, and what it was given."""
    found: tuple[nn.Module, Given] | None = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        values = call_of(frame)
        if values is not None and id(values["self"]) in names:
            found = values["self"], (tuple(values["args"]), dict(values["kwargs"]))
    return found


def call_of(frame: FrameType) -> Mapping[str, Any] | None:
    """Return the variables of a frame of ``nn.Module.__call__``, or None of any other."""
    if frame.f_code.co_name not in ("_call_impl", "_wrapped_call_impl"):
        return None
    values = frame.f_locals
    return values if {"self", "args", "kwargs"} <= set(values) else None


def described(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Write types and shapes of arguments."""
    texts = [description_of(value) for value in args]
    texts += [
        f"{name}={description_of(value)}"
        for name, value in kwargs.items()
        if parts(value) or is_tensor(value)
    ]
    return ", ".join(texts) or "nothing"


def is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor | PackedSequence)


def description_of(value: Any) -> str:
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        place = "" if value.device.type == "cpu" else f" on {value.device}"
        layout = "" if value.layout == torch.strided else f" {str(value.layout).removeprefix('torch.')}"
        return f"{kind}{layout} {'nested' if value.is_nested else tuple(value.shape)}{place}"
    if parts(value):
        return f"[{', '.join(description_of(part) for part in parts(value)[:4])}]"
    return type(value).__name__


def missing_of(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: Exception) -> str:
    """Say which arguments the net's own forward must have and did not get, or got too many of."""
    parameters = forward_parameters(model)
    if not isinstance(error, TypeError) or parameters == UNKNOWN:
        return ""
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    given = {*positional[: len(args)], *kwargs}
    missing = [p.name for p in parameters if is_required(p) and p.name not in given]
    takes = ", ".join(str(p).partition(":")[0].partition(" =")[0] for p in parameters)
    if missing:
        return f"forward takes ({takes}): give {', '.join(missing)} too"
    is_bounded = all(p.kind is not p.VAR_POSITIONAL for p in parameters)
    return f"forward takes ({takes}): give no more" if is_bounded and len(args) > len(positional) else ""


def need_of(layer: nn.Module, given: Given) -> str:
    """Say what a layer of torch needs that it was not given; nothing where that cannot be told."""
    value = next(all_tensors(given), None)
    weight = next((w for w in layer.parameters(recurse=False) if w.is_floating_point()), None)
    if value is None or value.is_nested:
        return ""
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return need_of_codes(layer, value)
    width, axis = width_of(layer)
    if width is not None and value.ndim > abs(axis) - (axis < 0) and value.shape[axis] != width:
        return f"it takes {width} {'columns' if axis == -1 else 'channels'}, not {value.shape[axis]}"
    if weight is not None and weight.dtype != value.dtype:
        ours, theirs = (str(x.dtype).removeprefix("torch.") for x in (weight, value))
        return (
            f"its weights are {ours}: give {ours}, not {theirs}, or bring the net to one kind with model.to()"
        )
    if weight is not None and weight.device != value.device:
        return f"its weights are on {weight.device}: bring net and inputs to one device"
    return ""


def need_of_codes(layer: nn.Embedding | nn.EmbeddingBag, value: Tensor) -> str:
    """Say what ids an embedding takes."""
    if value.is_floating_point() or value.is_complex():
        return f"it takes ids, whole numbers from 0 to {layer.num_embeddings - 1}: give int64"
    if value.device.type == "meta" or not value.numel():
        return ""
    least, most = int(value.min()), int(value.max())
    if least < 0 or most >= layer.num_embeddings:
        return f"it has ids from 0 to {layer.num_embeddings - 1}, and was given {least} to {most}"
    return ""


def width_of(layer: nn.Module) -> tuple[int | None, int]:
    """Return how many columns (or channels) a layer takes, and on which axis."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, -1
    if isinstance(layer, nn.RNNBase):
        return layer.input_size, -1
    if isinstance(layer, nn.modules.conv._ConvNd):
        return layer.in_channels, -1 - len(layer.kernel_size)
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return layer.num_features, 1
    return None, -1
