"""A clock that tells CPU seconds, so that time limits are kept alike on a machine that others use too.

In:  the number of cores that the limit is meant for.
Out: seconds that this process and all its descendants would have taken on that many idle cores, since the first call.

Time in which nothing of the tree runs does not count: on an idle machine it agrees with a wall clock to within what
is spent waiting for the disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_wall = time.monotonic
LOOK_SECONDS = 0.05
"""How long a reading of the living children's CPU time is used."""


class CpuClock:
    """Call it for the seconds since it was made; never runs backwards."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.latest = 0.0
        self._children = (0.0, -1.0)
        self._start = 0.0
        self._start = self._spent()

    def __call__(self) -> float:
        self.latest = max(self.latest, (self._spent() - self._start) / self.cores)
        return self.latest

    def _spent(self) -> float:
        seconds, looked = self._children
        if _wall() - looked > LOOK_SECONDS:
            seconds = sum(_cpu_of(child) for child in _descendants(os.getpid()))
            self._children = (seconds, _wall())
        ended = os.times()
        return time.process_time() + ended.children_user + ended.children_system + seconds


def _descendants(parent: int) -> Iterator[int]:
    for file in Path(f"/proc/{parent}/task").glob("*/children"):
        for child in map(int, _read(file).split()):
            yield child
            yield from _descendants(child)


def _cpu_of(process: int) -> float:
    fields = _read(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
