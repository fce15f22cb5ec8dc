"""Draw the rows of one data set: a few thousand for training, up to four thousand for test.

In:  the shared data sets, a seed.
Out: a `Draw`: two frames, and the test targets that only the scoring sees.

Training rows are drawn anew for every seed, test rows once, so that losses of one row can be averaged
over seeds. A test split of fewer than 2,000 rows is filled up with rows of the training split that are
then never trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

N_TEST = 4_000
FEWEST_TEST = 2_000
TARGET, GROUP = "target", "subject"


@dataclass(frozen=True)
class Draw:
    """Rows of one data set and seed.

    Attributes
    ----------
    name, kind : str
    train : DataFrame
        ``id``, features, ``target``, and ``subject`` where rows come in groups.
    test : DataFrame
        ``id`` and features.
    y_test : ndarray of shape (n_test,)
    clusters : ndarray of shape (n_test,)
        Test rows of one number are not independent; each its own where rows are.
    """

    name: str
    kind: str
    train: pd.DataFrame
    test: pd.DataFrame
    y_test: np.ndarray
    clusters: np.ndarray

    @property
    def group(self) -> str | None:
        return GROUP if GROUP in self.train else None

    @property
    def features(self) -> list[str]:
        return [str(name) for name in self.test.columns if name != "id"]


def draw(name: str, source: Path, seed: int, n_train: int) -> Draw:
    """Read a data set and draw its rows.

    Raises
    ------
    SystemExit
        If the data set is not there.
    """
    kind, read = DATA_SETS[name]
    folder = source / name
    if not folder.is_dir():
        raise SystemExit(f"{folder} must be a folder; name where the data sets are with --source")
    train, test = read(folder)
    fixed = np.random.default_rng(20240)
    if len(test) < FEWEST_TEST:
        extra = fixed.permutation(len(train))[: max(0, min(N_TEST, len(train) - n_train) - len(test))]
        test = pd.concat([test, train.iloc[np.sort(extra)]], ignore_index=True)
        train = train.drop(train.index[extra])
    test = test.iloc[np.sort(fixed.permutation(len(test))[:N_TEST])].reset_index(drop=True)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(train))[:n_train])
    clusters = test[GROUP].to_numpy() if GROUP in test else np.arange(len(test))
    return Draw(
        name=name,
        kind=kind,
        train=train.iloc[chosen].reset_index(drop=True),
        test=test.drop(columns=[TARGET, GROUP], errors="ignore"),
        y_test=test[TARGET].to_numpy(),
        clusters=clusters,
    )


Parts = tuple[pd.DataFrame, pd.DataFrame]


def read_table(folder: Path) -> Parts:
    """Training and test rows of a table, the target under one name."""
    frame = pd.read_parquet(folder / "data.parquet")
    truth = pd.read_parquet(folder / "test_labels.parquet")
    name = next(str(column) for column in truth.columns if column != "id")
    train = frame[frame["split"] == "train"].drop(columns="split")
    test = frame[frame["split"] == "test"].drop(columns=["split", name]).merge(truth, on="id")
    return train.rename(columns={name: TARGET}).astype({"id": int}), test.rename(columns={name: TARGET})


def read_pictures(folder: Path) -> Parts:
    """Pictures of 28 x 28 as tables of 14 x 14 means."""
    arrays = np.load(folder / "data.npz", allow_pickle=False)
    pooled = arrays["X"].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4), dtype=np.float32).reshape(-1, 196)
    return _split(folder, arrays, pooled, {})


def read_motion(folder: Path) -> Parts:
    """Sequences of 128 steps as tables: five statistics and eight band energies of each channel."""
    arrays = np.load(folder / "data.npz", allow_pickle=False)
    steps = arrays["X"].astype(np.float32)
    power = np.abs(np.fft.rfft(steps - steps.mean(axis=1, keepdims=True), axis=1)) ** 2
    bands = [np.log(part.sum(axis=1) + 1e-6) for part in np.array_split(power[:, 1:], 8, axis=1)]
    moves = np.abs(np.diff(steps, axis=1)).mean(axis=1)
    statistics = [steps.mean(axis=1), steps.std(axis=1), steps.min(axis=1), steps.max(axis=1), moves]
    return _split(folder, arrays, np.hstack([*statistics, *bands]), {GROUP: arrays["subject"]})


def _split(
    folder: Path, arrays: np.lib.npyio.NpzFile, values: np.ndarray, roles: dict[str, np.ndarray]
) -> Parts:
    frame = pd.DataFrame(values.astype(np.float32), columns=[f"x{j:03d}" for j in range(values.shape[1])])
    truth = pd.read_parquet(folder / "test_labels.parquet").set_index("id").iloc[:, 0]
    ids, is_test = arrays["id"], arrays["is_test"]
    target = np.where(is_test, truth.reindex(ids).fillna(-1).to_numpy(), arrays["y"]).astype(np.int64)
    frame = pd.concat([pd.DataFrame({"id": ids, **roles, TARGET: target}), frame], axis=1)
    return frame[~is_test], frame[is_test]


DATA_SETS: dict[str, tuple[str, Callable[[Path], Parts]]] = {
    "letter": ("multiclass", read_table),
    "california_housing": ("regression", read_table),
    "adult": ("binary", read_table),
    "higgs_small": ("binary", read_table),
    "fashion_mnist": ("multiclass", read_pictures),
    "uci_har": ("multiclass", read_motion),
}
