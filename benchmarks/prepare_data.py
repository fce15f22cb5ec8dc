"""Turn the benchmark data sets into the files a user would have.

In:  a folder of data sets: NAME/data.parquet with the columns id, split (train or test), features and
     targets; or NAME/data.npz with the arrays id, is_test, y (-1 on test rows) and others.
Out: OUTPUT/NAME/train.csv, test.csv (without targets) and sample_submission.csv; of arrays train.npz and
     test.npz instead of the csv files. uci_har gets an array `statistics` of every window.

    python benchmarks/prepare_data.py [NAME ...] [--source ../shared/data] [--output work/data]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).resolve().parent.parent
ROLES = ("id", "split")
LISTS = "query"


def main() -> None:
    """Prepare the data sets named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description="Turn the benchmark data sets into csv files.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets; default: all in SOURCE")
    parser.add_argument("--source", type=Path, default=REPOSITORY / "../shared/data")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "work/data")
    arguments = parser.parse_args()
    available = data_sets(arguments.source)
    unknown = sorted(set(arguments.names) - set(available))
    if unknown or not available:
        sys.exit(
            f"data sets must be folders of {arguments.source} with data.parquet or data.npz; got "
            f"{unknown or 'none'}; there are: {', '.join(available) or 'none'}. Name another folder with --source"
        )
    for name in arguments.names or available:
        path = arguments.source / name / available[name]
        make = prepare if path.suffix == ".parquet" else prepare_arrays
        n_train, n_test = make(path, arguments.output / name)
        print(f"{name}: {n_train} training rows, {n_test} test rows in {arguments.output / name}")


def data_sets(source: Path) -> dict[str, str]:
    """Return the data sets by name, and the file of each."""
    return {path.parent.name: path.name for path in sorted(source.glob("*/data.*"))}


def prepare_arrays(source: Path, folder: Path) -> tuple[int, int]:
    """Write train.npz, test.npz (without y) and a sample submission; return how many rows each has."""
    with np.load(source) as archive:
        arrays = {name: archive[name] for name in archive.files}
    is_test = arrays.pop("is_test")
    if folder.name in DERIVED:
        arrays |= DERIVED[folder.name](arrays)
    held = {name: values for name, values in arrays.items() if len(values) == len(is_test)}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "train.npz", **{name: values[~is_test] for name, values in held.items()})
    test = {name: values[is_test] for name, values in held.items() if name != "y"}
    np.savez_compressed(folder / "test.npz", **test)
    target = pd.Series(held["y"][~is_test], name="y")
    sample_submission(pd.Series(test["id"]), target).to_csv(folder / "sample_submission.csv", index=False)
    return int((~is_test).sum()), int(is_test.sum())


def motion_statistics(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Describe windows of motion, each by itself, as is usual for such data.

    After Anguita et al. (2013), "A public domain dataset for human activity recognition using smartphones":
    body acceleration, turning rate and whole acceleration in three axes each, their lengths, and the steps of all
    of these; of each signal where it lies, how it spreads, how it repeats and where its energy is; how axes move
    together; the direction of gravity.
    """
    axes = arrays["X"].astype(np.float32)
    lengths = [np.linalg.norm(axes[:, :, i : i + 3], axis=2, keepdims=True) for i in (0, 3, 6)]
    signals = np.concatenate([axes, *lengths], axis=2)
    steps = np.diff(signals, axis=1)
    gravity = axes[:, :, 6:9].mean(axis=1)
    gravity /= np.linalg.norm(gravity, axis=1, keepdims=True)
    found = np.hstack([describe(signals), describe(steps), gravity, np.arccos(np.clip(gravity, -1, 1))])
    return {"statistics": found.astype(np.float32)}


def describe(signals: np.ndarray) -> np.ndarray:
    """Statistics of each signal, and of pairs of the first nine, (n, c) of (n, n_steps, n_signals)."""
    mean, sd = signals.mean(axis=1), signals.std(axis=1)
    quantiles = np.quantile(signals, [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1], axis=1)
    sizes = [sd, (signals**2).mean(axis=1), np.abs(signals).mean(axis=1), quantiles[4] - quantiles[2]]
    centred = signals - mean[:, None]
    unit = centred / (sd[:, None] + 1e-6)
    repeats = [(unit[:, :-lag] * unit[:, lag:]).mean(axis=1) for lag in (1, 2, 3, 5, 8, 13)]
    power = np.abs(np.fft.rfft(centred, axis=1))[:, 1:] ** 2
    bands = [part.sum(axis=1) for part in np.array_split(power, 12, axis=1)]
    shares = power / (power.sum(axis=1, keepdims=True) + 1e-9)
    frequency = np.arange(power.shape[1])[None, :, None]
    spectrum = [
        -(shares * np.log(shares + 1e-12)).sum(axis=1),
        (shares * frequency).sum(axis=1),
        power.argmax(axis=1),
    ]
    pairs = [(a + i, a + j) for a in (0, 3, 6) for i, j in ((0, 1), (0, 2), (1, 2))]
    together = [(unit[:, :, i] * unit[:, :, j]).mean(axis=1)[:, None] for i, j in pairs]
    shape = [(unit**3).mean(axis=1), np.clip((unit**4).mean(axis=1), 0, 30)]
    logs = [np.log(size + 1e-5) for size in (*sizes, *bands)]
    return np.hstack([mean, *quantiles, *logs, *shape, *repeats, *spectrum, *together])


DERIVED = {"uci_har": motion_statistics}


def prepare(source: Path, folder: Path) -> tuple[int, int]:
    """Write the three files of one data set; return how many rows train and test have.

    Raises
    ------
    ValueError
        If no target can be told from the file.
    """
    frame = pd.read_parquet(source)
    targets = find_targets(frame)
    features = [name for name in frame.columns if name not in (*ROLES, *targets)]
    train = frame.loc[frame["split"] == "train", ["id", *features, *targets]].dropna(subset=targets)
    test = frame.loc[frame["split"] == "test", ["id", *features]]
    folder.mkdir(parents=True, exist_ok=True)
    train.to_csv(folder / "train.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)
    # Of lists, grades are no classes: one score a row. So it is with each of several targets.
    is_graded = LISTS in features or len(targets) > 1
    samples = [
        sample_submission(test["id"], train[target].astype(float) if is_graded else train[target])
        for target in targets
    ]
    whole = pd.concat([samples[0], *(sample.drop(columns="id") for sample in samples[1:])], axis=1)
    whole.to_csv(folder / "sample_submission.csv", index=False)
    return len(train), len(test)


def find_targets(frame: pd.DataFrame) -> list[str]:
    """Return the columns that are empty on all test rows and full on all training rows."""
    is_test = frame["split"] == "test"
    found = [
        str(name)
        for name in frame.columns
        if frame.loc[is_test, name].isna().all() and frame.loc[~is_test, name].notna().all()
    ]
    if not found:
        raise ValueError(
            "a column must be null on exactly the test rows; got none; name a file with a target"
        )
    return found


def sample_submission(ids: pd.Series, target: pd.Series) -> pd.DataFrame:
    """Return ids with a dummy value: a column for each class of 3 to 100, else one named like the target."""
    classes = sorted(target.unique())
    is_multiclass = 2 < len(classes) <= 100 and not pd.api.types.is_float_dtype(target)
    names = [str(label) for label in classes] if is_multiclass else [str(target.name)]
    return pd.DataFrame({"id": ids.to_numpy(), **dict.fromkeys(names, 0.0)})


if __name__ == "__main__":
    main()
