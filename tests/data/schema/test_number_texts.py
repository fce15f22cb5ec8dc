"""Numbers written in other ways than programs do: recognised and said, or left alone with the option to set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.options import DataOptions
from stackfeat.data.samples import Samples, Table
from stackfeat.data.schema.columns import Schema
from stackfeat.data.schema.load import LoadedData, load, load_rows
from stackfeat.errors import DataError, DataWarning
from tests.data.files.reading import TEXT_ERROR

VALUES = np.random.default_rng(5).normal(size=60).round(4) * 3000
WHOLE = np.random.default_rng(6).integers(5, 3_000_000, 60)


def grouped(value: float, mark: str, decimal: str = ".") -> str:
    return f"{value:,.2f}".replace(",", "~").replace(".", decimal).replace("~", mark)


def written(
    folder: Path, texts: list[str], separator: str = ",", name: str = "train.csv", **more: list[Any]
) -> Path:
    """A file of a column `w`, others and a target; every cell in quotes."""
    frame = pd.DataFrame({"w": texts, **more, "y": [0, 1] * (len(texts) // 2)})
    frame.to_csv(folder / name, sep=separator, index=False, quoting=1)
    return folder / name


def read(folder: Path, **options: Any) -> LoadedData:
    given = DataOptions.model_validate({"train": "train.csv", "target": "y", **options})
    return load(given, folder, "binary", "log_loss")


def numbers(samples: Samples, name: str = "w") -> np.ndarray:
    table = samples.inputs["table"]
    assert isinstance(table, Table)
    assert name in table.numeric_names, f"{name} is no column of numbers"
    return table.numeric[:, table.numeric_names.index(name)]


def said(data: LoadedData) -> str:
    return " | ".join(data.notes)


Writing = Callable[[float], str]
WAYS: dict[str, tuple[Writing, str, str]] = {
    "decimal comma": (lambda v: f"{v:.2f}".replace(".", ","), ";", "a decimal comma"),
    "decimal comma, tab": (lambda v: f"{v:.4e}".replace(".", ","), "\t", "a decimal comma"),
    "decimal comma in quotes": (lambda v: f"{v:.2f}".replace(".", ","), ",", "a decimal comma"),
    "thousands": (lambda v: grouped(v, ","), ",", "',' between thousands"),
    "German": (lambda v: grouped(v, ".", ","), ";", "a decimal comma and '.' between thousands"),
    "French": (lambda v: grouped(v, "\u202f", ","), ";", "a decimal comma and ' ' between thousands"),
    "Swiss": (lambda v: grouped(v, "\u2019"), ";", '"\'" between thousands'),
    "spaces": (lambda v: grouped(v, "\u00a0"), ",", "' ' between thousands"),
    "percent": (lambda v: f"{v:.2f}%", ",", "'%' at each number"),
    "percent apart": (
        lambda v: f"{v:.2f} %".replace(".", ","),
        ";",
        "a decimal comma and '%' at each number",
    ),
    "dollars": (lambda v: ("-" if v < 0 else "") + "$" + grouped(abs(v), ","), ",", "'$' at each number"),
    "euros": (lambda v: grouped(v, ".", ",") + " €", ";", "'€' at each number"),
    "codes of currencies": (lambda v: f"EUR {v:.2f}", ",", "'EUR' at each number"),
    "accounting": (lambda v: f"({-v:,.2f})" if v < 0 else f"{v:,.2f}", ",", "',' between thousands"),
    "a word": (lambda v: f"{v:.2f} kg", ",", "'kg' at each number, which is left out"),
    "a word close by": (lambda v: f"{v:.2f}km/h", ",", "'km/h' at each number"),
    "a word and commas": (
        lambda v: f"{v:.2f} m²".replace(".", ","),
        ";",
        "a decimal comma and 'm²' at each number",
    ),
    "typographic minus": (lambda v: f"{v:.2f}".replace("-", "\u2212"), ",", "typographic signs"),
    "no-break spaces around": (lambda v: f"{v:.2f}\u00a0", ",", ""),
}


@pytest.mark.parametrize("name", WAYS)
def test_numbers_are_those_of_the_clean_file_and_it_is_said(name: str, tmp_path: Path) -> None:
    write, separator, words = WAYS[name]
    texts = [write(value) for value in VALUES]
    written(tmp_path, texts, separator)
    data = read(tmp_path)
    digits = 1e-4 if "e" in texts[0] else 1e-12
    np.testing.assert_allclose(
        numbers(data.train), VALUES.round(2), rtol=0, atol=max(0.006 * (digits == 1e-4), 1e-9)
    )
    assert words in said(data)


@pytest.mark.parametrize("name", WAYS)
def test_later_files_are_read_as_the_training_file_was(name: str, tmp_path: Path) -> None:
    write, separator, _ = WAYS[name]
    written(tmp_path, [write(value) for value in VALUES], separator)
    data = read(tmp_path)
    schema = Schema.from_json(json.loads(json.dumps(data.schema.to_json())))
    # Few rows that could be read in several ways alone.
    path = written(tmp_path, [write(1234.0), write(5678.0)], separator, "later.csv")
    later = load_rows(path, schema, DataOptions(train="train.csv", target="y"))
    assert numbers(later).tolist() == [1234.0, 5678.0]


@pytest.mark.parametrize("token", ["n/a", "-", ".", "missing", "N.A.", "#DIV/0!", "Unknown", "--"])
@pytest.mark.parametrize("mark", [".", ","])
def test_words_among_numbers_are_missing_values_and_named(token: str, mark: str, tmp_path: Path) -> None:
    texts = [token if i % 10 == 3 else f"{v:.2f}".replace(".", mark) for i, v in enumerate(VALUES)]
    written(tmp_path, texts, ";")
    data = read(tmp_path)
    expected = [np.nan if i % 10 == 3 else round(v, 2) for i, v in enumerate(VALUES)]
    np.testing.assert_allclose(numbers(data.train), expected)
    assert f"among the numbers of 'w' these are read as missing: '{token}' (6 cells)" in said(data)
    assert "data.not_missing: {w: [" in said(data)
    # Numbers that are written as in a program are not said to be written otherwise.
    assert ("numbers are written with" in said(data)) == (mark == ",")


def test_a_word_that_is_a_value_keeps_the_column_one_of_categories(tmp_path: Path) -> None:
    written(tmp_path, ["-" if i % 3 else str(i % 4) for i in range(60)])
    table = read(tmp_path, types={"w": "categorical"}).train.inputs["table"]
    assert isinstance(table, Table) and table.levels == (("-", "0", "1", "2", "3"),)
    written(tmp_path, ["-" if i % 10 == 0 else str(i) for i in range(60)])
    with pytest.warns(DataWarning, match="54 of 60 cells are numbers; the others: '-' \\(6 cells\\)"):
        data = read(tmp_path, not_missing={"w": ["-"]})
    assert [column.type for column in data.schema.columns] == ["categorical"]


AMBIGUOUS = [f"{1 + i % 9},{100 + 7 * i}" for i in range(60)]


def test_thousands_that_may_be_decimals_are_never_guessed(tmp_path: Path) -> None:
    written(tmp_path, AMBIGUOUS, a=list(range(60)))
    with pytest.warns(DataWarning) as caught:
        data = read(tmp_path)
    text = str(caught[0].message)
    assert (
        "'w' is not read as numbers: '1,100' may be 1.100 (data.decimal: {w: ','}) or 1100 (data.thousands: {w: ','})"
        in text
    )
    assert "w" not in [column.name for column in data.schema.columns if column.type == "numeric"]
    for options, factor in (
        ({"thousands": ","}, 1),
        ({"decimal": {"w": ","}}, 1000),
        ({"thousands": {"w": ","}}, 1),
    ):
        found = numbers(read(tmp_path, **options).train)
        np.testing.assert_allclose(found * factor, [float(text.replace(",", "")) for text in AMBIGUOUS])


MONEY = {"dollars": "${:,}", "a code": "{:,} USD", "euros": "{:,} €"}


@pytest.mark.parametrize("write", MONEY.values(), ids=MONEY)
@pytest.mark.parametrize("mark", [",", "."])
def test_whole_amounts_of_money_have_thousands_and_say_so_of_their_file(
    write: str, mark: str, tmp_path: Path
) -> None:
    amounts = [900 + 370 * i for i in range(60)]
    miles = [text.replace(",", mark) for text in AMBIGUOUS]
    written(tmp_path, [write.format(amount).replace(",", mark) for amount in amounts], ";", a=miles)
    train = read(tmp_path).train
    np.testing.assert_array_equal(numbers(train), amounts)
    if mark == ",":
        np.testing.assert_array_equal(numbers(train, "a"), [int(text.replace(",", "")) for text in AMBIGUOUS])


def test_small_amounts_of_money_may_have_three_decimals(tmp_path: Path) -> None:
    written(tmp_path, [f"{text} €" for text in AMBIGUOUS], ";")
    with pytest.raises(DataError, match=r"'1,100 €' may be 1.100"):
        read(tmp_path)
    points = [text.replace(",", ".") for text in AMBIGUOUS]
    written(tmp_path, [f"${text}" for text in points])
    np.testing.assert_allclose(numbers(read(tmp_path).train), [float(text) for text in points])


@pytest.mark.parametrize(
    ("other", "factor"),
    [
        (["0,5", "12,25"] * 30, 1000),
        (["1,234.5", "7"] * 30, 1),
        (["0.5", "12.25"] * 30, 1),
        (["1,234,567", "7"] * 30, 1),
    ],
)
def test_other_columns_of_the_file_tell_what_a_comma_is(
    other: list[str], factor: int, tmp_path: Path
) -> None:
    written(tmp_path, AMBIGUOUS, ";", a=other)
    found = numbers(read(tmp_path).train)
    np.testing.assert_allclose(found * factor, [float(text.replace(",", "")) for text in AMBIGUOUS])


def test_columns_that_contradict_each_other_tell_nothing(tmp_path: Path) -> None:
    written(tmp_path, AMBIGUOUS, ";", a=["0,5", "12,25"] * 30, b=["0.5", "12.25"] * 30)
    with pytest.warns(DataWarning, match=r"'w' is not read as numbers: '1,100' may be 1.100"):
        data = read(tmp_path)
    assert [column.name for column in data.schema.columns if column.type == "numeric"] == ["a", "b"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            [f"{1 + i % 7},{1 + i % 5}" for i in range(60)],
            r"may be a number or a list of two; .*data.decimal: \{w: ','\}",
        ),
        (
            [f"{200 + i} {300 + i}" for i in range(60)],
            r"may be a number or a code in groups; .*data.thousands: \{w: ' '\}",
        ),
        (
            ["few" if i % 12 == 0 else "many" if i == 7 else str(i) for i in range(60)],
            r"54 of 60 cells are numbers; the others: 'few' \(5 cells\), 'many' \(1 cell\); data.missing: \{w: \[",
        ),
        (
            ["few" if i % 12 == 0 else f"{i},5" for i in range(60)],
            r"with a decimal comma; the others: 'few' \(5 cells\); data.decimal: \{w: ','\}, "
            r"data.missing: \{w: \[few\]\}",
        ),
        (
            [f"{i % 9}.5%" if i % 2 else f"0.{i % 9}5" for i in range(60)],
            r"'w' is not read as numbers: of 60 cells there is '%' at 30; write all numbers of a column in one unit",
        ),
        (
            [f"{'€$£'[i % 3]}{i % 9}.5" for i in range(60)],
            r"there is '€' at 20, '\$' at 20, '£' at 20; write all",
        ),
        (
            ["inf" if i == 7 else f"0,{i}" for i in range(60)],
            r"59 of 60 cells .* with a decimal comma; the others: 'inf' \(1 cell\)",
        ),
    ],
)
def test_a_column_that_looks_like_numbers_is_named_with_the_option(
    texts: list[str], message: str, tmp_path: Path
) -> None:
    written(tmp_path, texts, a=list(range(60)))
    with pytest.warns(DataWarning, match=message):
        read(tmp_path)


def test_points_between_groups_are_doubtful_in_a_file_with_decimal_commas(tmp_path: Path) -> None:
    dotted = [text.replace(",", ".") for text in AMBIGUOUS]
    written(tmp_path, dotted, ";", a=["0,5", "12,25"] * 30)
    with pytest.warns(
        DataWarning, match=r"'w' is read with a decimal point: '1.100'; .*data.thousands: \{w: '.'\}"
    ):
        np.testing.assert_allclose(numbers(read(tmp_path).train), [float(text) for text in dotted])
    told = numbers(read(tmp_path, thousands={"w": "."}).train)
    np.testing.assert_allclose(told, [float(text.replace(".", "")) for text in dotted])
    # Two places behind the point are no group.
    written(tmp_path, [f"{i}.25" for i in range(60)], ";", a=["0,5", "12,25"] * 30)
    assert numbers(read(tmp_path).train)[7] == 7.25


def test_points_between_groups_alone_are_doubtful_in_a_file_with_semicolons(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    dotted = [text.replace(",", ".") for text in AMBIGUOUS]
    for separator in (",", ";"):
        frame = pd.DataFrame({"a": dotted, "y": dotted[::-1]})
        frame.to_csv(tmp_path / "train.csv", sep=separator, index=False)
        load(DataOptions(train="train.csv", target="y"), tmp_path, "regression", "rmse")
        texts = [str(warning.message) for warning in recwarn.list]
        if separator == ",":
            assert not texts
    for name, example in (("a", dotted[0]), ("y", dotted[-1])):
        assert any(f"'{name}' is read with a decimal point: '{example}'" in text for text in texts)
    told = {"train": "train.csv", "target": "y", "thousands": "."}
    train = load(DataOptions.model_validate(told), tmp_path, "regression", "rmse").train
    assert train.labels.tolist() == [float(text.replace(".", "")) for text in dotted[::-1]]


def test_words_may_stand_in_most_cells_where_the_others_are_numbers(tmp_path: Path) -> None:
    texts = ["unknown" if i % 5 else f"{v:.2f}" for i, v in enumerate(VALUES)]
    written(tmp_path, texts)
    found = numbers(read(tmp_path).train)
    np.testing.assert_allclose(found, [np.nan if i % 5 else round(v, 2) for i, v in enumerate(VALUES)])


def test_the_error_over_a_file_without_columns_says_why_none_can_be_read(tmp_path: Path) -> None:
    written(tmp_path, AMBIGUOUS)
    with pytest.raises(
        DataError, match=r"(?s)a column to learn from; got none but w; add one.*data.thousands: \{w: ','\}"
    ):
        read(tmp_path)


@pytest.mark.parametrize("word", ["n/a", "-", "unknown"])
def test_cells_among_dates_that_are_none_are_counted(word: str, tmp_path: Path) -> None:
    dates = [word if i % 20 == 3 else f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}" for i in range(60)]
    written(tmp_path, dates)
    with pytest.warns(
        DataWarning, match=rf"among the dates of 'w' these are read as missing: '{word}' \(3 cells\)"
    ):
        read(tmp_path)


def test_the_option_that_a_warning_names_makes_numbers(tmp_path: Path) -> None:
    written(tmp_path, ["few" if i % 12 == 0 else f"{i},5" for i in range(60)], ",")
    found = numbers(read(tmp_path, decimal={"w": ","}, missing={"w": ["few"]}).train)
    np.testing.assert_allclose(found, [np.nan if i % 12 == 0 else i + 0.5 for i in range(60)])


@pytest.mark.parametrize(
    ("train", "later", "message"),
    [
        ("0,5;1,25;7", "1.5", r"decimal commas, these cells have points.*data.decimal"),
        ("0.5;1.25;7", "1,5", r"decimal points, these cells have commas"),
        ("10;20;30", "n/a", r"missing value: data.missing: \{w: \['n/a'\]\}"),
        ("10%;20%;30%", "0.5", r"got '0.5' in row 1"),
        ("0,5;1,25;7", "abc", r"got 'abc' in row 1; repair"),
    ],
)
def test_a_later_file_in_another_notation_is_noticed(
    train: str, later: str, message: str, tmp_path: Path
) -> None:
    written(tmp_path, train.split(";") * 20, ";")
    data = read(tmp_path)
    path = written(tmp_path, [later, train.split(";")[0]], ";", "later.csv")
    with pytest.raises(DataError, match=message):
        load_rows(path, data.schema, DataOptions(train="train.csv", target="y"))


def test_whole_numbers_of_a_file_with_decimal_commas_may_have_fractions_later(tmp_path: Path) -> None:
    written(tmp_path, [str(i) for i in range(60)], ";", a=["0,5", "1,25"] * 30)
    data = read(tmp_path)
    path = written(tmp_path, ["1,5", "2"], ";", "later.csv", a=["1", "2"])
    assert numbers(load_rows(path, data.schema, DataOptions(train="t", target="y"))).tolist() == [1.5, 2.0]


def test_a_target_weight_and_time_are_read_in_their_notation_too(tmp_path: Path) -> None:
    pd.DataFrame({"a": range(60), "t": WHOLE.astype(str), "w": np.abs(VALUES), "y": VALUES}).to_csv(
        tmp_path / "train.csv", sep=";", decimal=",", index=False
    )
    options = DataOptions(train="train.csv", target="y", weight="w", time="t")
    train = load(options, tmp_path, "regression", "rmse").train
    np.testing.assert_allclose(train.labels, VALUES)
    assert train.weight is not None and train.time is not None
    np.testing.assert_allclose(train.weight, np.abs(VALUES))
    np.testing.assert_allclose(train.time, WHOLE)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (AMBIGUOUS, r"'y' must hold numbers: '1,100' may be 1.100 \(data.decimal: \{y: ','\}\) or 1100"),
        (["5", "7", "few"] * 20, r"'y': every cell must be a number; got 'few' in rows 3, 6"),
        (["5", "7", "n/a"] * 20, r"must have a target; got 'n/a' \(20 cells\), read as missing"),
    ],
)
def test_a_numeric_target_that_is_not_clear_is_refused(
    texts: list[str], message: str, tmp_path: Path
) -> None:
    pd.DataFrame({"a": range(60), "y": texts}).to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(DataError, match=message):
        load(DataOptions(train="train.csv", target="y"), tmp_path, "regression", "rmse")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (AMBIGUOUS, r"'w' must hold numbers: '1,100' may be 1.100 \(data.decimal: \{w: ','\}\) or 1100"),
        (["few", *["7"] * 59], r"column 'w': every cell must be a number; got 'few' in row 1; repair"),
        (["few", *["7,5"] * 59], r"column 'w': every cell must be a number; got 'few' in row 1; repair"),
    ],
)
def test_a_column_declared_as_numbers_is_refused_where_it_is_not_clear(
    texts: list[str], message: str, tmp_path: Path
) -> None:
    written(tmp_path, texts)
    with pytest.raises(DataError, match=message):
        read(tmp_path, types={"w": "numeric"})


@pytest.mark.parametrize("given", [[-999], {"w": ["-999"]}, {"w*": [-999, "x"]}, {"w": ["x"], "*": [-999]}])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_numbers_that_stand_for_missing_values(given: Any, suffix: str, tmp_path: Path) -> None:
    values = np.where(np.arange(60) % 4 == 0, -999.0, VALUES)
    frame = pd.DataFrame({"w": values, "y": [0, 1] * 30})
    getattr(frame, f"to_{suffix}")(tmp_path / f"train.{suffix}", index=False)
    found = numbers(read(tmp_path, train=f"train.{suffix}", missing=given).train)
    np.testing.assert_allclose(found, np.where(values == -999, np.nan, values), rtol=TEXT_ERROR, atol=0)


def test_a_column_that_an_option_names_must_exist(tmp_path: Path) -> None:
    written(tmp_path, ["1", "2"] * 30)
    for key, value in (("decimal", ","), ("thousands", "."), ("missing", ["x"]), ("not_missing", ["NA"])):
        with pytest.raises(DataError, match=rf"data.{key} must match a column; got 'ww'. Did you mean 'w'"):
            read(tmp_path, **{key: {"ww": value}})


@pytest.mark.parametrize(
    "texts", [["red", "blue"], ["A12", "B7"], ["12:30", "7:05"], ["10.0.0.1", "10.0.0.2"], ["3-4", "5-6"]]
)
def test_texts_that_are_no_numbers_stay_categories_without_a_word(
    texts: list[str], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    written(tmp_path, [texts[i // 7 % 2] for i in range(60)])
    table = read(tmp_path).train.inputs["table"]
    assert isinstance(table, Table) and table.levels == (tuple(sorted(texts)),)
    assert not recwarn.list


@pytest.mark.parametrize(
    "texts", [["12A", "14B"], ["007a", "012a"], ["A1", "A2"], ["0x1", "0xa"], ["3 kg", "3 kg, 4 g"]]
)
def test_words_that_are_no_unit_of_all_numbers_make_no_numbers(texts: list[str], tmp_path: Path) -> None:
    written(tmp_path, [texts[i // 7 % 2] for i in range(60)])
    assert [column.type for column in read(tmp_path).schema.columns] == ["categorical"]


def test_ones_and_zeros_beside_truth_values_are_truth_values(tmp_path: Path) -> None:
    written(tmp_path, [["True", "0", "false", "1"][i // 7 % 4] for i in range(60)])
    data = read(tmp_path)
    assert [column.type for column in data.schema.columns] == ["boolean"]
    assert numbers(data.train).tolist() == [[1.0, 0.0, 0.0, 1.0][i // 7 % 4] for i in range(60)]


def test_times_of_day_are_pointed_out(tmp_path: Path) -> None:
    written(tmp_path, [f"{i % 24}:{i % 9:02d}" for i in range(60)] * 2)
    with pytest.warns(
        DataWarning, match=r"times of day are read as categories, one for each text: w \('0:00'\)"
    ):
        read(tmp_path)


def test_classes_that_differ_by_case_alone_are_pointed_out(tmp_path: Path) -> None:
    rows = [f"{i // 7},{['Yes', 'no', 'yes'][i % 3]}" for i in range(60)]
    (tmp_path / "train.csv").write_text("\n".join(["w,y", *rows]) + "\n")
    given = DataOptions(train="train.csv", target="y")
    with pytest.warns(
        DataWarning, match="classes of 'y' differ by upper and lower case alone: 'Yes' and 'yes'"
    ):
        load(given, tmp_path, "multiclass", "log_loss")


@pytest.mark.parametrize(("zone", "is_said"), [("+02:00", True), ("-0530", True), ("Z", False), ("", False)])
def test_times_with_a_zone_are_said_to_be_read_in_utc(zone: str, is_said: bool, tmp_path: Path) -> None:
    written(tmp_path, [f"2024-01-{1 + i % 28:02d}T{i % 24:02d}:15:00{zone}" for i in range(60)])
    assert ("times with a zone are read in UTC, not at local hours: w" in said(read(tmp_path))) == is_said
