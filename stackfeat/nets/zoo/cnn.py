"""CNN: a small residual net for images of 16 to 64 pixels.

In:  images, float32 (n_rows, channels, height, width).
Out: one score per class, or one value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from stackfeat.errors import UsageError
from stackfeat.nets.zoo.augment import Augment
from stackfeat.nets.zoo.sizes import only_input

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

    train_defaults = {"lr": 3e-3, "weight_decay": 1e-2, "schedule": "onecycle", "batch_size": 128}  # noqa: RUF012

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
        if min(width, stages, depth) < 1:
            raise UsageError(
                f"width, stages and depth must be at least 1; got width={width}, stages={stages}, depth={depth}"
            )
        stride = 2 if min(height, side) >= LARGE_SIDE else 1
        self.augment = Augment.of({"crop": 0.1} if augment is None else augment)
        self.stem = nn.Sequential(
            nn.Conv2d(n_channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.stages = nn.Sequential()
        n_inputs = width
        for stage in range(stages):
            n_units = width * 2**stage
            blocks = [ResidualBlock(n_inputs, n_units, 2)]
            blocks += [ResidualBlock(n_units, n_units, 1) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
            n_inputs = n_units
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_inputs, n_outputs)

    def forward(self, image: Tensor) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        features = self.pool(self.stages(self.stem(self.augment(image)))).flatten(1)
        scores: Tensor = self.head(self.dropout(features))
        return scores


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
        out: Tensor = self.act2(y + self.shortcut(x))
        return out


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
