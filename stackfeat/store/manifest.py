"""The manifest of an entry: what it was made of, and every file with size and hash.

In:  the text of ``manifest.json``, whose hash has been verified. That says who wrote it as little as a
     stamp: the structure is checked as if a stranger had sent it. A sealed JSON file carries the hash of its own
     bytes instead.
Out: the manifest, or a StructureError.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackfeat.errors import DataError, StructureError
from stackfeat.store.disk import MANIFEST, read_text_file, safe_name
from stackfeat.structure import must, parse_json, structured

_SHA256 = re.compile(r"[0-9a-f]{64}")

_KIND = re.compile(r"[\w .-]{1,64}")

_CREATED = re.compile(r"[0-9T:.+-]{0,40}")


@dataclass(frozen=True)
class ListedFile:
    """A file of an entry."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` holds; `recipe` is read by the stage that wrote it."""

    key: str
    kind: str
    recipe: dict[str, Any]
    created: str
    files: dict[str, ListedFile]


def checked_manifest(text: bytes, key: str) -> dict[str, Any]:
    """Return the manifest of the entry of this key, as plain JSON.

    Raises
    ------
    StructureError
        If it is not made as one, or is that of another entry.
    """
    values: dict[str, Any] = parse_json(text, MANIFEST, finite=True)
    manifest = structured(Manifest, values, MANIFEST)
    if manifest.key != key:
        raise StructureError(f"{MANIFEST} is that of entry {manifest.key[:128]}")
    must(bool(_KIND.fullmatch(manifest.kind)), f"{MANIFEST}.kind", "be a word", manifest.kind)
    must(bool(_CREATED.fullmatch(manifest.created)), f"{MANIFEST}.created", "be a time", manifest.created)
    for name, listed in manifest.files.items():
        must(_is_file_name(name), f"{MANIFEST}.files", "name files", name)
        must(listed.size >= 0, f"{MANIFEST}.files[{name!r}].size", "be 0 or more", listed.size)
        is_hash = bool(_SHA256.fullmatch(listed.sha256))
        must(is_hash, f"{MANIFEST}.files[{name!r}].sha256", "be a SHA-256", listed.sha256)
    return values


def _is_file_name(name: str) -> bool:
    try:
        return bool(safe_name(name))
    except ValueError:
        return False


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
    return unseal(read_written(path, remedy), path, format_number, remedy)


def unseal(data: bytes, path: Path, format_number: int, remedy: str) -> dict[str, Any]:
    """Return the JSON object of a sealed text, less the seal; `path` is what it is called in messages.

    Raises
    ------
    DataError
        As `read_sealed`.
    """
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
        raise _other_format(path, format_number, value, remedy)
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
        raise _other_format(path, format_number, value, remedy)


_RELEASE = re.compile(r"\d+(\.\d+){1,3}([a-z]+\d+)?")


def _other_format(path: Path, wanted: int, value: Mapping[str, Any], remedy: str) -> DataError:
    """Return what to say of a file of another format; one that came later says which version reads it."""
    found, version = value.get("format"), value.get("version")
    is_later = type(found) is int and found > wanted
    if is_later and isinstance(version, str) and _RELEASE.fullmatch(version):
        of = f"of stackfeat {version}"
        remedy = f"install it: pip install 'stackfeat=={version}'"
    else:
        of = "of another version of stackfeat"
    return DataError(f"{path} must have format {wanted}; got {str(found)[:20]}, {of}; {remedy}")
