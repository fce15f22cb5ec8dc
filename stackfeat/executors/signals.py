"""How processes are ended: a worker with everything it began, or a whole command when a signal says so.

In:  process ids of our own children; for a command, its message and its exit code.
Out: nothing that we began is left. No other program is started for it and nothing is unwound: results are
     written so that a kill at any moment loses only what was being computed.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from stackfeat.store.disk import FOLDERS

WORKERS: set[int] = set()
"""Process ids of the workers that are alive; on POSIX each leads a process group of its own."""

LAST_WORDS: list[Callable[[str], None]] = []
"""Called with the name of the signal that ends this command, after its workers: nobody else could tell of it."""

_GONE_SECONDS = 1.0
_SHOW_CURSOR = "\x1b[?25h\n"


def end_worker(pid: int) -> None:
    """Kill a worker that has not been waited for, and what its jobs began."""
    if os.name == "posix":
        _kill([*descendants(pid), pid])
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    else:
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)


def descendants(pid: int) -> list[int]:
    """Return the children of a process, theirs, and so on; where /proc cannot tell, none."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(folder.name))
    found = list(children.get(pid, ()))
    for one in found:
        found.extend(children.get(one, ()))
    return found


def end_everything() -> None:
    """Kill all workers and descendants, wait a moment until they are gone, and remove temporary folders."""
    ours = {*WORKERS, *descendants(os.getpid())}
    for pid in list(WORKERS):
        end_worker(pid)
    _kill(ours)
    limit = time.monotonic() + _GONE_SECONDS
    while any(map(_runs, ours)) and time.monotonic() < limit:
        time.sleep(0.005)
    for folder in list(FOLDERS):
        shutil.rmtree(folder, ignore_errors=True)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        # A resource tracker ends by itself, and removes the semaphores of those that were killed.
        if not _is_tracker(pid):
            with suppress(OSError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def _is_tracker(pid: int) -> bool:
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _runs(pid: int) -> bool:
    """Whether a process still runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


class EndOnSignals:
    """Ends this process at once when it is interrupted, terminated, or its terminal goes away.

    Handlers of Python wait for the main thread, which may be in native code for minutes, and what they
    raise can be lost in an import, a destructor or a `finally`. So the handler only holds the main
    thread; a thread that the interpreter wakes from its C handler does the rest.

    Parameters
    ----------
    code : int
        Exit code after a signal.
    message : str
        Written to standard error then.

    Attributes
    ----------
    answer : tuple of int and str, or None
        A file descriptor, and what is written to it besides: the answer of a command that is to give one.
    """

    answer: tuple[int, str] | None = None

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        self._watched = False
        self._is_over = False
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        # nohup asks that a hang-up does nothing.
        self._numbers = {n for n in numbers if n == signal.SIGINT or signal.getsignal(n) != signal.SIG_IGN}
        for number in self._numbers:
            signal.signal(number, self._hold)
        if os.name == "posix":
            reading, writing = os.pipe()
            os.set_blocking(writing, False)
            threading.Thread(target=self._watch, args=(reading,), daemon=True).start()
            signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            self._watched = True
        # Handlers registered first run last: from there on the exit code is certain, and nothing can hang.
        atexit.register(self._deafen)

    def over(self, code: int) -> None:
        """Note that the work is done: whatever comes now, this is the exit code."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        self.code, self._is_over = code, True

    def _hold(self, number: int, frame: object) -> NoReturn:
        if not self._watched:
            self._end(number)
        while True:
            time.sleep(60)

    def _watch(self, reading: int) -> None:
        while not (heard := self._numbers.intersection(os.read(reading, 64))):
            pass
        self._end(min(heard))

    def _end(self, number: int) -> NoReturn:
        try:
            end_everything()
            if not self._is_over:
                for say in LAST_WORDS:
                    with suppress(Exception):
                        say(signal.Signals(number).name)
                cursor = _SHOW_CURSOR if os.isatty(2) else ""
                os.write(2, f"{cursor}{self.message}\n".encode())
                if self.answer is not None:
                    os.write(self.answer[0], f"{self.answer[1]}\n".encode())
        finally:
            os._exit(self.code)

    def _deafen(self) -> None:
        for number in self._numbers:
            signal.signal(number, signal.SIG_IGN)
