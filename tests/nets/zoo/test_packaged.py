"""Nets made of optional packages: what they compute, and what is said where a package is missing."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stackfeat.errors import MissingExtraError, UsageError
from stackfeat.layers.taps.runtime import pinned
from stackfeat.nets.build import NetSpec
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.outputs import Head, row_losses
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.zoo.packaged import FTTransformer, ResNetTabular, TabM
from stackfeat.registry.names import NET_PACKAGES, NETS
from stackfeat.registry.resolve import resolve
from stackfeat.tasks.task import Task

tabm = pytest.importorskip("tabm")
models = pytest.importorskip("rtdl_revisiting_models")
embeddings = pytest.importorskip("rtdl_num_embeddings")
NO_CODES = np.zeros((50, 0), dtype=np.int64)


@pytest.mark.parametrize("architecture", ["tabm", "tabm-mini", "tabm-packed"])
def test_tabm_is_the_packages(architecture: str) -> None:
    settings = {"k": 3, "n_blocks": 2, "dropout": 0.0}
    with pinned(0):
        ours = TabM(4, 2, hidden=8, architecture=architecture, num_embeddings="none", **settings).train()  # type: ignore[arg-type]
    with pinned(0):
        theirs = tabm.TabM.make(
            n_num_features=4, d_out=2, d_block=8, arch_type=architecture, **settings
        ).train()
    x = torch.randn(5, 4)
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours(x).shape == (5, 3, 2)


def test_tabm_predicts_the_mean_of_the_k_probabilities_or_values() -> None:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    for n_outputs in (3, 1):
        with pinned(0):
            net = TabM(4, n_outputs, k=3, hidden=8, dropout=0.0, num_embeddings="none")
        each, mean = net.train()(x), net.eval()(x)
        assert mean.shape == (6, n_outputs)
        expected = each.softmax(2).mean(1) if n_outputs > 1 else each.mean(1)
        torch.testing.assert_close(mean.softmax(1) if n_outputs > 1 else mean, expected)


def test_the_loss_of_k_predictions_is_the_mean_of_their_losses() -> None:
    output = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 3, 0])
    found = row_losses(Head("logits"), "cross_entropy", output, y, 0.1)
    by_hand = sum(F.cross_entropy(output[:, i], y, reduction="none", label_smoothing=0.1) for i in range(3))
    torch.testing.assert_close(found, by_hand / 3)
    of_the_mean = F.cross_entropy(output.softmax(2).mean(1).log(), y, reduction="none", label_smoothing=0.1)
    assert float((found - of_the_mean).abs().max()) > 0.05
    values, target = output[:, :, :1], torch.arange(5.0)
    found = row_losses(Head("value"), "mse", values, target, 0.0)
    torch.testing.assert_close(found, ((values[:, :, 0] - target[:, None]) ** 2).mean(1))


def test_training_a_tabm_takes_the_step_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 2, 50)
    params = {"k": 4, "hidden": 8, "n_blocks": 1, "dropout": 0.0, "num_embeddings": "none"}
    options = TrainOptions(epochs=1, batch_size=50, lr=0.01, weight_decay=0.0, clip_norm=None)
    net = fit_net(
        NetSpec(TabM, params, 3, 2),
        TrainingSet((x, NO_CODES), y, 0),
        Training(options, Task("binary", ("a", "b")), "cross_entropy"),
    )
    assert net.report.lr == 0.01
    from stackfeat.seeds import derive_seed

    with pinned(derive_seed(0, "init")):
        by_hand = TabM(3, 2, **params).train()  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.01, weight_decay=0.0)
    output = by_hand(torch.from_numpy(x))
    loss = sum(F.cross_entropy(output[:, i], torch.from_numpy(y)) for i in range(4)) / 4
    loss.backward()  # type: ignore[union-attr]
    optimizer.step()
    assert net.report.losses[0] == pytest.approx(float(loss.detach()), rel=1e-5)  # type: ignore[union-attr]
    for name, values in by_hand.state_dict().items():
        torch.testing.assert_close(net.module.state_dict()[name], values, rtol=1e-4, atol=1e-5)


def test_resnet_is_the_packages() -> None:
    with pinned(0):
        ours = ResNetTabular(4, 3, n_blocks=2, hidden=8).eval()
    with pinned(0):
        theirs = models.ResNet(
            d_in=4,
            d_out=3,
            n_blocks=2,
            d_block=8,
            d_hidden_multiplier=2.0,
            dropout1=0.25,
            dropout2=0.0,
        ).eval()
    x = torch.randn(5, 4)
    torch.testing.assert_close(ours(x), theirs(x))


def test_ft_transformer_is_the_packages_and_unknown_codes_are_zeros() -> None:
    net = FTTransformer(2, 3, (4, 5), hidden=16, heads=4).eval()
    x, codes = torch.randn(3, 2), torch.tensor([[1, 2], [0, 4], [3, 0]])
    torch.testing.assert_close(net(x, codes), net.transformer(x, codes))
    for table in net.transformer.cat_embeddings.embeddings:
        assert torch.equal(table.weight[0], torch.zeros(16))
        assert table.weight[1].abs().sum() > 0
    assert FTTransformer(0, 1, (4,), hidden=16)(torch.zeros(3, 0), codes[:, :1]).shape == (3, 1)
    assert FTTransformer(2, 1, hidden=16)(x, torch.zeros(3, 0, dtype=torch.int64)).shape == (3, 1)


@pytest.mark.parametrize("cls", [TabM, ResNetTabular])
def test_bins_are_quantiles_of_the_rows_given(cls: Any) -> None:
    rng = np.random.default_rng(0)
    numeric = np.column_stack([rng.normal(size=50), rng.normal(size=50) > 0, np.full(50, 2.0)])
    params = {"num_embeddings": "piecewise_linear", "n_bins": 8}
    bins = cls.prepare((numeric.astype(np.float32), NO_CODES), params)["bins"]
    expected = np.quantile(numeric[:, 0].astype(np.float32), np.linspace(0, 1, 9))
    np.testing.assert_allclose(bins[0], expected, rtol=1e-5, atol=1e-6)
    assert bins[1:] == [[0.0, 1.0], [1.5, 2.5]]
    assert cls.prepare((numeric, NO_CODES), {"num_embeddings": "none"}) == {}
    two_rows = cls.prepare((numeric[:2].astype(np.float32), NO_CODES[:2]), params)["bins"]
    assert all(len(edges) == 2 and edges[0] < edges[1] for edges in two_rows)


def test_embedded_numbers_are_the_packages() -> None:
    rng = np.random.default_rng(0)
    numeric = rng.normal(size=(50, 2)).astype(np.float32)
    params = {"num_embeddings": "piecewise_linear", "n_bins": 6, "num_embedding_width": 3}
    net = ResNetTabular(2, 1, prepared=ResNetTabular.prepare((numeric, NO_CODES), params), **params)  # type: ignore[arg-type]
    x = torch.from_numpy(numeric)
    theirs = embeddings.PiecewiseLinearEmbeddings(
        embeddings.compute_bins(x, n_bins=6), 3, activation=False, version="B"
    )
    assert net.numbers.embed is not None
    theirs.load_state_dict(net.numbers.embed.state_dict())
    torch.testing.assert_close(net.numbers(x), theirs(x).flatten(1))


def test_a_fitted_net_keeps_the_bins_of_its_training_rows() -> None:
    rng = np.random.default_rng(0)
    train, later = rng.normal(size=(50, 2)).astype(np.float32), np.full((3, 2), 9.0, dtype=np.float32)
    params = {"num_embeddings": "piecewise_linear", "n_bins": 4, "hidden": 8, "k": 2}
    net = fit_net(
        NetSpec(TabM, params, 2, 1),
        TrainingSet((train, NO_CODES), train[:, 0].astype(np.float64), 0),
        Training(TrainOptions(epochs=1), Task("regression"), "mse"),
    )
    assert net.spec.prepared == TabM.prepare((train, NO_CODES), params)
    before = net.state_bytes()
    net.predict((later, NO_CODES[:3]))
    assert net.state_bytes() == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TabM(2, 2), "must have bins for 2 columns; got none"),
        (lambda: TabM(2, 2, num_embeddings="piecewise"), "Did you mean 'piecewise_linear'"),
        (lambda: TabM(2, 2, architecture="tabm-mimi"), "Did you mean 'tabm-mini'"),
        (lambda: TabM(2, 2, k=0), "k must be at least 1; got k=0"),
        (lambda: TabM(2, 2, n_bins=1), "n_bins must be at least 2; got n_bins=1"),
        (lambda: TabM(0, 2), "a TabM must have at least one input column"),
        (lambda: ResNetTabular(0, 2), "a ResNetTabular must have at least one input column"),
        (lambda: ResNetTabular(2, 2, n_blocks=0), "n_blocks must be at least 1"),
        (lambda: FTTransformer(0, 2), "an FTTransformer must have at least one input column"),
        (
            lambda: FTTransformer(2, 2, hidden=20),
            "hidden must be a multiple of heads; got hidden=20, heads=8",
        ),
    ],
)
def test_impossible_nets_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("name", NET_PACKAGES)
def test_a_missing_package_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extra, packages = NET_PACKAGES[name]
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    net: Any = resolve(name, NETS, "net")
    with pytest.raises(MissingExtraError, match=rf'net {name!r} needs .*pip install "stackfeat\[{extra}\]"'):
        net(3, 2)


@pytest.mark.parametrize("name", ["mlp", "realmlp"])
def test_core_nets_need_no_extra(name: str) -> None:
    assert name not in NET_PACKAGES
