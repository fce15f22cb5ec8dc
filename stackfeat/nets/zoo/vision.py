"""Image models of timm and torchvision, by name: `timm:resnet18`, `torchvision:resnet18`.

In:  a model's name in its library.
Out: a function that builds it untrained, with as many outputs as there are classes. Nothing is
     downloaded: weights are given by the user.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from torch import nn

from stackfeat.errors import ConfigError, MissingExtraError, UsageError
from stackfeat.nets.zoo.cnn import image_shape

Builder = Callable[..., nn.Module]


def timm_net(name: str) -> Builder:
    """Return a function that builds a model of timm, for images of any number of channels."""
    timm = optional_package("timm")
    _check_listed(name, timm.list_models(), "timm")

    def build(n_outputs: int, shapes: Mapping[str, Sequence[int]], **params: Any) -> nn.Module:
        n_channels, _, _ = image_shape(shapes, f"timm:{name}")
        _refuse_pretrained(params, f"timm:{name}")
        facts = {"num_classes": n_outputs, "in_chans": n_channels}
        model: nn.Module = timm.create_model(name, pretrained=False, **facts, **params)
        return model

    build.__name__ = f"timm:{name}"
    return build


def torchvision_net(name: str) -> Builder:
    """Return a function that builds a classification model of torchvision, for images of 3 channels."""
    models = optional_package("torchvision").models
    _check_listed(name, models.list_models(module=models), "torchvision")

    def build(n_outputs: int, shapes: Mapping[str, Sequence[int]], **params: Any) -> nn.Module:
        n_channels, _, _ = image_shape(shapes, f"torchvision:{name}")
        if n_channels != 3:
            raise UsageError(
                f"torchvision:{name} must read images of 3 channels; got {n_channels}; use mode: RGB, net: cnn, or "
                "a model of timm"
            )
        _refuse_pretrained(params, f"torchvision:{name}")
        model: nn.Module = models.get_model(name, weights=None, num_classes=n_outputs, **params)
        return model

    build.__name__ = f"torchvision:{name}"
    return build


def optional_package(name: str) -> ModuleType:
    """Import timm or torchvision.

    Raises
    ------
    MissingExtraError
        If it is not installed, or is a build for another torch: the usual trap on machines without a
        GPU, where pip takes the CUDA build from PyPI beside a CPU build of torch.
    """
    try:
        if name == "torchvision":
            importlib.import_module("torchvision.models")
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ("timm", "torchvision"):
            raise
        raise MissingExtraError(
            f"models of {name} need the packages timm and torchvision; got no {error.name}; install them with: "
            "pip install 'stackfeat[vision]'"
        ) from error
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MissingExtraError(
            f"{name} is installed but cannot be imported ({first}): its torchvision was built for another torch "
            "(PyPI has the CUDA build alone). Install both from one index: pip install --force-reinstall torch "
            "torchvision --index-url https://download.pytorch.org/whl/cpu"
        ) from error


def _check_listed(name: str, known: Sequence[str], library: str) -> None:
    # timm names weights behind a dot: resnet18.a1_in1k is the model resnet18.
    if name.partition(".")[0] not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f" Did you mean '{library}:{near[0]}'?" if near else ""
        raise ConfigError(f"net '{library}:{name}' does not exist: {library} has no model {name!r}.{hint}")


def _refuse_pretrained(params: Mapping[str, Any], net: str) -> None:
    for name in ("pretrained", "weights"):
        if params.get(name):
            raise UsageError(
                f"{net}: nothing is downloaded in a run; got params {name}={params[name]!r}; remove it, and give a "
                "file of weights"
            )
