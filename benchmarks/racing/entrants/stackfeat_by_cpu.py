"""The command line of stackfeat, whose time limit counts CPU seconds of the whole tree of processes.

In:  the number of cores, then the command line.
Out: as the command line; what a job took is told by the same clock, and only with one job at a time is that exact.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from cpu_clock import CpuClock

WITH_DEADLINES = ("stackfeat.cli.commands", "stackfeat.pipeline.run", "stackfeat.engine.schedule")
"""The modules that ask how much of ``limits.time`` is left."""


def main() -> None:
    clock = CpuClock(int(sys.argv.pop(1)))
    told = SimpleNamespace(**{**vars(time), "monotonic": clock})
    for name in WITH_DEADLINES:
        module = import_module(name)
        if getattr(module, "time", None) is not time:
            sys.exit(
                f"{name} must read its deadline from time.monotonic; it does not; name the modules that do"
            )
        vars(module)["time"] = told
    schedule = import_module("stackfeat.engine.schedule").Schedule
    as_written = schedule.ended

    def ended(self: Any, key: str, seconds: float, *, well: bool) -> None:
        began = self._of[key].running.get(key)
        as_written(self, key, seconds if began is None else clock() - began, well=well)

    schedule.ended = ended
    import_module("stackfeat.cli").main()


if __name__ == "__main__":
    main()
