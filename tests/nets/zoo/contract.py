"""What every net of the table is tried on: a small version of it, and rows of the kind it reads.

A new net needs a line in `NET_KINDS`, and one in `SMALL` where its defaults are too wide for a test. A
new kind of input needs a function in `EXAMPLES` that makes rows of it, and a target they decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.fit import TrainingSet, fit_net
from stackfeat.nets.training.loop import Training
from stackfeat.registry.names import NETS
from stackfeat.registry.resolve import resolve
from stackfeat.tasks.task import Task

TASKS = {
    "binary": Task("binary", ("no", "yes")),
    "multiclass": Task("multiclass", ("a", "b", "c")),
    "regression": Task("regression"),
}


@dataclass(frozen=True)
class Example:
    """Rows of one kind.

    Attributes
    ----------
    arrays : tuple of ndarray
        What ``forward`` takes, in the order of its arguments.
    signal : ndarray of shape (n_rows,)
        A number near a standard normal that the arrays decide; targets are made of it.
    cardinalities : tuple of int
    input_names : tuple of str
    odd : tuple of ndarray
        Rows as they come later: categories that were never seen, missing values, padding.
    """

    arrays: tuple[np.ndarray, ...]
    signal: np.ndarray
    odd: tuple[np.ndarray, ...]
    cardinalities: tuple[int, ...] = ()
    input_names: tuple[str, ...] = ()
    vocabulary: Mapping[str, int] = field(default_factory=dict)


def table(n_rows: int, seed: int) -> Example:
    """Numbers (one constant, one an indicator) and codes, among them one column of a single level."""
    rng = np.random.default_rng(seed)
    numeric = rng.normal(size=(n_rows, 5)).astype(np.float32)
    numeric[:, 3] = 0.0
    numeric[:, 4] = numeric[:, 4] > 0
    cardinalities = (3, 2, 12)
    codes = np.stack([rng.integers(1, n_codes, n_rows) for n_codes in cardinalities], axis=1)
    signal = (numeric[:, 0] - numeric[:, 1] + (codes[:, 0] == 2) * 1.5 - 0.75) / 1.6
    odd_numeric = np.array([[0, 0, 0, 0, 0], [50, -50, 3, 1, 1]], dtype=np.float32)
    odd_codes = np.array([[0, 0, 0], [2, 0, 11]])
    return Example((numeric, codes), signal, (odd_numeric, odd_codes), cardinalities)


def image(n_rows: int, seed: int) -> Example:
    """Grey images with stripes whose contrast is the signal."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n_rows)
    stripes = np.where(np.arange(12) // 2 % 2, 1.0, -1.0)
    x = rng.normal(size=(n_rows, 1, 12, 12)) * 0.3 + signal[:, None, None, None] * stripes
    odd = np.stack([np.zeros((1, 12, 12)), np.full((1, 12, 12), 50.0)])
    return Example((x.astype(np.float32),), signal, (odd.astype(np.float32),), input_names=("image",))


def sequence(n_rows: int, seed: int) -> Example:
    """Steps of two channels, the first around the signal."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n_rows)
    x = rng.normal(size=(n_rows, 9, 2)) * 0.3
    x[:, :, 0] += signal[:, None]
    odd = np.stack([np.zeros((9, 2)), np.full((9, 2), -50.0)])
    return Example((x.astype(np.float32),), signal, (odd.astype(np.float32),), input_names=("x",))


def several(n_rows: int, seed: int) -> Example:
    """A sequence and a vector, each with half of the signal."""
    steps, vector = sequence(n_rows, seed), np.random.default_rng(seed + 1).normal(size=(n_rows, 3))
    arrays = (steps.arrays[0], vector.astype(np.float32))
    odd = (steps.odd[0], np.array([[0, 0, 0], [9, -9, 50]], dtype=np.float32))
    return Example(arrays, (steps.signal + vector[:, 0]) / 1.4, odd, input_names=("steps", "vector"))


def text(n_rows: int, seed: int) -> Example:
    """The rows of a table whose signal is the number of one word in the first of two texts."""
    rng = np.random.default_rng(seed)
    numeric, codes = rng.normal(size=(n_rows, 2)).astype(np.float32), rng.integers(1, 4, (n_rows, 1))
    tokens = rng.integers(3, 12, (n_rows, 2, 9))
    tokens[:, :, 6:] = 0
    n_said = rng.integers(0, 4, n_rows)
    tokens[:, 0, :4] = np.where(np.arange(4) < n_said[:, None], 2, tokens[:, 0, :4])
    signal = (n_said - 1.5 + rng.normal(size=n_rows) * 0.1) / 1.1
    odd = (
        np.array([[0, 0], [50, -50]], dtype=np.float32),
        np.array([[0], [2]]),
        np.zeros((2, 2, 9), np.int64),
    )
    odd[2][1] = 1
    names = ("numeric", "codes", "tokens")
    return Example((numeric, codes, tokens), signal, odd, (4,), names, {"tokens": 12})


EXAMPLES: dict[str, Callable[[int, int], Example]] = {
    "table": table,
    "image": image,
    "sequence": sequence,
    "several": several,
    "text": text,
}

NET_KINDS = {
    "mlp": "table",
    "realmlp": "table",
    "tabm": "table",
    "resnet_tabular": "table",
    "ft_transformer": "table",
    "cnn": "image",
    "transformer_encoder": "sequence",
    "gru": "sequence",
    "tcn": "sequence",
    "inception_time": "sequence",
    "fusion": "several",
    "text_bag": "text",
    "text_cnn": "text",
}
"""Which kind of rows each net of the table reads."""

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [64, 32]},
    "realmlp": {"hidden": [64, 32]},
    "tabm": {"k": 4, "hidden": 48, "n_blocks": 2},
    "resnet_tabular": {"hidden": 48},
    "ft_transformer": {"hidden": 16, "heads": 4},
    "cnn": {"width": 8, "stages": 2, "augment": {}, "dropout": 0.0},
    "transformer_encoder": {"width": 16, "depth": 1, "dropout": 0.0},
    "text_bag": {"width": 16, "hidden": 32, "dropout": 0.0, "word_dropout": 0.0},
    "text_cnn": {"width": 16, "hidden": 32, "dropout": 0.0, "word_dropout": 0.0, "filters": 8},
    "gru": {"width": 16, "depth": 1, "dropout": 0.0},
    "tcn": {"width": 16, "depth": 2, "kernel": 3, "dropout": 0.0},
    "inception_time": {"filters": 8, "depth": 3, "kernel": 8, "dropout": 0.0},
    "fusion": {
        "width": 16,
        "hidden": 32,
        "dropout": 0.0,
        "encoders": {
            "steps": {"net": "tcn", "width": 8, "depth": 1, "dropout": 0.0},
            "vector": {"net": "vector", "hidden": [16], "dropout": 0.0},
        },
    },
}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, SMALL.get(name, {})) for name in NETS},
    "realmlp, numbers as they are": ("realmlp", SMALL["realmlp"] | {"frequencies": 0}),
    **{
        f"{net}, numbers {kind}": (net, SMALL[net] | {"num_embeddings": kind, "num_embedding_width": 4})
        for net in ("tabm", "resnet_tabular")
        for kind in ("none", "piecewise_linear", "periodic")
    },
    "tabm, mini": ("tabm", SMALL["tabm"] | {"architecture": "tabm-mini"}),
    "tabm, packed": ("tabm", SMALL["tabm"] | {"architecture": "tabm-packed"}),
}
"""Nets of the table by name, and versions of them that differ in more than size."""


def example_of(variant: str, n_rows: int = 64, seed: int = 0) -> Example:
    return EXAMPLES[NET_KINDS[VARIANTS[variant][0]]](n_rows, seed)


def target_of(example: Example, task: Task) -> np.ndarray:
    """Return thirds or halves of the signal as classes, or the signal as values far from zero."""
    if not task.classes:
        return example.signal.astype(np.float64) * 20 + 100
    edges = np.quantile(example.signal, np.linspace(0, 1, task.n_outputs + 1)[1:-1])
    return np.searchsorted(edges, example.signal).astype(np.int64)


def spec_of(variant: str, task: Task, example: Example) -> NetSpec:
    """Return what the variant is made of, what it learns of the rows included."""
    net, params = VARIANTS[variant]
    spec = NetSpec(
        cls=resolve(net, NETS, "net"),  # type: ignore[arg-type]
        params=params,
        n_features=example.arrays[0].shape[1],
        n_outputs=task.n_outputs,
        cardinalities=example.cardinalities,
        shapes={
            name: array.shape[1:] for name, array in zip(example.input_names, example.arrays, strict=False)
        },
        input_names=example.input_names,
        vocabulary=example.vocabulary,
    )
    return spec.on_rows(example.arrays)


def fit(variant: str, task: Task, example: Example, *, seed: int = 0, **train: Any) -> FittedNet:
    """Train the variant with its own options, and those given."""
    from stackfeat.nets.options import training_defaults

    declared = training_defaults(VARIANTS[variant][0], task.kind)
    return fit_net(
        spec_of(variant, task, example),
        TrainingSet(example.arrays, target_of(example, task), seed),
        Training(
            TrainOptions(**{**declared, "batch_size": 32, **train}),
            task,
            "cross_entropy" if task.classes else "mse",
        ),
    )


def tensors(arrays: tuple[np.ndarray, ...], dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    found = (torch.from_numpy(array) for array in arrays)
    return tuple(values.to(dtype) if values.is_floating_point() else values for values in found)
