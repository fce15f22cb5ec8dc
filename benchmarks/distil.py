"""Where a student is shipped, and what it is worth on rows that its run never saw.

    python benchmarks/distil.py FILE [--data DIR] [--sets titanic,adult] [--student lightgbm] [--work DIR]
    python benchmarks/distil.py FILE --show

Of the training part of each set some rows make a run (boosting, a forest, a net and a linear model under a gated
meta-learner and votes), and all others are fresh: whole groups, or the latest rows, where the set asks for it.
Student and control are fitted on all rows of the run, whether the student is shipped or not, and scored on the fresh
rows. A result is a line of JSON in FILE; what stands there is not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

import stackfeat as sf  # noqa: E402
from stackfeat.pipeline.distil import opened  # noqa: E402
from stackfeat.pipeline.predict import predict_file  # noqa: E402
from stackfeat.tasks.task import Task  # noqa: E402

MOST_FRESH = 6_000
SETS: dict[str, dict[str, Any]] = {
    "adult": {"target": "income", "task": "binary", "metric": "log_loss"},
    "higgs_small": {"target": "target", "task": "binary", "metric": "log_loss"},
    "titanic": {
        "target": "Survived",
        "task": "binary",
        "metric": "log_loss",
        "drop": ["PassengerId", "Name", "Ticket"],
        "rows": 600,
    },
    "kdd99": {"target": "category", "task": "multiclass", "metric": "log_loss"},
    "letter": {"target": "class", "task": "multiclass", "metric": "log_loss", "rows": 1_500},
    "clothing_reviews": {
        "target": "rating",
        "task": "multiclass",
        "metric": "log_loss",
        "drop": ["title", "review_text"],
    },
    "california_housing": {"target": "median_house_value", "task": "regression", "metric": "rmse"},
    "taxi_fares": {"target": "fare", "task": "regression", "metric": "rmse"},
    "student_grades": {
        "target": "G3",
        "task": "regression",
        "metric": "rmse",
        "group": "student",
        "drop": ["G1", "G2"],
        "rows": 500,
    },
    "bike_sharing": {
        "target": "cnt",
        "task": "regression",
        "metric": "rmsle",
        "time": ["dteday", "hr"],
        "drop": ["casual", "registered"],
    },
}
ROWS, FEWEST_OF_CLASS = 3_000, 10


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description="Students on rows that their runs never saw.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--student", default="lightgbm")
    parser.add_argument("--work", type=Path, help="keep runs here")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    lines = arguments.file.read_text("utf-8").splitlines() if arguments.file.exists() else []
    done = {(line["set"], line["learner"]): line for line in map(json.loads, lines)}
    if arguments.show:
        show(list(done.values()))
        return
    for name in arguments.sets.split(","):
        if (name, arguments.student) not in done:
            with tempfile.TemporaryDirectory() as place:
                work = Path(place) if arguments.work is None else arguments.work
                found = measure(name, arguments.data, work / name, arguments.student)
            with arguments.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(json.dumps(found), flush=True)


def measure(name: str, source: Path, folder: Path, student: str) -> dict[str, Any]:
    """Run a stack on some rows, distil it, and score student, control and stack on the fresh rows."""
    about = SETS[name]
    rows, fresh = parts(name, source)
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "train.csv", index=False)
    fresh.drop(columns=about["target"]).to_csv(folder / "fresh.csv", index=False)
    (folder / "config.yaml").write_text(json.dumps(config(about)), "utf-8")
    started = time.process_time()
    run = sf.run(folder / "config.yaml")
    ran = time.process_time()
    with opened(run.folder, student) as school:
        found = school.judge()
        soft = school.soft(school.train, "all")
        school.student(found, soft).save(folder / "student.zip")
        spent = time.process_time() - ran
        distilled = sf.load_student(folder / "student.zip")
        model, tables = school.fit(found.rounds[1], None)
        control = replace(distilled, model=model, tables=tables)
        task, teacher = school.train.task, school.teacher.score
        stack = submitted(run.folder, folder / "fresh.csv", folder / "stack.csv", task)
    said = {
        who: one.outputs(folder / "fresh.csv") for who, one in (("student", distilled), ("control", control))
    }
    losses = {who: row_losses(values, fresh[about["target"]], task) for who, values in (said | stack).items()}
    gap, error = paired(losses["control"] - losses["student"], clusters(about, fresh))
    return {
        "set": name,
        **found.to_json(),
        "teacher": teacher,
        "fresh_rows": len(fresh),
        "fresh_gap": gap,
        "fresh_se": error,
        "fresh": {who: float(loss.mean()) for who, loss in losses.items()},
        "cpu_run": ran - started,
        "cpu_distil": spent,
    }


def parts(name: str, source: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of a run, and fresh ones; of classes that the run has ten rows of."""
    about = SETS[name]
    frame = pd.read_parquet(source / name / "data.parquet")
    frame = frame[frame["split"] == "train"].drop(columns=["split", *about.get("drop", [])], errors="ignore")
    n_rows, target = about.get("rows", ROWS), about["target"]
    if "time" in about:
        frame = frame.sort_values(about["time"]).tail(n_rows + n_rows // 2).reset_index(drop=True)
        frame["at"] = np.arange(len(frame))
        return frame.head(n_rows), frame.tail(n_rows // 2)
    frame = frame.sample(frac=1.0, random_state=0).reset_index(drop=True)
    if "group" in about:
        ends = frame.groupby(about["group"], sort=False).ngroup().to_numpy()
        cut = int(np.sort(ends)[n_rows])
        return frame[ends <= cut], frame[ends > cut]
    rows, fresh = frame.head(n_rows), frame.iloc[n_rows : n_rows + MOST_FRESH]
    if about["task"] == "multiclass":
        known = rows[target].value_counts()
        kept = known.index[known >= FEWEST_OF_CLASS]
        rows, fresh = rows[rows[target].isin(kept)], fresh[fresh[target].isin(kept)]
    return rows, fresh


def config(about: dict[str, Any]) -> dict[str, Any]:
    """Return a stack of four kinds of learners."""
    family = "Regressor" if about["task"] == "regression" else "Classifier"
    output = "prediction" if about["task"] == "regression" else "proba"
    linear = "sklearn.linear_model." + ("Ridge" if about["task"] == "regression" else "LogisticRegression")
    data = {"train": "train.csv", "id": "id", "target": about["target"]}
    data |= {"group": about["group"]} if "group" in about else {}
    data |= {"time": "at"} if "time" in about else {}
    return {
        "task": about["task"],
        "metric": about["metric"],
        "data": data,
        "folds": {"n": 5},
        "levels": {
            "base": {
                "gbm": {"estimator": f"lightgbm.LGBM{family}"},
                "forest": {
                    "estimator": f"sklearn.ensemble.ExtraTrees{family}",
                    "params": {"n_estimators": 200},
                },
                "linear": {"estimator": linear},
                "mlp": {"net": "mlp", "emit": [output], "train": {"epochs": 30}},
            },
            "meta": {"gated": {"estimator": "gated_linear", "inputs": [f"base/*/{output}"]}},
            "final": {"greedy": {"vote": "greedy", "inputs": [f"*/*/{output}"]}},
        },
        "executor": {"kind": "inline"},
    }


def submitted(run: Path, data: Path, output: Path, task: Task) -> dict[str, np.ndarray]:
    """Return what the stack predicts."""
    predict_file(run, data, output)
    frame = pd.read_csv(output)
    return {"stack": task.whole(frame.iloc[:, 1:].to_numpy())}


def row_losses(prediction: np.ndarray, y: pd.Series, task: Task) -> np.ndarray:
    """Return how wrong each row is: log-loss, or squared error on the scale that members learn."""
    if task.classes:
        codes = y.astype(str).map({str(label): code for code, label in enumerate(task.classes)})
        return task.row_loss(codes.to_numpy(), prediction)
    return task.row_loss(task.to_member_scale(y.to_numpy(dtype=float)), task.to_member_scale(prediction))


def clusters(about: dict[str, Any], fresh: pd.DataFrame) -> np.ndarray:
    """Return what is no coincidence apart: groups, or days that follow each other."""
    if "group" in about:
        return fresh[about["group"]].to_numpy()
    return np.arange(len(fresh)) // (24 if "time" in about else 1)


def paired(gap: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Return the mean of differences and its standard error over clusters."""
    totals = pd.Series(gap - gap.mean()).groupby(cluster).sum()
    return float(gap.mean()), float(np.sqrt((totals**2).sum()) / len(gap))


def show(lines: list[dict[str, Any]]) -> None:
    """Print a table, the sets where a student is not shipped first."""
    print(
        "| set | student | control | gap (se) | shipped | on fresh rows: gap (se) | student | control | stack |"
    )
    print("|---" * 9 + "|")
    for line in sorted(lines, key=lambda line: line["gap"] / line["se"]):
        shipped = "yes" if line["gap"] > line["se"] else "no"
        cells = [
            *(line["set"], f"{line['student']:.4g}", f"{line['control']:.4g}"),
            *(f"{line['gap']:+.2g} ({line['se']:.2g})", shipped),
            f"{line['fresh_gap']:+.2g} ({line['fresh_se']:.2g})",
            *(f"{line['fresh'][who]:.4g}" for who in ("student", "control", "stack")),
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
