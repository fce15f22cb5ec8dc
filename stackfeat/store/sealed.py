"""Sealed JSON: a file that carries the hash of its own bytes, so that nothing is parsed before it is verified.

In:  a JSON object.
Out: text whose first field is the SHA-256 of all that follows it; any changed byte is found.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stackfeat.errors import DataError, StructureError
from stackfeat.store.disk import read_text_file
from stackfeat.structure import parse_json

_SEAL = re.compile(rb'\{"sha256": "([0-9a-f]{64})",')


def seal(value: Mapping[str, Any]) -> bytes:
    """Return the text of a JSON object, sealed anew if it was sealed; its keys are sorted."""
    own = {key: part for key, part in value.items() if key != "sha256"}
    text = json.dumps(own, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    body = text[1:].encode()
    return b'{"sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'",' + body


def read_sealed(path: Path, format_number: int, remedy: str) -> dict[str, Any]:
    """Return the JSON object of a sealed file, less the seal.

    Parameters
    ----------
    format_number : int
        What its field ``format`` must be.
    remedy : str
        What to do where it is not as it was written.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If it is damaged, or of another format.
    """
    data = read_written(path, remedy)
    match = _SEAL.match(data)
    if match is None:
        refuse_other_format(data, path, format_number, remedy)
        raise DataError(f"{path} must begin with the hash of its contents; got {data[:20]!r}; {remedy}")
    body = data[match.end() :]
    if hashlib.sha256(body).hexdigest().encode() != match[1]:
        raise DataError(f"{path} must be as it was written; got contents of another hash; {remedy}")
    try:
        value: dict[str, Any] = parse_json(b"{" + body, str(path), finite=True)
    except StructureError as error:
        raise DataError(f"{error}; {remedy}") from error
    if type(value.get("format")) is not int or value["format"] != format_number:
        raise _other_format(path, format_number, value.get("format"), remedy)
    return value


def read_written(path: Path, remedy: str) -> bytes:
    """Return the bytes of a file of a run; FileNotFoundError where there is none, else DataError."""
    try:
        return read_text_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path} must be a readable file; got {error.strerror or error}; {remedy}") from error


def refuse_other_format(data: bytes, path: Path, format_number: int, remedy: str) -> None:
    """Raise DataError where a text that cannot be verified is that of another version."""
    try:
        value = parse_json(data, str(path))
    except StructureError:
        return
    found = value.get("format") if isinstance(value, dict) else None
    if type(found) is int and found != format_number:
        raise _other_format(path, format_number, found, remedy)


def _other_format(path: Path, wanted: int, found: object, remedy: str) -> DataError:
    return DataError(
        f"{path} must have format {wanted}; got {str(found)[:20]}, of another version of stackfeat; {remedy}"
    )
