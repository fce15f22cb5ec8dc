"""The program: arguments to a command, its answer or error to the terminal, its code to the system."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

from stackfeat.cli import comparing, explaining, judging, keeping, models, nets, running, watching  # noqa: F401
from stackfeat.cli.app import Answer, app
from stackfeat.errors import continued, described, machine_fault
from stackfeat.executors.signals import EndOnSignals
from stackfeat.log import visible_streams

INTERRUPTED = 130

_OF_ALL = {"-v": "--verbose", "--verbose": "--verbose", "--json": "--json"}
"""Options of every command, which may also stand after it."""

_RESUME = "interrupted; finished jobs are stored: run the same command to go on"


def main() -> NoReturn:
    """Run the command line; errors become a message and an exit code."""
    # As a program of its own it ends at once on a signal; called by other Python code it unwinds.
    if sys._getframe(1).f_globals.get("__name__") == "__main__":
        ending = EndOnSignals(INTERRUPTED, _RESUME)
        try:
            _run_app()
        except SystemExit as leaving:
            ending.over(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
            raise
    with _interrupted_by("SIGTERM", "SIGHUP"):
        _run_app()


@visible_streams()
def _run_app() -> NoReturn:
    arguments, given = _first(sys.argv[1:])
    as_json = "--json" in given
    try:
        # Outside its standalone mode click returns the code of typer.Exit instead of raising it.
        # What it passes on is the time of the start, from which limits.time counts.
        found = app(arguments, standalone_mode=False, obj=time.monotonic())
        code = _say(found, as_json=as_json) if isinstance(found, Answer) else found
        sys.stdout.flush()
    except SystemExit:
        raise
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough: `stackfeat show | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except BaseException as error:
        if "--verbose" in given:
            traceback.print_exception(error)
        _fail(*_said_of(error))
    if code == INTERRUPTED:
        _fail(_RESUME, INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _interrupted_by(*names: str) -> Iterator[None]:
    """Let signals end the block as Ctrl-C does, where the caller may set handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the arguments with options of every command before it, where click wants them, and those options."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    given = [name for word, name in _OF_ALL.items() if word in arguments[:end]]
    rest = [word for word in arguments[:end] if word not in _OF_ALL]
    return [*dict.fromkeys(given), *rest, *arguments[end:]], given


def _say(answer: Answer, *, as_json: bool) -> int:
    """Print an answer; return its exit code."""
    if as_json:
        print(json.dumps(answer.values, allow_nan=False))
    elif callable(answer.text):
        answer.text()
    else:
        print(answer.text)
    return answer.exit_code


def _said_of(error: BaseException) -> tuple[str, int]:
    """Return message and exit code of an error: of the machine, of the user, or else a bug of ours."""
    fault = machine_fault(error)
    if fault is not None:
        return f"error: {fault}", fault.exit_code
    code = getattr(error, "exit_code", None)
    if code is not None:
        text = continued(error.format_message()) if hasattr(error, "format_message") else str(error)
        return (f"error: {text}" if code else "", int(code))
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"error: this is a bug in stackfeat: {described(error)} "
        f"({Path(last.filename).name}, line {last.lineno}). Run the command again with --verbose for the traceback, "
        "and report it, please",
        1,
    )


def _fail(message: str, code: int) -> NoReturn:
    if message:
        print(message, file=sys.stderr)
    sys.exit(code)
