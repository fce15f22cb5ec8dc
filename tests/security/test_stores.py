"""A store from somebody else: entries with right hashes and hostile contents run no code and end no run."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.cli.entries import explain_entry, list_entries
from tests.projects import Project, base_config, build_project
from tests.security.forging import (
    entry_folders,
    manifest_of,
    mapping,
    node,
    rewrite_entry,
    sequence,
    skops_file,
    value,
)

Json = Any


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    config = base_config()
    config["folds"]["n"] = 2
    project = build_project(tmp_path_factory.mktemp("store") / "project", config=config, n_rows=60)
    said = project.run()
    assert said.code == 0, said.err
    return project


@pytest.fixture
def received(finished: Project, tmp_path: Path) -> Project:
    """Return a project whose store came from elsewhere, and that has no results yet."""
    copied = finished.copy(tmp_path / "received")
    shutil.rmtree(copied.run_folder)
    for path in (copied.folder / ".stackfeat").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    return copied


def system(bird: Any) -> Json:
    content = {
        "func": node("FunctionNode", "os.system"),
        "args": sequence(value(bird.shell)),
        "kwds": mapping(),
        "namespace": value(None),
    }
    return node("PartialNode", "functools.partial", content=content)


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)


HUGE = header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }")
OBJECTS = header("{'descr': '|O', 'fortran_order': False, 'shape': (8,), }")
VALUES: dict[str, bytes] = {
    "another structure": b'{"x": 1}',
    "a list": b"[[1, 2], 3]",
    "nothing": b"null",
    "text": b'"os.system"',
    "a number beyond all": b'{"seconds": 1e999, "n": ' + b"9" * 400 + b"}",
    "no json": b"{",
    "depth without end": b"[" * 100_000,
}


def forge(project: Project, name: str, data: Callable[[str], bytes | None]) -> int:
    """Replace a file in every entry that has one; return how many there were."""
    n_forged = 0
    for folder in entry_folders(project.folder / ".stackfeat"):
        own = [item for item in manifest_of(folder)["files"] if Path(item).match(name)]
        contents = {item: content for item in own if (content := data(item)) is not None}
        if contents:
            rewrite_entry(folder, contents)
            n_forged += 1
    return n_forged


def run_to_an_end(project: Project, finished: Project) -> None:
    """Run with the forged store: made anew to the same bytes, or refused in a line."""
    said = project.run("--quiet")
    assert "Traceback" not in said.err, said.err
    if said.code == 0:
        assert project.outputs() == finished.outputs()
    else:
        assert said.code in (1, 2, 3) and len(said.err.strip().splitlines()) <= 3, said.err


FILES = (
    "samples.json",
    "folds.json",
    "notes.json",
    "info.json",
    "score.json",
    "shape.json",
    "n_rows.json",
    "schema.json",
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param(name, text, marks=() if (i + 2 * j) % 5 == 0 else pytest.mark.slow)
        for i, name in enumerate(FILES)
        for j, text in enumerate(VALUES)
    ],
)
def test_values_of_another_structure_are_made_anew(
    name: str, text: str, received: Project, finished: Project, canary: Any
) -> None:
    assert forge(received, name, lambda item: VALUES[text])
    run_to_an_end(received, finished)


ARRAYS = {"huge": HUGE, "objects": OBJECTS, "empty": b"", "version": b"\x93NUMPY\x09\x09"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param(name, data, marks=() if (i + j) % 2 == 0 else pytest.mark.slow)
        for i, name in enumerate(("*ids*", "*numeric*", "train*", "*proba.npy", "bootstrap*"))
        for j, data in enumerate(ARRAYS)
    ],
)
def test_arrays_that_cannot_be_are_made_anew(
    name: str, data: str, received: Project, finished: Project, canary: Any
) -> None:
    assert forge(received, name, lambda item: ARRAYS[data] if item.endswith(".npy") else None)
    run_to_an_end(received, finished)


def test_saved_functions_of_a_received_store_never_run(
    received: Project, finished: Project, canary: Any
) -> None:
    """The models of a store go into the predictor of a run as they are: whoever predicts refuses them."""
    assert forge(received, "*.skops", lambda item: skops_file(system(canary)))
    assert forge(received, "columns.table.*", lambda item: skops_file(system(canary)))
    run_to_an_end(received, finished)
    said = received.cli(
        "predict", received.run_folder, received.folder / "test.csv", "-o", received.folder / "out.csv"
    )
    assert said.code != 0 and "Traceback" not in said.err and "os.system" in said.err


def test_a_member_of_a_received_store_cannot_name_code(
    received: Project, finished: Project, canary: Any
) -> None:
    for folder in entry_folders(received.folder / ".stackfeat"):
        if manifest_of(folder)["kind"] == "fit":
            rewrite_entry(
                folder,
                change=lambda manifest: manifest["recipe"].update(
                    member={"net": "stackfeat.pipeline.run:run"}
                ),
            )
    run_to_an_end(received, finished)
    said = received.cli(
        "predict", received.run_folder, received.folder / "test.csv", "-o", received.folder / "out.csv"
    )
    assert "Traceback" not in said.err


def test_forged_entries_can_be_listed_and_explained(received: Project, canary: Any) -> None:
    rng = np.random.default_rng(0)
    strange = [3, "\x1b]0;title\x07", [], {"deep": [[[]]]}, None, {"net": ["x"]}]
    for folder in entry_folders(received.folder / ".stackfeat"):
        part = strange[rng.integers(len(strange))]
        rewrite_entry(
            folder, change=lambda manifest, part=part: manifest["recipe"].update(member=part, part=part)
        )
    root = received.folder / ".stackfeat"
    lines = str(list_entries(root, "")).splitlines()
    assert len(lines) >= len(entry_folders(root))
    for folder in entry_folders(root)[:5]:
        with contextlib.suppress(ValueError):
            explain_entry(root, folder.name)


def test_jobs_of_a_received_store_are_not_done(received: Project, finished: Project, canary: Any) -> None:
    """What a job file says is done by the worker of a run that wrote it, and by nobody else."""
    jobs = received.folder / ".stackfeat" / "jobs"
    jobs.mkdir(exist_ok=True)
    for name in ("0" * 64, "evil"):
        steps = [{"key": "0" * 64, "recipe": {"stage": "fit", "member": {"net": "os:system"}}}]
        (jobs / f"{name}.json").write_text(json.dumps({"steps": steps}))
    run_to_an_end(received, finished)
