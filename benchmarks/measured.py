"""What every timing script needs: CPU seconds of a call, versions of packages that may be absent."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version


def timed(way: Callable[[], object]) -> float:
    """Return the CPU seconds of this process that a call takes."""
    started = time.process_time()
    way()
    return time.process_time() - started


def installed(name: str) -> str | None:
    """Return the version of a package, or None where it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
