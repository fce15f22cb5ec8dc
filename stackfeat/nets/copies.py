"""A user's module as a value: copied and pickled in every form that torch can.

In:  an ``nn.Module``, which stays as it is.
Out: deep copies, in which what earlier passes left is plain numbers; bytes that any process can read back. Where
     torch cannot, an error that names what can: a class or function that builds the net.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from stackfeat.errors import UsageError
from stackfeat.executors._compat import dumps
from stackfeat.layers.taps.runtime import without_values


class ModuleCopies:
    """Builds deep copies of a module as it is now; what is trained later is never the module itself.

    Parameters
    ----------
    module : nn.Module
        Kept as a copy on the CPU, so that a pickle can be read on any machine.

    Raises
    ------
    UsageError
        If it cannot be copied, or has weights without values.
    """

    def __init__(self, module: nn.Module) -> None:
        if problem := without_values(module):
            raise UsageError(problem)
        self.module = copied(module, to_cpu=True)
        self.accepts_categories = bool(getattr(module, "accepts_categories", False))
        self.__name__ = type(module).__name__

    def __call__(self) -> nn.Module:
        return copied(self.module)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "module": PickledModule(self.module)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "module": unpickled(state["module"])})


def is_module(net: object) -> bool:
    """Whether something is an ``nn.Module``, already built."""
    return isinstance(net, nn.Module)


def as_factory(net: object) -> object:
    """Return what builds a net: a class or function as it is, a module as a factory of its copies."""
    return ModuleCopies(net) if isinstance(net, nn.Module) else net


class PickledModule:
    """A module as bytes, on the CPU; classes and functions that cannot be imported are in them.

    Raises
    ------
    UsageError
        If the module cannot be pickled.
    """

    def __init__(self, module: nn.Module) -> None:
        name = type(module).__name__
        packed = _pack(copied(module, to_cpu=True))
        with _explained("pickled", name):
            self.data: bytes = dumps(packed)

    def load(self) -> nn.Module:
        """Return the module."""
        module: nn.Module = pickle.loads(self.data)
        return module


def pickled(net: object) -> object:
    """Return a module as bytes, anything else as it is."""
    return PickledModule(net) if isinstance(net, nn.Module) else net


def unpickled(net: object) -> Any:
    """Undo `pickled`."""
    return net.load() if isinstance(net, PickledModule) else net


def copied(module: nn.Module, *, to_cpu: bool = False) -> nn.Module:
    """Return a deep copy; tensors that earlier passes left are copied without their history of gradients.

    Raises
    ------
    UsageError
        If something in the module cannot be copied.
    """
    with copying(module, to_cpu=to_cpu):
        twin: nn.Module = copy.deepcopy(module)
        for weight in twin.parameters():
            # torch copies scripted parts with a history, in which nothing can be trained.
            if not weight.is_leaf:
                weight.detach_().requires_grad_()
    return twin.cpu() if to_cpu else twin


@contextmanager
def copying(net: object, *, to_cpu: bool = False) -> Iterator[None]:
    """Let ``copy.deepcopy`` copy a net as `copied` does for as long as the block lasts.

    Raises
    ------
    UsageError
        In place of what the copying of a module raises.
    """
    if not isinstance(net, nn.Module):
        yield
        return
    with _explained("copied", type(net).__name__), _PlainTensors(to_cpu):
        yield


class _PlainTensors(TorchFunctionMode):
    """Copies results, such as the weight that old `weight_norm` computes or an activation that is kept, as numbers.

    torch refuses to copy them because of their history; to a copy of the net it means nothing.
    """

    def __init__(self, to_cpu: bool) -> None:
        super().__init__()
        self.to_cpu = to_cpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        twin: Any
        if isinstance(tensor, nn.UninitializedBuffer):
            twin = nn.UninitializedBuffer(False, tensor.device, tensor.dtype)  # type: ignore[arg-type]
        else:
            copier: Any = func
            twin = copier(tensor, memo) if tensor.is_leaf else tensor.detach().clone()
        if self.to_cpu and twin.device.type not in ("cpu", "meta"):
            twin = twin.detach().cpu().requires_grad_(twin.requires_grad)
        memo[id(tensor)] = twin
        return twin


@contextmanager
def _explained(what: str, name: str) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"a net that is given as a module must be one that can be {what}; got {name} "
            f"({type(error).__name__}: {reason}); give its class, or a function that builds it, instead"
        ) from error


def _pack(module: nn.Module) -> Any:
    """Give the parts that torch refuses to pickle a form of ours, in a module that nobody else holds."""
    if isinstance(module, torch.jit.ScriptModule):
        return _Scripted(module)
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = _pack(child)
    if parametrize.is_parametrized(module):
        vars(module)["base"] = parametrize.type_before_parametrizations(module)
        module.__class__ = _Parametrized
    return module


class _Scripted:
    """Stands for a scripted part, which torch pickles by a function of its own."""

    def __init__(self, module: torch.jit.ScriptModule) -> None:
        self.module = module

    def __reduce__(self) -> tuple[Any, ...]:
        stream = io.BytesIO()
        torch.jit.save(self.module, stream)
        return _load_scripted, (stream.getvalue(),)


def _load_scripted(data: bytes) -> Any:
    return torch.jit.load(io.BytesIO(data))  # type: ignore[no-untyped-call]


class _Parametrized(nn.Module):
    """Stands for a part with parametrised weights, whose class torch makes at run time and refuses to pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in vars(self).items() if name != "base"}
        return _new_parametrized, (vars(self)["base"],), state, None, None, _set_parametrized


def _new_parametrized(base: type[nn.Module]) -> nn.Module:
    module = base.__new__(base)
    parametrize._inject_new_class(module)
    return module


def _set_parametrized(module: nn.Module, state: dict[str, Any]) -> None:
    vars(module).update(state)
    parametrizations: Any = module.parametrizations
    for name in parametrizations:
        parametrize._inject_property(module, name)
