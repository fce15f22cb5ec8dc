"""audit, the proof: clean runs pass; a row, group or time that crossed a fold does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stackfeat.engine.jobs import NAME, pack_rows, unpack_rows
from stackfeat.store import Store
from stackfeat.store.manifest import seal

Project = Any
Build = Callable[..., Any]


def provenance(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.run_folder / "provenance.json").read_text())
    return found


def result(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.run_folder / "audit.json").read_text())
    return found


def audited(project: Project, *arguments: object) -> Any:
    return project.cli("audit", project.run_folder, *arguments)


def key_of_fit(project: Project, member: str, unit: str) -> str:
    return str(provenance(project)["fits"][member][unit])


def forge(
    project: Project,
    key: str,
    change: Callable[[np.ndarray], np.ndarray | None],
    **extra: np.ndarray,
) -> None:
    """Write an entry anew, with other noted rows, as somebody would who knows how to sign it."""
    store = Store(project.folder / ".stackfeat")
    entry = store.read(key)
    files = {name: entry.bytes(name) for name in entry.manifest["files"] if name != f"{NAME}.npy"}
    rows = change(entry.array(NAME))
    shutil.rmtree(entry.path)
    with store.write(key, entry.kind, entry.manifest["recipe"]) as writer:
        for name, data in files.items():
            writer.bytes(name, data)
        if rows is not None:
            writer.array(NAME, rows)
        for name, values in extra.items():
            writer.array(name, values)


def folds_csv(project: Project) -> list[tuple[str, int]]:
    lines = (project.run_folder / "folds.csv").read_text().splitlines()[1:]
    return [(line.split(",")[0], int(line.split(",")[2])) for line in lines]


def test_a_clean_run_is_proven(net: Project) -> None:
    said = audited(net, "--no-null")
    assert said.code == 0, said.out + said.err
    found = result(net)
    assert found["verdict"] == "pass" and found["null"] is None
    proof = found["provenance"]
    assert proof["n_rows"] == 160 and proof["n_noted"] == proof["n_fits"] > 20
    assert {name for name, block in proof["blocks"].items() if not block["proven"]} == set()
    ways = {name: " ".join(block["indirect"]) for name, block in proof["blocks"].items()}
    assert ways["base/gbm/proba"] == ways["base/mlp/penultimate@geometry"] == ""
    assert "orthogonal maps between 3 fold spaces" in ways["base/mlp/penultimate@aligned"]
    assert "100% of them from fits on rows of this fold too, as in any stack" in ways["meta/gated/proba"]
    assert all(block["n_rows"] == 160 for block in proof["blocks"].values())
    assert said.out.splitlines()[-1].startswith("pass: ")


def test_a_nested_member_has_few_values_from_fits_that_saw_the_fold(net: Project) -> None:
    # Only the aligned block of the net is not nested: one of four blocks that `trees` reads.
    audited(net, "--no-null")
    (way,) = result(net)["provenance"]["blocks"]["meta/trees/proba"]["indirect"]
    n_blocks = len(next(b for b in provenance(net)["blocks"] if b["name"] == "meta/trees/proba")["reads"]) - 1
    assert f"({n_blocks} blocks), {1 / n_blocks:.0%} of them" in way


@pytest.mark.parametrize(
    ("member", "unit", "fold"), [("base/gbm", "0/1", 1), ("meta/trees", "0/2", 2), ("base/mlp", "0/0-1", 0)]
)
def test_a_held_out_row_among_the_rows_of_a_fit_fails(
    net: Project, member: str, unit: str, fold: int
) -> None:
    ids = [identity for identity, of in folds_csv(net) if of == fold]
    row = [identity for identity, _ in folds_csv(net)].index(ids[3])
    forge(net, key_of_fit(net, member, unit), lambda packed: packed | pack_rows([row], 160))
    said = audited(net, "--no-null")
    assert said.code == 1, said.out
    assert f"fault: {member} {unit}" in said.out and f"ids {ids[3]}" in said.out
    (fault,) = {json.dumps(f) for b in result(net)["provenance"]["blocks"].values() for f in b["faults"]}
    assert {"kind": "own label", "n_rows": 1, "ids": [ids[3]], "member": member}.items() <= json.loads(
        fault
    ).items()
    blocks = result(net)["provenance"]["blocks"]
    assert not blocks["final/soft/proba"]["proven"], "a block made of a leaking fit's rows is not proven"
    assert blocks["base/linear/proba"]["proven"]


def test_rows_that_a_fit_did_not_note_follow_from_its_fold(quick: Project) -> None:
    forge(quick, key_of_fit(quick, "base/gbm", "0/1"), lambda packed: None)
    assert audited(quick, "--no-null").code == 0
    proof = result(quick)["provenance"]
    assert proof["n_noted"] == proof["n_fits"] - 1


def test_noted_rows_are_the_training_rows_of_the_fold(quick: Project) -> None:
    store = Store(quick.folder / ".stackfeat")
    fold_of = np.array([fold for _, fold in folds_csv(quick)])
    for fold in range(3):
        packed = store.read(key_of_fit(quick, "base/gbm", f"0/{fold}")).array(NAME)
        np.testing.assert_array_equal(unpack_rows(packed, 160), fold_of != fold)


def test_a_damaged_and_a_missing_entry_are_named_and_left_alone(quick: Project) -> None:
    store = Store(quick.folder / ".stackfeat")
    damaged, missing = key_of_fit(quick, "base/gbm", "0/0"), key_of_fit(quick, "base/linear", "0/2")
    path = next(store.read(damaged).path.glob("*proba.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    shutil.rmtree(store.read(missing).path)
    said = audited(quick, "--no-null")
    assert said.code == 1 and "cannot be proven" in said.out
    assert f"base/gbm 0/0, entry {damaged[:12]}: damaged" in said.out
    assert f"base/linear 0/2, entry {missing[:12]}: missing" in said.out
    assert path.exists() and not (quick.folder / ".stackfeat/quarantine").exists()


def test_a_fit_of_another_fold_in_the_place_of_one_fails(quick: Project) -> None:
    path = quick.run_folder / "provenance.json"
    index = provenance(quick)
    block = next(block for block in index["blocks"] if block["name"] == "base/gbm/proba")
    block["oof"][0][1] = block["oof"][0][2]
    path.write_bytes(seal(index))
    said = audited(quick, "--no-null")
    assert said.code == 1 and "was fitted for repeat 0, fold 2 and stands for repeat 0, fold 1" in said.out


def test_a_fit_on_all_rows_in_the_place_of_a_fold_fails(quick: Project) -> None:
    path, index = quick.run_folder / "provenance.json", provenance(quick)
    block = next(block for block in index["blocks"] if block["name"] == "meta/gated/proba")
    block["oof"][0][1][0] = key_of_fit(quick, "meta/gated", "0/all")
    path.write_bytes(seal(index))
    said = audited(quick, "--no-null")
    n_rows = sum(fold == 1 for _, fold in folds_csv(quick))
    assert said.code == 1 and "was fitted for repeat 0, fold all and stands for repeat 0, fold 1" in said.out
    assert f"{n_rows} rows that it emits out of fold were fitted on their own labels" in said.out


@pytest.mark.parametrize("averaging", ["late", "early", "refit"])
def test_fits_on_all_rows_are_proven_to_emit_no_row_of_a_fold(
    averaging: str, build: Build, make_config: Any, add_net: Any
) -> None:
    config = add_net(make_config())
    config["stack"] = {"averaging": averaging}
    project = build(config=config)
    assert project.run().code == 0
    assert audited(project, "--no-null").code == 0
    whole = {name for name, units in provenance(project)["fits"].items() if "0/all" in units}
    assert ("base/mlp" in whole) == (averaging == "refit") and "meta/gated" in whole
    assert result(project)["provenance"]["n_fits"] == sum(map(len, provenance(project)["fits"].values()))
    member = "base/mlp" if averaging == "refit" else "meta/gated"
    forge(
        project, key_of_fit(project, member, "0/all"), lambda packed: packed, **{"oof/proba": np.zeros(160)}
    )
    said = audited(project, "--no-null")
    assert said.code == 1, said.out
    assert f"fault: {member} 0/all" in said.out
    assert "160 rows that it emits out of fold were fitted on their own labels" in said.out


def test_a_changed_oof_file_fails(quick: Project) -> None:
    path = quick.run_folder / "oof/base.gbm.csv"
    path.write_text(path.read_text().replace("0.1", "0.2", 1))
    said = audited(quick, "--no-null")
    assert said.code == 1 and "oof/base.gbm.csv: mismatch" in said.out


@pytest.mark.parametrize("role", ["group", "time"])
def test_folds_that_ignore_a_group_or_time_fail(role: str, build: Build) -> None:
    project = build("binary")
    config = project.config()
    config["data"][role] = "a" if role == "time" else "colour"
    config["folds"] = {"n": 3, "kind": "stratified", "allow_leak": True}
    for column, text in (("a", "0.5"), ("colour", "a")):
        project_fill(project, column, text)
    del config["levels"]["meta"], config["levels"]["final"]
    assert project.write(config).run().code == 0
    said = audited(project, "--no-null")
    assert said.code == 1, said.out
    word = "rows of their group" if role == "group" else "later rows"
    assert f"were fitted on {word}" in said.out
    # The same columns, respected.
    config["folds"] = {"n": 2 if role == "group" else 3}
    assert project.write(config).run().code == 0
    assert audited(project, "--no-null").code == 0


def project_fill(project: Project, column: str, text: str) -> None:
    """Fill empty cells of a column: roles may have none."""
    for name in ("train.csv", "test.csv"):
        header, *rows = (project.folder / name).read_text().splitlines()
        place = header.split(",").index(column)
        cells = [row.split(",") for row in rows]
        for cell in cells:
            cell[place] = cell[place] or text
        (project.folder / name).write_text("\n".join([header, *map(",".join, cells)]) + "\n")
