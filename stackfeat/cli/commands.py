"""The program: arguments to a command, its answer or error to the terminal, its code to the system."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NoReturn

from stackfeat.cli import (  # noqa: F401
    comparing,
    demo,
    explaining,
    judging,
    keeping,
    models,
    nets,
    running,
    watching,
)
from stackfeat.cli.app import Answer, app, json_text
from stackfeat.cli.failures import INTERRUPTION, RESUME, Failure, failure_of
from stackfeat.errors import INTERRUPTED
from stackfeat.executors.collector import collect_rarely
from stackfeat.executors.signals import EndOnSignals
from stackfeat.log import visible_streams

_OF_ALL = {
    "-v": "--verbose",
    "--verbose": "--verbose",
    "-q": "--quiet",
    "--quiet": "--quiet",
    "--json": "--json",
}
"""Options of every command, which may also stand after it."""


def main() -> NoReturn:
    """Run the command line; errors become a message and an exit code."""
    # As a program of its own it ends at once on a signal; called by other Python code it unwinds.
    if sys._getframe(1).f_globals.get("__name__") == "__main__":
        ending = EndOnSignals(INTERRUPTED, RESUME)
        collect_rarely()
        try:
            _run_app(ending)
        except SystemExit as leaving:
            ending.over(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
            raise
    with _interrupted_by("SIGTERM", "SIGHUP"):
        _run_app()


@visible_streams()
def _run_app(ending: EndOnSignals | None = None) -> NoReturn:
    arguments, given = _first(sys.argv[1:])
    as_json = "--json" in given and "--help" not in arguments
    try:
        with _output_kept(ending) if as_json else nullcontext():
            # What is passed on is the time of the start, from which limits.time counts.
            found = app(arguments, prog_name="stackfeat", standalone_mode=False, obj=time.monotonic())
        # Outside its standalone mode click returns the code of typer.Exit instead of raising it, and of an interrupt.
        if found == INTERRUPTED:
            raise KeyboardInterrupt
        code = _say(found, as_json=as_json) if isinstance(found, Answer) else int(found or 0)
        sys.stdout.flush()
    except SystemExit:
        raise
    except BrokenPipeError:
        # Whoever read our output has seen enough: `stackfeat show | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except BaseException as error:
        failure = failure_of(error)
        if "--verbose" in given and failure is not INTERRUPTION:
            traceback.print_exception(error)
        code = _tell(failure, as_json=as_json)
    sys.exit(code)


@contextmanager
def _output_kept(ending: EndOnSignals | None) -> Iterator[None]:
    """Keep standard output for one JSON object: what anything prints meanwhile, C code included, goes to stderr."""
    output = sys.stdout
    sys.stdout = sys.stderr
    try:
        number = output.fileno()
        elsewhere = sys.stderr.fileno()
    except (OSError, ValueError):
        # Streams of other Python code, which no C code knows.
        try:
            yield
        finally:
            sys.stdout = output
        return
    output.flush()
    kept = os.dup(number)
    if ending is not None:
        ending.answer = (kept, json_text(INTERRUPTION.to_json()))
    os.dup2(elsewhere, number)
    try:
        yield
    finally:
        if ending is not None:
            ending.answer = None
        sys.stderr.flush()
        os.dup2(kept, number)
        os.close(kept)
        sys.stdout = output


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
        print(json_text(answer.values))
    elif callable(answer.text):
        answer.text()
    elif answer.text:
        print(answer.text)
    return answer.exit_code


def _tell(failure: Failure, *, as_json: bool) -> int:
    """Print an error: for people where progress stands too, for programs where they look for an answer."""
    if failure.text:
        print(failure.text, file=sys.stderr)
    if as_json:
        print(json_text(failure.to_json()))
    return failure.exit_code
