"""Nets given as objects: a module that stands for the class it could be built from.

In:  a module.
Out: a factory, as `NetSpec.cls` wants it, whose modules are deep copies with the same weights.
"""

from __future__ import annotations

import copy

from torch import nn


class ModuleCopies:
    """Builds deep copies of a module as it is now; what is trained later is never the module itself.

    Parameters
    ----------
    module : nn.Module
        Kept as a copy on the CPU, so that a pickle can be read on any machine.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).cpu()
        self.accepts_categories = bool(getattr(module, "accepts_categories", False))
        self.__name__ = type(module).__name__

    def __call__(self) -> nn.Module:
        return copy.deepcopy(self.module)


def as_factory(net: object) -> object:
    """Return what builds a net: a class or function as it is, a module as a factory of its copies."""
    return ModuleCopies(net) if isinstance(net, nn.Module) else net


def on_cpu(net: object) -> object:
    """Return a module as a copy on the CPU where it is elsewhere, anything else as it is."""
    if not isinstance(net, nn.Module):
        return net
    tensors = [*net.parameters(), *net.buffers()]
    return net if all(values.device.type == "cpu" for values in tensors) else copy.deepcopy(net).cpu()


def is_module(net: object) -> bool:
    """Whether something is an ``nn.Module``, already built."""
    return isinstance(net, nn.Module)
