"""Trace the path of a config through `run`: which files of the package it passes, and where it climbs.

In:  a config, run once with the ``inline`` executor in a fresh folder.
Out: between entering `stackfeat.run` and its return

     - files on the path of the config: a function there is given the config, a part of it, or what was planned
       from it (a planner, plan, graph or job);
     - files passed at all, and those of them that are passed outside jobs;
     - climbs: calls from a file to one of a later room (`tests/test_imports.ROOMS`), by caller and called.

A function that Python's own or somebody else's code calls for us (a context manager, a key of a sort) counts as
called by the nearest frame of the package below it. Bodies of modules and classes are no calls.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "stackfeat"
CONFIG = ROOT / "configs" / "quickstart.yaml"

JOB = "run_job"
"""The function in which the jobs of a run are done, in this process or another."""

Place = tuple[str, str]


class Flow:
    """Counts calls between functions of the package, for as long as it is the profile function."""

    def __init__(self, rooms: tuple[str, ...], carriers: tuple[type, ...]) -> None:
        self.rooms = {room: number for number, room in enumerate(rooms)}
        self.calls: Counter[tuple[Place, Place]] = Counter()
        self.on_path: set[str] = set()
        self.outside_jobs: set[str] = set()
        self._carriers = carriers
        self._files: dict[str, str | None] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not self._is_function(frame):
            return
        stack = list(_callers(frame))
        if any(one.f_code.co_filename.startswith("<frozen importlib") for one in stack):
            return
        caller = next((one for one in stack if self._file(one) is not None), None)
        if caller is None or not self._is_function(caller):
            return
        file = str(self._file(frame))
        self.calls[self._place(caller), self._place(frame)] += 1
        if all(one.f_code.co_qualname != JOB for one in [frame, *stack]):
            self.outside_jobs.add(file)
        code = frame.f_code
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(isinstance(frame.f_locals.get(name), self._carriers) for name in given):
            self.on_path.add(file)

    def _is_function(self, frame: FrameType) -> bool:
        code = frame.f_code
        return self._file(frame) is not None and bool(code.co_flags & 0x2)

    def _place(self, frame: FrameType) -> Place:
        return str(self._file(frame)), frame.f_code.co_qualname

    def _file(self, frame: FrameType) -> str | None:
        name = frame.f_code.co_filename
        if name not in self._files:
            path = Path(name)
            self._files[name] = (
                str(path.relative_to(PACKAGE)) if PACKAGE in path.parents and path.suffix == ".py" else None
            )
        return self._files[name]

    @property
    def files(self) -> list[str]:
        """Files with a function that was called."""
        return sorted({callee[0] for _, callee in self.calls}, key=self.place_of)

    @property
    def climbs(self) -> list[tuple[Place, Place]]:
        """Pairs of functions of which the caller's room comes before the one of the called."""
        return sorted(pair for pair in self.calls if self._room(pair[0][0]) < self._room(pair[1][0]))

    def place_of(self, file: str) -> tuple[int, str]:
        return self._room(file), file

    def _room(self, file: str) -> int:
        return self.rooms[Path(file).parts[0].removesuffix(".py")]


def _callers(frame: FrameType) -> Iterator[FrameType]:
    caller = frame.f_back
    while caller is not None:
        yield caller
        caller = caller.f_back


def trace(config: Path) -> Flow:
    """Run a config in a temporary folder and return what was called on the way."""
    sys.path.insert(0, str(ROOT))
    from stackfeat import run
    from stackfeat.config import LoadedConfig
    from stackfeat.config.planner import Planner
    from stackfeat.engine.graph import Graph, Node
    from stackfeat.engine.jobs import Job, Sources
    from stackfeat.engine.plan import Plan
    from stackfeat.options import Options
    from tests.test_imports import ROOMS

    flow = Flow(ROOMS, (LoadedConfig, Options, Planner, Plan, Graph, Node, Sources, Job))
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"outputs.dir={folder}/run", f"store={folder}/store", "executor.kind=inline"]
        sys.setprofile(flow)
        try:
            run(config, overrides=overrides)
        finally:
            sys.setprofile(None)
    return flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", type=Path, default=CONFIG)
    parser.add_argument("--files", action="store_true", help="list the files, too")
    arguments = parser.parse_args()
    flow = trace(arguments.config)
    for file in flow.files if arguments.files else ():
        functions = {called[1] for _, called in flow.calls if called[0] == file}
        where = "path" if file in flow.on_path else "    " if file in flow.outside_jobs else "job "
        print(f"{where} {file}: {len(functions)} functions")
    for caller, called in flow.climbs:
        print(f"climb {':'.join(caller)} -> {':'.join(called)} ({flow.calls[caller, called]} calls)")
    n_outside = len(flow.on_path & flow.outside_jobs)
    print(
        f"the config: {len(flow.on_path)} files, {n_outside} of them outside jobs; {len(flow.climbs)} climbs"
    )
    print(f"all calls: {len(flow.files)} files, {len(flow.outside_jobs)} of them outside jobs")


if __name__ == "__main__":
    main()
