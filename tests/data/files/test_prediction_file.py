"""Files of predictions: columns by name, ids as text, arrays only with ids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.options import DataOptions
from stackfeat.data.schema import prediction_file
from stackfeat.data.schema.prediction_file import PredictionRows, class_order, read_predictions
from stackfeat.errors import DataError
from stackfeat.tasks.task import Task

THREE = Task("multiclass", (1, 2, 3))
TWO = Task("binary", ("no", "yes"), positive=1)
VALUES = Task("regression")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_columns_are_matched_by_name_and_ids_stay_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "3,id,1,note,2\n0.5,007,0.2,0.1,0.3\n0.1,8,0.8,0.2,\n")
    found = read_predictions(path, THREE, "row_id")
    assert found.ids.tolist() == ["007", "8"] and found.by_name and found.ignored == ("note",)
    assert np.allclose(found.values, [[0.2, 0.3, 0.5], [0.8, np.nan, 0.1]], equal_nan=True)


def test_parquet_and_structured_arrays_read_as_csv_does(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"id": ["a", "b"], "3": [0.5, 0.1], "1": [0.2, 0.8], "2": [0.3, 0.1]})
    frame.to_parquet(tmp_path / "a.parquet")
    np.save(
        tmp_path / "a.npy", frame.to_records(index=False).astype([("id", "U3"), *((c, "f8") for c in "312")])
    )
    frame.to_csv(tmp_path / "a.csv", index=False)
    first, *others = (read_predictions(tmp_path / f"a.{s}", THREE, "id") for s in ("csv", "parquet", "npy"))
    for other in others:
        assert np.array_equal(other.values, first.values) and other.ids.tolist() == first.ids.tolist()


@pytest.mark.parametrize("name", ["prediction", "yes", "proba", "bought"])
def test_one_column_of_a_binary_task_is_the_positive_class(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"id,{name}\na,0.2\n")
    assert read_predictions(path, TWO, "id", target="bought").values.tolist() == [[0.8, 0.2]]
    flipped = Task("binary", ("no", "yes"), positive=0)
    if name != "yes":
        assert read_predictions(path, flipped, "id", target="bought").values.tolist() == [[0.2, 0.8]]


def test_values_are_read_from_prediction_or_the_target(tmp_path: Path) -> None:
    for name in ("prediction", "price"):
        path = write(tmp_path / f"{name}.csv", f"id,{name}\na,3.5\n")
        assert read_predictions(path, VALUES, "id", target="price").values.tolist() == [[3.5]]
    with pytest.raises(DataError, match="the column must be called 'prediction'; got 'cost'"):
        read_predictions(write(tmp_path / "b.csv", "id,cost\na,1\n"), VALUES, "id")


def test_arrays_are_never_aligned_by_position(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(3))
    np.save(tmp_path / "ids.npy", np.array(["x", "y", "z"]))
    write(tmp_path / "ids.csv", "id\nx\ny\nz\n")
    with pytest.raises(DataError, match="rows are never aligned by position"):
        read_predictions(tmp_path / "a.npy", THREE, "id")
    for ids in ("ids.npy", "ids.csv"):
        found = read_predictions(tmp_path / "a.npy", THREE, "id", ids=tmp_path / ids, classes=(3, 1, 2))
        assert found.ids.tolist() == ["x", "y", "z"]
        assert np.array_equal(found.values, np.eye(3)[:, [1, 2, 0]])
    assert not read_predictions(tmp_path / "a.npy", THREE, "id", ids=tmp_path / "ids.npy").by_name
    np.save(tmp_path / "ids.npy", np.array(["x", "y"]))
    with pytest.raises(DataError, match="got 3 rows and 2 ids"):
        read_predictions(tmp_path / "a.npy", THREE, "id", ids=tmp_path / "ids.npy")


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="no Python objects; got dtype object; write it"):
        read_predictions(tmp_path / "a.npy", THREE, "id", ids=tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["1", "2", "4"], r"got '4'"),
        (["1", "2"], "without 3"),
        (["1", "2", "3", "3"], "with one more than once"),
    ],
)
def test_an_order_of_classes_names_each_once(classes: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_order(classes, THREE, "here")
    assert class_order(json.loads("[2, 3, 1]"), THREE, "here") == [2, 0, 1]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("id;1;2;3\na;0,2;0,3;0,5\nb;0,8;0,1;0,1\n", {}),
        ("id;1;2;3\na;0,2;0,3;0,5\nb;0,8;0,1;0,1\n", {"decimal": ","}),
        ("id,1,2,3\na,0.2,0.3,0.5\nb,0.8,0.1,0.1\n", {"decimal": ","}),
        ("id,1,2,3\na,20%,30%,50%\nb,80%,10%,10%\n", {"types": {"1": "categorical"}}),
    ],
)
def test_numbers_are_read_in_the_notation_of_the_file(
    text: str, options: dict[str, str], tmp_path: Path
) -> None:
    found = read_predictions(
        write(tmp_path / "a.csv", text),
        THREE,
        "id",
        text=DataOptions.model_validate({"train": "t.csv", **options}),
    )
    factor = 100 if "%" in text else 1
    assert np.allclose(found.values / factor, [[0.2, 0.3, 0.5], [0.8, 0.1, 0.1]])


def test_texts_that_stand_for_missing_values_are_those_of_the_run(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,prediction\na,3.5\nb,-999\nc,n/a\nd,1\n")
    options = DataOptions.model_validate({"train": "t.csv", "missing": [-999]})
    found = read_predictions(path, VALUES, "id", text=options).values[:, 0]
    assert np.allclose(found, [3.5, np.nan, np.nan, 1], equal_nan=True)


def test_columns_without_names_are_in_the_sorted_order_of_the_classes_whatever_the_run_has(
    tmp_path: Path,
) -> None:
    ordered = Task("multiclass", ("low", "mid", "high"))
    np.save(tmp_path / "a.npy", np.array([[0.1, 0.2, 0.7]]))
    np.save(tmp_path / "ids.npy", np.array(["a"]))

    def values(**more: object) -> list[float]:
        found = read_predictions(tmp_path / "a.npy", ordered, "id", ids=tmp_path / "ids.npy", **more)  # type: ignore[arg-type]
        return list(found.values[0])

    assert values() == [0.2, 0.7, 0.1]  # high, low, mid
    assert values(classes=["low", "mid", "high"]) == [0.1, 0.2, 0.7]
    path = write(tmp_path / "a.csv", "id,high,low,mid\na,0.1,0.2,0.7\n")
    assert read_predictions(path, ordered, "id").values.tolist() == [[0.2, 0.7, 0.1]]


def test_files_with_the_same_ids_share_them_and_others_do_not(tmp_path: Path) -> None:
    def read(name: str, ids: str) -> PredictionRows:
        path = tmp_path / name
        path.write_text("id,prediction\n" + "".join(f"{one},0.5\n" for one in ids))
        return read_predictions(path, Task("regression"), "id")

    first, same, other = read("a.csv", "xyz"), read("b.csv", "xyz"), read("c.csv", "xzy")
    assert same.ids is first.ids and not first.ids.flags.writeable
    assert other.ids.tolist() == ["x", "z", "y"]
    with pytest.raises(DataError, match="must be unique"):
        read("d.csv", "xx")


def test_ids_that_were_read_before_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task("binary", ("no", "yes"))
    for name, cells in (
        ("a", "0.25 0.5 1e-3"),
        ("b", "0.75 1 .5"),
        ("c", "n/a 0.5 0.5"),
        ("d", "0,5 0,25 0,125"),
    ):
        rows = zip(["x1", "é", "x3"], cells.split(), strict=True)
        separator = ";" if name == "d" else ","
        text = "".join(f"{row}{separator}{cell}\n" for row, cell in rows)
        (tmp_path / f"{name}.csv").write_text(f"id{separator}prediction\n{text}", encoding="utf-8")
    first = read_predictions(tmp_path / "a.csv", task, "id")
    usual = prediction_file.read_frame
    monkeypatch.setattr(prediction_file, "read_frame", _refuse)
    second = read_predictions(tmp_path / "b.csv", task, "id")
    assert second.ids is first.ids and second.values[:, 1].tolist() == [0.75, 1.0, 0.5]
    # Options and other notations are matters of the usual reader.
    for name in ("c", "d"):
        with pytest.raises(AssertionError):
            read_predictions(tmp_path / f"{name}.csv", task, "id")
    with pytest.raises(AssertionError):
        read_predictions(tmp_path / "b.csv", task, "id", text=DataOptions(train="b.csv", missing=["1"]))
    with pytest.raises(AssertionError):
        read_predictions(tmp_path / "b.csv", task, "prediction")
    monkeypatch.setattr(prediction_file, "read_frame", usual)
    assert read_predictions(tmp_path / "d.csv", task, "id").values[:, 1].tolist() == [0.5, 0.25, 0.125]


def _refuse(*_: object) -> None:
    raise AssertionError("the file was read as a whole")
