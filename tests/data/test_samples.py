"""Samples: rows stay aligned, come back from a store as they were, and rows on disk are indexed like arrays."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.data.samples import (
    LARGE_BYTES,
    ArrayInput,
    LazyRows,
    Samples,
    Table,
    is_large,
    load_samples,
    save_samples,
)
from stackfeat.errors import DamagedEntryError, UsageError
from stackfeat.store import Store
from stackfeat.tasks.task import Task


@pytest.fixture
def mapped(tmp_path: Path) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 255, (50, 3, 4), dtype=np.uint8)
    np.save(tmp_path / "x.npy", values)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


@pytest.mark.parametrize(
    "index",
    [
        np.array([3, 0, 0, -1]),
        [2, 5],
        slice(4, 20, 3),
        slice(None),
        slice(None, None, -1),
        np.arange(50) % 3 == 0,
        7,
        -2,
        np.array([], dtype=np.int64),
    ],
)
def test_a_view_is_indexed_like_the_array(mapped: np.ndarray, index: Any) -> None:
    rows = np.random.default_rng(1).permutation(50)
    for view, wanted in ((LazyRows(mapped), mapped), (LazyRows(mapped, rows), np.asarray(mapped)[rows])):
        np.testing.assert_array_equal(view[index], wanted[index])
        assert type(view[index]) is np.ndarray
        assert (view.shape, view.dtype, len(view)) == (wanted.shape, wanted.dtype, 50)


def test_views_of_views_and_changes_of_rows(mapped: np.ndarray) -> None:
    view = LazyRows(mapped, change=lambda x, lengths: x * 2.0 + lengths[:, None, None], beside=np.arange(50))
    part = view.take(np.array([9, 4, 4])).take(np.array([True, False, True]))
    np.testing.assert_array_equal(np.asarray(part), np.asarray(mapped)[[9, 4]] * 2.0 + [[[9]], [[4]]])


def test_a_pickled_view_holds_the_name_of_the_file_not_its_bytes(mapped: np.ndarray) -> None:
    data = pickle.dumps(LazyRows(mapped, np.array([5, 1])))
    assert len(data) < 1000 + mapped.nbytes / 100
    np.testing.assert_array_equal(np.asarray(pickle.loads(data)), np.asarray(mapped)[[5, 1]])


def test_only_the_size_decides_what_is_large() -> None:
    n_rows = LARGE_BYTES // 4 // 100
    assert not is_large(n_rows, (10, 10))
    assert is_large(n_rows + 1, (10, 10))


def some_texts() -> np.ndarray:
    """Texts of two columns, some empty, of other scripts, or with half of a surrogate pair."""
    texts = np.full((50, 2), "", dtype=object)
    texts[::2, 0], texts[1, 1], texts[2, 1] = "two\nlines", "中文 é\x00", "\ud800"
    return texts


def rows_of_every_sort(mapped: np.ndarray) -> Samples:
    """Fifty rows: a table, images on disk, sequences with lengths, a plain array, and three roles."""
    rng = np.random.default_rng(4)
    numeric = np.where(rng.random((50, 2)) < 0.1, np.nan, rng.normal(size=(50, 2)))
    codes = rng.integers(-2, 3, (50, 1)).astype(np.int32)
    return Samples(
        ids=np.array([f"id{i}" for i in range(50)]),
        inputs={
            "table": Table(numeric, ("a", "b"), codes, ("colour",), (("blue", "green", "red"),)),
            "texts": Table(numeric[:, :0], (), codes[:, :0], (), (), some_texts(), ("title", "text")),
            "image": ArrayInput(LazyRows(mapped[:, None]), "image", "unit"),
            "steps": ArrayInput(rng.normal(size=(50, 3, 2)), "sequence", "standard", rng.integers(1, 4, 50)),
            "plain": rng.normal(size=(50, 4)),
        },
        y=np.arange(50) % 2,
        task=Task("binary", ("no", "yes"), 1),
        weight=rng.random(50),
        group=rng.integers(0, 9, 50),
    )


def assert_same(one: Samples, other: Samples) -> None:
    assert one.task == other.task and list(one.inputs) == list(other.inputs)
    for name in ("ids", "y", "weight", "group", "time", "fold"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    for name, a in one.inputs.items():
        b = other.inputs[name]
        assert type(a) is type(b)
        if isinstance(a, Table):
            assert (a.numeric_names, a.code_names, a.levels) == (b.numeric_names, b.code_names, b.levels)
            np.testing.assert_array_equal(a.numeric, b.numeric)
            np.testing.assert_array_equal(a.codes, b.codes)
            assert a.text_names == b.text_names and a.texts.tolist() == b.texts.tolist()
            continue
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
        if isinstance(a, ArrayInput):
            assert (a.kind, a.scaling, a.n_tokens, a.is_lazy) == (b.kind, b.scaling, b.n_tokens, b.is_lazy)
            np.testing.assert_array_equal(a.lengths, b.lengths)


def stored(samples: Samples, folder: Path) -> Store:
    store = Store(folder / "store")
    with store.write("a" * 64, "samples", {}) as writer:
        save_samples(samples, writer)
    return store


def test_rows_of_every_sort_come_back_from_a_store_as_they_were(mapped: np.ndarray, tmp_path: Path) -> None:
    samples = rows_of_every_sort(mapped)
    assert_same(load_samples(stored(samples, tmp_path).read("a" * 64)), samples)
    assert_same(
        load_samples(stored(replace(samples, y=None, weight=None), tmp_path / "2").read("a" * 64)),
        replace(samples, y=None, weight=None),
    )


@pytest.mark.parametrize("rows", [[7, 3, 3, 49], [], np.arange(50) % 5 == 0], ids=["order", "none", "mask"])
def test_taken_rows_stay_aligned_in_every_input_and_role(mapped: np.ndarray, rows: Any) -> None:
    samples, rows = rows_of_every_sort(mapped), np.asarray(rows, dtype=None if len(rows) else int)
    part = samples.take(rows)
    assert part.n_rows == len(samples.ids[rows])
    for name in ("ids", "y", "weight", "group"):
        np.testing.assert_array_equal(getattr(part, name), getattr(samples, name)[rows])
    np.testing.assert_array_equal(part.inputs["table"].numeric, samples.inputs["table"].numeric[rows])
    np.testing.assert_array_equal(part.inputs["table"].codes, samples.inputs["table"].codes[rows])
    np.testing.assert_array_equal(np.asarray(part.inputs["image"]), np.asarray(mapped)[:, None][rows])
    np.testing.assert_array_equal(part.inputs["steps"].lengths, samples.inputs["steps"].lengths[rows])
    np.testing.assert_array_equal(part.inputs["plain"], samples.inputs["plain"][rows])
    assert part.inputs["image"].is_lazy and part.time is None


def test_a_frame_has_the_names_of_the_file_and_no_value_for_levels_it_does_not_know() -> None:
    codes = np.array([[1], [-1], [-2], [0], [2]], dtype=np.int32)
    table = Table(np.arange(5.0)[:, None], ("size",), codes, ("colour",), (("blue", "red"),))
    frame = table.to_frame()
    assert list(frame) == ["size", "colour"] and frame["size"].tolist() == [0, 1, 2, 3, 4]
    assert frame["colour"].cat.categories.tolist() == ["blue", "red"]
    assert [None if value != value else value for value in frame["colour"]] == [
        "red",
        None,
        None,
        "blue",
        None,
    ]


def test_rows_to_predict_have_no_labels(mapped: np.ndarray) -> None:
    with pytest.raises(UsageError, match="must have a target; got rows to predict; use the training rows"):
        _ = replace(rows_of_every_sort(mapped), y=None).labels


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ids", np.array([f"id{i}" for i in range(49)])),
        ("weight", np.arange(49.0)),
        ("group", np.arange(50) / 2),
        ("y", np.full(50, 7)),
    ],
)
def test_a_stored_array_that_does_not_fit_the_others_is_damage(
    name: str, values: np.ndarray, mapped: np.ndarray, tmp_path: Path
) -> None:
    store = stored(replace(rows_of_every_sort(mapped), **{name: values}), tmp_path)
    with pytest.raises(DamagedEntryError, match="must be as it was written"):
        load_samples(store.read("a" * 64))
    assert not store.has("a" * 64)


def test_a_stored_table_without_a_name_for_each_column_is_damage(mapped: np.ndarray, tmp_path: Path) -> None:
    samples = rows_of_every_sort(mapped)
    store = Store(tmp_path / "store")
    with store.write("a" * 64, "samples", {}) as writer:
        object.__setattr__(samples.inputs["table"], "numeric_names", ("a",))
        save_samples(samples, writer)
    with pytest.raises(DamagedEntryError, match="have a column for each name"):
        load_samples(store.read("a" * 64))


def test_copies_of_rows_have_lists_of_their_own() -> None:
    rows = Samples(
        ids=np.array(["a", "b", "c"]), inputs={}, y=None, task=Task("ranking"), query=np.array([4, 0, 4])
    )
    copies = rows.take(np.tile(np.arange(3), 2)).in_copies(2)
    assert copies.query is not None and rows.in_copies(1) is rows
    first, second = copies.query[:3], copies.query[3:]
    assert (
        first.tolist() == [4, 0, 4] and (second[0] == second[2] != second[1]) and not set(first) & set(second)
    )
