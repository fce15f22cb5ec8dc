"""Which array goes to which argument of ``forward``.

In:  a module, the names of the arrays it is given, which of them it need not take.
Out: the order in which they are handed over; a module whose ``forward`` takes them in that order.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

ORDER = "_stackfeat_order"


@dataclass(frozen=True)
class Binding:
    """How arrays reach ``forward``.

    Attributes
    ----------
    order : tuple of int
        Positions of the arrays that are handed over, in that order.
    keywords : tuple of str or None
        The argument each goes to; None where it is simply the next positional one.
    """

    order: tuple[int, ...]
    keywords: tuple[str, ...] | None = None


def find_binding(forward: Any, names: Sequence[str], optional: Collection[str] = ()) -> Binding:
    """Return how arrays of these names reach ``forward``.

    Parameters
    ----------
    forward : callable
    names : sequence of str
        Names of the arrays, in the order of the config.
    optional : collection of str
        Those that are left out where ``forward`` has no argument of their name: lengths of sequences.

    Notes
    -----
    By name where all names are arguments, or ``forward`` takes ``**inputs``; else in the given order.
    """
    parameters = list(inspect.signature(forward).parameters.values())
    arguments = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keyword_only = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    kept = [n for n in names if n not in optional or n in arguments or n in keyword_only or takes_any]
    order = tuple(list(names).index(name) for name in kept)
    targets = _targets(parameters, arguments, keyword_only, kept, optional, takes_any=takes_any)
    if targets is None:
        return Binding(order)
    by_target = dict(zip(targets, order, strict=True))
    first = arguments[: len(kept)]
    if set(first) == set(targets):
        return Binding(tuple(by_target[argument] for argument in first))
    return Binding(order, tuple(targets))


def _targets(
    parameters: list[inspect.Parameter],
    arguments: list[str],
    keyword_only: list[str],
    kept: list[str],
    optional: Collection[str],
    *,
    takes_any: bool,
) -> list[str] | None:
    """Return the argument for each array, or None where they simply follow each other."""
    needed = [name for name in kept if name not in optional]
    matched = {*arguments, *keyword_only}
    if takes_any:
        waiting = [
            p.name for p in parameters if p.name in arguments and p.default is p.empty and p.name not in kept
        ]
        strangers = iter([name for name in needed if name not in matched])
        given_to = {next(strangers, None): argument for argument in waiting}
        return [given_to.get(name, name) for name in kept]
    if set(needed) <= matched and set(arguments[: len(needed)]) <= {*needed, *optional}:
        return kept
    free = [name for name in arguments if name not in kept or name in needed]
    if len(free) < len(needed):
        return None
    given_to = dict(zip(needed, free, strict=False))
    return [given_to.get(name, name) for name in kept]


def bind_inputs(module: nn.Module, names: Sequence[str], optional: Collection[str] = ()) -> None:
    """Let ``forward`` be called with the arrays one after the other, whatever its arguments are called.

    Where arguments must be named (``**inputs``, keyword-only ones) the module's class is replaced by a
    subclass that names them; layers, their names and weights stay as they are.
    """
    binding = find_binding(module.forward, names, optional)
    if binding.keywords is None:
        return
    base, keywords = type(module), binding.keywords

    def forward(self: Any, *values: Any) -> Any:
        return base.forward(self, **dict(zip(keywords, values, strict=True)))

    kinds = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", *keywords)]
    forward.__signature__ = inspect.Signature(kinds)  # type: ignore[attr-defined]
    described = {"forward": forward, ORDER: binding.order, "__module__": base.__module__}
    module.__class__ = type(base.__name__, (base,), described)


def input_order(module: nn.Module, names: Sequence[str], optional: Collection[str] = ()) -> list[int]:
    """Return the positions of the arrays that ``forward`` is given, in its order."""
    known: tuple[int, ...] | None = getattr(type(module), ORDER, None)
    return list(find_binding(module.forward, names, optional).order if known is None else known)
