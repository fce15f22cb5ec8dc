"""doctor: what of the environment can be used.

In:  nothing.
Out: the findings, as values and as lines of text. It is fast, because nothing heavy is imported.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from stackfeat.device import device_kind
from stackfeat.registry.source import find_module, provided_version

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
    "transformers": ("transformers", "hf", "nets hf:FOLDER"),
    "xgboost": ("xgboost", "boosting", "xgboost members"),
    "catboost": ("catboost", "boosting", "catboost members"),
}
"""The same of what some configs need: the module, the extra that brings it, and what it is for."""


@dataclass(frozen=True)
class OptionalPackage:
    """A package that some configs need: its version, where it is there, the extra that brings it, and its use."""

    version: str | None
    extra: str
    use: str

    def __str__(self) -> str:
        if self.version:
            return f"{self.version:<14} {self.use}"
        return f"{'not installed':<14} {self.use}: pip install 'stackfeat[{self.extra}]'"


@dataclass(frozen=True)
class Environment:
    """What stackfeat found here; its text has a line for each finding.

    Attributes
    ----------
    needed : mapping
        Version of each package that stackfeat cannot do without; None where it is missing.
    warning : str
        What is wrong with what is installed, as far as that can be told without importing it.
    torch_works : str or None
        What trying torch gave; None where it was not tried.
    """

    stackfeat: str | None
    python: str
    platform: str
    processors: int
    free_bytes: int
    device: str
    needed: Mapping[str, str | None]
    optional: Mapping[str, OptionalPackage]
    warning: str = ""
    torch_works: str | None = None

    @property
    def missing(self) -> list[str]:
        """Packages that stackfeat cannot do without, and that are not there."""
        return [name for name, found in self.needed.items() if not found]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "missing": self.missing}

    def __str__(self) -> str:
        machine = {
            "stackfeat": self.stackfeat or "unknown",
            "python": f"{self.python} on {self.platform}",
            "processors": f"{self.processors}",
            "disk": f"{self.free_bytes / 2**30:.1f} GiB free here",
            "device": f"{self.device} (for device: auto)",
        }
        needed = {name: found or "MISSING: pip install stackfeat" for name, found in self.needed.items()}
        sections = {"this machine": machine, "needed": needed, "needed by some configs": self.optional}
        width = max(map(len, (*_CORE, *_OPTIONAL)))
        lines = []
        for title, found in sections.items():
            lines += [f"{title}:", *(f"  {name:<{width}}  {text}" for name, text in found.items())]
        lines += [self.warning] if self.warning else []
        lines += [] if self.torch_works is None else [f"torch works: {self.torch_works}"]
        missing = ", ".join(self.missing)
        return "\n".join([*lines, f"missing: {missing}" if missing else "all that is needed is here"])


def examine_environment(*, full: bool = False) -> Environment:
    """Return what is here.

    Parameters
    ----------
    full : bool
        Also import torch, which takes seconds, and run a small product on the device.
    """
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    needed = {name: _version(name, module) for name, module in _CORE.items()}
    optional = {
        name: OptionalPackage(_version(name, module), extra, use)
        for name, (module, extra, use) in _OPTIONAL.items()
    }
    torch_works = None
    if full:
        from stackfeat.layers.taps.runtime import try_device

        torch_works = try_device(device_kind())
    vision = optional.get("torchvision")
    return Environment(
        stackfeat=_version("stackfeat", "stackfeat"),
        python=sys.version.split()[0],
        platform=f"{platform.system()} {platform.machine()}",
        processors=n_processors,
        free_bytes=shutil.disk_usage(".").free,
        device=device_kind(),
        needed=needed,
        optional=optional,
        warning=_torchvision_trap(needed.get("torch"), vision.version if vision else None) or "",
        torch_works=torch_works,
    )


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
