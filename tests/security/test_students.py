"""Students whose every hash is right and whose contents are hostile or damaged: one line, no code, no other file."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat as sf
from stackfeat.data.prepare.plain_columns import ScaledColumns, TreeColumns
from stackfeat.data.schema.columns import Column, Schema
from stackfeat.errors import DataError, StackfeatError
from stackfeat.output.submission import Form
from stackfeat.pipeline import students
from stackfeat.pipeline.students import HEAD, Layers, Made, Student, StudentModel, Trees
from stackfeat.store.booster_text import plain_text
from stackfeat.store.manifest import seal
from stackfeat.tasks.task import Task

Json = dict[str, Any]
TASK = Task("binary", ("no", "yes"))
LEVELS = ("blue", "green", "red")


@cache
def trees() -> str:
    from lightgbm import LGBMClassifier

    random = np.random.default_rng(0)
    X = np.column_stack([random.normal(size=200), random.integers(0, 3, 200)])
    model = LGBMClassifier(n_estimators=4, num_leaves=4, verbose=-1, n_jobs=1)
    return plain_text(
        model.fit(X, random.integers(0, 2, 200), categorical_feature=[1]).booster_.model_to_string()
    )


def student(kind: str) -> Student:
    places = (np.array([-1, -1, 0, 1, 2]),)
    columns = [Column("size", "numeric"), Column("colour", "categorical", levels=LEVELS)]
    model: StudentModel = Trees.of(trees(), TASK)
    tables: Any = {"table": TreeColumns(places)}
    if kind == "mlp":
        random, ones = np.random.default_rng(0), np.ones(1)
        shapes = [(4, 5), (5, 1)]
        model = Layers.of([random.normal(size=shape) for shape in shapes], [np.zeros(5), np.zeros(1)], TASK)
        tables = {"table": ScaledColumns(places, ones, np.zeros(0, dtype=np.int64), ones, ones)}
    schema = Schema(TASK, "str", None, "label", {}, tuple(columns), {"table": ("size", "colour")}, {})
    made = Made("run", "final/soft", "log_loss", 0.5, 0.6, 0.1, 0.05, 100, 200, 4, "1")
    return Student(
        model, schema, {"train": "t.csv", "target": "label"}, Form("id", "label", False), None, tables, made
    )


FRAME = pd.DataFrame({"size": [0.5, np.nan], "colour": ["red", "purple"]})


def forge(path: Path, change: Callable[[Json, dict[str, bytes]], object]) -> None:
    """Change what a student's file holds, and make every hash right again."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    head = json.loads(files.pop(HEAD))
    change(head, files)
    head["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {HEAD: seal(head), **files}.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("kind", ["lightgbm", "mlp"])
def test_a_student_is_read_as_it_was_written(kind: str, tmp_path: Path) -> None:
    one = student(kind)
    one.save(tmp_path / "s.zip")
    other = sf.load_student(tmp_path / "s.zip")
    assert other.made == one.made and other.classes_.tolist() == ["no", "yes"]
    assert np.array_equal(other.predict_proba(FRAME), one.predict_proba(FRAME))
    assert other.predict(FRAME).shape == (2,)


@pytest.mark.parametrize("kind", ["lightgbm", "mlp"])
def test_damage_anywhere_is_found(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "s.zip"
    student(kind).save(path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    wanted = sf.load_student(path).predict_proba(FRAME)
    for place in random.integers(0, len(whole), 60).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            found = sf.load_student(path)
        except DataError:
            continue
        # Bytes of the packing that say nothing of the contents, such as the time of a file.
        assert np.array_equal(found.predict_proba(FRAME), wanted)
    for place in random.integers(0, len(whole), 20).tolist():
        path.write_bytes(whole[:place])
        with pytest.raises(DataError):
            sf.load_student(path)


def _tree(old: str, new: str) -> Callable[[Json, dict[str, bytes]], object]:
    def change(head: Json, files: dict[str, bytes]) -> None:
        assert old in files["model.txt"].decode()
        files["model.txt"] = files["model.txt"].decode().replace(old, new, 1).encode()

    return change


def _head(**values: Any) -> Callable[[Json, dict[str, bytes]], object]:
    return lambda head, files: head.update(values)


def _array(name: str, values: Any) -> Callable[[Json, dict[str, bytes]], object]:
    import io

    sink = io.BytesIO()
    np.save(sink, values, allow_pickle=True)
    return lambda head, files: files.update({name: sink.getvalue()})


class Bird:
    def __reduce__(self) -> Any:
        return (Path("/tmp/stackfeat-canary").touch, ())


TREES = {
    "parameters behind trees": _tree("end of trees\n", "end of trees\n\nparameters:\n[machines: 10.0.0.1]\n"),
    "a split of another column": _tree("split_feature=", "split_feature=9"),
    "another kind": _head(kind="mlp"),
    "a kind that is none": _head(kind="os.system"),
    "another format": _head(format=2),
    "no tables": _head(tables=[]),
    "a table twice": _head(tables=["table", "table"]),
    "a field more": _head(code="import os"),
    "a decision that is none": _head(decision={"kind": "eval", "values": ["1"]}),
    "places of other levels": _array("table0.values.npy", np.arange(50)),
    "places that are objects": _array("table0.values.npy", np.array([Bird()] * 5, dtype=object)),
    "places that are numbers with fractions": _array("table0.values.npy", np.zeros(5)),
    "lengths below 0": _array("table0.lengths.npy", np.array([-5, 10])),
    "no arrays": lambda head, files: files.pop("table0.values.npy"),
    "no trees": lambda head, files: files.pop("model.txt"),
}
NETS = {
    "weights of another shape": _array("weight0.npy", np.zeros((4, 9))),
    "weights that are not finite": _array("weight0.npy", np.full((4, 5), np.nan)),
    "weights that are objects": _array("weight0.npy", np.array([[Bird()] * 5] * 4, dtype=object)),
    "weights that are texts": _array("weight0.npy", np.full((4, 5), "x")),
    "more outputs": _array("bias1.npy", np.zeros(2)),
    "no spread": _array("table0.spread.npy", np.zeros(1)),
    "an indicator of no column": _array("table0.missing.npy", np.array([7])),
    "a layer less": lambda head, files: files.pop("weight1.npy"),
}
FORGED = [
    *(("lightgbm", name, one) for name, one in TREES.items()),
    *(("mlp", name, one) for name, one in NETS.items()),
]


@pytest.mark.parametrize(("kind", "name", "change"), FORGED, ids=[name for _, name, _ in FORGED])
def test_hostile_contents_are_one_error(kind: str, name: str, change: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.zip"
    student(kind).save(path)
    forge(path, change)
    with pytest.raises(StackfeatError) as caught:
        sf.load_student(path).predict_proba(FRAME)
    assert str(caught.value).count("\n") == 0
    assert not Path("/tmp/stackfeat-canary").exists()


def test_a_file_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.zip"
    monkeypatch.setattr(students, "MOST_BYTES", 1_000)
    student("lightgbm").save(path)
    with pytest.raises(DataError, match="must be a student as"):
        sf.load_student(path)


def test_names_of_columns_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "s.zip"
    student("lightgbm").save(path)
    with pytest.raises(DataError, match="missing here: colour"):
        sf.load_student(path).predict(FRAME[["size"]])
