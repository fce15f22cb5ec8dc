"""The layers of a net by name, whatever wraps it.

In:  a module, a name or a pattern.
Out: layers and their names without ``_orig_mod.`` and ``module.``, other names of shared layers
     included.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from stackfeat.errors import LayerNotFoundError, TapError
from stackfeat.registry.patterns import is_pattern, matches
from stackfeat.registry.resolve import LONGEST_SUGGESTED

Layers = dict[str, nn.Module]

WRAPPED = ("_orig_mod", "module")


def wrapped_module(module: nn.Module) -> nn.Module | None:
    """Return the module inside a compiled, data-parallel or averaged one, or None."""
    if isinstance(
        module, nn.DataParallel | nn.parallel.DistributedDataParallel | torch.optim.swa_utils.AveragedModel
    ):
        wrapped: Any = module.module
        return wrapped if isinstance(wrapped, nn.Module) else None
    if isinstance(module, torch.jit.ScriptModule):
        return None
    original = module._modules.get("_orig_mod")
    return original if isinstance(original, nn.Module) else None


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside all wrappers: what hooks see and what can be read.

    Raises
    ------
    TapError
        If it is scripted, traced or exported: hooks do not run there.
    """
    while (wrapped := wrapped_module(model)) is not None:
        model = wrapped
    if isinstance(model, torch.jit.ScriptModule):
        raise TapError(
            f"the model must not be scripted or traced: hooks do not run inside; got {type(model).__name__}; "
            "pass the module it was made from"
        )
    if is_exported(model):
        raise TapError(
            f"the model must not be exported: it is one graph, without layers that hooks hear; got "
            f"{type(model).__name__}; pass the module it was exported from, or torch.export.unflatten(program)"
        )
    return model


def is_exported(module: nn.Module) -> bool:
    """Whether a module came out of ``torch.export``: a graph whose mode cannot be changed."""
    return isinstance(module, torch.fx.GraphModule) and "eval" in vars(module)


def walk(module: nn.Module, name: str = "", above: tuple[int, ...] = ()) -> Iterator[tuple[str, nn.Module]]:
    """Yield every name of every layer, wrappers left out, parents first."""
    while (wrapped := wrapped_module(module)) is not None:
        module = wrapped
    yield name, module
    if isinstance(module, torch.jit.ScriptModule):
        return
    for key, child in module._modules.items():
        # A child that is also a parent would go round in circles.
        if child is not None and id(child) not in above:
            yield from walk(child, f"{name}.{key}" if name else key, (*above, id(module)))


def named_layers(model: nn.Module) -> Layers:
    """Return all layers by all their names; the model itself is ``""``."""
    return dict(walk(model))


def canonical_names(layers: Layers) -> dict[int, str]:
    """Return the first name of each layer by its id."""
    return {id(layer): name for name, layer in reversed(layers.items())}


def unique_layers(model: nn.Module) -> Layers:
    """Return all layers by the first of their names; the model itself is ``""``."""
    layers = named_layers(model)
    first = canonical_names(layers)
    return {name: layer for name, layer in layers.items() if first[id(layer)] == name}


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """Return every name a tap may have, other names of shared layers included."""
    return tuple(name for name in named_layers(model) if name)


def match_name(layers: Layers, name: str) -> str | None:
    """Return the name in `layers` that `name` means, with or without the prefixes of wrappers."""
    if name in layers:
        return name
    segments = name.split(".")
    for dropped in (WRAPPED[:1], WRAPPED):
        shorter = ".".join(segment for segment in segments if segment not in dropped)
        if shorter and shorter in layers:
            return shorter
    return None


def name_of(model: nn.Module, layer: nn.Module) -> str:
    """Return the first name of a layer that is given itself.

    Raises
    ------
    LayerNotFoundError
        If the net does not hold this very layer.
    """
    layers = named_layers(unwrap(model))
    name = canonical_names(layers).get(id(unwrap(layer)))
    if name is None:
        kind = type(layer).__name__
        alike = [other for other, part in layers.items() if other and type(part) is type(layer)]
        hint = f"Did you mean {' or '.join(map(repr, alike[:3]))}?" if alike else "Give its name."
        raise LayerNotFoundError(
            f"a layer that is given itself must be one of {type(model).__name__}; got a {kind} that is not in it "
            f"(a copy of a net holds other layers). {hint}"
        )
    return name


def match_pattern(pattern: str, names: Iterator[str] | list[str]) -> list[str]:
    """Return the names that a pattern means, in order.

    ``*`` and ``?`` stay within one segment; the segment ``**`` is any number of segments.
    """
    parts = pattern.split(".")
    segments = [part for i, part in enumerate(parts) if part != "**" or parts[i - 1 : i] != ["**"]]
    return [name for name in names if name and _segments_match(segments, name.split("."))]


def _segments_match(pattern: list[str], name: list[str]) -> bool:
    """Whether segments match; no two ``**`` follow each other."""
    if len(pattern) - pattern.count("**") > len(name):
        return False
    reached = {0}
    for segment in [*name, None]:
        # A "**" may stand for nothing.
        reached |= {place + 1 for place in reached if pattern[place : place + 1] == ["**"]}
        if segment is None:
            break
        reached = {
            place + (pattern[place] != "**")
            for place in reached
            if place < len(pattern) and (pattern[place] == "**" or matches(pattern[place], segment))
        }
    return len(pattern) in reached


def not_found(model: nn.Module, name: str, layers: Layers) -> LayerNotFoundError:
    """Return the error for an unknown name; it names the nearest ones."""
    known = [known for known in layers if known]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) if len(name) <= LONGEST_SUGGESTED else []
    near += [other for other in known if other.endswith(f".{name}") and other not in near][:3]
    if near:
        hint = f"Did you mean {' or '.join(map(repr, near))}?"
    elif is_pattern(name):
        hint = f"'*' stands for one segment, '**' for several. Layers: {shorten(known)}"
    else:
        hint = f"Layers: {shorten(known)}"
    return LayerNotFoundError(
        f"a tap must name a layer of {type(model).__name__}; got layer={name!r}. {hint}"
    )


def shorten(names: list[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 300 else f"{text[:300]}... (stackfeat.list_layers shows all)"


def never_called(layers: Layers, name: str) -> str | None:
    """Say why no forward pass can ever call this layer, or None where one might.

    Containers have no forward of their own; multi-head attention uses the weights of its
    ``out_proj`` without calling it. A forward set on the instance may do anything.
    """
    layer, parent = layers[name], parent_of(layers, name)
    if isinstance(layer, torch.jit.ScriptModule):
        return "is scripted: hooks do not run there; tap the module before scripting"
    if any(is_exported(layers[around]) for around in parents_of(name) if around in layers):
        return "is part of an exported graph, in which no hook runs; tap the module around that graph"
    if parent is not None and "forward" not in vars(parent) and (hint := inside_attention(layers, name)):
        return hint
    if type(layer).forward is nn.Module.forward and "forward" not in vars(layer):
        depth, hint = name.count(".") + 1, "remove it"
        inside = [other for other in layers if other.startswith(f"{name}.") and other.count(".") == depth]
        if inside:
            hint = f"tap what is inside: {', '.join(inside[:4])}{', ...' if len(inside) > 4 else ''}"
        return f"is a container ({type(layer).__name__}) that is never called itself; {hint}"
    return None


def parents_of(name: str) -> list[str]:
    """Return the names around a layer, the net itself among them."""
    segments = name.split(".") if name else []
    return [".".join(segments[:n]) for n in range(len(segments))]


def parent_of(layers: Layers, name: str) -> nn.Module | None:
    return layers.get(name.rpartition(".")[0]) if name else None


def inside_attention(layers: Layers, name: str) -> str | None:
    """Say that attention uses the weights of a layer inside it, and what to tap instead."""
    parent = parent_of(layers, name)
    if (
        not isinstance(parent, nn.MultiheadAttention)
        or type(parent).forward is not nn.MultiheadAttention.forward
    ):
        return None
    above, _, last = name.rpartition(".")
    place = f"{above}[0]" if above else ":output[0]"
    return (
        f"is never called: the attention around it uses its weights directly (F.multi_head_attention_forward); "
        f"tap '{place}', which is what {last} returns"
    )
