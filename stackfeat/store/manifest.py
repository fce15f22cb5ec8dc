"""The manifest of an entry: what it was made of, and every file with size and hash.

In:  the text of ``manifest.json``, whose hash has been verified. That says who wrote it as little as a
     stamp: the structure is checked as if a stranger had sent it.
Out: the manifest, or a StructureError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from stackfeat.errors import StructureError
from stackfeat.store.names import MANIFEST, safe_name
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
