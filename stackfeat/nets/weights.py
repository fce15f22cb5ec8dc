"""Weights from a checkpoint into a module; no pickle is ever run.

In:  a module, a safetensors file or one that `torch.save` wrote from a state dict.
Out: the module with these weights, or an error that names what does not fit.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import UsageError
from stackfeat.lookup import suggest

NESTED = ("state_dict", "model_state_dict", "model", "weights", "net")
PREFIXES = ("_orig_mod.", "module.", "model.")
SHOWN = 8


def load_weights(model: nn.Module, path: Path, state_key: str | None = None) -> None:
    """Load a checkpoint strictly.

    Parameters
    ----------
    model : nn.Module
    path : Path
        ``.safetensors``, or a file of `torch.save` that holds tensors only.
    state_key : str, optional
        Where the state dict is in the file; ``state_dict``, ``model`` and the like are found alone.

    Raises
    ------
    UsageError
        If the file is no checkpoint, or keys are missing, unexpected or of another shape.
    """
    state = strip_prefixes(find_state(read_checkpoint(path), path, state_key), model)
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and isinstance(wanted[name], Tensor) and state[name].shape != wanted[name].shape
    ]
    if missing or unexpected or shapes:
        near = suggest(unexpected[0], missing) if unexpected and missing else ""
        found = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
        got = "; ".join(f"{kind}: {shorten(names)}" for kind, names in found if names)
        raise UsageError(
            f"weights must fit {type(model).__name__}; got {path.name} with keys {got}.{near} "
            "Give the params the net was trained with (--params), or another file"
        )
    model.load_state_dict(state)


def read_checkpoint(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"weights must be a file; got {path}, which is not there; correct the path")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UsageError(
                f"{path} must be a whole safetensors file; got {error}; copy it again"
            ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"{path} must hold tensors only; got {first[:200]}; save model.state_dict(), not the model: "
            "a pickled module can run any code when it is loaded"
        ) from error


def find_state(loaded: Any, path: Path, state_key: str | None) -> dict[str, Tensor]:
    """Return the state dict in what was loaded."""
    if state_key is not None:
        if not isinstance(loaded, Mapping) or state_key not in loaded:
            keys = list(loaded) if isinstance(loaded, Mapping) else []
            raise UsageError(
                f"state_key must be in {path.name}; got {state_key!r}, not among {shorten(list(map(str, keys)))}."
                f"{suggest(state_key, map(str, keys))}"
            )
        loaded = loaded[state_key]
    elif isinstance(loaded, Mapping) and not any(isinstance(value, Tensor) for value in loaded.values()):
        loaded = next((loaded[key] for key in NESTED if isinstance(loaded.get(key), Mapping)), loaded)
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(k, str) for k in loaded):
        raise UsageError(
            f"{path.name} must hold a state dict; got {type(loaded).__name__}; save model.state_dict(), "
            "or name the key it is under"
        )
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor)}


def strip_prefixes(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Take away what compiling or DataParallel put in front of every name."""
    wanted = set(model.state_dict())
    for _ in range(len(PREFIXES)):
        for prefix in PREFIXES:
            if state and all(name.startswith(prefix) for name in state) and not wanted & set(state):
                state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def shorten(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest if names else "none"
