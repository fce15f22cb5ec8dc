"""Nets for images: a residual net of our own, and the models of timm and torchvision by name.

In:  float32 images (n_rows, channels, height, width) near mean 0.
Out: one score per class, or one value. `CNN` changes images at random while it is trained (`Augment`).
     A model of a library is built untrained: nothing is downloaded, weights are given by the user.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackfeat.errors import ConfigError, MissingExtraError, UsageError, first_line
from stackfeat.nets.zoo.sizes import check_at_least, only_input
from stackfeat.registry.resolve import suggest

LARGE_SIDE = 48
SMALLEST_SIDE = 8


class CNN(nn.Module):
    """Residual blocks of 3 x 3 convolutions with batch norm, and an average over positions.

    After He et al. 2016 (arXiv:1512.03385), with the last batch norm of each block starting at zero
    (Goyal et al. 2017, arXiv:1706.02677). Every stage halves the side and, but for the first,
    doubles the channels; a side of 48 pixels or more is halved once before.

    Parameters
    ----------
    n_outputs : int
        Classes, or 1 for a value.
    shapes : mapping of str to tuple of int
        One input, (channels, height, width).
    width : int
        Channels of the first stage.
    stages : int
        Stages; the last has ``width * 2 ** (stages - 1)`` channels.
    depth : int
        Residual blocks in each stage.
    dropout : float
        Share of features dropped before the head.
    augment : mapping, optional
        `flip` (bool), `crop` and `cutout` (shares of the side), `rotation` (degrees); see `Augment`. By
        default images are shifted by up to a tenth of their side, which suits pictures of any kind.

    **Shape**

    (n_rows, channels, height, width) gives (n_rows, n_outputs).

    Examples
    --------
    >>> net = CNN(n_outputs=10, shapes={"image": (1, 28, 28)}, width=8)
    >>> net(torch.randn(4, 1, 28, 28)).shape
    torch.Size([4, 10])
    """

    def __init__(
        self,
        n_outputs: int,
        shapes: Mapping[str, Sequence[int]],
        width: int = 32,
        stages: int = 3,
        depth: int = 1,
        dropout: float = 0.1,
        augment: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        n_channels, height, side = image_shape(shapes, "cnn")
        check_at_least(1, width=width, stages=stages, depth=depth)
        stride = 2 if min(height, side) >= LARGE_SIDE else 1
        self.augment = Augment.of({"crop": 0.1} if augment is None else augment)
        self.stem = nn.Sequential(
            nn.Conv2d(n_channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.stages = nn.Sequential()
        widths = [width * 2**stage for stage in range(stages)]
        for n_inputs, n_units in pairwise([width, *widths]):
            blocks = [ResidualBlock(n_inputs, n_units, 2)]
            blocks += [ResidualBlock(n_units, n_units, 1) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], n_outputs)

    def forward(self, image: Tensor) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        features = self.pool(self.stages(self.stem(self.augment(image)))).flatten(1)
        return self.head(self.dropout(features))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, n_inputs: int, n_units: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, n_units, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_units)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(n_units, n_units, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_units)
        self.act2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or n_inputs != n_units:
            average = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(
                average, nn.Conv2d(n_inputs, n_units, 1, bias=False), nn.BatchNorm2d(n_units)
            )
        nn.init.zeros_(self.norm2.weight)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return (n_rows, n_units, height / stride, width / stride)."""
        y = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        return self.act2(y + self.shortcut(x))


def image_shape(shapes: Mapping[str, Sequence[int]], net: str) -> tuple[int, int, int]:
    """Return (channels, height, width) of the one image that a net reads.

    Raises
    ------
    UsageError
        If there are several inputs, or the one is no image.
    """
    name, shape = only_input(shapes, net, "image")
    if len(shape) != 3 or min(shape[1:]) < SMALLEST_SIDE:
        raise UsageError(
            f"{net} must read images of at least {SMALLEST_SIDE} x {SMALLEST_SIDE}, (channels, height, width); got "
            f"{name} with rows of shape {shape}; give the input kind: image, or use another net"
        )
    n_channels, height, width = shape
    return n_channels, height, width


NAMES = ("flip", "crop", "rotation", "cutout")


class Augment(nn.Module):
    """Flip, shift, turn and cover each image at random.

    Every draw is from torch's generator, so a seeded training is repeated to the byte.

    Parameters
    ----------
    flip : bool
        Mirror every other image left to right: not for digits, letters or hands.
    crop : float
        Shift by up to this share of the side in both directions; edges are repeated.
    rotation : float
        Turn by up to so many degrees either way.
    cutout : float
        Cover a square of this share of the side with the mean (DeVries and Taylor 2017, arXiv:1708.04552).

    **Shape**

    (n_rows, channels, height, width) gives the same.
    """

    def __init__(
        self, flip: bool = False, crop: float = 0.0, rotation: float = 0.0, cutout: float = 0.0
    ) -> None:
        super().__init__()
        for name, value, most in (("crop", crop, 0.5), ("rotation", rotation, 180), ("cutout", cutout, 1)):
            if not 0 <= value <= most:
                raise UsageError(f"augment: {name} must be from 0 to {most}; got {name}={value}")
        self.flip, self.crop, self.rotation, self.cutout = bool(flip), crop, rotation, cutout

    @classmethod
    def of(cls, options: dict[str, float] | None) -> Augment:
        """Return the layer that a config's mapping describes."""
        unknown = [name for name in options or {} if name not in NAMES]
        if unknown:
            raise UsageError(
                f"augment must name some of {', '.join(NAMES)}; got {unknown[0]!r}.{suggest(unknown[0], NAMES)}"
            )
        return cls(**(options or {}))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return changed images in training, `x` itself otherwise."""
        if not self.training:
            return x
        if self.rotation:
            x = self.turned(x)
        if self.flip or self.crop:
            x = self.shifted(x)
        return self.covered(x) if self.cutout else x

    def turned(self, x: Tensor) -> Tensor:
        angle = (torch.rand(len(x), device=x.device) * 2 - 1) * math.radians(self.rotation)
        ratio = x.shape[-1] / x.shape[-2]
        matrix = torch.zeros(len(x), 2, 3, device=x.device, dtype=x.dtype)
        matrix[:, 0, 0], matrix[:, 0, 1] = angle.cos(), -angle.sin() / ratio
        matrix[:, 1, 0], matrix[:, 1, 1] = angle.sin() * ratio, angle.cos()
        grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    def shifted(self, x: Tensor) -> Tensor:
        n_rows, n_channels, height, width = x.shape
        rows = self.positions(n_rows, height, x.device)
        columns = self.positions(n_rows, width, x.device)
        if self.flip:
            mirrored = torch.rand(n_rows, device=x.device) < 0.5
            columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
        image = torch.arange(n_rows, device=x.device)[:, None, None, None]
        channel = torch.arange(n_channels, device=x.device)[None, :, None, None]
        return x[image, channel, rows[:, None, :, None], columns[:, None, None, :]]

    def positions(self, n_rows: int, size: int, device: torch.device) -> Tensor:
        """Return where each pixel of an axis comes from, (n_rows, size)."""
        most = round(self.crop * size)
        shift = torch.randint(-most, most + 1, (n_rows, 1), device=device)
        return (torch.arange(size, device=device) + shift).clamp(0, size - 1)

    def covered(self, x: Tensor) -> Tensor:
        inside = torch.ones(len(x), 1, *x.shape[-2:], dtype=torch.bool, device=x.device)
        for axis in (2, 3):
            size = x.shape[axis]
            centre = torch.rand(len(x), 1, device=x.device) * size
            near = (torch.arange(size, device=x.device) + 0.5 - centre).abs() < self.cutout * size / 2
            inside &= near[:, None, :, None] if axis == 2 else near[:, None, None, :]
        return x.masked_fill(inside, 0.0)


Builder = Callable[..., nn.Module]


def timm_net(name: str) -> Builder:
    """Return a function that builds a model of timm, for images of any number of channels."""
    timm = optional_package("timm")

    def make(n_outputs: int, n_channels: int, params: Mapping[str, Any]) -> Any:
        facts = {"num_classes": n_outputs, "in_chans": n_channels}
        return timm.create_model(name, pretrained=False, **facts, **params)

    return _library_net("timm", name, timm.list_models(), make)


def torchvision_net(name: str) -> Builder:
    """Return a function that builds a classification model of torchvision, for images of 3 channels."""
    models = optional_package("torchvision").models

    def make(n_outputs: int, n_channels: int, params: Mapping[str, Any]) -> Any:
        if n_channels != 3:
            raise UsageError(
                f"torchvision:{name} must read images of 3 channels; got {n_channels}; use mode: RGB, net: cnn, or "
                "a model of timm"
            )
        return models.get_model(name, weights=None, num_classes=n_outputs, **params)

    return _library_net("torchvision", name, models.list_models(module=models), make)


def _library_net(library: str, name: str, known: Sequence[str], make: Callable[..., Any]) -> Builder:
    """Return a function that builds a library's model, which `known` must list, without weights."""
    net = f"{library}:{name}"
    # timm names weights behind a dot: resnet18.a1_in1k is the model resnet18.
    if name.partition(".")[0] not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f" Did you mean '{library}:{near[0]}'?" if near else ""
        raise ConfigError(f"net '{net}' does not exist: {library} has no model {name!r}.{hint}")

    def build(n_outputs: int, shapes: Mapping[str, Sequence[int]], **params: Any) -> nn.Module:
        n_channels, _, _ = image_shape(shapes, net)
        for given in ("pretrained", "weights"):
            if params.get(given):
                raise UsageError(
                    f"{net}: nothing is downloaded in a run; got params {given}={params[given]!r}; remove it, and "
                    "give a file of weights"
                )
        model: nn.Module = make(n_outputs, n_channels, params)
        return model

    build.__name__ = net
    return build


def optional_package(name: str) -> ModuleType:
    """Import timm or torchvision.

    Raises
    ------
    MissingExtraError
        If it is a build for another torch: the usual trap on machines without a GPU, where pip takes the
        CUDA build from PyPI beside a CPU build of torch.
    """
    try:
        if name == "torchvision":
            importlib.import_module("torchvision.models")
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise  # the table of names has looked for both packages
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise MissingExtraError(
            f"{name} is installed but cannot be imported ({first_line(error)}): its "
            "torchvision was built for another torch (PyPI has the CUDA build alone). Install both from one index: "
            "pip install --force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/cpu"
        ) from error
