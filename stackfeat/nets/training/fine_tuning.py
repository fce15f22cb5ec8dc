"""Fine-tuning: the weights that a net starts from, and what of it is trained how fast.

In:  a module of random weights, a checkpoint's bytes, globs of parameters.
Out: the same module with the checkpoint's weights, parameters frozen or given a factor of the learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import nn

from stackfeat.errors import MemberError
from stackfeat.nets.outputs import Head
from stackfeat.nets.weights import fit_weights, parse_checkpoint
from stackfeat.registry.resolve import suggest
from stackfeat.registry.wildcards import matches

CONTAINERS = (nn.Sequential, nn.ModuleList)
NORMS = (nn.modules.batchnorm._NormBase,)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, and how to go on from it.

    Attributes
    ----------
    data : bytes
    name : str
        What the file is called in messages; its suffix says the format.
    state_key : str or None
    resets_head : bool
        Whether last layers that do not fit may stay random.
    order : sequence of int
        Which output column of the checkpoint holds each class; empty where the order is ours.
    freeze : sequence of str
        Parameters that stay as they are: names, names of modules, globs.
    lrs : mapping of str to float
        Factors of the learning rate by glob; the last one that matches counts.
    lr_decay : float or None
        Factor from block to block, the last block first.
    """

    data: bytes = field(repr=False)
    name: str
    state_key: str | None = None
    resets_head: bool = False
    order: Sequence[int] = ()
    freeze: Sequence[str] = ()
    lrs: Mapping[str, float] = field(default_factory=dict)
    lr_decay: float | None = None

    def load(self, module: nn.Module) -> list[str]:
        """Put the weights into the module; return the names that stayed random."""
        loaded = parse_checkpoint(self.data, self.name)
        return fit_weights(module, loaded, self.name, state_key=self.state_key, resets_head=self.resets_head)

    def prepare(self, module: nn.Module) -> None:
        """Load, freeze, and give parameters their factors.

        Raises
        ------
        MemberError
            If the weights or a glob do not fit, or nothing is left to train.
        """
        self.load(module)
        slow_down(module, self.lr_decay, self.lrs)
        freeze_parameters(module, self.freeze)

    def read_by(self, head: Head) -> Head:
        """Return how the output is read: a kept head speaks on the scale and in the order of the checkpoint."""
        if self.resets_head:
            return head
        head = replace(head, mean=0.0, scale=1.0)
        if not self.order:
            return head
        if head.one_column:
            # One column speaks for the second class of their order.
            return replace(head, positive=list(self.order).index(1))
        return replace(head, order=tuple(self.order))


def freeze_parameters(module: nn.Module, patterns: Sequence[str]) -> None:
    """Turn gradients off; norms of frozen layers keep their running statistics, in training too."""
    if not patterns:
        return
    named = dict(module.named_parameters())
    frozen = {name for pattern in patterns for name in match_parameters(module, pattern, "freeze")}
    if len(frozen) == len(named):
        raise MemberError(
            f"freeze must leave something to train; got {list(patterns)}, which is all {len(named)} parameters; "
            "freeze fewer, or take the net as it is: frozen: true, without train"
        )
    for name in frozen:
        named[name].requires_grad_(False)
    layers = [
        layer
        for layer in module.modules()
        if isinstance(layer, NORMS) and all(not p.requires_grad for p in layer.parameters(recurse=False))
    ]
    if layers:
        module.register_forward_pre_hook(partial(_keep_still, layers))


def _keep_still(layers: Sequence[nn.Module], module: nn.Module, given: Any) -> None:
    # Training puts the whole module into its mode before every pass, these layers included.
    for layer in layers:
        layer.eval()


def slow_down(module: nn.Module, decay: float | None, lrs: Mapping[str, float]) -> None:
    """Set ``lr_factor`` of parameters, which the optimizer reads."""
    named = dict(module.named_parameters())
    factors = dict.fromkeys(named, 1.0)
    if decay is not None:
        for depth, names in enumerate(reversed(parameter_blocks(module))):
            factors |= dict.fromkeys(names, decay**depth)
    for pattern, factor in lrs.items():
        # Given by name, so it counts in the place of the factor by depth.
        factors |= dict.fromkeys(match_parameters(module, pattern, "lrs"), factor)
    for name, parameter in named.items():
        if factors[name] != 1.0:
            parameter.lr_factor = factors[name]  # type: ignore[attr-defined]


def parameter_blocks(module: nn.Module) -> list[list[str]]:
    """Return the names of parameters block by block, in the module's order.

    A block is a child of the module, or an item of a list of layers, at any depth of lists:
    ``embedding``, ``layers.0``, ``layers.1``, ..., ``head``.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> parameter_blocks(net)
    [['0.weight', '0.bias'], ['2.weight', '2.bias']]
    """
    blocks: list[list[str]] = []

    def collect(part: nn.Module, prefix: str) -> None:
        own = [f"{prefix}{name}" for name, _ in part.named_parameters(recurse=False)]
        if own:
            blocks.append(own)
        for name, child in part.named_children():
            place = f"{prefix}{name}."
            if isinstance(child, CONTAINERS):
                collect(child, place)
            else:
                names = [f"{place}{inner}" for inner, _ in child.named_parameters()]
                if names:
                    blocks.append(names)

    collect(module, "")
    return blocks


def match_parameters(module: nn.Module, pattern: str, option: str) -> list[str]:
    """Return the parameters that a name, a module's name or a glob means.

    Raises
    ------
    MemberError
        If it means none.
    """
    names = [name for name, _ in module.named_parameters()]
    found = [
        name for name in names if name == pattern or name.startswith(f"{pattern}.") or matches(pattern, name)
    ]
    if not found:
        parts = [name for name, _ in module.named_modules() if name]
        stem = pattern.rstrip(".*")
        near = suggest(stem, [*parts, *names])
        raise MemberError(
            f"{option} must name parameters of {type(module).__name__} ({', '.join(names[:6])}"
            f"{', ...' if len(names) > 6 else ''}); got {pattern!r}, which none is called.{near}"
        )
    return found
