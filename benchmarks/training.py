"""How fast nets are trained over folds: `fit_net` and `fit_nets` against the usual ways.

    python benchmarks/training.py [--repeats 5] [--cases small,medium,wide] [--json FILE] [--scale 1.0]

The same net, rows, folds, batch size, optimizer, schedule and number of epochs for all ways (scikit-learn's
MLPClassifier: its own Adam without BatchNorm). One process on one core with one thread; the ways take turns
within each repeat, so that a slow moment of the machine hits all of them; medians of process CPU time.
Printed are times relative to the plain DataLoader loop, the out-of-fold accuracy, and the share of the
core's peak of float32 matrix products.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from measured import installed, timed  # noqa: E402
from sklearn.datasets import make_classification  # noqa: E402
from sklearn.model_selection import StratifiedKFold  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from stackfeat.layers.taps.runtime import fixed_arithmetic  # noqa: E402
from stackfeat.nets.build import NetSpec  # noqa: E402
from stackfeat.nets.options import TrainOptions  # noqa: E402
from stackfeat.nets.training.batched import fit_nets  # noqa: E402
from stackfeat.nets.training.fit import TrainingSet, fit_net  # noqa: E402
from stackfeat.nets.training.loop import Training  # noqa: E402
from stackfeat.nets.training.optimizer import FlatAdamW, rate_factor  # noqa: E402
from stackfeat.nets.zoo.mlp import MLP  # noqa: E402
from stackfeat.tasks.task import Task  # noqa: E402

torch.set_num_threads(1)

N_ROWS, N_FEATURES, N_CLASSES, N_FOLDS = 20_000, 50, 10, 5
LR, WEIGHT_DECAY, BATCH = 5e-3, 1e-2, 256
TASK = Task("multiclass", tuple(map(str, range(N_CLASSES))))
Split = tuple[np.ndarray, np.ndarray]
Predict = Callable[[np.ndarray], np.ndarray]
Way = Callable[["Data"], list[Predict]]


@dataclass(frozen=True)
class Case:
    """Widths of the hidden layers, nets in each fold, epochs, and how many folds are measured."""

    hidden: tuple[int, ...]
    n_seeds: int
    epochs: int
    n_folds: int


CASES = {
    "small": Case((64, 64), 3, 6, 5),
    "medium": Case((256, 256), 1, 8, 5),
    "wide": Case((1024, 1024), 1, 1, 2),
}


@dataclass(frozen=True)
class Data:
    """Rows, target, and (training rows, held-out rows, seed) of every net."""

    case: Case
    x: np.ndarray
    y: np.ndarray
    nets: list[tuple[np.ndarray, np.ndarray, int]]


def make_data(case: Case, scale: float) -> Data:
    x, y = make_classification(
        int(N_ROWS * scale), N_FEATURES, n_informative=25, n_redundant=10, n_classes=N_CLASSES,
        n_clusters_per_class=2, class_sep=1.4, random_state=0,
    )  # fmt: skip
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    folds = list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(x, y))[: case.n_folds]
    return Data(
        case, x, y.astype(np.int64), [(*fold, seed) for fold in folds for seed in range(case.n_seeds)]
    )


def make_net(case: Case, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return MLP(N_FEATURES, N_CLASSES, hidden=case.hidden, dropout=0.0)


def predictor(net: nn.Module) -> Predict:
    """Return how a trained net predicts; that is no part of the time measured."""

    def predict(x: np.ndarray) -> np.ndarray:
        net.eval()
        with torch.no_grad():
            return net(torch.from_numpy(x)).softmax(1).numpy()

    return predict


def loader_loop(data: Data) -> list[Predict]:
    """The loop of most tutorials, on the loader of the library."""
    nets: list[Predict] = []
    for train, _, seed in data.nets:
        net = make_net(data.case, seed)
        dataset = TensorDataset(torch.from_numpy(data.x[train]), torch.from_numpy(data.y[train]))
        loader = DataLoader(dataset, batch_size=BATCH, shuffle=True)
        optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LR, total_steps=data.case.epochs * len(loader)
        )
        net.train()
        for _ in range(data.case.epochs):
            for x, y in loader:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                schedule.step()
        nets.append(predictor(net))
    return nets


def skorch_loop(data: Data) -> list[Predict]:
    from skorch import NeuralNetClassifier
    from skorch.callbacks import LRScheduler

    nets: list[Predict] = []
    for train, _, seed in data.nets:
        n_steps = data.case.epochs * -(-len(train) // BATCH)
        schedule = LRScheduler(
            torch.optim.lr_scheduler.OneCycleLR, step_every="batch", max_lr=LR, total_steps=n_steps
        )
        net = NeuralNetClassifier(
            make_net(data.case, seed), criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, lr=LR,
            optimizer__weight_decay=WEIGHT_DECAY, max_epochs=data.case.epochs, batch_size=BATCH,
            iterator_train__shuffle=True, train_split=None, verbose=0, callbacks=[("schedule", schedule)],
        )  # fmt: skip
        net.fit(data.x[train], data.y[train])
        nets.append(predictor(net.module_))
    return nets


def sklearn_loop(data: Data) -> list[Predict]:
    nets: list[Predict] = []
    for train, _, seed in data.nets:
        net = MLPClassifier(
            data.case.hidden, batch_size=BATCH, max_iter=data.case.epochs, random_state=seed, alpha=1e-4
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net.fit(data.x[train], data.y[train])
        nets.append(net.predict_proba)
    return nets


def options_of(case: Case, amp: Literal["auto", "on"] = "auto") -> TrainOptions:
    return TrainOptions(
        epochs=case.epochs, batch_size=BATCH, lr=LR, weight_decay=WEIGHT_DECAY, schedule="onecycle", amp=amp
    )


def spec_of(case: Case) -> NetSpec:
    return NetSpec(MLP, {"hidden": list(case.hidden), "dropout": 0.0}, N_FEATURES, N_CLASSES)


def stackfeat_loop(data: Data, amp: Literal["auto", "on"] = "auto") -> list[Predict]:
    """`fit_net` as a run calls it: with its looks at the net, clipping, and all else that is on by default."""
    nets: list[Predict] = []
    training = Training(options_of(data.case, amp), TASK, "cross_entropy")
    for train, _, seed in data.nets:
        net = fit_net(spec_of(data.case), TrainingSet((data.x[train],), data.y[train], seed), training)
        nets.append(predictor(net.module))
    return nets


def at_once_loop(data: Data) -> list[Predict]:
    """All nets as one, where `batching_pays` says so; one by one otherwise."""
    held: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for train, _, _ in data.nets:
        held.setdefault(id(train), (data.x[train], data.y[train]))
    sets = [TrainingSet((held[id(train)][0],), held[id(train)][1], seed) for train, _, seed in data.nets]
    nets = fit_nets(spec_of(data.case), sets, Training(options_of(data.case), TASK, "cross_entropy"))
    return [predictor(net.module) for net in nets]


class ByHand:
    """Linear, BatchNorm, ReLU, ..., Linear and cross-entropy, with gradients written out."""

    def __init__(self, net: nn.Module) -> None:
        self.blocks = [(block[0].weight, block[1]) for block in net.blocks]
        self.head = net.head

    @torch.no_grad()
    def gradients(self, x: Tensor, y: Tensor) -> None:
        """Write the gradient of the mean loss into ``parameter.grad`` of every parameter."""
        kept = []
        for weight, norm in self.blocks:
            z = x @ weight.T
            values, mean, invstd = torch.native_batch_norm(
                z, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, 0.1, norm.eps
            )
            kept.append((x, z, mean, invstd))
            x = values.relu_()
            kept[-1] += (x,)
        scores = torch.addmm(self.head.bias, x, self.head.weight.T)
        delta = scores.softmax(1)
        delta[torch.arange(len(y)), y] -= 1
        delta /= len(y)
        torch.mm(delta.T, x, out=self.head.weight.grad)
        torch.sum(delta, 0, out=self.head.bias.grad)
        delta = delta @ self.head.weight
        for i in range(len(self.blocks) - 1, -1, -1):
            weight, norm = self.blocks[i]
            x, z, mean, invstd, out = kept[i]
            delta = torch.ops.aten.threshold_backward(delta, out, 0)
            delta, gamma, beta = torch.ops.aten.native_batch_norm_backward(
                delta, z, norm.weight, norm.running_mean, norm.running_var, mean, invstd, True, norm.eps,
                [True, True, True],
            )  # fmt: skip
            norm.weight.grad.copy_(gamma)
            norm.bias.grad.copy_(beta)
            torch.mm(delta.T, x, out=weight.grad)
            if i:
                delta = delta @ weight


def hand_loop(data: Data) -> list[Predict]:
    """No autograd, no modules: the floor for this net, with the flat optimizer and the fast matmul path."""
    nets: list[Predict] = []
    for train, _, seed in data.nets:
        net = make_net(data.case, seed).train()
        with fixed_arithmetic(1):
            x, y = torch.from_numpy(data.x[train]), torch.from_numpy(data.y[train])
            optimizer = FlatAdamW(net, lr=LR, weight_decay=WEIGHT_DECAY)
            hand, step = ByHand(net), 0
            n_steps = data.case.epochs * -(-len(train) // BATCH)
            for _ in range(data.case.epochs):
                order = torch.randperm(len(x))
                shuffled, targets = x[order], y[order]
                for start in range(0, len(x), BATCH):
                    hand.gradients(shuffled[start : start + BATCH], targets[start : start + BATCH])
                    optimizer.step(factor=rate_factor(step, n_steps, "onecycle"), clip_norm=None)
                    step += 1
            optimizer.release()
        nets.append(predictor(net))
    return nets


WAYS: dict[str, Way] = {
    "loader": loader_loop,
    "skorch": skorch_loop,
    "sklearn": sklearn_loop,
    "stackfeat": stackfeat_loop,
    "bfloat16": partial(stackfeat_loop, amp="on"),
    "at once": at_once_loop,
    "by hand": hand_loop,
}


def accuracy(data: Data, nets: list[Predict]) -> float:
    """Out-of-fold accuracy of single nets, over the folds measured."""
    hits = [
        (predict(data.x[held_out]).argmax(1) == data.y[held_out]).mean()
        for predict, (_, held_out, _) in zip(nets, data.nets, strict=True)
    ]
    return float(np.mean(hits))


def peak() -> float:
    """Return the core's float32 matrix products per second, in GFLOP/s, on its fastest exact path."""
    x = torch.randn(1024, 1024)
    with fixed_arithmetic(1):
        seconds = min(timed(lambda: [x @ x for _ in range(10)]) for _ in range(5))
    return 10 * 2 * 1024**3 / seconds / 1e9


def gflops(data: Data) -> float:
    """Return the matrix products of one run: forward, and backward to weights and (less the first) inputs."""
    widths = (N_FEATURES, *data.case.hidden, N_CLASSES)
    products = [n_in * n_out for n_in, n_out in itertools.pairwise(widths)]
    per_row = 2 * (3 * sum(products) - products[0])
    return sum(len(train) for train, _, _ in data.nets) * data.case.epochs * per_row / 1e9


def measure(name: str, ways: dict[str, Way], repeats: int, scale: float) -> dict[str, object]:
    """Run all ways in turns; return medians, ratios to the loader loop, accuracies, shares of the peak."""
    data = make_data(CASES[name], scale)
    accuracies = {way: accuracy(data, run(data)) for way, run in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    peaks = []
    for _ in range(repeats):
        peaks.append(peak())
        for way, run in ways.items():
            seconds[way].append(timed(lambda run=run: run(data)))
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    work, best = gflops(data), statistics.median(peaks)
    return {
        "case": name,
        "hidden": data.case.hidden,
        "nets": len(data.nets),
        "epochs": data.case.epochs,
        "peak_gflops": round(best),
        "seconds": {way: round(value, 3) for way, value in medians.items()},
        "times_faster": {way: round(medians["loader"] / value, 2) for way, value in medians.items()},
        "share_of_peak": {way: round(work / value / best, 2) for way, value in medians.items()},
        "accuracy": {way: round(value, 4) for way, value in accuracies.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    packages = {name: installed(name) for name in ("torch", "numpy", "scikit-learn", "skorch")}
    print(f"python {platform.python_version()}, {packages}, {platform.machine()}, 1 thread", file=sys.stderr)
    ways = {way: WAYS[way] for way in options.ways.split(",") if way != "skorch" or packages["skorch"]}
    results = []
    for name in options.cases.split(","):
        results.append(measure(name, ways, options.repeats, options.scale))
        print(json.dumps(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"packages": packages, "results": results}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
