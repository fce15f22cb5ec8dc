"""audit of a run with stack.holdout: no fit of any level may have been given a held-out row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.data.samples import Samples, load_samples, save_samples
from stackfeat.engine.jobs import NAME, unpack_rows
from stackfeat.engine.recipes import key_of
from stackfeat.store import Store
from stackfeat.store.manifest import seal

Project = Any
MODES = ("late", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("early", "refit")))


def provenance(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.run_folder / "provenance.json").read_text())
    return found


def audited(project: Project) -> tuple[Any, dict[str, Any]]:
    said = project.cli("audit", project.run_folder, "--no-null")
    return said, json.loads((project.run_folder / "audit.json").read_text())["provenance"]


def store_of(project: Project) -> Store:
    return Store(project.folder / ".stackfeat")


@pytest.fixture(scope="module", params=MODES)
def held_run(request: Any, net_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a run with a net, aligned features and held-out rows, in every averaging."""
    project = net_run.copy(tmp_path_factory.mktemp("held") / "project")
    config = project.config()
    config["stack"] = {"holdout": 0.2, "averaging": request.param}
    said = project.write(config).run()
    assert said.code == 0, said.err
    return project


@pytest.fixture
def held(held_run: Project, tmp_path: Path) -> Project:
    return held_run.copy(tmp_path / "held")


def forge_samples(project: Project, key: str, change: Callable[[Samples], Samples]) -> None:
    """Write the rows of a run anew, as if other rows had been kept or held out."""
    store = store_of(project)
    entry = store.read(key)
    rows, recipe = change(load_samples(entry)), entry.manifest["recipe"]
    others = {
        name: entry.bytes(name)
        for name in entry.manifest["files"]
        if name.startswith(("kept", "held", "file_ids", "n_rows", "notes", "schema"))
    }
    shutil.rmtree(entry.path)
    with store.write(key, "samples", recipe) as writer:
        save_samples(rows, writer)
        for name, data in others.items():
            writer.bytes(name, data)


def test_a_clean_run_is_proven(held: Project) -> None:
    said, proof = audited(held)
    assert said.code == 0, said.out + said.err
    assert (proof["n_rows"], proof["holdout"]) == (128, {"n_rows": 32, "proven": True, "faults": []})
    assert "held-out rows" in said.out and "in no fit of any level" in said.out
    assert proof["n_fits"] == sum(map(len, provenance(held)["fits"].values()))
    # Every way that held-out rows take is looked at: entries of all places are there.
    assert [name for name in provenance(held)["files"] if name.startswith("holdout/")]


def test_a_held_out_row_among_the_rows_of_fits_fails(held: Project) -> None:
    """One row was kept and held out at once: every fit that was given it is named."""
    index, store = provenance(held), store_of(held)
    apart = load_samples(store.read(index["holdout"]))
    seen = {
        f"{member} {unit}": bool(unpack_rows(store.read(key).array(NAME), 128)[5])
        for member, units in index["fits"].items()
        for unit, key in units.items()
    }

    def with_a_held_row(rows: Samples) -> Samples:
        ids = rows.ids.astype(object)
        ids[5] = apart.ids[3]
        return replace(rows, ids=ids.astype(str))

    forge_samples(held, index["samples"], with_a_held_row)
    said, proof = audited(held)
    assert said.code == 1, said.out
    leaks = [fault for fault in proof["holdout"]["faults"] if fault["kind"] == "own label"]
    assert {f"{fault['member']} {fault['fold']}" for fault in leaks} == {u for u, saw in seen.items() if saw}
    assert {(fault["n_rows"], *fault["ids"]) for fault in leaks} == {(1, str(apart.ids[3]))}
    assert 0 < len(leaks) < len(seen)
    assert (
        f"1 rows that are held out of all levels were fitted on their own labels: ids {apart.ids[3]}"
        in said.out
    )


def test_rows_that_the_run_did_not_hold_out_fail(held: Project) -> None:
    forge_samples(held, provenance(held)["holdout"], lambda rows: rows.take(np.arange(rows.n_rows)[::-1]))
    said, proof = audited(held)
    assert said.code == 1 and not proof["holdout"]["proven"]
    assert "are not those it divided" in said.out


@pytest.mark.parametrize("wrong", ["test rows", "training rows", "an alignment"])
def test_predictions_that_are_not_of_held_out_rows_fail(held: Project, wrong: str) -> None:
    path, index, store = held.run_folder / "provenance.json", provenance(held), store_of(held)
    emit = index["files"]["holdout/meta.trees.csv"]["places"][0]
    fit = store.read(emit[0]).manifest["recipe"]["fit"]
    emits = [entry["key"] for entry in store_entries(store, "emit") if entry["recipe"]["fit"] == fit]
    emit[0] = {
        "test rows": next(key for key in emits if key != emit[0]),
        "training rows": fit,
        "an alignment": next(entry["key"] for entry in store_entries(store, "align")),
    }[wrong]
    path.write_bytes(seal(index))
    said, proof = audited(held)
    assert said.code == 1 and not proof["holdout"]["proven"]
    part = "it emits other rows than those held out" if wrong == "test rows" else "emits no held-out rows"
    assert part in " ".join(fault["detail"] for fault in proof["holdout"]["faults"])


def store_entries(store: Store, kind: str) -> list[dict[str, Any]]:
    return [store.read(key).manifest for key in store.keys(kind)]


def test_held_out_rows_as_anchors_fail(held: Project) -> None:
    path, index, store = held.run_folder / "provenance.json", provenance(held), store_of(held)
    emitted = next(
        entry["recipe"]
        for entry in store_entries(store, "align_emit")
        if store.read(entry["recipe"]["emit"]).manifest["recipe"]["samples"] == index["holdout"]
    )
    maps = store.read(emitted["align"]).manifest["recipe"]
    fit = store.read(maps["fits"][0]).manifest["recipe"]
    untrained = {name: fit[name] for name in ("member", "seed", "raw", "settings", "libraries", "code")}
    untrained |= {"stage": "reference", "version": 1, "samples": index["holdout"], "folds": maps["folds"]}
    align = {**maps, "reference": key_of(untrained)}
    emitted = {**emitted, "align": key_of(align)}
    for kind, recipe in (("reference", untrained), (align["stage"], align), ("align_emit", emitted)):
        with store.write(key_of(recipe), kind, recipe) as writer:
            writer.array("any", np.zeros(1))
    index["files"]["holdout/meta.trees.csv"]["places"][0][0] = key_of(emitted)
    path.write_bytes(seal(index))
    said, proof = audited(held)
    assert said.code == 1
    details = [fault["detail"] for fault in proof["holdout"]["faults"]]
    assert details == ["its anchors are not rows that the run trained on"]


def test_a_damaged_way_of_held_out_rows_is_named(held: Project) -> None:
    store, index = store_of(held), provenance(held)
    key = next(
        entry["key"]
        for entry in store_entries(store, "align_emit")
        if store.read(entry["recipe"]["emit"]).manifest["recipe"]["samples"] == index["holdout"]
    )
    path = next(store.read(key).path.glob("view*.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    said, proof = audited(held)
    assert said.code == 1
    (fault,) = proof["holdout"]["faults"]
    assert fault["kind"] == "damaged" and key[:12] in fault["where"]


def test_a_changed_holdout_file_fails(held: Project) -> None:
    path = held.run_folder / "holdout/base.gbm.csv"
    path.write_text(path.read_text().replace("0.", "0.5", 1))
    assert "holdout/base.gbm.csv: mismatch" in audited(held)[0].out


@pytest.mark.parametrize("role", ["group", "time"])
def test_groups_and_times_on_both_sides_fail(role: str, build: Any, make_config: Any) -> None:
    config = make_config("binary", "log_loss")
    config["data"][role] = "a" if role == "time" else "b"
    config["stack"] = {"holdout": 0.3}
    del config["levels"]["meta"], config["levels"]["final"]
    project = build("binary", config)
    for name in ("train.csv", "test.csv"):
        header, *rows = (project.folder / name).read_text().splitlines()
        place = header.split(",").index(config["data"][role])
        cells = [row.split(",") for row in rows]
        for number, cell in enumerate(cells):
            cell[place] = str(number % 40)
        (project.folder / name).write_text("\n".join([header, *map(",".join, cells)]) + "\n")
    said = project.run()
    assert said.code == 0, said.err
    assert audited(project)[0].code == 0

    def crossed(rows: Samples) -> Samples:
        values = getattr(rows, role).copy()
        values[7] = values.max() + 100 if role == "time" else other
        return replace(rows, **{role: values})

    store, index = store_of(project), provenance(project)
    apart = load_samples(store.read(index["holdout"]))
    other = None if apart.group is None else apart.group[0]
    forge_samples(project, index["samples"], crossed)
    said, proof = audited(project)
    assert said.code == 1
    kind = "group" if role == "group" else "later rows"
    n_rows = int((apart.group == other).sum()) if role == "group" else apart.n_rows
    held = {(fault["kind"], fault["n_rows"]) for fault in proof["holdout"]["faults"]}
    assert held == {(kind, n_rows)}
    assert f"{n_rows} rows that are held out of all levels were fitted on" in said.out
