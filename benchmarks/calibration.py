"""What `calibrate: auto` is worth on fresh rows, and whether averaged rows can be taken at their word.

    python -m benchmarks.calibration [--data DIR] [--work DIR] [--seeds 3] [--first 0] [--only adult]

Of each set some rows train a stack (LightGBM of few rounds and a linear model, a linear meta-learner and a vote, both
with and without calibration), and the others are predicted. Printed, by set, means over seeds and each seed:

- log-loss on fresh rows without and with calibration, and the paired difference with its standard error; the slope of
  calibration there (1 is right, above is under-confident) of what is written without calibration, and with it of
  single pipelines, of their mean, and of what is written, with its standard error;
- log-loss of the vote, of predictions whose logits are three times those of the vote, and of these calibrated;
- scores of labels by the run's rule, by the rule that is best on the very fresh rows, the difference, and the
  standard error of the score.
"""

from __future__ import annotations

import argparse
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measured import timed
from stackfeat import RunResult, load_config, run
from stackfeat.metrics.decision_rule import Decision
from stackfeat.metrics.registry import get_metric
from stackfeat.output.completed_run import read_predictions
from stackfeat.tasks.classification import log_probability
from stackfeat.tasks.task import Task

N_FRESH = 8000
N_RESAMPLES = 100
PAIRS = (("meta/linear", "meta/calibrated"), ("final/soft", "final/calibrated"))
LABEL_METRICS = {"binary": ("f1", "mcc"), "multiclass": ("f1_macro", "mcc")}


@dataclass(frozen=True)
class DataSet:
    """A table of classes: its columns and the target ``y``, and how many rows are trained on."""

    name: str
    read: Callable[[Path], pd.DataFrame]
    n_train: int

    def drawn(self, data: Path, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return rows to train on and fresh ones."""
        rows = self.read(data).sample(frac=1.0, random_state=seed)[: self.n_train + N_FRESH]
        rows.index = pd.Index([f"r{i}" for i in range(len(rows))], name="id")
        return rows[: self.n_train], rows[self.n_train :]


def table(name: str, target: str, above: float | None = None, drop: Sequence[str] = ()) -> Any:
    """Return a reader of a set's training rows; with `above` the classes are values above that quantile, or not."""

    def read(data: Path) -> pd.DataFrame:
        rows = pd.read_parquet(data / name / "data.parquet")
        rows = rows[rows["split"] == "train"].drop(columns=["id", "split", *drop])
        y = rows.pop(target)
        return rows.assign(y=y if above is None else np.where(y > y.quantile(above), "yes", "no"))

    return read


def pixels(data: Path) -> pd.DataFrame:
    """Return 10,000 pictures of clothes as 7 x 7 columns."""
    with np.load(data / "fashion_mnist/data.npz") as arrays:
        kept = np.flatnonzero(~arrays["is_test"].astype(bool))[:10_000]
        values, y = arrays["X"][kept].reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)), arrays["y"][kept]
    return pd.DataFrame(values.reshape(len(kept), -1).round(2)).add_prefix("p").assign(y=y)


SETS = (
    DataSet("adult", table("adult", "income"), 4000),
    DataSet("higgs_small", table("higgs_small", "target"), 4000),
    DataSet("california_housing > 80 %", table("california_housing", "median_house_value", 0.8), 3000),
    DataSet("bike_sharing > 50 %", table("bike_sharing", "cnt", 0.5, ["dteday"]), 3000),
    DataSet("taxi_fares > 70 %", table("taxi_fares", "fare", 0.7), 1500),
    DataSet("clothing_reviews", table("clothing_reviews", "rating", None, ["title", "review_text"]), 3000),
    DataSet("letter", table("letter", "class"), 3000),
    DataSet("fashion_mnist, 49 columns", pixels, 2000),
)


def main() -> None:
    """Run every set and seed; print the lines of a set as it is done."""
    parser = argparse.ArgumentParser(description="Calibration of members and of averaged rows.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("work/calibration"), help="where runs are written")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed: others draw other rows")
    parser.add_argument("--only", action="append", help="a data set; repeatable")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for data_set in [one for one in SETS if not arguments.only or one.name.split()[0] in arguments.only]:
        found: list[dict[str, list[float]]] = []

        def measure_all(one: DataSet = data_set, found: list[dict[str, list[float]]] = found) -> None:
            seeds = range(arguments.first, arguments.first + arguments.seeds)
            found += [dict(one_seed(one, seed, arguments)) for seed in seeds]

        seconds = timed(measure_all)
        for name in found[0]:
            values = np.array([one[name] for one in found])
            print(f"| {data_set.name} | {name} | {' | '.join(cells(values, ERRORS[name.split()[0]]))} |")
        print(f"<!-- {data_set.name}: {seconds:.0f} s of CPU -->", flush=True)


ERRORS = {"loss": (3, 8), "tripled": (), "labels": (3,)}
"""Which numbers of a kind of line are standard errors."""


def cells(values: np.ndarray, errors: Sequence[int]) -> Iterator[str]:
    """Yield means over seeds, and standard errors of such means; of slopes and gaps of labels, all of them too."""
    for place, column in enumerate(values.T):
        if place in errors:
            yield f"({np.sqrt((column**2).sum()) / len(column):.4f})"
        else:
            yield f"{column.mean():.4f} [{', '.join(f'{one:.4f}' for one in column)}]"


def one_seed(
    data_set: DataSet, seed: int, arguments: argparse.Namespace
) -> Iterator[tuple[str, list[float]]]:
    """Run a stack on one draw, and yield what the fresh rows say."""
    folder = arguments.work / f"{data_set.name.split()[0]}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    train, fresh = data_set.drawn(arguments.data, seed)
    train.to_csv(folder / "train.csv")
    fresh.drop(columns="y").to_csv(folder / "test.csv")
    (folder / "config.yaml").write_text(json.dumps(config(train["y"].nunique(), seed)))
    result = run(load_config(folder / "config.yaml"))
    if result.failed:
        raise RuntimeError(f"every member must finish; failed: {result.failed}")
    classes = list(read_predictions(result.folder / "test/final.soft.csv"))
    task = Task("binary" if len(classes) == 2 else "multiclass", tuple(classes))
    y = fresh["y"].astype(str).map({name: code for code, name in enumerate(classes)}).to_numpy()
    for plain, calibrated in PAIRS:
        before, after = (predicted(result, name, fresh) for name in (plain, calibrated))
        losses = [task.row_loss(y, one) for one in (before, after)]
        change = losses[1] - losses[0]
        views = result.block(f"{calibrated}/proba").views
        single = float(np.mean([slope(y, view)[0] for view in views]))
        mean, (written, error) = slope(y, np.mean(views, axis=0))[0], slope(y, after)
        moved = [losses[0].mean(), losses[1].mean(), change.mean(), change.std() / np.sqrt(len(y))]
        yield f"loss {calibrated}", [*moved, slope(y, before)[0], single, mean, written, error]
    yield "tripled logits", tripled(result, folder, y, task, seed)
    for name in LABEL_METRICS[task.kind]:
        for member, scores in thresholds(folder, fresh, y, task, name).items():
            yield f"labels {name} {member}", scores
    shutil.rmtree(folder)


def config(n_classes: int, seed: int) -> dict[str, Any]:
    """Return the stack."""
    trees = {"n_estimators": 60 if n_classes == 2 else 25, "num_leaves": 15, "verbose": -1}
    linear = {"estimator": "sklearn.linear_model.LogisticRegression", "inputs": ["base/*/proba"]}
    vote = {"vote": "soft", "inputs": ["base/*/proba"]}
    return {
        "task": "binary" if n_classes == 2 else "multiclass",
        "metric": "log_loss",
        "seed": seed,
        "data": {"train": "train.csv", "test": "test.csv", "id": "id", "target": "y"},
        "folds": {"n": 5, "seed": seed},
        "levels": {
            "base": {
                "gbm": {"estimator": "lightgbm.LGBMClassifier", "params": trees},
                "linear": {"estimator": "sklearn.linear_model.LogisticRegression"},
            },
            "meta": {"linear": linear, "calibrated": {**linear, "calibrate": "auto"}},
            "final": {"soft": vote, "calibrated": {**vote, "calibrate": "auto"}},
        },
        "executor": {"kind": "inline"},
    }


def predicted(result: RunResult, member: str, rows: pd.DataFrame, kind: str = "test") -> np.ndarray:
    """Return what a member's file says of rows, float64 (n_rows, n_classes)."""
    path = result.folder / kind / f"{member.replace('/', '.')}.csv"
    return np.asarray(read_predictions(path).loc[rows.index].to_numpy())


def slope(y: np.ndarray, proba: np.ndarray) -> tuple[float, float]:
    """Return the factor of log-probabilities, beside free offsets, that fits the labels best; its standard error."""
    from scipy.optimize import minimize
    from scipy.special import softmax

    scores = log_probability(np.clip(proba, 1e-12, None))
    targets = np.eye(proba.shape[1])[y]

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        said = softmax(numbers[0] * scores + np.r_[0.0, numbers[1:]], axis=1)
        wrong = said - targets
        value = -float(np.log(np.maximum((said * targets).sum(axis=1), 1e-300)).mean())
        return value, np.r_[(wrong * scores).sum(axis=1).mean(), wrong[:, 1:].mean(axis=0)]

    found = minimize(loss, np.r_[1.0, np.zeros(proba.shape[1] - 1)], jac=True, method="BFGS").x
    said = softmax(found[0] * scores + np.r_[0.0, found[1:]], axis=1)
    # Fisher information of the slope, less what the offsets take of it.
    centred = scores - (said * scores).sum(axis=1, keepdims=True)
    own = float((said * scores * centred).sum())
    cross = (said * centred).sum(axis=0)[1:]
    offsets = np.diag(said[:, 1:].sum(axis=0)) - said[:, 1:].T @ said[:, 1:]
    return float(found[0]), float((own - cross @ np.linalg.pinv(offsets) @ cross) ** -0.5)


def tripled(result: RunResult, folder: Path, y: np.ndarray, task: Task, seed: int) -> list[float]:
    """Return what the vote loses, what predictions with three times its logits lose, and these calibrated."""
    files = {}
    for kind in ("oof", "test"):
        read = read_predictions(result.folder / kind / "final.soft.csv")
        cubes = read.clip(lower=1e-12) ** 3
        cubes.div(cubes.sum(axis=1), axis=0).to_csv(folder / f"tripled_{kind}.csv")
        files[kind] = f"tripled_{kind}.csv"
    values = config(task.n_outputs, seed)
    vote = {"vote": "soft", "inputs": ["base/*/proba"], "calibrate": "auto"}
    values["levels"] = {"base": {"mate": {"predictions": files}}, "final": {"back": vote}}
    values["outputs"] = {"dir": "runs/tripled"}
    (folder / "tripled.yaml").write_text(json.dumps(values))
    again, fresh = run(load_config(folder / "tripled.yaml")), pd.DataFrame(index=test_ids(folder))
    said = (
        predicted(result, "final/soft", fresh),
        predicted(again, "base/mate", fresh),
        predicted(again, "final/back", fresh),
    )
    return [float(task.row_loss(y, one).mean()) for one in said]


def test_ids(folder: Path) -> pd.Index:
    """Return the ids of the fresh rows, in their order."""
    return pd.Index(pd.read_csv(folder / "test.csv", usecols=["id"])["id"])


def thresholds(
    folder: Path, fresh: pd.DataFrame, y: np.ndarray, task: Task, name: str
) -> dict[str, list[float]]:
    """Score labels by the run's rule and by the rule that is best on these rows; nothing is fitted again for it.

    Returns
    -------
    dict of str to list of float
        By member: the two scores, their difference, and the standard error of the first.
    """
    metric = get_metric(name, task.kind)
    result = run(load_config(folder / "config.yaml", overrides=[f"metric={name}"]))
    members = json.loads((result.folder / "scores.json").read_text())["members"]
    found = {}
    for member in ("meta/linear", "meta/calibrated"):
        said = predicted(result, member, fresh)
        rules = Decision.from_json(members[member]["decision"]), Decision.fit(metric, y, said, task)
        ours, best = (metric.score(y, rule.apply(said), task) for rule in rules)
        draws = metric.bootstrap(y, [rules[0].apply(said)], task, None, n_resamples=N_RESAMPLES, seed=0)
        found[member] = [ours, best, best - ours, float(np.nanstd(draws))]
    return found


if __name__ == "__main__":
    main()
