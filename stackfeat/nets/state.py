"""A net's weights as bytes: safetensors, with one JSON header; nothing is unpickled.

The same weights and header give the same bytes, so bytes can be compared and hashed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from stackfeat.errors import MemberError

HEADER = "stackfeat"
LENGTH_BYTES = 8


def pack_state(state: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """Return weights and header as one safetensors file.

    Raises
    ------
    MemberError
        If the header has values JSON cannot hold, such as a class among the params.
    """
    try:
        text = json.dumps(header, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MemberError(
            f"a net's params must be plain JSON values to be stored; got {error}; "
            "use numbers, texts and lists"
        ) from error
    # Copies: tied weights share memory, which the format refuses.
    # One header key: the order of several would be random.
    tensors = {name: values.detach().cpu().contiguous().clone() for name, values in state.items()}
    return bytes(save(tensors, metadata={HEADER: text}))


def unpack_state(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the weights, on the CPU.

    Raises
    ------
    MemberError
        If the bytes are not a stored net.
    """
    try:
        length = int.from_bytes(data[:LENGTH_BYTES], "little")
        file_header = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length])
        header: dict[str, Any] = json.loads(file_header["__metadata__"][HEADER])
        return header, load(data)
    except Exception as error:
        raise MemberError(
            f"a stored net must be safetensors with a {HEADER!r} header; got {len(data)} bytes ({error}); "
            "train the member again"
        ) from error
