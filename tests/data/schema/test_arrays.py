# ruff: noqa: E501
"""Arrays as inputs: what npz and npy files become, beside tables, with lengths, groups and time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.data import samples as arrays
from stackfeat.data.files.fingerprint import fingerprint
from stackfeat.data.options import DataOptions
from stackfeat.data.prepare.net import ArrayPrepare
from stackfeat.data.samples import Samples, Table, load_samples, save_samples
from stackfeat.data.schema.columns import Schema
from stackfeat.data.schema.load import LoadedData, load, load_rows
from stackfeat.data.splits.folds import hash_rows
from stackfeat.engine.recipes import key_of
from stackfeat.errors import DataError
from stackfeat.store import Store

RNG = np.random.default_rng(0)
Y = np.arange(12) % 3


def read(
    folder: Path, inputs: dict[str, Any], test: dict[str, Any] | None = None, **arrays: Any
) -> LoadedData:
    np.savez(folder / "train.npz", **{"y": Y, **arrays.pop("train", {}), **arrays})
    if test is not None:
        np.savez(folder / "test.npz", **test)
    given = {"train": "train.npz", "target": "y", "inputs": inputs, "test": "test.npz" if test else None}
    return load(DataOptions.model_validate(given), folder, "multiclass", "log_loss")


def one(data: LoadedData, name: str = "x") -> arrays.ArrayInput:
    values = data.train.inputs[name]
    assert isinstance(values, arrays.ArrayInput)
    return values


def test_several_inputs_of_any_shape_with_roles_beside_them(tmp_path: Path) -> None:
    images = RNG.integers(0, 255, (12, 5, 5, 3), dtype=np.uint8)
    series = RNG.normal(size=(12, 7, 2)).astype(np.float16)
    numbers = RNG.normal(size=(12, 4))
    numbers[2, 1] = np.nan
    options = DataOptions.model_validate(
        {
            "train": "train.npz",
            "target": "label",
            "id": "key",
            "group": "subject",
            "time": "when",
            "inputs": {
                "image": {"array": "X"},
                "series": {"array": "S"},
                "views": {"array": "V"},
                "table": {"columns": ["age"]},
            },
        }
    )
    np.savez(
        tmp_path / "train.npz",
        X=images,
        S=series,
        V=numbers,
        label=np.array(["a", "b", "c"])[Y],
        key=np.arange(12) + 50,
        subject=np.arange(12) // 4,
        when=np.arange(12.0),
        age=RNG.normal(size=12),
        label_names=np.array(["a", "b", "c"]),
    )
    train = load(options, tmp_path, "multiclass", "log_loss").train
    assert list(train.inputs) == ["image", "series", "views", "table"]
    image, sequence, views = (train.inputs[name] for name in ("image", "series", "views"))
    assert isinstance(image, arrays.ArrayInput) and isinstance(sequence, arrays.ArrayInput)
    np.testing.assert_array_equal(image[:], images.transpose(0, 3, 1, 2))
    assert (image.kind, image.dtype, image.scaling) == ("image", np.uint8, "standard")
    np.testing.assert_array_equal(sequence[np.array([3, 1])], series[[3, 1]])
    assert sequence.kind == "sequence"
    assert isinstance(views, Table)
    np.testing.assert_array_equal(views.numeric, numbers)
    assert train.ids[0] == "50" and train.task.classes == ("a", "b", "c")
    assert train.group is not None and train.group.tolist() == (np.arange(12) // 4).tolist()
    assert train.time is not None and train.time.tolist() == list(range(12))
    part = train.take(np.array([4, 2]))
    np.testing.assert_array_equal(part.inputs["image"][:], images.transpose(0, 3, 1, 2)[[4, 2]])


@pytest.mark.parametrize(
    ("values", "given", "kind", "shape"),
    [
        (np.zeros((12, 4, 4), np.uint8), {}, "image", (12, 1, 4, 4)),
        (np.zeros((12, 5, 5, 1)), {}, "image", (12, 1, 5, 5)),
        (np.zeros((12, 3, 4, 5)), {}, "image", (12, 3, 4, 5)),
        (np.zeros((12, 3, 4, 3)), {"channels": "last"}, "image", (12, 3, 3, 4)),
        (np.zeros((12, 4, 4)), {}, "sequence", (12, 4, 4)),
        (np.zeros((12, 4)), {"kind": "sequence"}, "sequence", (12, 4, 1)),
        (np.zeros((12, 4), np.int64), {}, "tokens", (12, 4)),
        (np.zeros(12, np.uint8), {"kind": "tokens"}, "tokens", (12, 1)),
        (np.zeros((12, 2, 2, 2, 2)), {}, "array", (12, 2, 2, 2, 2)),
        (np.zeros((12, 4)), {"kind": "array"}, "array", (12, 4)),
    ],
)
def test_axes_are_told_by_shape_and_type(
    values: np.ndarray, given: dict[str, Any], kind: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    found = one(read(tmp_path, {"x": {"array": "A", **given}}, A=values))
    assert (found.kind, found.shape) == (kind, shape)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int16, bool])
def test_two_dimensions_are_a_table_unless_they_are_tokens(dtype: Any, tmp_path: Path) -> None:
    values = RNG.integers(-2 if dtype == np.int16 else 0, 2, (12, 3)).astype(dtype)
    table = read(tmp_path, {"x": {"array": "A"}}, A=values).train.inputs["x"]
    assert isinstance(table, Table)
    np.testing.assert_array_equal(table.numeric, values.astype(float))
    assert table.numeric_names == ("x_0", "x_1", "x_2")


def test_sequences_padded_and_end_to_end_are_the_same(tmp_path: Path) -> None:
    lengths = np.array([1, 3, 2, 4, 1, 1, 2, 2, 3, 4, 1, 2])
    parts = [RNG.normal(size=(n, 2)) for n in lengths]
    padded = np.full((12, 4, 2), np.nan)
    for row, part in enumerate(parts):
        padded[row, : len(part)] = part
    given = {"x": {"array": "A", "lengths": "L"}}
    a = one(read(tmp_path, given, A=padded, L=lengths))
    b = one(read(tmp_path, given, A=np.concatenate(parts), L=lengths.astype(np.int32)))
    assert a.kind == b.kind == "sequence"
    assert a.lengths is not None and b.lengths is not None
    np.testing.assert_array_equal(a.lengths, lengths)
    prepare = ArrayPrepare().fit(a)
    every = np.concatenate(parts)
    np.testing.assert_allclose(prepare.shift, every.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(1 / prepare.factor, every.std(axis=0), rtol=1e-5)
    rows = prepare.transform(a)
    np.testing.assert_array_equal(rows, ArrayPrepare().fit(b).transform(b))
    is_real = np.arange(4) < lengths[:, None]
    assert (rows[~is_real] == 0).all()
    np.testing.assert_allclose(rows[is_real], (every - every.mean(0)) / every.std(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(hash_rows({"x": a}), hash_rows({"x": b}))


def test_tokens_stay_whole_numbers_and_are_counted_in_training(tmp_path: Path) -> None:
    tokens, later = RNG.integers(0, 9, (12, 5)), np.full((4, 7), 30)
    tokens[0, 0] = 8
    data = read(tmp_path, {"x": {"array": "A"}}, test={"A": later}, A=tokens)
    assert one(data).n_tokens == 9 and data.test is not None
    test = data.test.inputs["x"]
    assert isinstance(test, arrays.ArrayInput) and test.n_tokens == 9
    prepared = ArrayPrepare().fit(one(data)).transform(test)
    assert prepared.dtype == np.int64
    np.testing.assert_array_equal(prepared, later)
    assert any("9 tokens" in note for note in data.notes)


@pytest.mark.parametrize(
    ("scaling", "wanted"),
    [
        ("none", lambda x: x),
        ("unit", lambda x: x / 255),
        ("imagenet", lambda x: (x / 255 - np.reshape([0.485, 0.456, 0.406], (3, 1, 1))) / np.reshape([0.229, 0.224, 0.225], (3, 1, 1))),
        ("standard", lambda x: (x - x.mean((0, 2, 3), keepdims=True)) / x.std((0, 2, 3), keepdims=True)),
    ],
)  # fmt: skip
def test_images_are_scaled_as_asked(scaling: str, wanted: Any, tmp_path: Path) -> None:
    images = RNG.integers(0, 255, (12, 3, 6, 5), dtype=np.uint8)
    values = one(read(tmp_path, {"x": {"array": "A", "normalize": scaling}}, A=images))
    prepare = ArrayPrepare.from_bytes(ArrayPrepare().fit(values).to_bytes())
    np.testing.assert_allclose(prepare.transform(values), wanted(images.astype(float)), rtol=1e-4, atol=1e-5)


def test_npy_files_stand_beside_a_table(tmp_path: Path) -> None:
    for name, n in (("train", 12), ("later", 5)):
        labels = "".join(f"{i},{i % 3}\n" for i in range(n))
        (tmp_path / f"{name}.csv").write_text("id,y\n" + labels)
        np.save(tmp_path / f"{name}_X.npy", np.full((n, 4, 4), n, dtype=np.uint8))
    options = DataOptions.model_validate(
        {"train": "train.csv", "target": "y", "id": "id", "inputs": {"x": {"array": "{name}_X.npy"}}}
    )
    data = load(options, tmp_path, "multiclass", "log_loss")
    assert (one(data)[:] == 12).all()
    schema = Schema.from_json(json.loads(json.dumps(data.schema.to_json())))
    assert schema == data.schema
    later = load_rows(tmp_path / "later.csv", schema, options)
    assert later.inputs["x"].shape == (5, 1, 4, 4) and (later.inputs["x"][:] == 5).all()


@pytest.mark.parametrize("stream", [None, True, False])
def test_large_arrays_stay_on_disk_from_the_file_to_the_store_and_back(
    stream: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "LARGE_BYTES", 1000)
    images = RNG.integers(0, 255, (12, 6, 5, 3), dtype=np.uint8)
    data = read(tmp_path, {"x": {"array": "A", "stream": stream}}, A=images)
    assert one(data).is_lazy == (stream is not False)
    store = Store(tmp_path / "store")
    recipe = {"stage": "samples", "n": 1}
    with store.write(key_of(recipe), "samples", recipe) as writer:
        save_samples(data.train, writer)
    back = load_samples(store.read(key_of(recipe)))
    values = back.inputs["x"]
    assert isinstance(values, arrays.ArrayInput) and values.is_lazy == (stream is not False)
    if values.is_lazy:
        assert isinstance(values.values.source, np.memmap)  # type: ignore[union-attr]
    np.testing.assert_array_equal(values.take(np.array([7, 1]))[:], images.transpose(0, 3, 1, 2)[[7, 1]])
    assert isinstance(back, Samples)


def test_the_fingerprint_covers_the_files_that_inputs_name(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("y\n0\n1\n")
    np.save(tmp_path / "train_X.npy", np.zeros((2, 3, 3)))
    options = DataOptions.model_validate({"train": "train.csv", "inputs": {"x": {"array": "{name}_X.npy"}}})
    first = fingerprint(tmp_path / "train.csv", options)
    assert fingerprint(tmp_path / "train.csv", options, tmp_path / "memory.json") == first
    np.save(tmp_path / "train_X.npy", np.ones((2, 3, 3)))
    assert fingerprint(tmp_path / "train.csv", options) != first


OBJECTS = np.array([None] * 12, dtype=object)
NAN = np.zeros((12, 4, 4), dtype=np.float32)
NAN[3, 1, 1] = np.nan
LENGTHS = np.full(12, 4)


@pytest.mark.parametrize(
    ("given", "held", "message"),
    [
        ({"array": "imgs"}, {"images": NAN}, r"data.inputs.x.array must be an array of the file; got 'imgs'.*Did you mean 'images'"),
        ({"array": "A"}, {"A": NAN[:10]}, r"y must have one value for each of 10 rows; got shape \(12,\)"),
        ({"array": "A"}, {"A": OBJECTS}, r"array 'A' must hold numbers.*got Python objects.*lengths"),
        ({"array": "A"}, {"A": np.array(["a"] * 12)}, r"must hold numbers of at most 64 bits; got dtype <U1"),
        ({"array": "A"}, {"A": NAN}, r"finite values \(no NaN, no infinity\); got others in row 4"),
        ({"array": "A", "kind": "table"}, {"A": NAN}, r"must be 2-D .* to be a table; got shape \(12, 4, 4\)"),
        ({"array": "A", "kind": "image"}, {"A": LENGTHS}, r"must have 3 or 4 dimensions to be of kind image"),
        ({"array": "A", "kind": "tokens"}, {"A": np.zeros((12, 3))}, r"whole numbers to be tokens; got dtype float64"),
        ({"array": "A", "kind": "tokens"}, {"A": np.full((12, 3), -1)}, r"tokens of 0 or more; got others in rows 1, 2"),
        ({"array": "A"}, {"A": np.zeros((12, 3, 4, 3))}, r"both the second and the last axis may be; set channels"),
        ({"array": "A"}, {"A": np.zeros((12, 6, 7, 8))}, r"no axis may be; set channels"),
        ({"array": "A", "normalize": "imagenet"}, {"A": np.zeros((12, 4, 4), np.uint8)}, r"images of 3 channels"),
        ({"array": "A", "normalize": "imagenet"}, {"A": np.full((12, 3, 5, 5), 9.0)}, r"numbers from 0 to 1.*to 9.0"),
        ({"array": "A", "normalize": "unit"}, {"A": np.zeros((12, 4, 4))}, r"unit divides unsigned"),
        ({"array": "A", "normalize": "unit"}, {"A": np.zeros((12, 4), int)}, r"tokens are names"),
        ({"array": "A", "lengths": "L"}, {"A": np.zeros((12, 4, 2)), "L": LENGTHS + 1}, r"got 4 steps and length 5 in row 1"),
        ({"array": "A", "lengths": "L"}, {"A": np.zeros((12, 4, 2)), "L": LENGTHS * 0}, r"from 1 on; got 0 in rows 1"),
        ({"array": "A", "lengths": "L"}, {"A": np.zeros((40, 2)), "L": LENGTHS}, r"got 40 rows, and lengths that sum to 48"),
        ({"array": "A", "lengths": "len"}, {"A": np.zeros((12, 4, 2)), "length": LENGTHS}, r"lengths must be an array.*Did you mean 'length'"),
        ({"array": "A", "lengths": "L"}, {"A": np.zeros((12, 4, 5, 5)), "L": LENGTHS}, r"must have 2 or 3 dimensions to be of kind sequence"),
        ({"array": "A"}, {"A": np.zeros((12, 0, 4))}, r"must have values in every row"),
        ({"array": "A"}, {"A": NAN, "is_test": Y}, r"both training and test rows"),
        ({"array": "x.npy"}, {}, r"there is no file .*x.npy"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused_by_name(
    given: dict[str, Any], held: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, {"x": given}, train=held)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (np.zeros((12, 1, 5, 5)), np.zeros((3, 1, 6, 5)), r"of shape \(1, 5, 5\); got shape \(1, 6, 5\)"),
        (
            np.zeros((12, 6, 2)),
            np.zeros((3, 6, 3)),
            r"must have steps like the training file's, of shape \(2,\)",
        ),
        (np.zeros((12, 6)), np.zeros((3, 5)), r"must have 6 columns like the training file's; got 5"),
        (np.zeros((12, 6), int), np.zeros((3, 5)), r"must hold whole numbers|tokens"),
    ],
)
def test_later_rows_must_be_like_those_of_training(
    train: np.ndarray, test: np.ndarray, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, {"x": {"array": "A"}}, test={"A": test}, A=train)


def test_an_array_in_a_table_file_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("y,z\n0,1\n1,2\n")
    options = DataOptions.model_validate(
        {"train": "train.csv", "target": "y", "inputs": {"x": {"array": "X"}}}
    )
    with pytest.raises(DataError, match=r"X.npy.*\{name\} stands for train"):
        load(options, tmp_path, "binary", "log_loss")
