"""Weights from a checkpoint into a module; no pickle is ever run.

In:  a module, a safetensors file or one that `torch.save` wrote from a state dict, or their bytes.
Out: the module with these weights, or an error that names what does not fit.
     A net's own weights become bytes and come back: safetensors with one JSON header.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from stackfeat.errors import MemberError, UsageError, first_line
from stackfeat.registry.resolve import suggest

NESTED = ("state_dict", "model_state_dict", "model", "weights", "net")

PREFIXES = ("_orig_mod.", "module.", "model.")

COUNTERS = ("n_averaged",)
"""What averaged models keep beside their weights."""

SHOWN = 8

ADVICE = "Give the params the net was trained with (--params), or another file"


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
        what, advice = ("be a whole safetensors file", "copy it again")
        if not is_safetensors:
            what = "hold tensors only"
            advice = (
                "save model.state_dict(), not the model: a pickled module can run any code when it is loaded"
            )
        got = first_line(error) or type(error).__name__
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
