"""How fast hidden layers are read: `sf.extract` against the bare forward pass and the usual ways.

    python benchmarks/extraction.py [--repeats 7] [--nets mlp,cnn] [--json FILE] [--scale 1.0]
    python benchmarks/extraction.py --against ../old [--repeats 5] [--nets mlp,cnn] [--scale 1.0]

With `--against`, the checkout of another version: how fast each of the two reads, in turns, a process each:
`sf.extract`, and what a pipeline does with a net of a fold: predictions and penultimate layer from its first
read, from a later one, and predictions alone.

One process on one core with one thread; the ways take turns within each repeat, so that a slow
moment of the machine hits all of them; medians of process CPU time; printed are ratios to the best
bare forward pass of the whole net (best of several batch sizes, layouts and matmul paths).
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from measured import installed, timed  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import stackfeat as sf  # noqa: E402

torch.set_num_threads(1)

BATCHES = (16, 32, 64, 256, 512, 1024)
Way = Callable[[], object]


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut = (
            nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
            if stride != 1 or n_in != n_out
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.shortcut(x))


def resnet() -> nn.Sequential:
    """Return a net like ResNet-18 for 64x64 images."""
    blocks: list[nn.Module] = []
    width = 64
    for out, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        blocks.append(Residual(width, out, stride))
        width = out
    stem = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 49, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


class Encoder(nn.Module):
    """Four transformer layers, the mean over steps, a head."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(128, 4, 512, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


@dataclass(frozen=True)
class Case:
    """A net, its penultimate tap, the layer that gives it, and a tap at about half depth."""

    title: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    n_rows: int
    layer: str
    half: str


CASES = {
    "mlp": Case("MLP 50-256-256-10", lambda: mlp(50, 256, 256, 10), (50,), 100_000, "5", "2"),
    "wide": Case("MLP 300-1024-256-10", lambda: mlp(300, 1024, 256, 10), (300,), 40_000, "5", "2"),
    "cnn": Case("CNN 1x28x28", cnn, (1, 28, 28), 3_000, "10", "3"),
    "resnet": Case("ResNet-18-like 3x64x64", resnet, (3, 64, 64), 64, "13", "7"),
    "resnet512": Case("ResNet-18-like 3x64x64", resnet, (3, 64, 64), 512, "13", "7"),
    "transformer": Case(
        "TransformerEncoder 4L d128 s64", Encoder, (64, 128), 768, "encoder", "encoder.layers.1"
    ),
    "deep": Case("MLP 256 x 12", lambda: mlp(256, *[256] * 12, 10), (256,), 20_000, "35", "17"),
}
"""`half` cuts the work in half exactly in the transformer and in `deep`, roughly in the others."""


def loader(x: Tensor) -> DataLoader:
    return DataLoader(TensorDataset(x), batch_size=64)


def layer_of(net: nn.Module, case: Case) -> nn.Module:
    return net.get_submodule(case.layer)


def as_rows(values: Tensor) -> Tensor:
    return values.mean(1) if values.ndim == 3 else values


def hook_loop(net: nn.Module, case: Case, x: Tensor) -> np.ndarray:
    """The loop of most blog posts: append what a hook sees, concatenate at the end."""
    kept: list[np.ndarray] = []
    handle = layer_of(net, case).register_forward_hook(
        lambda _layer, _args, output: kept.append(as_rows(output).detach().cpu().numpy())
    )
    with torch.no_grad():
        for (batch,) in loader(x):
            net(batch)
    handle.remove()
    return np.concatenate(kept)


class CopiedExtractor:
    """What torchextractor 0.3.0 does, for where it is not installed: a hook per layer, a dict of outputs."""

    def __init__(self, net: nn.Module, names: list[str]) -> None:
        self.net = net
        self.outputs: dict[str, Tensor] = {}
        for name in names:
            net.get_submodule(name).register_forward_hook(
                lambda _layer, _args, output, name=name: self.outputs.__setitem__(name, output)
            )

    def __call__(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.net(x), self.outputs


def torchextractor_loop(net: nn.Module, case: Case, x: Tensor) -> np.ndarray:
    try:
        import torchextractor

        extractor = torchextractor.Extractor(copy.deepcopy(net), [case.layer])
    except ImportError:
        extractor = CopiedExtractor(copy.deepcopy(net), [case.layer])
    kept = []
    with torch.no_grad():
        for (batch,) in loader(x):
            _, features = extractor(batch)
            kept.append(as_rows(features[case.layer]).cpu().numpy())
    return np.concatenate(kept)


def fx_extractor(net: nn.Module, case: Case) -> nn.Module | None:
    """Cut the traced graph behind the layer, as torchvision's create_feature_extractor does."""
    from torch import fx

    class Tracer(fx.Tracer):
        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            return super().is_leaf_module(module, name) or isinstance(module, nn.TransformerEncoder)

    tracer = Tracer()
    try:
        graph = tracer.trace(net)
    except Exception:
        return None
    found = [node for node in graph.nodes if node.op == "call_module" and node.target == case.layer]
    if not found:
        return None
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = (found[-1],)
    cut = fx.GraphModule(net, graph)
    cut.graph.eliminate_dead_code()
    cut.recompile()
    return cut


def fx_loop(cut: nn.Module, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([as_rows(cut(batch)).numpy() for (batch,) in loader(x)])


def skorch_loop(net: nn.Module, case: Case, x: Tensor) -> np.ndarray | None:
    """Let skorch's forward loop run the net, its default batch size 128, with the hook of the blog loop."""
    from skorch import NeuralNet

    wrapped = NeuralNet(net, criterion=nn.CrossEntropyLoss, batch_size=128).initialize()
    kept: list[np.ndarray] = []
    handle = layer_of(wrapped.module_, case).register_forward_hook(
        lambda _layer, _args, output: kept.append(as_rows(output).detach().numpy())
    )
    wrapped.forward(x.numpy())
    handle.remove()
    return np.concatenate(kept)


def bare(net: nn.Module, x: Tensor, size: int) -> None:
    with torch.inference_mode():
        for start in range(0, len(x), size):
            net(x[start : start + size])


def best_bare(case: Case, net: nn.Module, x: Tensor) -> tuple[Way, str]:
    """Return the fastest forward pass of the whole net: batch size, layout, matmul path."""
    images = x.ndim == 4
    found: list[tuple[float, Way, str]] = []
    for layout in ("channels-last", "contiguous") if images else ("contiguous",):
        like = torch.channels_last if layout == "channels-last" else torch.contiguous_format
        prepared = copy.deepcopy(net).to(memory_format=like) if images else net
        rows = x.contiguous(memory_format=like) if images else x
        for path in ("medium", "highest"):
            for size in BATCHES:
                if size > len(x):
                    continue

                def run(
                    net: nn.Module = prepared, rows: Tensor = rows, size: int = size, path: str = path
                ) -> None:
                    torch.set_float32_matmul_precision(path)
                    try:
                        bare(net, rows, size)
                    finally:
                        torch.set_float32_matmul_precision("highest")

                part = max(size, min(len(x), max(4 * size, len(x) // 20)))
                torch.set_float32_matmul_precision(path)
                seconds = (
                    min(timed(lambda n=prepared, r=rows[:part], s=size: bare(n, r, s)) for _ in range(3))
                    / part
                )
                torch.set_float32_matmul_precision("highest")
                found.append((seconds, run, f"batch {size}, {layout}, {path}"))
    _, run, label = min(found, key=lambda item: item[0])
    return run, label


def measure(case: Case, repeats: int, scale: float) -> dict[str, object]:
    """Run all ways in turns; return medians relative to the best bare forward pass."""
    torch.manual_seed(0)
    net = case.make().eval()
    x = torch.randn(max(16, int(case.n_rows * scale)), *case.shape)
    array = x.numpy()
    forward, label = best_bare(case, net, x)
    cut = fx_extractor(net, case)
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Way] = {
            "bare forward": forward,
            "extract": lambda: sf.extract(net, array),
            "extract to memmap": lambda: (
                [path.unlink() for path in Path(folder).iterdir()],
                sf.extract(net, array, out=folder),
            ),
            "extract, half depth": lambda: sf.extract(net, array, taps=case.half),
            "hook loop": lambda: hook_loop(net, case, x),
            "torchextractor": lambda: torchextractor_loop(net, case, x),
        }
        if cut is not None:
            ways["torch.fx"] = lambda: fx_loop(cut, x)
        if installed("skorch"):
            ways["skorch"] = lambda: skorch_loop(net, case, x)
        expected = hook_loop(net, case, x)
        (found,) = sf.extract(net, array).values()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max()))
        for way in ways.values():
            way()
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                seconds[name].append(timed(way))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: round(value / medians["bare forward"], 3) for name, value in medians.items()}
    return {"net": case.title, "rows": len(x), "best bare forward": label, "ratios": ratios}


def serve(name: str, scale: float) -> None:
    """Answer each way of reading that is asked for on standard input with its CPU seconds."""
    torch.manual_seed(0)
    case = CASES[name]
    rows = torch.randn(max(16, int(case.n_rows * scale)), *case.shape).numpy()
    few, classes = rows[:40], np.arange(40) % 10
    bare_net = case.make().eval()
    trained = sf.NetClassifier(case.make, epochs=1, scaling="none", device="cpu", random_state=0)
    net = kept = trained.fit(few, classes).fitted_.nets[0]
    ways: dict[str, Way] = {
        "extract": lambda: sf.extract(bare_net, rows, batch_size=256),
        "first read": lambda: net.read([rows], ["penultimate"]),
        "later read": lambda: net.read([rows], ["penultimate"]),
        "predictions": lambda: net.predict([rows]),
    }
    for line in sys.stdin:
        way = line.strip()
        if way == "first read":
            net = replace(kept, module=copy.deepcopy(kept.module))
        print(timed(ways[way]), flush=True)


def compare(name: str, old: Path, repeats: int, scale: float) -> dict[str, object]:
    """Let this checkout and another one read in turns; return CPU seconds of both and their ratio."""
    here = Path(__file__).resolve().parents[1]
    command = [sys.executable, __file__, "--serve", name, "--scale", str(scale)]
    servers = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(place.resolve())},
        )
        for place in (old, here)
    ]

    def ask(server: subprocess.Popen[str], way: str) -> float:
        assert server.stdin is not None
        assert server.stdout is not None
        print(way, file=server.stdin, flush=True)
        return float(server.stdout.readline())

    found: dict[str, object] = {"net": CASES[name].title}
    for way in ("extract", "first read", "later read", "predictions"):
        seconds: list[list[float]] = [[], []]
        for repeat in range(repeats + 1):
            for server, kept in zip(servers, seconds, strict=True):
                taken = ask(server, way)
                if repeat:  # the first one warms up
                    kept.append(taken)
        before, after = map(statistics.median, seconds)
        found[way] = {"old": round(before, 4), "new": round(after, 4), "ratio": round(after / before, 3)}
    for server in servers:
        server.communicate()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--nets", default=",".join(CASES))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--against", type=Path, help="a checkout of another version")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.scale)
        return
    if options.against:
        for name in options.nets.split(","):
            print(json.dumps(compare(name, options.against, options.repeats, options.scale)), flush=True)
        return
    packages = {name: installed(name) for name in ("torch", "numpy", "torchextractor", "skorch")}
    print(f"python {platform.python_version()}, {packages}, {platform.machine()}, 1 thread", file=sys.stderr)
    results = []
    for name in options.nets.split(","):
        results.append(measure(CASES[name], options.repeats, options.scale))
        print(json.dumps(results[-1], ensure_ascii=False), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"packages": packages, "results": results}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
