"""Encodings and taps of several layers, from the config to the predictions of later rows."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.config import load_config
from stackfeat.pipeline.prepare import make_planner, open_store
from stackfeat.pipeline.run import run

Project = Any
LAYERS = {"tap": "blocks.*.2", "last": 2}
ACROSS = {"geometry": 3, "aligned": 3, "reference": 3, "relative": 3}


def net_levels(task: str, emit: list[Any], seeds: int = 1) -> dict[str, Any]:
    output = "prediction" if task == "regression" else "proba"
    linear, params = (
        ("Ridge", {"alpha": 10.0}) if task == "regression" else ("LogisticRegression", {"C": 0.01})
    )
    return {
        "base": {
            "mlp": {
                "net": "mlp",
                "params": {"hidden": [12, 8, 6]},
                "train": {"epochs": 2, "batch_size": 64},
                "seeds": seeds,
                "emit": [output, *emit],
            }
        },
        "meta": {
            "linear": {
                "estimator": f"sklearn.linear_model.{linear}",
                "params": params,
                "gate": False,
                "inputs": ["base/*/*"],
            }
        },
    }


def project_of(build: Any, task: str, emit: list[Any], **others: Any) -> Project:
    metric = "rmse" if task == "regression" else "log_loss"
    seeds = others.pop("seeds", 1)
    config = {
        "task": task,
        "metric": metric,
        "data": {"train": "train.csv", "test": "test.csv", "id": "row_id", "target": "label"},
        "folds": {"n": 3},
        "levels": net_levels(task, emit, seeds),
        "executor": {"kind": "inline"},
        "submit": "meta/linear",
        **others,
    }
    return build(task, config)


EVERY_DAY = [("multiclass", "late"), ("regression", "refit")]
OTHERS = [("regression", "late"), ("multiclass", "early"), ("multiclass", "refit")]


@pytest.mark.parametrize(
    ("task", "averaging"),
    [*EVERY_DAY, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)],
)
@pytest.mark.parametrize(("seeds", "repeats"), [(1, 1), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_every_encoding_predicts_later_rows_as_it_did_test_rows(
    task: str, averaging: str, seeds: int, repeats: int, build: Any
) -> None:
    taps = [
        {"tap": "penultimate", "encode": [*ACROSS, *(["raw"] if averaging != "early" else [])]},
        {**LAYERS, "name": "together", "encode": [*ACROSS]},
        {**LAYERS, "name": "alone", "combine": "each", "encode": [*ACROSS], "reduce": 3},
    ]
    project = project_of(build, task, taps, seeds=seeds, folds={"n": 3, "repeats": repeats})
    said = project.run("--set", f"stack.averaging={averaging}")
    assert said.code == 0, said.err
    assert (
        project.cli(
            "predict", project.run_folder, project.folder / "test.csv", "-o", project.folder / "o.csv"
        ).code
        == 0
    )
    assert (project.folder / "o.csv").read_bytes() == (project.run_folder / "submission.csv").read_bytes()
    # A few rows alone, in another order, get the same values: they change no map.
    with (project.folder / "test.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    few = [rows[i] for i in (7, 3, 11)]
    with (project.folder / "few.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *few])
    assert (
        project.cli(
            "predict", project.run_folder, project.folder / "few.csv", "-o", project.folder / "f.csv"
        ).code
        == 0
    )
    whole = read_values(project.folder / "o.csv")
    for name, values in read_values(project.folder / "f.csv").items():
        # Encodings are the same to the byte; a linear model's own product rounds by the number of rows.
        np.testing.assert_allclose(values, whole[name], rtol=1e-13)


def read_values(path: Path) -> dict[str, list[float]]:
    with path.open(newline="") as file:
        return {row[0]: [float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]}


def test_layers_are_one_space_or_encoded_one_by_one(build: Any) -> None:
    taps = [
        {**LAYERS, "name": "together", "encode": ["geometry", "aligned", "raw"]},
        {**LAYERS, "name": "alone", "combine": "each", "encode": ["geometry", "aligned", "raw"], "reduce": 3},
        {"tap": "blocks.1.2", "name": "first", "encode": ["geometry", "aligned", "raw"], "reduce": 3},
        {"tap": "blocks.2.2", "name": "second", "encode": ["geometry", "aligned", "raw"], "reduce": 3},
    ]
    project = project_of(build, "multiclass", taps)
    said = project.run()
    assert said.code == 0, said.err
    result = run(project.folder / "c.yaml")
    assert result.n_computed == 0
    first, second, alone, together = (
        {kind: result.block(f"base/mlp/{name}@{kind}").oof for kind in ("geometry", "aligned", "raw")}
        for name in ("first", "second", "alone", "together")
    )
    for kind in ("geometry", "aligned", "raw"):
        np.testing.assert_array_equal(alone[kind], np.hstack([first[kind], second[kind]]))
    np.testing.assert_array_equal(together["raw"], np.hstack([first["raw"], second["raw"]]))
    assert together["geometry"].shape[1] == first["geometry"].shape[1]
    assert not np.allclose(together["geometry"], first["geometry"])
    assert together["aligned"].shape[1] == 13  # 106 anchors, 14 columns in all, 8 anchors a column


def test_seeds_are_encoded_one_by_one_and_averaged(build: Any) -> None:
    tap = {"tap": "penultimate", "encode": ["geometry", "relative", "raw"]}
    both = project_of(build, "multiclass", [tap], seeds=2)
    one = project_of(build, "multiclass", [tap], seeds=1)
    assert both.run().code == one.run().code == 0
    results = [run(project.folder / "c.yaml") for project in (both, one)]
    for kind, averaged in (("geometry", True), ("relative", True), ("raw", False)):
        two, single = (result.block(f"base/mlp/penultimate@{kind}").oof for result in results)
        assert two.shape[1] == single.shape[1] * (1 if averaged else 2)
    # The seeds of a fold are trained at once: the same nets but for rounding.
    np.testing.assert_allclose(two[:, :6], single, rtol=1e-4, atol=1e-5)


def test_check_names_the_block_without_importing_torch(build: Any) -> None:
    project = project_of(build, "multiclass", [{**LAYERS, "name": "top", "encode": ["aligned", "reference"]}])
    script = (
        "import sys; from stackfeat.config import load_config; from stackfeat.pipeline.check import describe_plan; "
        "print(describe_plan(load_config('c.yaml'))); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gives proba, top@aligned, top@reference" in done.stdout


@pytest.mark.parametrize(
    ("tap", "says"),
    [
        ({"tap": "blocks.*.9", "last": 2, "name": "a"}, "must name a layer of MLP"),
        ({"tap": "blocks.*.2", "last": 4, "name": "a", "combine": "each"}, "at least last=4 layers; got 3"),
        ({"tap": "blocks.*.2", "last": 2, "name": "a", "combine": "mean"}, "fitting shapes"),
    ],
)
def test_layers_that_are_not_there_end_the_member_with_a_reason(
    tap: dict[str, Any], says: str, build: Any
) -> None:
    said = project_of(build, "multiclass", [tap]).run()
    assert said.code != 0
    assert says in said.err + said.out


def test_reference_does_not_depend_on_any_label(build: Any) -> None:
    tap = {"tap": "penultimate", "encode": "reference"}
    project = project_of(build, "multiclass", [tap])
    assert project.run().code == 0
    plans = []
    for levels in ({}, {"levels.base.mlp.train.epochs": 3}):
        loaded = load_config(project.folder / "c.yaml", overrides=[f"{k}={v}" for k, v in levels.items()])
        planner = make_planner(loaded, open_store(loaded))
        plans.append(planner.plan())
    assert len(plans[0].references) == 1
    entry = open_store(loaded).read(plans[0].references["base/mlp"])
    first = entry.array("tap/penultimate")
    # Other labels for the same rows give the very same reference.
    lines = (project.folder / "train.csv").read_text().splitlines()
    labels = [line.rsplit(",", 1)[1] for line in lines[1:]]
    mixed = [
        f"{line.rsplit(',', 1)[0]},{label}" for line, label in zip(lines[1:], reversed(labels), strict=True)
    ]
    (project.folder / "train.csv").write_text("\n".join([lines[0], *mixed]) + "\n")
    assert project.run().code == 0
    loaded = load_config(project.folder / "c.yaml")
    planner = make_planner(loaded, open_store(loaded))
    second = planner.store.read(planner.plan().references["base/mlp"])
    assert second.key != entry.key
    np.testing.assert_array_equal(second.array("tap/penultimate"), first)
