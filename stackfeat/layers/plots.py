"""Pictures of what a net sees: feature maps of a few rows, and the filters of a layer.

In:  arrays that `extract` or `tapped` gave, or a module and the name of a layer.
Out: a matplotlib Figure made of titled grids; nothing is kept in pyplot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from stackfeat.errors import TapError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES = 1.1


def plot_feature_maps(
    features: Mapping[str, Any] | np.ndarray | Tensor,
    *,
    rows: Sequence[int] | int = 1,
    channels: int | None = 16,
    n_columns: int = 8,
    cmap: str = "viridis",
    titles: Sequence[str] | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Draw feature maps, a grid for each tap and row.

    Parameters
    ----------
    features : mapping of str to array, or array
        Maps of shape (n_rows, channels, height, width), as ``extract(..., pool="none")`` and
        ``tapped`` give; (n_rows, channels, steps) and (n_rows, columns) are drawn as one picture a row.
    rows : sequence of int, or int
        Which rows, or how many of the first.
    channels : int, optional
        At most so many channels; None: all.
    n_columns : int
        Pictures side by side.
    cmap : str
        A colour map of matplotlib.
    titles : sequence of str, optional
        A name for each row; by default its number.
    path : path, optional
        Also save there; the ending says the format.

    Returns
    -------
    Figure

    Raises
    ------
    UsageError
        If there is nothing to draw.
    """
    named = features if isinstance(features, Mapping) else {"features": features}
    grids: list[tuple[str, list[np.ndarray], list[str]]] = []
    for name, values in named.items():
        maps = to_numpy(values)
        chosen = range(min(rows, len(maps))) if isinstance(rows, int) else rows
        for place, row in enumerate(chosen):
            if not -len(maps) <= row < len(maps):
                raise UsageError(f"rows must be below {len(maps)}; got row={row}; choose another")
            pictures = as_pictures(maps[row])[: channels or None]
            label = titles[place] if titles is not None else f"row {row}"
            shape = "×".join(map(str, maps.shape[1:]))
            grids.append((f"{name}, {label} ({shape})", pictures, [str(i) for i in range(len(pictures))]))
    return draw(grids, n_columns=n_columns, cmap=cmap, path=path)


def plot_filters(
    model: nn.Module,
    layer: str,
    *,
    filters: int | None = 32,
    n_columns: int = 8,
    cmap: str = "gray",
    path: str | Path | None = None,
) -> Figure:
    """Draw the weights of a layer: a convolution's kernels, or a linear layer's matrix.

    Parameters
    ----------
    model : nn.Module
    layer : str
        Name of a layer with a weight. Kernels over three channels are drawn in colour, over others
        a picture for each channel.
    filters : int, optional
        At most so many; None: all.
    n_columns, cmap, path
        As in `plot_feature_maps`.

    Raises
    ------
    LayerNotFoundError
        If there is no such layer.
    TapError
        If it has no weight to draw.
    """
    from stackfeat.layers.taps.tap import resolve_taps

    (read,) = resolve_taps(model, [layer])
    weight = getattr(read.modules[0], "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        raise TapError(
            f"plot_filters must have a layer with a weight of two or more dimensions; got layer={layer!r} "
            f"({type(read.modules[0]).__name__}); name a convolution or a linear layer"
        )
    kernels = to_numpy(weight)
    title = f"{layer} ({type(read.modules[0]).__name__} {'×'.join(map(str, kernels.shape))})"
    if kernels.ndim == 2:
        return draw([(title, [kernels], [""])], n_columns=1, cmap=cmap, path=path)
    pictures, labels = [], []
    for index, kernel in enumerate(kernels):
        parts = as_pictures(kernel)
        if kernel.ndim == 3 and len(kernel) == 3:  # in colour
            low, high = kernel.min(), kernel.max()
            parts = [((kernel - low) / max(high - low, 1e-12)).transpose(1, 2, 0)]
        pictures += parts
        labels += [str(index) if len(parts) == 1 else f"{index}.{part}" for part in range(len(parts))]
    return draw([(title, pictures[: filters or None], labels)], n_columns=n_columns, cmap=cmap, path=path)


def to_numpy(values: Any) -> np.ndarray:
    array = values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim < 2 or array.size == 0:
        raise UsageError(
            f"features must have a row per sample and values in it; got shape={array.shape}; "
            "read a layer with sf.extract or sf.tapped"
        )
    return array


def as_pictures(values: np.ndarray) -> list[np.ndarray]:
    """Cut one row's values into pictures: channels of maps, or one strip."""
    if values.ndim >= 3:
        return list(values.reshape(-1, *values.shape[-2:]))
    if values.ndim == 2:
        return [values]
    width = math.ceil(math.sqrt(len(values)))  # a vector becomes about as wide as high
    padded = np.full(width * math.ceil(len(values) / width), np.nan)
    padded[: len(values)] = values
    return [padded.reshape(-1, width)]


def draw(
    grids: list[tuple[str, list[np.ndarray], list[str]]],
    *,
    n_columns: int,
    cmap: str,
    path: str | Path | None,
) -> Figure:
    """Put titled grids below each other."""
    from matplotlib.figure import Figure

    if n_columns < 1:
        raise UsageError(f"n_columns must be at least 1; got n_columns={n_columns}; use 8")
    if not grids:
        raise UsageError("there must be something to draw; got no features; name taps and rows")
    heights = [math.ceil(len(pictures) / n_columns) for _, pictures, _ in grids]
    widest = max(min(len(pictures), n_columns) for _, pictures, _ in grids)
    figure = Figure(
        figsize=(max(4.0, widest * INCHES), sum(heights) * INCHES + 0.5 * len(grids)), layout="constrained"
    )
    ratios = [height + 0.45 for height in heights]
    parts: Any = figure.subfigures(len(grids), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for part, (title, pictures, labels), height in zip(parts, grids, heights, strict=True):
        part.suptitle(title, fontsize=9)
        cells = part.subplots(height, min(len(pictures), n_columns), squeeze=False).flat
        for index, cell in enumerate(cells):
            cell.set_axis_off()
            if index < len(pictures):
                cell.imshow(pictures[index], cmap=cmap, interpolation="nearest", aspect="equal")
                cell.set_title(labels[index], fontsize=6, pad=1)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
