"""What the encodings of one net member cost, beside its training.

    python benchmarks/encoding_cost.py [--rows 50000] [--columns 50] [--width 256] [--classes 10]
                                       [--epochs 60] [--folds 5]

In:  made-up rows; the built-in ``mlp`` with default training, whose last hidden layer has `width` columns.
Out: for every fold the CPU seconds of training and of each encoding, in one process and one thread, training
     and encoding of a fold in turns; the median over folds, and its share of training. Encoding a fold is
     reading the layer for training rows, out-of-fold rows and anchors, fitting, and the out-of-fold
     columns; alignment over the folds is shared out among them. `--folds` of the five are measured.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from stackfeat.encodings import align, anchor_rows, default_width
from stackfeat.encodings.options import TapOptions
from stackfeat.encodings.relative import MAX_ANCHORS, N_ANCHORS
from stackfeat.members.net_options import NetOptions
from stackfeat.members.tap_encoders import TapReader, encode, fit_encoders, tap_arrays
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.fit import TrainingSet, fit_net, untrained_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.zoo.mlp import MLP
from stackfeat.tasks.task import Task

N_FOLDS = 5
VARIANTS = {
    "geometry, aligned (default)": ("geometry", "aligned"),
    "reference": ("reference",),
    "relative": ("relative",),
}

Inputs = tuple[np.ndarray, np.ndarray]


def made_up_rows(n_rows: int, n_columns: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes that overlap, so that training never becomes trivial."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_columns)).astype(np.float32)
    hidden = np.maximum(X @ rng.normal(size=(n_columns, 64)) / np.sqrt(n_columns), 0)
    y = (hidden @ rng.normal(size=(64, n_classes)) + rng.normal(size=(n_rows, n_classes))).argmax(axis=1)
    return X, y.astype(np.int64)


class Stopwatch:
    """CPU seconds of this process, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def time(self, name: str, work: object) -> object:
        started = time.process_time()
        result = work()  # type: ignore[operator]
        self.seconds.setdefault(name, []).append(time.process_time() - started)
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("rows", 50_000),
        ("columns", 50),
        ("width", 256),
        ("classes", 10),
        ("epochs", 60),
        ("folds", 5),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    X, y = made_up_rows(given.rows, given.columns, given.classes)
    task = Task("multiclass", tuple(range(given.classes)))
    spec = NetSpec(MLP, {"hidden": [256, given.width]}, given.columns, given.classes)
    options = {
        name: NetOptions(net="mlp", emit=("proba", TapOptions(tap="penultimate", encode=encodings)))
        for name, encodings in VARIANTS.items()
    }

    def inputs(rows: np.ndarray) -> Inputs:
        return X[rows], np.zeros((len(rows), 0), dtype=np.int64)

    anchors = anchor_rows(given.rows, MAX_ANCHORS)
    watch = Stopwatch()
    kept: dict[str, list[np.ndarray]] = {name: [] for name in VARIANTS}
    for fold in range(given.folds):
        held_out = np.arange(given.rows) % N_FOLDS == fold
        train, out_of_fold = np.flatnonzero(~held_out), np.flatnonzero(held_out)

        def fit(train: np.ndarray = train, fold: int = fold) -> FittedNet:
            training = Training(TrainOptions(epochs=given.epochs), task, "cross_entropy")
            return fit_net(spec, TrainingSet(inputs(train), y[train], fold), training)

        net = watch.time("training", fit)
        for name, option in options.items():

            def encode_fold(
                option: NetOptions = option,
                net: object = net,
                train: np.ndarray = train,
                out_of_fold: np.ndarray = out_of_fold,
                fold: int = fold,
            ) -> np.ndarray | None:
                assert isinstance(net, FittedNet)
                taps = TapReader.of(option.taps())
                relative = inputs(anchor_rows(given.rows, N_ANCHORS))
                encoders = fit_encoders(net, option.taps(), inputs(train), y[train], relative, task, fold)
                encode(taps.taps, [encoders], [taps.read(net, inputs(out_of_fold))[1]])
                if not {"aligned", "reference"} & set(option.taps()[0].encode):
                    return None
                caught = taps.read(net, inputs(anchors))[1]
                return next(iter(tap_arrays(taps.taps, [caught]).values()))

            space = watch.time(name, encode_fold)
            if isinstance(space, np.ndarray):
                kept[name].append(space)
        print(f"fold {fold}: " + ", ".join(f"{k} {v[-1]:.2f}" for k, v in watch.seconds.items()), flush=True)
    usable = [anchors % N_FOLDS != fold for fold in range(given.folds)]
    width = default_width(int(min(mask.sum() for mask in usable)))
    shared = dict.fromkeys(VARIANTS, 0.0)
    for name, spaces in kept.items():
        if not spaces:
            continue

        def fit_maps(name: str = name, spaces: list[np.ndarray] = spaces) -> object:
            target = None
            if name == "reference":
                net = untrained_net(spec, inputs(anchors), task=task, seed=0)
                target = TapReader.of(options[name].taps()).read(net, inputs(anchors))[1]["penultimate"]
            alignment = align(spaces, usable=usable, target=target, reduce=width)
            held_out = spaces[0][np.arange(given.rows // N_FOLDS) % len(spaces[0])]
            return [alignment.transform(fold, held_out) for fold in range(given.folds)]

        watch.time(f"{name}: maps", fit_maps)
        shared[name] = watch.seconds[f"{name}: maps"][0] / given.folds
    training = np.asarray(watch.seconds["training"])
    print(
        f"training of a fold: median {np.median(training):.1f} s CPU ({', '.join(f'{s:.1f}' for s in training)})"
    )
    for name in VARIANTS:
        seconds = np.asarray(watch.seconds[name]) + shared[name]
        ratio = seconds / training
        print(
            f"{name:30s} {np.median(seconds):6.2f} s a fold, {100 * np.median(ratio):5.1f} % of training "
            f"({', '.join(f'{100 * r:.1f}' for r in ratio)})"
        )


if __name__ == "__main__":
    main()
