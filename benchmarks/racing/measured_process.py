"""Run one command on given cores, and tell the CPU seconds of every process that came of it.

In:  as a module, a command; as a script, `REPORT CORES SECONDS COMMAND ...` (what the module starts).
Out: exit code, CPU and wall seconds, and the largest process's memory.

Children count when their parent has waited for them. Processes that leave their parent, as ray's workers do, are
adopted here (Linux: a subreaper), ended when the command ends, waited for, and so counted too.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SIGNAL_WHEN_PARENT_ENDS, ADOPT_ORPHANS = 1, 36
"""Numbers of Linux's prctl."""

TIMED_OUT = 124


@dataclass(frozen=True)
class Spent:
    """What a command and all its descendants used; ``load`` is the machine's one-minute load at the end."""

    code: int
    cpu: float
    wall: float
    megabytes: float
    load: float


def run_measured(
    command: Sequence[str], folder: Path, *, cores: Sequence[int], most_seconds: float, log: Path
) -> Spent:
    """Run a command in a folder, pinned to cores; what it prints goes to ``log``.

    Libraries are told to use as many threads as there are cores. A command that takes longer than
    ``most_seconds`` of wall time is ended with all its descendants, and its code is 124.
    """
    threads = str(len(cores))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    report = log.with_suffix(".spent.json")
    report.unlink(missing_ok=True)
    wrapper = [sys.executable, "-P", __file__, str(report), ",".join(map(str, cores)), str(most_seconds)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*wrapper, *command],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **dict.fromkeys(names, threads)},
            start_new_session=True,
        )
        try:
            process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    spent = Spent(**json.loads(report.read_text()))
    report.unlink()
    return spent


def main() -> None:
    """Run the command of the command line and write what it used."""
    report, cores, most_seconds, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    libc.prctl(SIGNAL_WHEN_PARENT_ENDS, int(signal.SIGTERM), 0, 0, 0)
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()
    try:
        process = subprocess.Popen(command)
        code = process.wait(timeout=float(most_seconds))
    except subprocess.TimeoutExpired:
        code = TIMED_OUT
    except KeyboardInterrupt:
        code = 130
    finally:
        wall = time.monotonic() - started
        end_children()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = Spent(code, used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1024, os.getloadavg()[0])
    Path(report).write_text(json.dumps(vars(spent)))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def end_children() -> None:
    """End every process that is left below this one, generation by generation, and wait for it."""
    while True:
        for child in _children():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    return [int(number) for number in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


if __name__ == "__main__":
    main()
