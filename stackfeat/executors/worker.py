"""A worker process, started as a script: orders come in by standard input, answers leave by standard output.

In:  first the import path and which code of the user's own may be imported; then orders (pickled function, key,
     threads), pickled by the process that started us.
Out: for each order how far its training is, from time to time, then (pickled outcome, error in words).
     What jobs print goes to standard error.
When standard input closes, our parent is gone or has no more use for us: the whole process group ends.
"""

from __future__ import annotations

import os
import pickle
import queue
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, NoReturn

_GUARD_SECONDS = 2.0


def main() -> NoReturn:
    """Work until the parent says, by its end or by ours, that it is enough."""
    if os.name == "posix":
        worker = os.getpid()
        if os.fork() == 0:
            _guard(worker)
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    for name in ("SIGINT", "SIGTTIN", "SIGTTOU"):
        # Keys and rules of the terminal are for the parent alone.
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders, inbox), daemon=True).start()
    sys.path[:], code = inbox.get()
    from stackfeat.executors.collector import collect_rarely
    from stackfeat.executors.job import work
    from stackfeat.executors.watching import heard_by
    from stackfeat.registry.user_code import import_always

    collect_rarely()
    import_always(pickle.loads(code))

    def send(value: object) -> None:
        try:
            # In one piece: a job may train in several threads.
            answers.write(pickle.dumps(value))
            answers.flush()
        except OSError:
            _end_group()

    while True:
        order = inbox.get()
        with heard_by(send):
            answer = work(*order)
        send(answer)


def _guard(worker: int) -> NoReturn:
    """Wait in a process of its own for the end of the parent: a job may be in C code that lets no thread run."""
    os.close(1)
    poll = select.poll()
    poll.register(0, 0)
    poll.poll()
    try:
        if os.getppid() == worker:
            _end_descendants(worker)
    finally:
        _end_group()


def _end_descendants(worker: int) -> None:
    """End what jobs began in groups of their own."""
    sys.path.append(str(Path(__file__).parents[2]))
    from stackfeat.executors.signals import descendants

    for pid in descendants(worker):
        if pid != os.getpid():
            os.kill(pid, signal.SIGKILL)


def _listen(orders: IO[bytes], inbox: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            inbox.put(pickle.load(orders))
    finally:
        if os.name == "posix":
            # The guard does it, more thoroughly, if it lives.
            time.sleep(_GUARD_SECONDS)
        _end_group()


def _end_group() -> NoReturn:
    """End this process and all that its jobs began: a killed run must not go on in the background."""
    if os.name == "posix":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
