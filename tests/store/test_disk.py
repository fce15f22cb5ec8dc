"""Names as file names: any name, one file inside the folder, and back. Stamps count after a tick of their clock."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackfeat.store import disk, from_safe_name, safe_name

names = st.text(st.characters(), min_size=1, max_size=18) | st.sampled_from(
    [
        ".",
        "..",
        "...",
        "DONE",
        "manifest.json",
        "../x",
        "a/b",
        "~",
        "%2E",
        "base/cnn/fc.1@aligned",
        "\ud800",
        "\0",
    ]
)


@given(names)
def test_a_name_reads_back_and_is_one_plain_file_name(name: str) -> None:
    encoded = safe_name(name)
    assert from_safe_name(encoded) == name
    assert re.fullmatch(r"[A-Za-z0-9._@%-]+", encoded)
    assert encoded not in (".", "..", "DONE", "manifest.json")


def test_usual_names_stay_readable() -> None:
    assert safe_name("fc.1@aligned-2_x.npy") == "fc.1@aligned-2_x.npy"


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one character"):
        safe_name("")


def test_a_name_too_long_for_a_file_system_is_refused() -> None:
    with pytest.raises(ValueError, match="240 characters"):
        safe_name("x" * 241)


@pytest.mark.parametrize(("last", "tick"), [(5 * 10**9 + 1, 10**8), (5 * 10**9, 3 * 10**9)])
def test_a_stamp_counts_after_one_tick_of_its_clock(last: int, tick: int) -> None:
    """A time in whole seconds may come from a clock that has no others."""
    for stamp in (disk.Stamp(1, last, 0, 7), disk.Stamp(1, 0, last, 7)):
        assert not disk.is_settled(stamp, last + tick)
        assert disk.is_settled(stamp, last + tick + 1)
        assert not disk.is_settled(stamp, last - tick), "a clock that is ahead of ours"
