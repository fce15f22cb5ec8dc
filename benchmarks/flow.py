"""Trace the path of a config through `run`: which files of the package it passes, and where it climbs.

In:  a config, run once with the ``inline`` executor in a fresh folder.
Out: the number of files in which a function was called between entering `stackfeat.run` and its return, and
     every climb: a call from a file to one of a later room (`tests/test_imports.ROOMS`).

A function that Python's own or somebody else's code calls for us (a context manager, a key of a sort) counts as
called by the nearest frame of the package below it. Bodies of modules and classes are no calls.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "stackfeat"
CONFIG = ROOT / "configs" / "quickstart.yaml"

Place = tuple[str, str]


class Flow:
    """Counts calls between functions of the package, for as long as it is the profile function."""

    def __init__(self, rooms: tuple[str, ...]) -> None:
        self.rooms = {room: number for number, room in enumerate(rooms)}
        self.calls: Counter[tuple[Place, Place]] = Counter()
        self._files: dict[str, str | None] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not self._is_function(frame):
            return
        caller = frame.f_back
        while caller is not None and self._file(caller) is None:
            if caller.f_code.co_filename.startswith("<frozen importlib"):
                return
            caller = caller.f_back
        if caller is not None and self._is_function(caller):
            self.calls[self._place(caller), self._place(frame)] += 1

    def _is_function(self, frame: FrameType) -> bool:
        code = frame.f_code
        return self._file(frame) is not None and bool(code.co_flags & 0x2)

    def _place(self, frame: FrameType) -> Place:
        return str(self._file(frame)), frame.f_code.co_qualname

    def _file(self, frame: FrameType) -> str | None:
        name = frame.f_code.co_filename
        if name not in self._files:
            path = Path(name)
            self._files[name] = str(path.relative_to(PACKAGE)) if PACKAGE in path.parents else None
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


def trace(config: Path) -> Flow:
    """Run a config in a temporary folder and return what was called on the way."""
    sys.path.insert(0, str(ROOT))
    import stackfeat as sf
    from tests.test_imports import ROOMS

    run, flow = sf.run, Flow(ROOMS)
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
    if arguments.files:
        for file in flow.files:
            functions = {callee[1] for _, callee in flow.calls if callee[0] == file}
            print(f"{file}: {len(functions)} functions")
    for caller, callee in flow.climbs:
        print(
            f"climb: {caller[0]}:{caller[1]} -> {callee[0]}:{callee[1]} ({flow.calls[caller, callee]} calls)"
        )
    print(f"{len(flow.files)} files, {len(flow.climbs)} climbs")


if __name__ == "__main__":
    main()
