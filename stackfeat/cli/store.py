"""show and clean: what is in a store, why an entry was made, and removing what is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stackfeat.errors import StoreError, UsageError, one_line
from stackfeat.store import Store
from stackfeat.store.store import Cache


def _open(path: Path, cache: Cache = "auto") -> Store:
    if not path.is_dir():
        raise UsageError(f"--store must be the folder of a store; got {path}, which is not there")
    return Store(path, cache)


def list_entries(path: Path, pattern: str) -> str:
    """Return a line for each entry: key, kind, time, size, what it is; of a damaged one, what is wrong."""
    store = _open(path, "readonly")
    lines = []
    keys = store.keys()
    for key in keys:
        try:
            manifest = store.manifest(key)
        except StoreError as error:
            if key.startswith(pattern):
                lines.append(one_line(f"{key[:12]}  damaged: {error}"))
            continue
        if pattern and not key.startswith(pattern) and manifest["kind"] != pattern:
            continue
        size = sum(file["size"] for file in manifest["files"].values())
        lines.append(
            one_line(
                f"{key[:12]}  {manifest['kind']:<10} {manifest['created'][:19]} {size:>12,} B  {_what(manifest)}"
            )
        )
    return (
        "\n".join(lines)
        if lines
        else f"no entries{f' that match {pattern!r}' if pattern else ''} in {one_line(path)}"
    )


def _what(manifest: dict[str, Any]) -> str:
    """Say what an entry is; its recipe may be anybody's."""
    recipe = manifest["recipe"]
    member = recipe.get("member")
    if manifest["kind"] == "fit" and isinstance(member, dict):
        name = member.get("net") or member.get("estimator") or f"vote {member.get('vote')}"
        return f"{name}, repeat {recipe.get('repeat')}, fold {recipe.get('fold')}"
    return str(recipe.get("block") or recipe.get("tap") or recipe.get("part") or "")


def explain_entry(path: Path, beginning: str) -> str:
    """Say what differs between an entry and the nearest other one of its kind."""
    store = _open(path, "readonly")
    found = [key for key in list(store.keys()) if key.startswith(beginning)]
    if len(found) != 1:
        raise UsageError(
            f"--why must begin exactly one key; got {beginning!r}, which begins {len(found)}. See stackfeat show"
        )
    manifest = store.manifest(found[0])
    nearest = store.nearest(manifest["recipe"], manifest["kind"])
    if nearest is None:
        return f"{found[0][:12]} is the only entry of kind {one_line(manifest['kind'])}"
    key, changes = nearest
    return "\n".join(
        [
            f"{found[0][:12]} differs from the nearest entry {key[:12]} in:",
            *(f"  {one_line(c)}" for c in changes),
        ]
    )


def clean_store(path: Path, older_than_days: float | None) -> str:
    """Remove leftovers, and entries past an age; say what went."""
    report = _open(path).clean(older_than_days=older_than_days)
    return (
        f"removed {report.temporaries} leftovers of killed runs, {report.quarantined} damaged entries, "
        f"{report.entries} old entries: {report.bytes / 2**20:.1f} MiB"
    )
