"""What files become: types, labels, ids, separators, encodings, schema, store."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.files.cells import to_text
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import Samples, Table
from stackfeat.data.schema.columns import Schema, infer_type
from stackfeat.data.schema.json_schema import input_schema
from stackfeat.data.schema.load import LoadedData, load, load_rows, read_sample
from stackfeat.data.splits.folds import hash_samples
from stackfeat.errors import DataError, DataWarning
from tests.data.files.reading import TEXT_ERROR


def _load(
    folder: Path, train: str | bytes, test: str | None = None, task: str = "binary", **options: Any
) -> LoadedData:
    (folder / "train.csv").write_bytes(train.encode() if isinstance(train, str) else train)
    if test is not None:
        (folder / "test.csv").write_text(test)
    given = {"train": "train.csv", "test": None if test is None else "test.csv", "target": "y", **options}
    return load(DataOptions.model_validate(given), folder, task, "log_loss")


def _table(samples: Samples) -> Table:
    table = samples.inputs["table"]
    assert isinstance(table, Table)
    return table


MIXED = (
    "id,n,flag,c,day,y\n007,1.5,True,red,2024-01-05,no\n008,?,False,blue,2024-02-06,yes\n"
    "NA,3,,red,2023-03-07,no\n9007199254740993,4,True,,2024-04-01,yes\n"
)


def test_columns_are_typed_and_ids_stay_verbatim(tmp_path: Path) -> None:
    train = _load(tmp_path, MIXED, id="id").train
    table = _table(train)
    assert train.ids.tolist() == ["007", "008", "NA", "9007199254740993"]
    assert table.numeric_names == ("n", "flag", "day.year", "day.month", "day.day", "day.weekday", "day.days")
    np.testing.assert_array_equal(table.numeric[:, 0], [1.5, np.nan, 3, 4])
    np.testing.assert_array_equal(table.numeric[:, 1], [1, 0, np.nan, 1])
    assert table.numeric[0, 2:].tolist() == [2024, 1, 5, 4, 19727]
    assert table.levels == (("blue", "red"),)
    assert table.codes[:, 0].tolist() == [1, 0, 1, -1]
    assert train.task.classes == ("no", "yes")
    assert train.labels.tolist() == [0, 1, 0, 1]


def test_a_level_unseen_in_training_is_minus_two(tmp_path: Path) -> None:
    test = _load(
        tmp_path, MIXED, "id,n,flag,c,day\na,1,,green,\nb,2,True,,2024-01-01\nc,,,red,2024-01-01\n", id="id"
    ).test
    assert test is not None
    assert _table(test).codes[:, 0].tolist() == [-2, -1, 1]
    assert np.isnan(_table(test).numeric[0, 1:]).all()
    assert _table(test).to_frame()["c"].tolist()[2] == "red"
    assert _table(test).to_frame()["c"].isna().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["0", "1"], (0, 1)),
        (["10", "9"], (9, 10)),
        (["007", "8"], ("007", "8")),
        (["True", "False"], (False, True)),
        (["0.5", "1.5"], (0.5, 1.5)),
        (["b", "a"], ("a", "b")),
        (["1", "a"], ("1", "a")),
    ],
)
def test_labels_keep_the_type_of_the_file(
    labels: list[str], classes: tuple[Any, ...], tmp_path: Path
) -> None:
    text = "a,y\n" + "".join(f"{i},{labels[i % 2]}\n" for i in range(6))
    train = _load(tmp_path, text).train
    assert train.task.classes == classes
    assert [type(label) for label in train.task.classes] == [type(label) for label in classes]
    assert [str(train.task.classes[code]) for code in train.labels[:2]] == labels


@pytest.mark.parametrize(
    ("labels", "order"),
    [(["0", "1", "2"], [2, 0, 1]), (["0.0", "1.0", "2.5"], [2.5, 0, 1]), (["0", "1", "2"], ["2", "0", "1"])],
)
def test_an_order_of_numbers_is_one_of_classes(labels: list[str], order: list[Any], tmp_path: Path) -> None:
    text = "a,y\n" + "".join(f"{i},{labels[i % 3]}\n" for i in range(9))
    train = _load(tmp_path, text, task="multiclass", class_order=order).train
    assert train.task.classes == tuple(float(one) for one in order)
    assert train.labels.tolist() == [1, 2, 0] * 3


def test_positive_is_the_greater_label_unless_named(tmp_path: Path) -> None:
    assert _load(tmp_path, MIXED, id="id").schema.task.positive == 1
    assert _load(tmp_path, MIXED, id="id", positive="no").schema.task.positive == 0


def test_declared_types_win(tmp_path: Path) -> None:
    text = "zip,y\n" + "".join(f"0{i % 3},{i % 2}\n" for i in range(6))
    assert _table(_load(tmp_path, text).train).numeric_names == ("zip",)
    table = _table(_load(tmp_path, text, types={"zip": "categorical"}).train)
    assert table.levels == (("00", "01", "02"),)


def test_free_text_and_constants_are_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{i},a long story number {i},5,{i % 2}\n" for i in range(30))
    with pytest.warns(DataWarning, match="free text.*: story"):
        data = _load(tmp_path, "a,story,k,y\n" + rows)
    assert data.schema.left_out == {"story": "free text", "k": "constant"}
    assert "left out: story (free text), k (constant)" in data.notes
    kept = _load(tmp_path, "a,story,k,y\n" + rows, types={"story": "categorical"})
    assert _table(kept.train).code_names == ("story",)


def test_where_there_are_texts_alone_the_remedy_is_to_read_them(tmp_path: Path) -> None:
    text = "story,y\n" + "".join(f"a long story number {i},{i % 2}\n" for i in range(30))
    with pytest.raises(DataError, match=r"add one, or read texts: data\.types: \{story: text\}"):
        _load(tmp_path, text)


def test_a_column_is_read_as_text_where_that_is_declared(tmp_path: Path) -> None:
    text = "a,story,y\n" + "".join(f"{i},{'NA' if i == 2 else f'Tale  no. {i}'},{i % 2}\n" for i in range(6))
    data = _load(tmp_path, text, types={"story": "text", "a": "text"})
    table = _table(data.train)
    assert table.text_names == ("a", "story") and table.numeric.shape == (6, 0)
    assert table.texts[:3].tolist() == [["0", "Tale  no. 0"], ["1", "Tale  no. 1"], ["2", ""]]
    assert "read as text (data.types): a, story" in data.notes
    assert data.summary.median("story") == 11
    assert input_schema(data.schema, DataOptions(train="t.csv"))["properties"]["story"] == {
        "type": ["string", "null"]
    }
    assert Schema.from_json(data.schema.to_json()) == data.schema


def test_guesses() -> None:
    assert infer_type(pd.Series(["1", "2.5", "", "NA"])) == "numeric"
    assert infer_type(pd.Series(["true", "false", "?"])) == "boolean"
    assert infer_type(pd.Series(["2024-01-01 10:00", "2024/01/02"])) == "date"
    assert infer_type(pd.Series(["20240101", "20240102"])) == "numeric"
    assert infer_type(pd.Series([f"T{i % 30}" for i in range(40)])) == "categorical"
    assert infer_type(pd.Series([f"T{i}" for i in range(40)])) == "text"
    assert infer_type(pd.Series([1, 2])) == "numeric"
    assert to_text(pd.Series([1.0, np.nan, 3.0])).tolist()[::2] == ["1", "3"]


def test_inputs_take_globs_and_roles_only_by_name(tmp_path: Path) -> None:
    text = "id,num_a,num_b,other,g,y\n" + "".join(
        f"{i},{i},{i + 1},{i % 5},{i % 3},{i % 2}\n" for i in range(9)
    )
    inputs = {"nums": {"columns": ["num_*"]}, "all": {"columns": ["*"]}, "role": {"columns": ["g"]}}
    samples = _load(tmp_path, text, id="id", group="g", drop="other", inputs=inputs).train
    assert {name: t.numeric_names for name, t in samples.inputs.items() if isinstance(t, Table)} == {
        "nums": ("num_a", "num_b"),
        "all": ("num_a", "num_b"),
        "role": ("g",),
    }
    assert samples.group is not None
    assert samples.group.tolist() == [0, 1, 2] * 3


def test_roles_are_read(tmp_path: Path) -> None:
    text = "a,w,t,f,y\n" + "".join(f"{i},{i / 2},2024-01-0{9 - i},{i % 3 + 1},{i % 2}\n" for i in range(9))
    train = _load(tmp_path, text, weight="w", time="t", fold="f").train
    assert train.weight is not None and train.time is not None and train.fold is not None
    assert train.weight.tolist() == [i / 2 for i in range(9)]
    assert (np.diff(train.time) == -86400).all()
    assert train.fold.tolist() == [0, 1, 2] * 3
    assert train.take(np.array([4, 1])).fold.tolist() == [1, 1]  # type: ignore[union-attr]


def test_shared_ids_and_extra_test_columns_warn(tmp_path: Path) -> None:
    with pytest.warns(DataWarning) as caught:
        loaded = _load(tmp_path, MIXED, "id,n,flag,c,day,z\n007,1,,red,,1\n", id="id")
    messages = " ".join(str(warning.message) for warning in caught)
    assert "column 'z': training has no such column, so it is not read" in " ".join(loaded.drift)
    assert "1 ids are in both the training and the test file, such as '007'" in messages


def test_rmsle_learns_the_logarithm(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,y\n1,0\n2,3\n3,10\n")
    data = load(DataOptions(train="train.csv", target="y"), tmp_path, "regression", "rmsle")
    assert data.train.task.transform == "log1p"
    np.testing.assert_allclose(data.train.task.to_target_scale(data.train.labels), [0, 3, 10])


def test_schema_goes_through_json_and_reads_later_files(tmp_path: Path) -> None:
    data = _load(tmp_path, MIXED, MIXED.replace("007", "1"), id="id")
    schema = Schema.from_json(json.loads(json.dumps(data.schema.to_json())))
    assert schema == data.schema
    later = load_rows(tmp_path / "test.csv", schema, DataOptions(train="x", target="y", id="id"))
    assert data.test is not None and later.y is None
    np.testing.assert_array_equal(_table(later).numeric, _table(data.train).numeric)
    np.testing.assert_array_equal(_table(later).codes, _table(data.train).codes)


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_csv_and_arrow_files_of_one_frame_are_read_alike(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=50) * 10.0 ** rng.integers(-9, 9, 50),
            "b": pd.array(rng.integers(0, 9, 50), dtype="Int64"),
            "c": rng.choice(["u", "v", None], 50),
            "d": rng.random(50) > 0.5,
            "t": pd.date_range("2024-01-01", periods=50, freq="7h"),
            "y": rng.integers(0, 2, 50),
        }
    )
    frame.loc[3, "b"] = pd.NA
    frame.to_csv(tmp_path / "train.csv", index=False)
    getattr(frame, f"to_{suffix}")(tmp_path / f"train.{suffix}")
    a, b = (
        load(DataOptions(train=f"train.{s}", target="y"), tmp_path, "binary", "log_loss")
        for s in ("csv", suffix)
    )
    assert a.schema == b.schema
    np.testing.assert_allclose(_table(a.train).numeric, _table(b.train).numeric, rtol=TEXT_ERROR, atol=0)
    np.testing.assert_array_equal(_table(a.train).codes, _table(b.train).codes)
    np.testing.assert_allclose(_table(a.train).numeric[:, 0], frame["a"], rtol=TEXT_ERROR, atol=0)


def test_dates_in_disguise_are_warned_of(tmp_path: Path) -> None:
    lines = [f"{i};{170 + i % 7},{i % 3};{1 + i % 28:02d}.03.2026;{i % 2}" for i in range(60)]
    (tmp_path / "train.csv").write_text("\n".join(["i;size;day;y", *lines]) + "\n")
    options = DataOptions(train="train.csv", target="y")
    with pytest.warns(DataWarning) as caught:
        load(options, tmp_path, "binary", "log_loss")
    texts = " | ".join(str(warning.message) for warning in caught)
    assert "dates that are not ISO (2026-11-21) are read as categories, one for each text: day" in texts
    assert "('01.03.2026', day first); write them so" in texts


@pytest.mark.parametrize(
    ("column", "cells", "are_equal"),
    [
        ("text", lambda i: f"a review of some length and number {i} of all of them", False),
        ("text", lambda i: f"a review of some length and number {i % 30} of all of them", True),
        ("Unnamed: 0", str, True),
        ("dropped", str, True),
        ("dropped", lambda i: f"name {i}", False),
        ("dropped", lambda i: str(i // 40), False),
        ("constant", lambda i: "same", True),
    ],
)
def test_columns_that_are_not_read_tell_rows_apart_unless_they_number_them(
    column: str, cells: Any, are_equal: bool, tmp_path: Path
) -> None:
    lines = [f"{i},{i % 30 / 7},{'xyz'[i % 3]},{cells(i)},{i % 2}" for i in range(60)]
    text = "\n".join([f"id,n,c,{column},y", *lines])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        train = _load(tmp_path, text, id="id", drop=["dropped"] if column == "dropped" else []).train
    hashes = hash_samples(train)
    assert (len(np.unique(hashes)) == 30) == are_equal


@pytest.mark.parametrize(
    "ids", [[" a", "a ", "a", " a "], ["1", " 1", "1  ", "01"], ["x y", "x  y", "xy", "x"]]
)
@pytest.mark.parametrize("is_quoted", [False, True])
@pytest.mark.filterwarnings("ignore:.* ids are in both")
def test_ids_keep_their_spaces_on_both_sides_and_in_every_file(
    ids: list[str], is_quoted: bool, tmp_path: Path
) -> None:
    def text(*more: str) -> str:
        cells = [f'"{one}"' if is_quoted else one for one in ids]
        return "".join(
            [f"id,n,c{more[0]}\n", *(f"{one}, {i}, u{i % 2} {more[1]}\n" for i, one in enumerate(cells))]
        )

    data = _load(tmp_path, text(",y", ",v").replace("u1 ,v", "u1 ,w "), text("", ""), id="id")
    assert data.test is not None
    assert data.train.ids.tolist() == data.test.ids.tolist() == ids
    # Everywhere else spaces around a cell do not count.
    for samples in (data.train, data.test):
        assert _table(samples).levels == (("u0", "u1"),) and _table(samples).codes[:, 0].tolist() == [
            0,
            1,
            0,
            1,
        ]
        assert _table(samples).numeric[:, 0].tolist() == [0, 1, 2, 3]
    assert data.schema.task.classes == ("v", "w")
    (tmp_path / "sample.csv").write_text("id,y\n" + "".join(f'"{one}",0\n' for one in ids))
    sample = read_sample(DataOptions(train="train.csv", sample_submission="sample.csv"), tmp_path)
    assert sample is not None and sample["id"].tolist() == ids


def test_a_quoted_cell_may_have_spaces_before_it(tmp_path: Path) -> None:
    train = _load(tmp_path, 'id, c, y\n a, "u, v", 0\n "b", "w", 1\nc, "u, v", 1\n', id="id").train
    assert _table(train).levels == (("u, v", "w"),)
    assert train.ids.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("id", range(40), r"'id' is called like the names of rows, but is read as a feature; .*data.id: id"),
        (
            "ID",
            [i // 2 for i in range(40)],
            r"20 of its values stand in more than one row; set data.group: ID, or",
        ),
        ("row_id", [min(i, 38) for i in range(40)], r"1 of its values stand in more than one row"),
        (
            "PassengerId",
            range(40),
            r"'PassengerId' is called like .*; if it names rows: data.id: PassengerId",
        ),
        ("uuid", [f"u{i % 7}" for i in range(40)], r"7 of its values .*data.drop: \[uuid\]"),
    ],
)
def test_a_feature_that_is_called_like_an_id_is_never_silent(
    name: str, values: Any, message: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    text = f"{name},a,y\n" + "".join(f"{value},{i % 5},{i % 2}\n" for i, value in enumerate(values))
    with pytest.warns(DataWarning, match=message):
        _load(tmp_path, text)
    for options in ({"drop": name}, {"group": name}):
        _load(tmp_path, text, **options)
    # A group of one row each is told for what it is.
    assert not [one for one in recwarn.list if "differs in every row" not in str(one.message)]


@pytest.mark.parametrize("type_", ["text", "words"])
def test_texts_that_are_called_like_an_id_are_told_as_well(type_: str, tmp_path: Path) -> None:
    """Their values are texts, of which none is a number and some are missing."""
    rows = "".join(f"{'a b' if i % 3 else ''} c{i % 7},{i % 5},{i % 2}\n" for i in range(39)) + ",1,0\n"
    with pytest.warns(DataWarning, match="'uuid' is called like the names of rows.*stand in more than one"):
        _load(tmp_path, f"uuid,a,y\n{rows}", types={"uuid": type_})


def test_names_of_customers_that_come_back_are_a_note(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    data = _load(tmp_path, "customer_id,a,y\n" + "".join(f"{i % 9},{i % 5},{i % 2}\n" for i in range(40)))
    assert any(
        "9 of its values stand in more than one row; set data.group: customer_id" in note
        for note in data.notes
    )
    assert not recwarn.list


@pytest.mark.parametrize("cells", ["", "NA", " ", "?"])
def test_a_column_without_values_is_left_out_and_said(cells: str, tmp_path: Path) -> None:
    text = "a,e,y\n" + "".join(f"{i % 5},{cells},{i % 2}\n" for i in range(20))
    with pytest.warns(DataWarning, match="columns without any value are left out: e"):
        data = _load(tmp_path, text, text)
    assert data.schema.left_out == {"e": "no values"} and "left out: e (no values)" in data.notes
    assert data.test is not None and _table(data.test).numeric_names == ("a",)


def test_postcodes_are_names_and_other_padded_numbers_are_numbers(tmp_path: Path) -> None:
    rows = [f"{[1234, 98765, 501][i % 3]:05d},{i % 24:02d},{[7, 1024][i % 2]:03d},{i % 2}" for i in range(30)]
    data = _load(tmp_path, "\n".join(["zip,hour,n,y", *rows]))
    assert {column.name: column.type for column in data.schema.columns} == {
        "zip": "categorical",
        "hour": "numeric",
        "n": "numeric",
    }
    assert any("leading zeros, such as '00501', are categories: zip" in note for note in data.notes)
    told = _load(tmp_path, "\n".join(["zip,hour,n,y", *rows]), types={"zip": "numeric"})
    assert _table(told.train).numeric_names == ("zip", "hour", "n")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_whole_numbers_that_a_float_cannot_tell_apart_are_named(suffix: str, tmp_path: Path) -> None:
    values = [2**53 + i % 4 for i in range(20)]
    frame = pd.DataFrame({"n": values, "y": [0, 1] * 10})
    getattr(frame, f"to_{suffix}")(tmp_path / f"train.{suffix}", index=False)
    options = DataOptions(train=f"train.{suffix}", target="y")
    with pytest.warns(
        DataWarning, match=r"whole numbers of 'n' from 2\*\*53 on are rounded: 4 become 3; .*categorical"
    ):
        load(options, tmp_path, "binary", "log_loss")
    told = options.model_copy(update={"types": {"n": "categorical"}})
    levels = _table(load(told, tmp_path, "binary", "log_loss").train).levels
    assert levels == (tuple(str(2**53 + i) for i in range(4)),)


@pytest.mark.parametrize(
    ("day", "month", "words"),
    [(28, 12, "day first"), (12, 28, "month first"), (12, 12, "day or month first")],
)
@pytest.mark.parametrize("mark", ["/", ".", "-"])
def test_dates_that_are_not_iso_say_what_may_come_first(
    day: int, month: int, words: str, mark: str, tmp_path: Path
) -> None:
    dates = [f"{1 + i % day:02d}{mark}{1 + i % month:02d}{mark}2024" for i in range(60)]
    text = "d,a,y\n" + "".join(f"{date},{i % 5},{i % 2}\n" for i, date in enumerate(dates))
    with pytest.warns(DataWarning, match=rf"dates that are not ISO .*: d \('.*', {words}\); write them so"):
        _load(tmp_path, text)


def test_dates_of_which_each_is_another_are_left_out_as_such(tmp_path: Path) -> None:
    text = "d,a,y\n" + "".join(
        f"{1 + i % 28:02d}/{1 + i % 12:02d}/{1960 + i},{i % 5},{i % 2}\n" for i in range(60)
    )
    with pytest.warns(DataWarning) as caught:
        data = _load(tmp_path, text)
    (said,) = [str(warning.message) for warning in caught]
    assert (
        "dates that are not ISO (2026-11-21) are left out: d ('01/01/1960', day first); write them so" in said
    )
    assert data.schema.left_out == {"d": "dates or times that are not ISO"}


def test_what_was_read_as_missing_is_said_with_columns_and_counts(tmp_path: Path) -> None:
    rows = "".join(
        f"{'NA' if i % 3 else 'Grvl'},{'?' if i % 5 == 0 else i},{i % 2},{i % 2}\n" for i in range(30)
    )
    notes = _load(tmp_path, "alley,n,b,y\n" + rows).notes
    assert (
        "'NA' is read as missing, in alley (20); if it is a value: data.not_missing: {alley: [NA]}" in notes
    )
    assert "'?' is read as missing, in n (6); if it is a value: data.not_missing: {n: ['?']}" in notes
    kept = _load(tmp_path, "alley,n,b,y\n" + rows, not_missing={"alley": ["NA"]})
    assert _table(kept.train).levels == (("Grvl", "NA"),)
    assert not any("'NA' is read" in note for note in kept.notes)


def test_infinity_is_refused_with_the_option_that_makes_it_missing(tmp_path: Path) -> None:
    text = "a,y\n" + "".join(f"{'inf' if i == 4 else i},{i % 2}\n" for i in range(20))
    with pytest.raises(DataError, match=r"must be finite .*got inf in row 5; .*data.missing"):
        _load(tmp_path, text)
    assert np.isnan(_table(_load(tmp_path, text, missing=["inf"]).train).numeric[4, 0])
