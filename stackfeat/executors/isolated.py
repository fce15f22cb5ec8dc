"""A command in a child process with limits: what a stranger's file makes a library do ends with the child.

In:  arguments of the command line.
Out: the exit code of the child and its answer; what else it prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from stackfeat.errors import StackfeatError

MEMORY_SHARE, LEAST_MEMORY = 0.5, 2 << 30
"""Of the machine's memory that the child may use, and how much at least, in bytes."""
MOST_SECONDS = 3600
MOST_ANSWERED = 1 << 20
"""Bytes of an answer that are read."""


def run_isolated(
    arguments: Sequence[str], seconds: float = MOST_SECONDS, n_bytes: int | None = None
) -> tuple[int, dict[str, Any]]:
    """Run ``stackfeat --json ARGUMENTS`` in a child; return its exit code, and its answer or error.

    Parameters
    ----------
    seconds : float
        The longest that it may run.
    n_bytes : int, optional
        The most memory that it may use; half of the machine's, and at least 2 GB, by default. Of systems that cannot
        limit memory, time alone is limited.

    Raises
    ------
    StackfeatError
        If it was ended: by its limits, or by a crash.
    """
    limit = max(LEAST_MEMORY, int(MEMORY_SHARE * _memory())) if n_bytes is None else n_bytes
    command = [sys.executable, "-m", "stackfeat", "--json", *arguments]
    with tempfile.TemporaryFile() as answer:
        with subprocess.Popen(command, stdout=answer, preexec_fn=_limiter(limit)) as child:
            try:
                code = child.wait(seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                raise StackfeatError(
                    f"--isolate allows {seconds:g} seconds; the child ran longer and was ended, and nothing was "
                    "written; give fewer rows, or leave --isolate out if you trust RUN"
                ) from None
            except BaseException:
                child.kill()
                raise
        answer.seek(0)
        text = answer.read(MOST_ANSWERED)
    if code < 0:
        name = signal.Signals(-code).name
        raise StackfeatError(
            f"the child of --isolate must end by itself; got {name}: a library crashed over RUN, or wanted more than "
            f"{limit / 2**30:.1f} GB; do not use RUN where you do not trust it"
        )
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return code, found if isinstance(found, dict) else {}


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _limiter(n_bytes: int) -> Callable[[], None] | None:
    try:
        import resource
    except ImportError:
        return None

    def limit() -> None:
        # Of data, not of addresses: libraries reserve far more of these than they use.
        resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, n_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return limit
