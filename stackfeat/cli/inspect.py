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
from stackfeat.registry.source import find_module, provided_version
from stackfeat.store import Store
from stackfeat.store.store import Cache

_CORE = {
    "torch": "torch",
    "scikit-learn": "sklearn",
    "pandas": "pandas",
    "numpy": "numpy",
    "scipy": "scipy",
    "joblib": "joblib",
    "lightgbm": "lightgbm",
    "safetensors": "safetensors",
    "pydantic": "pydantic",
    "ruamel.yaml": "ruamel.yaml",
    "typer": "typer",
    "rich": "rich",
    "skops": "skops",
    "matplotlib": "matplotlib",
    "jinja2": "jinja2",
}
"""What stackfeat cannot do without: the distribution that usually brings it, and the module that is imported."""
_OPTIONAL = {
    "pyarrow": ("pyarrow", "parquet", "parquet and feather files"),
    "tabm": ("tabm", "tabular", "net tabm"),
    "rtdl_revisiting_models": ("rtdl_revisiting_models", "tabular", "nets resnet_tabular, ft_transformer"),
    "rtdl_num_embeddings": ("rtdl_num_embeddings", "tabular", "embedded numbers of tabular nets"),
    "pillow": ("PIL", "images", "image files"),
    "timm": ("timm", "vision", "nets timm:NAME"),
    "torchvision": ("torchvision", "vision", "nets torchvision:NAME"),
    "xgboost": ("xgboost", "boosting", "xgboost members"),
    "catboost": ("catboost", "boosting", "catboost members"),
}
"""The same of what some configs need: the module, the extra that brings it, and what it is for."""


def examine_environment(*, full: bool = False) -> str:
    """Return the findings as text, a line each.

    Parameters
    ----------
    full : bool
        Also import torch, which takes seconds, and run a small product on the device.
    """
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    core = {name: _version(name, module) for name, module in _CORE.items()}
    optional = {name: _version(name, module) for name, (module, *_) in _OPTIONAL.items()}
    width = max(map(len, (*_CORE, *_OPTIONAL)))
    machine = {
        "stackfeat": _version("stackfeat", "stackfeat") or "unknown",
        "python": f"{sys.version.split()[0]} on {platform.system()} {platform.machine()}",
        "processors": f"{n_processors}",
        "disk": f"{shutil.disk_usage('.').free / 2**30:.1f} GiB free here",
        "device": f"{device_kind()} (for device: auto)",
    }
    needed = {name: found or "MISSING: pip install stackfeat" for name, found in core.items()}
    extras = {
        name: f"{found:<14} {use}"
        if found
        else f"{'not installed':<14} {use}: pip install 'stackfeat[{extra}]'"
        for name, found in optional.items()
        for _, extra, use in [_OPTIONAL[name]]
    }
    sections = {"this machine": machine, "needed": needed, "needed by some configs": extras}
    lines = []
    for title, found in sections.items():
        lines += [f"{title}:", *(f"  {name:<{width}}  {text}" for name, text in found.items())]
    if trap := _torchvision_trap(core.get("torch"), optional.get("torchvision")):
        lines.append(trap)
    if full:
        from stackfeat.layers.taps.runtime import try_device

        lines.append(f"torch works: {try_device(device_kind())}")
    missing = [name for name, found in core.items() if not found]
    lines.append(f"missing: {', '.join(missing)}" if missing else "all that is needed is here")
    return "\n".join(lines)


def _version(distribution: str, module: str) -> str | None:
    """Return the version of a module that can be imported, whichever distribution brought it."""
    if find_module(module, None) is None:
        return None
    try:
        return version(distribution)
    except PackageNotFoundError:
        return provided_version(module)


def _torchvision_trap(torch: str | None, torchvision: str | None) -> str | None:
    """A CUDA build of torchvision beside a CPU build of torch breaks every package that imports it."""
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
