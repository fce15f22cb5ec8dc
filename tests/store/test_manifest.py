"""Entries whose hashes are right and whose contents are not: one line, put aside, never another error."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stackfeat.cli.entries import list_entries
from stackfeat.errors import DamagedEntryError
from stackfeat.store import Store, hash_recipe

Put = Callable[..., None]
RECIPE = {"member": {"train": {"lr": 0.001}}, "fold": 0}
KEY = hash_recipe(RECIPE)


def folder_of(store: Store, key: str = KEY) -> Path:
    return store.root / "entries" / key[:2] / key


def rewrite(folder: Path, text: bytes) -> None:
    """Replace the manifest and make its hash right."""
    (folder / "manifest.json").write_bytes(text)
    (folder / "DONE").write_bytes(hashlib.sha256(text).hexdigest().encode())


CHANGES: dict[str, Any] = {
    "no files": lambda m: m.pop("files"),
    "no recipe": lambda m: m.pop("recipe"),
    "recipe is a list": lambda m: m.update(recipe=[1]),
    "kind is a number": lambda m: m.update(kind=3),
    "kind with an escape": lambda m: m.update(kind="\x1b[2J"),
    "created is no time": lambda m: m.update(created="\x07bell"),
    "a file without hash": lambda m: m["files"]["report.json"].pop("sha256"),
    "a hash that is none": lambda m: m["files"]["report.json"].update(sha256="../../x"),
    "a size that is text": lambda m: m["files"]["report.json"].update(size="12"),
    "a size below zero": lambda m: m["files"]["report.json"].update(size=-1),
    "a size beyond 64 bits": lambda m: m["files"]["report.json"].update(size=10**30),
    "a file without name": lambda m: m["files"].update({"": {"size": 0, "sha256": "0" * 64}}),
    "a file with a long name": lambda m: m["files"].update({"x" * 999: {"size": 0, "sha256": "0" * 64}}),
    "another field": lambda m: m.update(run="os.system"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_manifest_of_another_structure_is_damage(name: str, store: Store, put: Put) -> None:
    put(store)
    manifest = json.loads((folder_of(store) / "manifest.json").read_bytes())
    CHANGES[name](manifest)
    rewrite(folder_of(store), json.dumps(manifest).encode())
    with pytest.raises(DamagedEntryError, match=r"manifest\.json.* must ") as caught:
        store.read(KEY)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert not store.has(KEY)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b"3", b"[" * 100_000, b'{"key": NaN}', b"\xff\xfe", b"1" * 5000], ids=len
)
def test_a_manifest_that_is_no_object_is_damage(text: bytes, store: Store, put: Put) -> None:
    put(store)
    rewrite(folder_of(store), text)
    with pytest.raises(DamagedEntryError, match=r"manifest\.json"):
        store.read(KEY)


def test_one_bad_entry_does_not_hide_the_others(store: Store, put: Put) -> None:
    put(store)
    other = {**RECIPE, "fold": 1}
    put(store, hash_recipe(other), recipe=other)
    rewrite(folder_of(store), b"{}")
    before = sorted(store.root.rglob("*"))
    lines = str(list_entries(store.root, "")).splitlines()
    assert len(lines) == 2 and sum("damaged" in line for line in lines) == 1
    assert sorted(store.root.rglob("*")) == before, "looking must change nothing"


@pytest.mark.parametrize("what", ["folder", "pipe", "device"])
@pytest.mark.parametrize("name", ["manifest.json", "DONE", "report.json"])
def test_what_is_no_file_is_never_read(name: str, what: str, store: Store, put: Put) -> None:
    import os

    from stackfeat.errors import StoreError

    put(store)
    path = folder_of(store) / name
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    if store.has(KEY):
        with pytest.raises(StoreError, match="no regular file"):
            store.read(KEY).json("report")


HEADERS = {
    "a million million rows": "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }",
    "rows below zero": "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 3), }",
    "a number beyond all": "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9" * 400 + ",), }",
    "items of no size": "{'descr': '|V0', 'fortran_order': False, 'shape': (1000000000000000000,), }",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "a call": "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,), }",
    "many dimensions": "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1," * 100 + "), }",
    "nested brackets": "(" * 5000,
    "fewer rows than there are": "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }",
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_the_bytes_do_not_bear_out_is_damage(name: str, mmap: bool, store: Store) -> None:
    header = HEADERS[name].encode()
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + np.zeros(6).tobytes()
    with store.write(KEY, "x", RECIPE) as writer:
        writer.bytes("a.npy", data)
    with pytest.raises(DamagedEntryError, match=r"a\.npy must ") as caught:
        store.read(KEY).array("a", mmap=mmap)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{", b"\xff", b"1" * 5000], ids=len)
def test_a_value_that_is_no_json_is_damage(text: bytes, store: Store) -> None:
    with store.write(KEY, "x", RECIPE) as writer:
        writer.bytes("info.json", text)
    with pytest.raises(DamagedEntryError, match=r"info\.json must be JSON"):
        store.read(KEY).json("info")
