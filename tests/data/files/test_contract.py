"""What every file format promises: the values that were written, one line where a file is damaged."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.data.files.fingerprint import fingerprint
from stackfeat.data.files.format import Format
from stackfeat.data.files.tables import FORMATS, format_of, read_frame, suffixes_of, table_format
from stackfeat.data.options import DataOptions
from stackfeat.data.schema.load import load
from stackfeat.errors import DataError, MissingExtraError

FRAME = pd.DataFrame({"id": ["007", "08", "9"] * 4, "a": np.arange(12) / 8, "y": [0, 1, 1] * 4})
OPTIONS = DataOptions(train="train", target="y")


@dataclass(frozen=True)
class Row:
    """How another program writes files of a format.

    Attributes
    ----------
    write : callable
        Writes the columns of a frame; of a format of one array the column ``a``.
    damaged : bytes
        A file that cannot be read.
    """

    write: Callable[[pd.DataFrame, Path], object]
    damaged: bytes


ROWS = {
    ".csv": Row(lambda frame, path: frame.to_csv(path, index=False), b"id,a\n1,2,3\n1,2,3\n"),
    ".parquet": Row(lambda frame, path: frame.to_parquet(path), b"PAR1 nonsense"),
    ".feather": Row(lambda frame, path: frame.to_feather(path), b"FEA1 nonsense"),
    ".npz": Row(
        lambda frame, path: np.savez(
            path, X=np.ones((12, 1)), id=frame["id"].to_numpy(str), a=frame["a"], y=frame["y"]
        ),
        b"PK nonsense",
    ),
    ".npy": Row(lambda frame, path: np.save(path, frame["a"].to_numpy()), b"\x93NUMPY nonsense"),
}
"""By the first suffix of each format."""

of_every_format = pytest.mark.parametrize("suffix", ROWS)
of_every_table = pytest.mark.parametrize(
    "suffix", [suffix for suffix in ROWS if FORMATS[suffix].holds != "array"]
)


def written(folder: Path, suffix: str, frame: pd.DataFrame = FRAME) -> Path:
    for package, _ in filter(None, [FORMATS[suffix].needs]):
        pytest.importorskip(package)
    path = folder / f"train{suffix}"
    ROWS[suffix].write(frame, path)
    return path


def test_every_format_has_a_row() -> None:
    assert list(ROWS) == list(dict.fromkeys(format_.suffixes[0] for format_ in FORMATS.values()))


@of_every_format
def test_the_table_of_the_docs_says_what_a_format_holds_and_needs(suffix: str) -> None:
    format_ = FORMATS[suffix]
    page = (Path(__file__).parents[3] / "docs/config.md").read_text("utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{suffix}`"))
    suffixes, holds, needs = (cell.strip() for cell in row.split("|")[1:4])
    assert suffixes == ", ".join(f"`{one}`" for one in format_.suffixes)
    assert holds == format_.holds
    assert needs == ("" if format_.needs is None else f"`stackfeat[{format_.needs[1]}]`")


@of_every_format
def test_a_format_is_known_by_its_suffixes_in_any_case(suffix: str) -> None:
    format_ = FORMATS[suffix]
    for one in format_.suffixes:
        assert one.startswith(".") and one == one.lower()
        assert format_of(f"a.b{one.upper()}") is format_of(f"{{name}}{one}") is format_
        assert one in suffixes_of(format_.holds)
    assert set(format_.ambiguous) <= set(format_.suffixes)


@of_every_table
def test_columns_are_read_as_they_were_written(suffix: str, tmp_path: Path) -> None:
    frame = read_frame(written(tmp_path, suffix), OPTIONS)
    assert frame["id"].astype(str).tolist() == FRAME["id"].tolist()
    for name in ("a", "y"):
        np.testing.assert_array_equal(frame[name].astype(float), FRAME[name])


@of_every_table
def test_the_names_alone_are_those_of_the_columns(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path, suffix)
    assert table_format(path).names(path, OPTIONS) == list(read_frame(path, OPTIONS).columns)


@of_every_table
def test_a_run_reads_it(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path, suffix)
    given = DataOptions(train=path.name, target="y", drop=("id",))
    assert load(given, tmp_path, "binary", "log_loss").train.labels.tolist() == FRAME["y"].tolist()


@of_every_format
def test_an_array_is_read_as_it_was_written(suffix: str, tmp_path: Path) -> None:
    format_: Format = FORMATS[suffix]
    path = written(tmp_path, suffix)
    for mapped in (True, False, None):
        if format_.holds == "table":
            with pytest.raises(NotImplementedError):
                format_.array(path, "a", "data.inputs.x.array", mapped=mapped)
        else:
            found = format_.array(path, "a", "data.inputs.x.array", mapped=mapped)
            np.testing.assert_array_equal(found, FRAME["a"])
            assert isinstance(found, np.memmap) or not mapped or format_.holds == "array"


@of_every_format
def test_a_damaged_file_is_one_line_that_names_it(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path, suffix)
    path.write_bytes(ROWS[suffix].damaged)
    with pytest.raises(DataError, match=path.name) as error:
        if FORMATS[suffix].holds == "array":
            FORMATS[suffix].array(path, "", "data.inputs.x.array", mapped=False)
        else:
            read_frame(path, OPTIONS)
    assert "\n" not in str(error.value)


@of_every_format
def test_the_fingerprint_follows_the_values(suffix: str, tmp_path: Path) -> None:
    first = fingerprint(written(tmp_path, suffix), OPTIONS)
    assert fingerprint(written(tmp_path, suffix, FRAME.assign(a=0.5)), OPTIONS) != first


@pytest.mark.parametrize("suffix", [suffix for suffix, format_ in FORMATS.items() if format_.needs])
def test_what_reading_needs_is_named(suffix: str, tmp_path: Path, monkeypatch: Any) -> None:
    package, extra = FORMATS[suffix].needs or ("", "")
    path = tmp_path / f"train{suffix}"
    path.touch()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"needs {package}; install it .*stackfeat\[{extra}\]"):
        read_frame(path, OPTIONS)
