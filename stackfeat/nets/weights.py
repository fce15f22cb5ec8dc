"""Weights of nets: out of checkpoints, as bytes of our own, and which of them are trained how fast.

In:  a module; a safetensors file or one that `torch.save` wrote from a state dict, or their bytes; globs of
     parameters. No pickle is ever run.
Out: the module with these weights, parameters frozen or given a factor of the learning rate, or an error that
     names what does not fit. A net's own weights become bytes and come back: safetensors with a JSON header.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from stackfeat.errors import MemberError, UsageError, first_line
from stackfeat.nets.outputs import Head
from stackfeat.registry.patterns import matches
from stackfeat.registry.resolve import suggest

NESTED = ("state_dict", "model_state_dict", "model", "weights", "net")

PREFIXES = ("_orig_mod.", "module.", "model.")

COUNTERS = ("n_averaged",)
"""What averaged models keep beside their weights."""

SHOWN = 8

ADVICE = "Give the params the net was trained with (--params), or another file"

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


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a checkpoint strictly.

    Parameters
    ----------
    model : nn.Module
    path : Path
        ``.safetensors``, or a file of `torch.save` that holds tensors only.

    Raises
    ------
    UsageError
        If the file is no checkpoint, or keys are missing, unexpected or of another shape.
    """
    if not path.is_file():
        raise UsageError(f"weights must be a file; got {path}, which is not there; correct the path")
    fit_weights(model, parse_checkpoint(path.read_bytes(), str(path)), path.name)


def fit_weights(
    model: nn.Module,
    loaded: Any,
    name: str,
    *,
    state_key: str | None = None,
    resets_head: bool = False,
) -> list[str]:
    """Put the weights of a parsed checkpoint into a model.

    Parameters
    ----------
    loaded : object
        What `parse_checkpoint` returned.
    name : str
        Name of the file, for messages.
    resets_head : bool
        Whether last layers that do not fit stay as they are.

    Returns
    -------
    list of str
        Names of the model that were not loaded; empty unless `resets_head`.

    Raises
    ------
    UsageError
        If there is no state dict, or keys are missing, unexpected or of another shape.
    """
    state = strip_prefixes(find_state(loaded, name, state_key), model)
    wanted = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    shapes = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    left = [key for key in wanted if key in missing or key in shapes]
    if resets_head and not _beyond_head(left, list(wanted)) and not _beyond_head(unexpected, list(state)):
        fitting = {key: value for key, value in state.items() if key in wanted and key not in shapes}
        model.load_state_dict(fitting, strict=False)
        return left
    if missing or unexpected or shapes:
        other = [f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}" for key in shapes]
        found = [("missing", missing), ("unexpected", unexpected), ("of another shape", other)]
        got = "; ".join(f"{kind}: {shorten(keys)}" for kind, keys in found if keys)
        near = suggest(unexpected[0], missing) if unexpected and missing else ""
        last = "only last layers can be reset (head: reset); " if resets_head else ""
        raise UsageError(
            f"weights must fit {type(model).__name__}; got {name} with keys {got}.{near} {last}{ADVICE}"
        )
    model.load_state_dict(state)
    return []


def _beyond_head(keys: list[str], everything: list[str]) -> bool:
    """Whether keys are of other layers than the last ones, or of all layers."""
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in everything))
    odd = {key.rpartition(".")[0] for key in keys}
    return odd != set(layers[len(layers) - len(odd) :]) or len(odd) == len(layers)


def parse_checkpoint(data: bytes, name: str) -> Any:
    """Return what is in the bytes of a checkpoint.

    Parameters
    ----------
    name : str
        The file's name; ``.safetensors`` at its end says the format.

    Raises
    ------
    UsageError
        If it holds anything but tensors and plain values.
    """
    is_safetensors = name.endswith(".safetensors")
    try:
        return (
            load(data)
            if is_safetensors
            else torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        )
    except Exception as error:  # whatever a parser meets in a damaged file
        what, got, advice = ("be a whole safetensors file", first_line(error), "copy it again")
        if not is_safetensors:
            # The words of torch advise to load the pickle all the same.
            what, got = "hold tensors only", "other objects, or a damaged file"
            advice = (
                "save model.state_dict(), not the model: a pickled module can run any code when it is loaded"
            )
        raise UsageError(f"{name} must {what}; got {got}; {advice}") from error


def find_state(loaded: Any, name: str, state_key: str | None) -> dict[str, Tensor]:
    """Return the state dict in what was loaded."""
    entries: Mapping[Any, Any] = loaded if isinstance(loaded, Mapping) else {}
    if state_key is not None:
        if state_key not in entries:
            keys = list(map(str, entries))
            near = suggest(state_key, keys)
            raise UsageError(
                f"state_key must be in {name}; got {state_key!r}, not among {shorten(keys)}.{near}"
            )
        loaded = entries[state_key]
    elif not any(isinstance(value, Tensor) for value in entries.values()):
        loaded = next((entries[key] for key in NESTED if isinstance(entries.get(key), Mapping)), loaded)
    entries = loaded if isinstance(loaded, Mapping) else {}
    tensors = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
    if not tensors or not all(isinstance(key, str) for key in tensors):
        held = f" with {shorten(list(map(str, loaded)))}" if isinstance(loaded, Mapping) else ""
        raise UsageError(
            f"{name} must hold a state dict; got {type(loaded).__name__}{held}; save model.state_dict(), "
            "or name the key it is under (state_key)"
        )
    return tensors


def strip_prefixes(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Take away what compiling, DataParallel, averaging or a trainer put in front of names."""
    wanted = set(model.state_dict())
    for _ in range(len(PREFIXES)):
        for prefix in PREFIXES:
            renamed = {key.removeprefix(prefix): value for key, value in state.items()}
            fits_better = len(wanted & set(renamed)) > len(wanted & set(state))
            is_everywhere = bool(state) and all(key.startswith(prefix) for key in state)
            if len(renamed) == len(state) and (fits_better or (is_everywhere and not wanted & set(state))):
                state = renamed
    return {key: value for key, value in state.items() if key not in COUNTERS or key in wanted}


def shorten(names: list[str]) -> str:
    """Join the first names, and say how many more there are."""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest if names else "none"


HEADER = "stackfeat"

LENGTH_BYTES = 8


def pack_state(state: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """Return weights and header as one safetensors file.

    Raises
    ------
    MemberError
        If the header has values JSON cannot hold, such as a class among the params.
    """
    try:
        text = json.dumps(header, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MemberError(
            f"a net's params must be plain JSON values to be stored; got {error}; "
            "use numbers, texts and lists"
        ) from error
    # Copies: tied weights share memory, which the format refuses.
    # One header key: the order of several would be random.
    tensors = {name: values.detach().cpu().contiguous().clone() for name, values in state.items()}
    return bytes(save(tensors, metadata={HEADER: text}))


def unpack_state(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the weights, on the CPU.

    Raises
    ------
    MemberError
        If the bytes are not a stored net.
    """
    try:
        length = int.from_bytes(data[:LENGTH_BYTES], "little")
        file_header = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length])
        header: dict[str, Any] = json.loads(file_header["__metadata__"][HEADER])
        return header, load(data)
    except Exception as error:
        raise MemberError(
            f"a stored net must be safetensors with a {HEADER!r} header; got {len(data)} bytes ({error}); "
            "train the member again"
        ) from error
