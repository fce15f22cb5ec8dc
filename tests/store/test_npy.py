"""What a npy file says of itself is believed only where its bytes bear it out, however often it was read before."""

from __future__ import annotations

import io

import numpy as np
import pytest

from stackfeat.errors import StructureError
from stackfeat.store.npy import check_header, parse_npy


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_a_header_that_was_read_before_is_held_against_the_bytes_again() -> None:
    whole = npy(np.arange(6.0).reshape(2, 3))
    assert parse_npy(npy(np.zeros((2, 3))), "part").sum() == 0
    np.testing.assert_array_equal(parse_npy(whole, "part"), [[0, 1, 2], [3, 4, 5]])
    for data in (whole[:-8], whole + b"12345678"):
        with pytest.raises(StructureError, match=r"must have the .* numbers its header says"):
            check_header(io.BytesIO(data), len(data), "part")


def test_a_header_that_cannot_be_read_is_refused_every_time() -> None:
    data = npy(np.zeros(3)).replace(b"shape", b"sharp")
    for _ in range(2):
        with pytest.raises(StructureError, match="part must be a npy file"):
            check_header(io.BytesIO(data), len(data), "part")


def test_headers_of_named_columns_beyond_latin_1_are_read() -> None:
    array = np.zeros(2, dtype=[("größe_漢", "f8")])
    with pytest.warns(UserWarning, match="format"):
        data = npy(array)
    assert parse_npy(data, "part").dtype == array.dtype
