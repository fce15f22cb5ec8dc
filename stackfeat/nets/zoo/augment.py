"""Random changes of images that leave their class as it is, in training only.

In:  images (n_rows, channels, height, width) near mean 0.
Out: images of the same shape; in eval mode the very same tensor.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackfeat.errors import UsageError
from stackfeat.registry.resolve import suggest

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
