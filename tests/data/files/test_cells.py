"""Columns read many at a time are what they are when read alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.files import cells
from stackfeat.data.files.cells import TextBlock, TextCells, column_cells
from stackfeat.data.files.notation import PLAIN
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import Samples, Table
from stackfeat.data.schema.columns import describe_column, infer_type
from stackfeat.data.schema.load import load, load_rows
from stackfeat.errors import DataError

ODD = ["", "NA", "nan", "1", "0", "-3.5", "1e5", "abc", "True", "false", "007", " 5", "a b", "1_0", "1,5"]
ODD += ["2020-01-01", "2020/02/03 10:11", "1960-05-06 23:59:59.5", "2021-13-45", "9007199254740993"]


def random_column(rng: random.Random, n_rows: int) -> list[str]:
    """Cells of one kind, with odd ones among them now and then."""
    pool = {
        "odd": rng.sample(ODD, 3),
        "numbers": [f"{rng.gauss(0, 100):.{rng.randint(1, 17)}g}" for _ in range(20)],
        "whole": [str(rng.randint(0, 10 ** rng.randint(1, 19))) for _ in range(20)],
        "days": [
            f"{rng.randint(1900, 2030)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}" for _ in range(30)
        ],
        "times": [
            f"2024-01-{rng.randint(1, 28):02}T10:00:00{rng.choice(['', '.25', '.123456789'])}" for _ in "1234"
        ],
        "words": rng.sample(["red", "green", "blue", "rot"], 3),
    }[rng.choice(["odd", "numbers", "whole", "days", "times", "words"])]
    return [rng.choice(pool if rng.random() < 0.95 else ["", "?"]) for _ in range(n_rows)]


def everything(samples: Samples) -> list[Any]:
    table = samples.inputs["table"]
    assert isinstance(table, Table)
    return [
        table.numeric.tobytes(),
        table.numeric_names,
        table.codes.tobytes(),
        table.code_names,
        table.levels,
    ]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.filterwarnings("ignore")
def test_a_column_is_read_as_if_it_stood_alone(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    n_rows = rng.choice([5, 30])
    columns = {f"c{j}": random_column(rng, n_rows) for j in range(6)}
    target = ["u", "v"] + [rng.choice("uv") for _ in range(n_rows - 2)]
    pd.DataFrame({**columns, "y": target}).to_csv(tmp_path / "train.csv", index=False)
    options = DataOptions(train="train.csv", target="y")
    found = []
    for n_together in (2**22, 1, 3 * n_rows):
        monkeypatch.setattr(cells, "_BLOCK_CELLS", n_together)
        try:
            loaded = load(options, tmp_path, "binary", "log_loss")
            later = load_rows(tmp_path / "train.csv", loaded.schema, options)
            found.append(
                [*everything(loaded.train), *everything(later), loaded.schema.to_json(), loaded.notes]
            )
        except DataError as error:
            found.append([str(error)])
    assert found[0] == found[1] == found[2]


def test_long_whole_numbers_do_not_depend_on_their_neighbours() -> None:
    texts = np.array([["9007199254740993", "0.5"], ["123456789012345678901", "x"]], dtype=object)
    assert TextCells(TextBlock(texts)).numbers().tolist() == [9007199254740992.0, 123456789012345678901.0]


def test_cells_that_are_numbers_already_are_not_parsed() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])})
    read = dict(column_cells(frame, dict.fromkeys("abc", PLAIN)))
    assert isinstance(read["a"], pd.Series)
    assert [infer_type(values) for values in read.values()] == ["numeric", "categorical", "categorical"]
    assert describe_column("b", read["b"], "categorical", "").levels == ("x",)


def test_dates_before_1970_and_parts_of_a_second_keep_their_parts(tmp_path: Path) -> None:
    texts = ["1969-12-31T23:59:59.5", "1720-02-29", "", "2024-01-31T12:00:00.123456789Z"]
    pd.DataFrame({"d": texts, "n": [1, 2, 3, 4], "y": ["u", "v", "u", "v"]}).to_csv(
        tmp_path / "t.csv", index=False
    )
    loaded = load(DataOptions(train="t.csv", target="y", types={"d": "date"}), tmp_path, "binary", "log_loss")
    table = loaded.train.inputs["table"]
    assert isinstance(table, Table)
    read = dict(zip(table.numeric_names, table.numeric.T, strict=True))
    dates = pd.to_datetime(pd.Series(texts), format="ISO8601", utc=True)
    for part in ("year", "month", "day", "hour"):
        expected = getattr(dates.dt, part).to_numpy(dtype=float, na_value=np.nan)
        np.testing.assert_array_equal(read[f"d.{part}"], expected)
    expected = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
    np.testing.assert_allclose(read["d.days"], expected.to_numpy(), rtol=1e-15)
