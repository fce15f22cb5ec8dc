"""Which kind of device a run will use, found without importing torch.

Keys hold the device kind, and `check` works keys out in under a second, so the answer
comes from the installed torch build and from the devices the system shows.
"""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def device_kind(name: str = "auto") -> str:
    """Return "cpu", "cuda" or "mps" for a device name; ``auto`` takes a GPU where there is one.

    Examples
    --------
    >>> device_kind("cuda:1")
    'cuda'
    """
    if name != "auto":
        return name.split(":")[0]
    kind = _auto_kind()
    return "cpu" if kind == "cuda" and _all_hidden() else kind


def _all_hidden() -> bool:
    """Whether CUDA_VISIBLE_DEVICES hides all devices: CUDA shows those before the first that does not exist."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return shown is not None and shown.split(",")[0].strip() in ("", "-1")


@lru_cache(maxsize=1)
def _auto_kind() -> str:
    try:
        build = version("torch")
    except PackageNotFoundError:
        return "cpu"
    if "+cpu" in build:
        return "cpu"
    if platform.system() == "Darwin":
        return "mps" if platform.machine() == "arm64" else "cpu"
    shown = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")
    return "cuda" if any(Path(path).exists() for path in shown) else "cpu"
