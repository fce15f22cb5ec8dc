"""A received predictor names no file of its receiver: only what lies beside the data, or was allowed, is opened."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.errors import DataError
from stackfeat.pipeline.predict import predict_file
from tests.projects import Project, build_project
from tests.projects import base_config as run_config
from tests.security.forging import change_wiring

opened: list[str] = []
is_watching = False


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if is_watching and event in ("open", "os.listdir", "os.scandir"):
        opened.append(
            os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
        )


sys.addaudithook(_note)


@pytest.fixture
def watching() -> Iterator[None]:
    """Note every file and folder that is opened from now on."""
    global is_watching
    opened.clear()
    is_watching = True
    yield
    is_watching = False


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on pictures and an array in npy files."""
    image = pytest.importorskip("PIL.Image")
    config = run_config()
    config["data"]["inputs"] = {
        "photo": {"column": "file", "root": "photos", "size": 8},
        "wave": {"array": "{name}_wave.npy", "kind": "table"},
    }
    cnn = {"net": "cnn", "inputs": ["photo"], "params": {"width": 4, "stages": 1}, "train": {"epochs": 1}}
    ridge = {"estimator": "sklearn.linear_model.LogisticRegression", "inputs": ["wave"]}
    config["levels"] = {
        "base": {"cnn": cnn, "linear": ridge},
        "final": {"soft": {"vote": "soft", "inputs": ["base/*/proba"]}},
    }
    config["submit"] = "final/soft"
    project = build_project(tmp_path_factory.mktemp("paths") / "project", config=config, n_rows=40)
    (project.folder / "photos").mkdir()
    for name in ("train", "test"):
        path = project.folder / f"{name}.csv"
        lines = path.read_text().splitlines()
        for i, _ in enumerate(lines[1:]):
            image.new("RGB", (8, 8), (i, 99, 5 * i % 255)).save(project.folder / f"photos/{name}{i}.png")
        path.write_text(
            "\n".join(f"{x},{f'{name}{i - 1}.png' if i else 'file'}" for i, x in enumerate(lines))
        )
        np.save(project.folder / f"{name}_wave.npy", np.arange(3.0 * (len(lines) - 1)).reshape(-1, 3))
    said = project.run()
    assert said.code == 0, said.err
    return project.folder


@pytest.fixture
def received(finished: Path, tmp_path: Path) -> Path:
    """Return a folder with a received run, the data of its receiver, and a secret beside both."""
    shutil.copytree(finished / "runs" / "run" / "predictor", tmp_path / "run" / "predictor")
    for path in (tmp_path / "run").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for folder in ("data", "secret"):
        shutil.copytree(finished / "photos", tmp_path / folder / "photos")
        shutil.copy(finished / "test.csv", tmp_path / folder)
        shutil.copy(finished / "test_wave.npy", tmp_path / folder)
    (tmp_path / "data" / "link").symlink_to(tmp_path / "secret" / "photos")
    (tmp_path / "data" / "link.npy").symlink_to(tmp_path / "secret" / "test_wave.npy")
    (tmp_path / "data" / "loop").symlink_to("loop")
    return tmp_path


def predicted(folder: Path, **options: Any) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predict_file(folder / "run", folder / "data" / "test.csv", folder / "out.csv", **options)
    return (folder / "out.csv").read_bytes()


def hostile(folder: Path, name: str, option: str, value: str) -> None:
    value = value.replace("TOP", str(folder))
    change_wiring(
        folder / "run" / "predictor", lambda wiring: wiring["data"]["inputs"][name].update({option: value})
    )


PATHS = [
    ("photo", "root", "TOP/secret/photos"),
    ("photo", "root", "../secret/photos"),
    ("photo", "root", "photos/../../secret/photos"),
    ("photo", "root", "link"),
    ("photo", "root", "/"),
    ("wave", "array", "TOP/secret/test_wave.npy"),
    ("wave", "array", "../secret/{name}_wave.npy"),
    ("wave", "array", "{name}/../../secret/test_wave.npy"),
    ("wave", "array", "link.npy"),
    ("wave", "lengths", "TOP/secret/test_wave.npy"),
    ("wave", "lengths", "../secret/test_wave.npy"),
]


@pytest.mark.parametrize(("name", "option", "value"), PATHS)
def test_a_path_of_a_predictor_that_leaves_the_data_is_refused_and_nothing_there_is_opened(
    received: Path, watching: None, name: str, option: str, value: str
) -> None:
    hostile(received, name, option, value)
    with pytest.raises(DataError, match=rf"data\.inputs\.{name}\.{option}: .* --data-root DIR"):
        predicted(received)
    assert opened and not [path for path in opened if f"{received}/secret" in os.path.realpath(path)]
    assert not (received / "out.csv").exists()


@pytest.mark.parametrize("value", ["loop", "a\0b", "x" * 5000, "loop/x"])
def test_a_root_that_is_no_path_is_an_error_of_the_data(received: Path, value: str) -> None:
    hostile(received, "photo", "root", value)
    with pytest.raises(DataError):
        predicted(received)
    hostile(received, "photo", "root", "photos")
    hostile(received, "wave", "array", f"{value}.npy")
    with pytest.raises(DataError):
        predicted(received)


def test_the_command_refuses_with_the_code_of_bad_data(received: Path) -> None:
    hostile(received, "photo", "root", "../secret/photos")
    arguments = ["predict", received / "run", received / "data/test.csv", "-o", received / "out.csv"]
    said = Project(received).cli(*arguments)
    assert said.code == 3 and "--data-root" in said.err
    assert Project(received).cli(*arguments, "--data-root", received / "secret").code == 0


def test_paths_beside_the_data_and_those_that_the_user_allows_are_read(
    finished: Path, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = (finished / "runs" / "run" / "submission.csv").read_bytes()
    assert predicted(received) == expected
    hostile(received, "wave", "array", "../secret/test_wave.npy")
    assert predicted(received, data_roots=[received / "secret"]) == expected
    monkeypatch.setenv("STACKFEAT_DATA_ROOTS", str(received / "secret"))
    assert predicted(received) == expected
    monkeypatch.chdir(received / "data")
    predict_file(Path("../run"), Path("test.csv"), Path("../again.csv"))
    assert (received / "again.csv").read_bytes() == expected


def test_a_cell_of_the_data_names_no_picture_outside_the_root(received: Path) -> None:
    path = received / "data" / "test.csv"
    path.write_text(path.read_text().replace("test0.png", "../../secret/photos/test0.png", 1))
    with pytest.raises(DataError, match="image paths stay inside"):
        predicted(received)
