"""One file holds a predictor: the same numbers elsewhere, and nothing but a predictor is read from it."""

from __future__ import annotations

import gc
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat as sf
from stackfeat.errors import DataError, StackfeatError, UsageError
from stackfeat.output.completed_run import read_predictions
from stackfeat.output.packed_predictor import pack_predictor

Project = Any


@pytest.fixture(scope="module")
def packed(plain_run: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "model.zip"
    said = plain_run.cli("export", plain_run.run_folder, "-o", path)
    assert said.code == 0 and f"wrote {path}" in said.out
    return path


def test_an_exported_file_predicts_the_submission_where_the_run_is_not(
    packed: Path, plain: Project, tmp_path: Path
) -> None:
    test = pd.read_csv(plain.folder / "test.csv")
    wanted = (plain.run_folder / "submission.csv").read_bytes()
    shutil.rmtree(plain.run_folder)
    shutil.rmtree(plain.folder / ".stackfeat")
    out = tmp_path / "out.csv"
    assert plain.cli("predict", packed, plain.folder / "test.csv", "-o", out).code == 0
    assert out.read_bytes() == wanted
    model = sf.load(packed)
    assert str(packed) in repr(model)
    np.testing.assert_array_equal(model.predict_proba(test), read_predictions(out))
    copy = pickle.loads(pickle.dumps(model))
    assert copy.folder != model.folder  # type: ignore[union-attr]
    assert copy.predict(test).tolist() == model.predict(test).tolist()
    folder = model.folder  # type: ignore[union-attr]
    assert folder.is_dir()
    del model
    gc.collect()
    assert not folder.exists()


def test_one_predictor_is_one_file_byte_by_byte(packed: Path, plain_run: Project, tmp_path: Path) -> None:
    pack_predictor(plain_run.run_folder, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def rewritten(packed: Path, to: Path, change: Any) -> Path:
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(to, "w") as sink:
        for item in source.infolist():
            sink.writestr(item.filename, change(item.filename, source.read(item)))
    return to


def test_a_changed_byte_is_found(packed: Path, plain_run: Project, tmp_path: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        return content[:-1] + b"!" if name.endswith(".skops") else content

    model = sf.load(rewritten(packed, tmp_path / "m.zip", change))
    with pytest.raises(StackfeatError, match="damage"):
        model.predict(plain_run.folder / "test.csv")


@pytest.mark.parametrize(
    "name",
    [
        "../evil.py",
        "predictor/../../evil",
        "/abs",
        "predictor/models/x.py",
        "code.py",
        "predictor/models/entries/a/../b/c",
    ],
)
def test_a_file_with_anything_else_in_it_is_refused_before_it_is_unpacked(
    name: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "m.zip"
    shutil.copy(packed, other)
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr(name, b"x")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with pytest.raises(DataError, match="must hold a predictor and nothing else"):
        sf.load(other)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_bomb_and_a_cut_file_are_refused(packed: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("predictor/predictor.json", b"0" * 50_000_000)
    with pytest.raises(DataError, match="must hold a predictor and nothing else"):
        sf.load(bomb)
    (tmp_path / "cut.zip").write_bytes(packed.read_bytes()[:-200])
    with pytest.raises(DataError):
        sf.load(tmp_path / "cut.zip")


def test_damage_that_the_unpacking_meets_is_told_as_such(packed: Path, tmp_path: Path) -> None:
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        item = max(archive.infolist(), key=lambda one: one.compress_size)
    start = item.header_offset + 30 + len(item.filename)
    content[start : start + 40] = b"\xff" * 40
    (tmp_path / "m.zip").write_bytes(content)
    with pytest.raises(DataError, match="must be a file as `stackfeat export` writes it; got error"):
        sf.load(tmp_path / "m.zip")


def test_what_cannot_be_exported_says_why(plain: Project, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must be a file that ends in \.zip; got .*model\.pkl"):
        pack_predictor(plain.run_folder, tmp_path / "model.pkl")
    with pytest.raises(
        UsageError, match=r"must be a file of its own; got .*, which is a place for files of a run"
    ):
        pack_predictor(plain.run_folder, plain.run_folder / "predictor" / "model.zip")
    with pytest.raises(DataError, match="must hold a predictor"):
        pack_predictor(tmp_path, tmp_path / "model.zip")
    for path in (plain.run_folder / "predictor").rglob("*.skops"):
        path.write_bytes(b"x")
    with pytest.raises(StackfeatError, match="damage"):
        pack_predictor(plain.run_folder, tmp_path / "model.zip")
    assert not (tmp_path / "model.zip").exists()
