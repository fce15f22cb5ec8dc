"""Forge stored things so that every hash is right: what an attacker does who knows the format.

Hashes say that bytes are those that were written; they cannot say by whom.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stackfeat.engine.recipes import key_of
from stackfeat.store.disk import safe_name
from stackfeat.store.manifest import seal

Json = dict[str, Any]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry_folders(root: Path) -> list[Path]:
    """Return the folder of every entry of a store."""
    return sorted(done.parent for done in (root / "entries").glob("*/*/DONE"))


def manifest_of(folder: Path) -> Json:
    found: Json = json.loads((folder / "manifest.json").read_bytes())
    return found


def rewrite_entry(
    folder: Path,
    files: dict[str, bytes] | None = None,
    change: Callable[[Json], object] = lambda manifest: None,
) -> None:
    """Replace files of an entry, change its manifest, and make all its hashes right."""
    manifest = manifest_of(folder)
    for name, data in (files or {}).items():
        path = folder / safe_name(name)
        if path.exists():
            path.chmod(0o644)
        path.write_bytes(data)
        manifest["files"][name] = {"size": len(data), "sha256": sha256(data)}
    change(manifest)
    text = json.dumps(manifest, indent=1).encode()
    for name, data in (("manifest.json", text), ("DONE", sha256(text).encode())):
        (folder / name).chmod(0o644)
        (folder / name).write_bytes(data)


def change_recipe(predictor: Path, folder: Path, change: Callable[[Json], object]) -> Path:
    """Change the recipe of a model, its key with it, and the key wherever the wiring names it."""
    old = folder.name

    def rename(manifest: Json) -> None:
        change(manifest["recipe"])
        manifest["key"] = key_of(manifest["recipe"])

    rewrite_entry(folder, change=rename)
    key = manifest_of(folder)["key"]
    place = folder.parent.parent / key[:2] / key
    place.parent.mkdir(exist_ok=True)
    shutil.move(folder, place)
    path = predictor / "predictor.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace(old, key))
    return place


def reseal(predictor: Path) -> None:
    """Make the hashes of a whole predictor right."""
    entries = {
        folder.name: sha256((folder / "manifest.json").read_bytes())
        for folder in entry_folders(predictor / "models")
    }
    wiring = sha256((predictor / "predictor.json").read_bytes())
    (predictor / "hashes.json").write_bytes(seal({"format": 2, "wiring": wiring, "entries": entries}))


def change_wiring(predictor: Path, change: Callable[[Json], object]) -> None:
    """Change predictor.json and make all hashes right."""
    path = predictor / "predictor.json"
    wiring = json.loads(path.read_bytes())
    change(wiring)
    path.write_text(json.dumps(wiring))
    reseal(predictor)


def skops_file(schema: Any, members: dict[str, bytes] | None = None, *, protocol: object = None) -> bytes:
    """Return a skops file of any schema."""
    from skops.io._protocol import PROTOCOL

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        head = {"protocol": PROTOCOL if protocol is None else protocol, "_skops_version": "0.16.0"}
        file.writestr("schema.json", json.dumps({**schema, **head}))
        for name, content in (members or {}).items():
            file.writestr(name, content)
    return data.getvalue()


def node(loader: str, path: str, **more: Any) -> Json:
    module, _, name = path.rpartition(".")
    return {"__class__": name, "__module__": module, "__loader__": loader, **more}


def value(content: Any) -> Json:
    return node("JsonNode", "builtins.str", content=json.dumps(content), is_json=True)


def sequence(*items: Json, kind: str = "Tuple") -> Json:
    return node(f"{kind}Node", f"builtins.{kind.lower()}", content=list(items))


def mapping(**items: Json) -> Json:
    types = sequence(*[node("TypeNode", "builtins.str") for _ in items], kind="List")
    return node("DictNode", "builtins.dict", content=items, key_types=types)
