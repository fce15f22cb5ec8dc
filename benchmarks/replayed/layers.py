"""Readings of layers: `list_layers`, `find_penultimate`, `tapped`, `extract`, `TapFeatures`, and files of them.

In:  small nets of several kinds with fixed weights, and inputs for them.
Out: entries of every layer that can be read, by each of the ways to read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import stackfeat as sf
from benchmarks.replayed.entries import Entries, flattened, of_array, of_bytes, of_csv, of_frame, of_text

N_ROWS = 21


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.body = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)])
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.body:
            x = x + self.act(layer(x))
        return self.head(sf.mark("pooled", x.mean(dim=(2, 3))))


class Sequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens)).mean(dim=1))


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)
        self.gru = nn.GRU(6, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Tensor:
        values, _ = self.lstm(x)
        values, state = self.gru(values)
        return self.head(torch.cat([state[0], state[1]], dim=1))


class Inputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 5), nn.Linear(3, 5)
        self.drop, self.act = nn.Dropout(0.3), nn.GELU()
        self.head = nn.Linear(10, 3)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        joined = torch.cat([self.act(self.left(left)), self.act(self.right(right))], dim=1)
        return {"logits": self.head(self.drop(joined)), "joined": joined}


@dataclass(frozen=True)
class Case:
    """A net, inputs for it, and taps to read."""

    make: Callable[[], nn.Module]
    inputs: Callable[[np.random.Generator], Any]
    taps: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)


def mlp() -> nn.Module:
    layers = [nn.Linear(7, 12), nn.BatchNorm1d(12), nn.ReLU(inplace=True), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(12, 6), nn.SiLU(), nn.Linear(6, 3))


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=(N_ROWS, *shape)).astype(np.float32)


CASES: dict[str, Case] = {
    "mlp": Case(
        mlp, lambda rng: floats(rng, 7), ("1", "2", "4:input", sf.Tap(type=nn.Linear), "penultimate")
    ),
    "cnn": Case(
        Pictures,
        lambda rng: floats(rng, 2, 6, 6),
        (
            "stem.0",
            "stem.2",
            "body.0",
            "act#0",
            "act#-1",
            "pooled",
            sf.Tap("body.1", pool="max"),
            "penultimate",
        ),
    ),
    "transformer": Case(
        Sequences,
        lambda rng: rng.integers(0, 9, size=(N_ROWS, 5)),
        (
            "embedding",
            "encoder.layers.*.dropout2",
            "encoder.layers.1.self_attn[0]",
            sf.Tap("encoder.layers.*", last=2, combine="mean", pool="cls"),
            "penultimate",
        ),
    ),
    "lstm": Case(
        Steps,
        lambda rng: floats(rng, 5, 4),
        ("lstm[0]", "lstm[1][0]", "gru:input", sf.Tap("gru", item=0, pool="last"), "penultimate"),
    ),
    "lengths": Case(
        Sequences,
        lambda rng: rng.integers(0, 9, size=(N_ROWS, 5)),
        ("embedding", "encoder.layers.0"),
        {"lengths": np.arange(N_ROWS) % 5 + 1},
    ),
    "positions": Case(
        Inputs, lambda rng: (floats(rng, 4), floats(rng, 3)), ("left", "act#1", "drop", "penultimate")
    ),
    "names": Case(
        Inputs,
        lambda rng: {"right": floats(rng, 3), "left": floats(rng, 4)},
        ("right", "act#all", "penultimate"),
    ),
}


def settled(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a net whose weights and running statistics come from a fixed seed."""
    torch.manual_seed(0)
    net = make()
    for name, values in net.named_buffers():
        if name.endswith("running_mean"):
            nn.init.uniform_(values)
    return net


def tensors(inputs: Any) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    if isinstance(inputs, dict):
        return (), {name: torch.as_tensor(values) for name, values in inputs.items()}
    several = inputs if isinstance(inputs, tuple) else (inputs,)
    return tuple(torch.as_tensor(values) for values in several), {}


def read_case(name: str, folder: Path) -> Entries:
    case = CASES[name]
    net, inputs = settled(case.make), case.inputs(np.random.default_rng(2))
    before = {key: values.clone() for key, values in net.state_dict().items()}
    args, kwargs = tensors(inputs)
    table = sf.list_layers(net, *args, **kwargs)
    yield "list_layers/text", of_text(str(table))
    yield "list_layers/frame", of_frame(table.to_frame())
    yield "list_layers/names", of_text(str(list(table.names)))
    yield "find_penultimate", of_text(str(sf.find_penultimate(net, *args, **kwargs)))
    yield from tapped_entries(net, case, args, kwargs)
    ways: dict[str, dict[str, Any]] = {"16": {}, "one": {"batch_size": 1}}
    if "lengths" not in case.options:
        ways["flat"] = {"pool": "flatten"}
    for label, options in ways.items():
        found = sf.extract(net, inputs, list(case.taps), **{"batch_size": 16, **case.options, **options})
        yield from flattened(f"extract-{label}", found)
    alone = sf.extract(net, inputs, batch_size=16)
    yield from flattened("extract-penultimate", alone)
    whole = sf.extract(net, inputs, list(case.taps), batch_size=16, out=folder / "out", **case.options)
    yield from flattened("extract-files", {key: np.array(values) for key, values in whole.items()})
    for path in sorted((folder / "out").glob("*.npy")):
        yield f"extract-files/{path.name}", of_bytes(path.read_bytes())
    kept = all(torch.equal(before[key], values) for key, values in net.state_dict().items())
    yield "state", of_text(f"kept={kept} training={net.training}")


def tapped_entries(net: nn.Module, case: Case, args: Any, kwargs: Any) -> Entries:
    taps = [tap for tap in case.taps if tap != "penultimate"]
    net.eval()
    with sf.tapped(net, taps) as caught:
        net(*args, **kwargs)
    yield from flattened("tapped", dict(caught))
    net.train()
    output, read = sf.Extractor(net.eval(), taps[:2])(*args, **kwargs)
    yield from flattened("extractor", {"output": output, **read})
    net.train()


def gradients(_folder: Path) -> Entries:
    net = settled(mlp).eval()
    x = torch.as_tensor(CASES["mlp"].inputs(np.random.default_rng(2)))
    with sf.tapped(net, ["2:grad", "4:grad"]) as caught:
        net(x).square().sum().backward()
    yield from flattened("grad", dict(caught))


def tap_features(_folder: Path) -> Entries:
    for name in ("mlp", "cnn", "lstm"):
        case = CASES[name]
        X = case.inputs(np.random.default_rng(2))
        net = settled(case.make)
        for label, taps in (("penultimate", "penultimate"), ("several", list(case.taps))):
            features = sf.TapFeatures(net, taps).fit(X)
            yield f"{name}/{label}", of_array(features.transform(X))
            yield f"{name}/{label}/names", of_text(str(list(features.get_feature_names_out())))


def similarities(_folder: Path) -> Entries:
    X = CASES["mlp"].inputs(np.random.default_rng(2))
    first = sf.extract(settled(mlp), X, ["0", "2", "4"], batch_size=16)
    rng = np.random.default_rng(4)
    second = {"turned": first["0"] @ rng.normal(size=(12, 5)), "noise": rng.normal(size=(N_ROWS, 3))}
    for method in ("cka", "rsa"):
        yield from flattened(method, sf.similarity(first, second, method=method))
        yield from flattened(f"{method}-two", sf.similarity(first["0"], first["4"], method=method))


def saved_features(folder: Path) -> Entries:
    X = CASES["mlp"].inputs(np.random.default_rng(2))
    found = sf.extract(settled(mlp), X, ["0", "4:input"], batch_size=16)
    for kind in ("npz", "mat", "csv", "parquet"):
        (folder / kind).mkdir()
        for path in sf.save_features(found, folder / kind / f"features.{kind}"):
            yield f"{kind}/{path.name}", of_text("written")
            yield from read_back(path, f"{kind}/{path.name}")


def read_back(path: Path, name: str) -> Entries:
    """Yield what a file holds; archives have the time in them, so their bytes do not count."""
    if path.suffix == ".npz":
        with np.load(path) as archive:
            yield from flattened(name, {key: archive[key] for key in archive.files})
    elif path.suffix == ".mat":
        from scipy.io import loadmat

        yield from flattened(name, {k: v for k, v in loadmat(path).items() if not k.startswith("__")})
    elif path.suffix == ".parquet":
        import pandas as pd

        yield name + "/frame", of_frame(pd.read_parquet(path))
    else:
        yield name + "/cells", of_csv(path)


UNITS: dict[str, Callable[[Path], Entries]] = {
    **{f"layers/{name}": partial(read_case, name) for name in CASES},
    "layers/gradients": gradients,
    "layers/tap-features": tap_features,
    "layers/similarity": similarities,
    "layers/save-features": saved_features,
}
