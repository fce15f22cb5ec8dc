"""Pictures: a grid of every tap and row, filters of every kind of layer, saved with one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import stackfeat as sf
from stackfeat.errors import LayerNotFoundError, TapError, UsageError


def axes_of(figure: object) -> list[object]:
    return [axis for axis in figure.axes if axis.images]  # type: ignore[attr-defined]


def test_feature_maps_are_drawn_channel_by_channel(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 3, 3), nn.Flatten(), nn.Linear(48, 2))
    images = torch.randn(4, 1, 8, 8)
    features = sf.extract(net, images, taps=["0", "2"], pool="none")
    figure = sf.plot_feature_maps(features, rows=[0, 3], path=tmp_path / "maps.png")
    drawn = axes_of(figure)
    assert len(drawn) == 2 * 5 + 2 * 3
    np.testing.assert_array_equal(drawn[1].images[0].get_array(), features["0"][0, 1])  # type: ignore[attr-defined]
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert titles == ["0, row 0 (5×6×6)", "0, row 3 (5×6×6)", "2, row 0 (3×4×4)", "2, row 3 (3×4×4)"]
    assert (tmp_path / "maps.png").stat().st_size > 1000


def test_sequences_and_vectors_are_drawn_too() -> None:
    assert len(axes_of(sf.plot_feature_maps(np.ones((3, 7, 5)), rows=2))) == 2
    assert len(axes_of(sf.plot_feature_maps(torch.ones(3, 10)))) == 1
    assert len(axes_of(sf.plot_feature_maps(np.ones((1, 40, 4, 4)), channels=None))) == 40


@pytest.mark.parametrize(
    ("layer", "n_pictures"),
    [
        (nn.Conv2d(1, 6, 3), 6),
        (nn.Conv2d(3, 6, 3), 6),
        (nn.Conv2d(4, 3, 3), 12),
        (nn.Conv1d(2, 5, 3), 5),
        (nn.Linear(4, 3), 1),
    ],
)
def test_filters_of_every_kind_are_drawn(layer: nn.Module, n_pictures: int) -> None:
    figure = sf.plot_filters(nn.Sequential(layer), "0")
    assert len(axes_of(figure)) == n_pictures
    assert figure.subfigs[0].get_suptitle().startswith("0 (")


def test_pyplot_keeps_nothing() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    sf.plot_filters(nn.Sequential(nn.Conv2d(1, 2, 3)), "0")
    assert plt.get_fignums() == before


def test_what_cannot_be_drawn_is_refused() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    with pytest.raises(TapError, match="layer with a weight"):
        sf.plot_filters(net, "0")
    with pytest.raises(LayerNotFoundError):
        sf.plot_filters(net, "conv")
    with pytest.raises(UsageError, match="row=9"):
        sf.plot_feature_maps(np.ones((3, 4)), rows=[9])
    with pytest.raises(UsageError, match="no features"):
        sf.plot_feature_maps({})
