"""AutoGluon with a preset of its own, the time limit, and time-ordered validation where the set has a time."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from cpu_clock import CpuClock

FOLDER = Path(sys.argv[1])
JOB = json.loads((FOLDER / "job.json").read_text())
if JOB["clock"] == "cpu":
    # Before AutoGluon is imported: its limits, and those of its learners, are read from this function.
    _began, _spent = time.time(), CpuClock(JOB["cores"])
    time.time = lambda: _began + _spent()

import pandas as pd  # noqa: E402
from autogluon.tabular import TabularPredictor  # noqa: E402

METRICS = {"roc_auc": "roc_auc", "log_loss": "log_loss", "rmse": "root_mean_squared_error"}


def main() -> None:
    folder, job = FOLDER, JOB
    train, test = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "test.csv")
    ids = test.pop("id")
    if job["time"]:
        for rows in (train, test):
            rows[job["time"]] = pd.to_datetime(rows[job["time"]])
    predictor = TabularPredictor(
        job["target"],
        problem_type=job["task"],
        eval_metric=METRICS[job["metric"]],
        path=folder / "scratch/ag",
    )
    in_time = {"validation_structure": {"time_on": job["time"]}} if job["time"] else {}
    started = (time.monotonic(), time.process_time())
    predictor.fit(
        train.drop(columns="id"),
        presets=job["preset"],
        time_limit=job["seconds"],
        num_cpus=job["cores"],
        num_gpus=0,
        **in_time,
    )
    fit_wall, fit_cpu = time.monotonic() - started[0], time.process_time() - started[1]
    if job["task"] == "regression":
        predicted = pd.DataFrame({"prediction": predictor.predict(test)})
    else:
        predicted = predictor.predict_proba(test)
        if job["task"] == "binary":
            predicted = pd.DataFrame({"prediction": predicted[max(predicted.columns)]})
    predicted.insert(0, "id", ids)
    predicted.to_csv(folder / "predictions.csv", index=False)
    board = predictor.leaderboard(display=False)
    columns = ["model", "score_val", "fit_time_marginal", "stack_level"]
    notes = {
        "fit_wall": fit_wall,
        "fit_cpu": fit_cpu,
        "weights": ensemble_weights(predictor),
        "leaderboard": board[columns].to_dict("records"),
    }
    (folder / "notes.json").write_text(json.dumps(notes, default=str))


def ensemble_weights(predictor: TabularPredictor) -> dict[str, dict[str, float]]:
    """Return what each weighted ensemble gives its members; empty where this version does not tell."""
    found = {}
    for name in predictor.model_names():
        if name.startswith("WeightedEnsemble"):
            try:
                model = predictor._trainer.load_model(name)
                found[name] = {key: float(value) for key, value in model._get_model_weights().items()}
            except (AttributeError, KeyError):
                continue
    return found


if __name__ == "__main__":
    main()
