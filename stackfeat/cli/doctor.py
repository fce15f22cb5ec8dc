"""doctor: what of the environment stackfeat can use; fast, because nothing heavy is imported."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

from stackfeat.device import device_kind

_CORE = (
    "torch",
    "scikit-learn",
    "pandas",
    "numpy",
    "scipy",
    "joblib",
    "lightgbm",
    "safetensors",
    "pydantic",
    "ruamel.yaml",
    "typer",
    "rich",
    "skops",
    "matplotlib",
    "jinja2",
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


def examine(*, full: bool = False) -> str:
    """Return the findings as text, a line each.

    Parameters
    ----------
    full : bool
        Also import torch, which takes seconds, and run a small product on the device.
    """
    lines = [
        f"python       {sys.version.split()[0]} on {platform.system()} {platform.machine()}",
        f"processors   {_cpus()}",
        f"disk         {shutil.disk_usage('.').free / 2**30:.1f} GiB free here",
        f"device       {device_kind()} (for device: auto)",
        *[f"{name:<12} {_version(name) or 'MISSING: pip install stackfeat'}" for name in _CORE],
        *[f"{name:<12} {_version(name) or 'not installed'}: {use}" for name, use in _OPTIONAL.items()],
    ]
    trap = _torchvision_trap()
    if trap:
        lines.append(trap)
    if full:
        lines.append(_try_torch())
    return "\n".join(lines)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def _try_torch() -> str:
    from stackfeat.layers.taps.runtime import try_device

    return f"torch works  {try_device(device_kind())}"
