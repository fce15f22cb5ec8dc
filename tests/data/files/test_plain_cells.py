"""Plain cells are those of the csv module and of `float`, and what is not plain is left to the usual reader."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackfeat.data.files.plain_cells import PlainCells

IDS = st.text(
    st.characters(codec="utf-8", exclude_characters='",\n\r\t \0\x85\u2028\u2029'), min_size=1, max_size=4
)
NUMBERS = st.one_of(
    st.floats(-1e9, 1e9).map(repr), st.floats(0, 1).map(lambda x: f"{x:.25f}"), st.integers(-9, 9).map(str)
)


@given(
    st.lists(st.tuples(IDS, NUMBERS, NUMBERS), min_size=1, max_size=20), st.sampled_from(",\t"), st.booleans()
)
def test_cells_are_those_of_the_csv_module(
    rows: list[tuple[str, str, str]], separator: str, has_end: bool
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_NONE).writerows(rows)
    content = f"id{separator}a{separator}b\n{text.getvalue() if has_end else text.getvalue()[:-1]}".encode()
    cells = PlainCells.of(content, separator, ("id", "a", "b"))
    assert cells is not None
    assert cells.first_column == "".join("\n" + row[0] for row in rows).encode()
    found = cells.numbers(["b", "a"])
    assert found is not None
    assert found.tolist() == [[float(row[2]), float(row[1])] for row in rows]


@pytest.mark.parametrize(
    "content",
    [
        b'id,a\n"1",2\n',
        b"id,a\r\n1,2\r\n",
        b"id,a\n1, 2\n",
        b"id,a\n1\n",
        b"id,a\n1,2,3\n",
        b"id,a\n1,2\n\n",
        b"id,a\n1,2,3\n4\n",
        b"id,a\n",
    ],
)
def test_other_files_are_not_plain(content: bytes) -> None:
    assert PlainCells.of(content, ",", ("id", "a")) is None


@pytest.mark.parametrize(
    "cell", ["", "NA", "nan", "inf", "1e400", "yes", "1;5", "9007199254740993", "0x1A", "1_0"]
)
def test_cells_that_are_no_plain_numbers_are_left_to_the_usual_reader(cell: str) -> None:
    cells = PlainCells.of(f"id,a\n1,0.5\n2,{cell}\n".encode(), ",", ("id", "a"))
    assert cells is not None and cells.numbers(["a"]) is None


def test_numbers_are_the_nearest_to_their_digits() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(20_000) * 10.0 ** rng.integers(-30, 12, 20_000)
    content = "id,a\n" + "".join(f"{row},{value!r}\n" for row, value in enumerate(values.tolist()))
    cells = PlainCells.of(content.encode(), ",", ("id", "a"))
    assert cells is not None
    found = cells.numbers(["a"])
    assert found is not None and (found[:, 0] == values).all()
