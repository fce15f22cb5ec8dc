"""Every column of new rows beside that of training: one line where it is off, none where it is not."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.options import DataOptions
from stackfeat.data.schema.drift import N_SHOWN, TrainingSummary, drift_lines
from stackfeat.data.schema.load import compare_rows, load, load_rows
from stackfeat.errors import DataError, DataWarning


def people(n_rows: int, seed: int) -> pd.DataFrame:
    """Rows of one distribution."""
    random = np.random.default_rng(seed)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 365, n_rows), unit="D")
    return pd.DataFrame(
        {
            "id": np.arange(n_rows) + seed * 10_000,
            "sex": random.choice(["male", "female"], n_rows),
            "age": np.where(random.random(n_rows) < 0.2, np.nan, random.normal(40, 12, n_rows).round(1)),
            "fare": random.lognormal(3, 1, n_rows).round(2),
            "cabin": random.choice(["A1", "B2", "C3"], n_rows),
            "paid": random.random(n_rows) < 0.3,
            "day": days.strftime("%Y-%m-%d"),
            "y": random.integers(0, 2, n_rows),
        }
    )


CHANGES: dict[str, tuple[Any, dict[str, str]]] = {
    "nothing": (lambda frame: frame, {}),
    "upper case": (lambda frame: frame.assign(sex=frame["sex"].str.upper()), {"sex": "unseen"}),
    "spaces": (lambda frame: frame.assign(cabin=frame["cabin"] + " "), {}),
    "marks": (
        lambda frame: frame.assign(cabin=frame["cabin"].str[0] + "-" + frame["cabin"].str[1]),
        {"cabin": "unseen"},
    ),
    "times 1,000": (lambda frame: frame.assign(fare=frame["fare"] * 1000), {"fare": "scale"}),
    "another unit": (lambda frame: frame.assign(age=frame["age"] * 12), {"age": "scale"}),
    "empty": (lambda frame: frame.assign(age=np.nan), {"age": "empty"}),
    "empty dates": (lambda frame: frame.assign(day=""), {"day": "empty"}),
    "half empty": (
        lambda frame: frame.assign(cabin=frame["cabin"].where(frame.index % 2 == 0, "")),
        {"cabin": "missing"},
    ),
    "numbers for words": (lambda frame: frame.assign(sex=1), {"sex": "unseen"}),
    "later dates": (
        lambda frame: frame.assign(day=frame["day"].str.replace("2024", "2026")),
        {"day": "range"},
    ),
    "dates of another form": (
        lambda frame: frame.assign(day=frame["day"].str[8:] + ". of " + frame["day"].str[5:7]),
        {"day": "unread"},
    ),
    "all true": (lambda frame: frame.assign(paid=True), {"paid": "shift"}),
    "one more": (lambda frame: frame.assign(Fares=1.0), {"Fares": "extra"}),
    "three at once": (
        lambda frame: frame.assign(sex="x", fare=frame["fare"] / 100, age=None, z=0),
        {"sex": "unseen", "fare": "scale", "age": "empty", "z": "extra"},
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("people")
    people(600, 0).to_csv(made / "train.csv", index=False)
    return made


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("name", CHANGES)
def test_each_column_that_is_off_has_one_line_and_no_other_has(name: str, suffix: str, folder: Path) -> None:
    change, expected = CHANGES[name]
    options = DataOptions(train="train.csv", id="id", target="y")
    loaded = load(options, folder, "binary", "log_loss")
    summary = TrainingSummary.from_json(json.loads(json.dumps(loaded.summary.to_json())))
    frame, path = change(people(120, 1).drop(columns="y")), folder / f"new.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    _, drift = compare_rows(path, loaded.schema, options, None, summary)
    assert {one.column: one.flag for one in drift if one.flag} == expected
    lines = drift_lines(drift)
    assert [line.split("'")[1] for line in lines] == [one.column for one in drift if one.flag]
    assert [one.column for one in drift if one.kind] == ["sex", "age", "fare", "cabin", "paid", "day"]
    assert all(one.train and one.now for one in drift if one.kind)


@pytest.mark.parametrize(("form", "flag"), [("%Y-%m-%d", ""), ("%d of %m", "unread")])
def test_times_that_folds_follow_may_be_later_but_must_be_times(form: str, flag: str, folder: Path) -> None:
    options = DataOptions(
        train="train.csv",
        id="id",
        target="y",
        time="day",
        inputs={"table": {"columns": ["*"]}, "date": {"columns": ["day"]}},
    )
    loaded = load(options, folder, "binary", "log_loss")
    later = people(120, 1).drop(columns="y")
    later["day"] = (pd.to_datetime(later["day"]) + pd.Timedelta(days=800)).dt.strftime(form)
    later.to_csv(folder / "later.csv", index=False)
    _, drift = compare_rows(folder / "later.csv", loaded.schema, options, None, loaded.summary)
    assert {one.column: one.flag for one in drift}["day"] == flag
    later["day"] = (pd.Timestamp("2027-01-01") + pd.to_timedelta(np.arange(120), unit="D")).strftime(
        "%Y-%m-%d"
    )
    later.loc[3, "day"], later.loc[4, "day"] = "", "soon"
    later.to_csv(folder / "holes.csv", index=False)
    _, drift = compare_rows(folder / "holes.csv", loaded.schema, options, None, loaded.summary)
    (line,) = [line for line in drift_lines(drift) if "'day'" in line]
    assert "2 of 120 cells hold no time" in line and line.endswith("in rows 4, 5")


def test_lines_give_counts_dates_and_near_names(folder: Path) -> None:
    options = DataOptions(train="train.csv", id="id", target="y")
    loaded = load(options, folder, "binary", "log_loss")
    frame = people(50, 2).drop(columns="y")
    frame.loc[:32, "sex"] = frame.loc[:32, "sex"].str.upper()
    frame["day"] = frame["day"].str.replace("2024", "2026")
    frame.assign(adge=1).to_csv(folder / "new.csv", index=False)
    with pytest.warns(DataWarning) as said:
        load_rows(folder / "new.csv", loaded.schema, options, summary=loaded.summary)
    lines = [str(one.message).removeprefix(f"{folder / 'new.csv'}: ") for one in said]
    assert lines[0].startswith("column 'sex': 33 of 50 cells are not among training's values, such as ")
    assert lines[0].endswith("; they would be with lower case")
    assert lines[1].startswith(
        "column 'day': 50 of 50 values lie outside training's range (2024-01-01 to 2024-12-"
    )
    assert lines[2] == "column 'adge': training has no such column, so it is not read"
    frame.rename(columns={"fare": "Fare"}).to_csv(folder / "new.csv", index=False)
    with pytest.raises(
        DataError, match=r"missing here: fare; only here: Fare; rename or add them. Did you mean 'Fare'\?"
    ):
        load_rows(folder / "new.csv", loaded.schema, options, summary=loaded.summary)


def test_an_extra_column_is_matched_with_one_that_is_not_read_any_more(folder: Path) -> None:
    people(600, 0).assign(notes="same", dropped_1=3).to_csv(folder / "noted.csv", index=False)
    options = DataOptions(train="noted.csv", id="id", target="y", drop=("dropped_*",))
    loaded = load(options, folder, "binary", "log_loss")
    new = people(60, 3).drop(columns="y").assign(Notes="same", dropped_2=4)
    new.to_csv(folder / "new.csv", index=False)
    _, drift = compare_rows(folder / "new.csv", loaded.schema, options, None, loaded.summary)
    assert drift_lines(drift) == [
        "column 'Notes': training has no such column, so it is not read. Did you mean 'notes'?"
    ]


def test_many_columns_that_are_off_share_a_last_line(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(300, 30)), columns=[f"c{j}" for j in range(30)])
    frame.assign(y=random.integers(0, 2, 300)).to_csv(tmp_path / "train.csv", index=False)
    (frame.head(60) * 1000).to_csv(tmp_path / "test.csv", index=False)
    options = DataOptions(train="train.csv", test="test.csv", target="y")
    lines = load(options, tmp_path, "binary", "log_loss").drift
    assert len(lines) == N_SHOWN + 1
    assert lines[-1].endswith("10 more columns are off: c20, c21, c22, c23, c24 and 5 more")


def arrays(n_rows: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 9, n_rows)
    return {
        "y": random.integers(0, 2, n_rows),
        "image": random.integers(0, 256, (n_rows, 8, 8, 3), dtype=np.uint8),
        "walk": random.normal(size=(n_rows, 9, 2)).astype(np.float32),
        "words": np.where(np.arange(9) < lengths[:, None], random.integers(1, 50, (n_rows, 9)), 0),
        "n": lengths,
        "wide": random.normal(5, 1, (n_rows, 4)),
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {}),
        ({"image": lambda v: (v / 255).astype(np.float32)}, {"image": "dtype, scale"}),
        ({"image": lambda v: v // 20}, {"image": "scale"}),
        ({"walk": lambda v: v * 1000}, {"walk": "scale"}),
        ({"walk": lambda v: v.astype(np.float64)}, {}),
        ({"words": lambda v: v + 60 * (v > 0)}, {"words": "range"}),
        ({"n": lambda v: np.ones_like(v)}, {"words.lengths": "range"}),
        ({"wide": lambda v: np.where(np.arange(4) == 2, np.nan, v)}, {"wide_2": "empty"}),
    ],
)
def test_arrays_are_compared_by_values_types_and_lengths(
    change: dict[str, Any], expected: dict[str, str], tmp_path: Path
) -> None:
    inputs = {
        "image": {"array": "image"},
        "walk": {"array": "walk"},
        "words": {"array": "words", "lengths": "n"},
        "wide": {"array": "wide", "kind": "table"},
    }
    options = DataOptions.model_validate({"train": "train.npz", "target": "y", "inputs": inputs})
    np.savez(tmp_path / "train.npz", **arrays(400, 0))
    loaded = load(options, tmp_path, "binary", "log_loss")
    new = {name: change.get(name, lambda v: v)(values) for name, values in arrays(90, 1).items()}
    np.savez(tmp_path / "new.npz", **new)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, drift = compare_rows(tmp_path / "new.npz", loaded.schema, options, None, loaded.summary)
    assert {one.column: one.flag for one in drift if one.flag} == expected
