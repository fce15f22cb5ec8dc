"""What other people's parsers raise becomes one line that names the file, what was wrong and what to do."""

from __future__ import annotations

import errno
from pathlib import Path

import pandas as pd
import pyarrow
import pytest

from stackfeat.data.files.parsing import parsing
from stackfeat.errors import DataError, OutOfMemoryError, StoreError, StructureError
from tests.data.files.reading import refusal


def test_damaged_strings_of_parquet_are_found_at_once(tmp_path: Path) -> None:
    frame = pd.DataFrame({"c": ["red", "green"] * 4, "n": range(8), "y": [0, 1] * 4})
    frame.to_parquet(tmp_path / "t.parquet", compression=None, use_dictionary=False)
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(data.replace(b"green", b"\xff\xfe\xfd\xfc\xfb"))
    # pyarrow 18 finds it when it reads the file.
    is_old = int(pyarrow.__version__.partition(".")[0]) <= 18
    wanted = "must be a readable" if is_old else "must hold text that can be read"
    assert wanted in refusal(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OverflowError("too\n large"), "got: too large; write it anew"),
        (KeyError(), "got: KeyError; write it anew"),
        (RecursionError("x" * 100_000), "xxx...; write it anew"),
        (PermissionError(errno.EACCES, "Permission denied"), "got: Permission denied; write it anew"),
        (StructureError("a.npy must have a shape"), "a.npy must have a shape; write it anew"),
    ],
)
def test_whatever_a_parser_raises_is_a_matter_of_the_file(raised: Exception, expected: str) -> None:
    with pytest.raises(DataError) as error, parsing("f.bin", "must be a file", "write it anew"):
        raise raised
    assert str(error.value).endswith(expected)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(MemoryError(), OutOfMemoryError), (OSError(errno.ENOSPC, "No space left on device"), StoreError)],
)
def test_what_the_machine_lacks_is_not_a_matter_of_the_file(raised: Exception, expected: type) -> None:
    with pytest.raises(expected), parsing("f.bin", "must be a file", "write it anew"):
        raise raised


def test_a_small_file_that_asks_for_all_memory_lies(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with (
        pytest.raises(DataError, match="got: MemoryError"),
        parsing(tmp_path / "a", "must be a file", "write it anew", states_sizes=True),
    ):
        raise MemoryError
