"""doctor, show and clean: what of the environment can be used, what is in a store, and removing what is not needed.

In:  nothing, or the folder of a store.
Out: lines of text. It is fast, because nothing heavy is imported.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stackfeat.device import device_kind
from stackfeat.errors import StoreError, UsageError, one_line
from stackfeat.store import Store
from stackfeat.store.store import Cache

_CORE = (
    *("torch", "scikit-learn", "pandas", "numpy", "scipy", "joblib", "lightgbm", "safetensors", "pydantic"),
    *("ruamel.yaml", "typer", "rich", "skops", "matplotlib", "jinja2"),
)
_OPTIONAL = {
    "pyarrow": "parquet and feather files (extra: parquet)",
    "tabm": "net tabm (extra: tabular)",
    "rtdl_revisiting_models": "nets resnet_tabular, ft_transformer (extra: tabular)",
    "rtdl_num_embeddings": "embedded numbers of tabular nets (extra: tabular)",
    "pillow": "image files (extra: images)",
    "timm": "nets timm:NAME (extra: vision)",
    "torchvision": "nets torchvision:NAME (extra: vision)",
    "xgboost": "xgboost members",
    "catboost": "catboost members",
}


def examine_environment(*, full: bool = False) -> str:
    """Return the findings as text, a line each.

    Parameters
    ----------
    full : bool
        Also import torch, which takes seconds, and run a small product on the device.
    """
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lines = [
        f"python       {sys.version.split()[0]} on {platform.system()} {platform.machine()}",
        f"processors   {n_processors}",
        f"disk         {shutil.disk_usage('.').free / 2**30:.1f} GiB free here",
        f"device       {device_kind()} (for device: auto)",
        *[f"{name:<12} {_version(name) or 'MISSING: pip install stackfeat'}" for name in _CORE],
        *[f"{name:<12} {_version(name) or 'not installed'}: {use}" for name, use in _OPTIONAL.items()],
    ]
    if trap := _torchvision_trap():
        lines.append(trap)
    if full:
        from stackfeat.layers.taps.runtime import try_device

        lines.append(f"torch works  {try_device(device_kind())}")
    return "\n".join(lines)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _torchvision_trap() -> str | None:
    """A CUDA build of torchvision beside a CPU build of torch breaks every package that imports it."""
    torch, torchvision = _version("torch"), _version("torchvision")
    if torch and torchvision and "+cpu" in torch and "+cpu" not in torchvision:
        return (
            f"torchvision  {torchvision} is built for CUDA, torch {torch} for the CPU: importing it fails. "
            "Install torchvision's CPU build, or remove it; only nets timm:NAME and torchvision:NAME need it"
        )
    return None


def _open(path: Path, cache: Cache = "auto") -> Store:
    if not path.is_dir():
        raise UsageError(f"--store must be the folder of a store; got {path}, which is not there")
    return Store(path, cache)


def list_entries(path: Path, pattern: str) -> str:
    """Return a line for each entry: key, kind, time, size, what it is; of a damaged one, what is wrong."""
    store, lines = _open(path, "readonly"), list[str]()
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
        kept = f"{manifest['kind']:<10} {manifest['created'][:19]} {size:>12,} B"
        lines.append(one_line(f"{key[:12]}  {kept}  {_what(manifest)}"))
    matching = f" that match {pattern!r}" if pattern else ""
    return "\n".join(lines) or f"no entries{matching} in {one_line(path)}"


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
    head = f"{found[0][:12]} differs from the nearest entry {key[:12]} in:"
    return "\n".join([head, *(f"  {one_line(change)}" for change in changes)])


def clean_store(path: Path, older_than_days: float | None) -> str:
    """Remove leftovers, and entries past an age; say what went."""
    report = _open(path).clean(older_than_days=older_than_days)
    return (
        f"removed {report.temporaries} leftovers of killed runs, {report.quarantined} damaged entries, "
        f"{report.entries} old entries: {report.bytes / 2**20:.1f} MiB"
    )
