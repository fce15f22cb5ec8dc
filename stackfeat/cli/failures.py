"""What a command says of an error: a message for people, and its parts for programs.

In:  an exception that ended a command.
Out: a `Failure`: code, message, where and remedy as far as they are known, and the exit code.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from stackfeat.errors import (
    INTERRUPTED,
    ListedError,
    Problem,
    StackfeatError,
    StoreError,
    UsageError,
    continued,
    described,
    machine_fault,
)

RESUME = "interrupted; finished jobs are stored: run the same command to go on"

OTHER_CODES = ("bug", "interrupted")
"""Codes of what is no error of `stackfeat.errors`."""


@dataclass(frozen=True)
class Failure:
    """Why a command ended.

    Attributes
    ----------
    code : str
        Of the kind of error; never changes.
    message : str
        What must hold, what was got, what to do.
    exit_code : int
    where : str or None
        Place in a config, option, or file that it is about, where that is known.
    remedy : str or None
        The part of the message that says what to do, where it has one.
    problems : tuple of dict
        Each of several that an error lists, by file, line, option, message and remedy.
    found : mapping
        What the command had found and shown by then.
    """

    code: str
    message: str
    exit_code: int
    where: str | None = None
    remedy: str | None = None
    problems: tuple[Mapping[str, Any], ...] = ()
    found: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The message as it is printed."""
        return self.message if self.code == "interrupted" or not self.message else f"error: {self.message}"

    def to_json(self) -> dict[str, Any]:
        error = {name: getattr(self, name) for name in ("code", "message", "where", "remedy")}
        problems = {"problems": list(self.problems)} if self.problems else {}
        return {**self.found, "error": {**error, **problems}}


INTERRUPTION = Failure(
    "interrupted", RESUME, INTERRUPTED, remedy="finished jobs are stored: run the same command to go on"
)


def failure_of(error: BaseException) -> Failure:
    """Return what is said of an error: of an interruption, the machine, the user, or else a bug of ours."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return INTERRUPTION
    fault = machine_fault(error)
    if fault is not None:
        where = (fault.place or None) if isinstance(fault, StoreError) else None
        return Failure(fault.code, str(fault), fault.exit_code, where, remedy_of(str(fault)))
    if hasattr(error, "format_message"):
        return _of_arguments(error)
    if isinstance(error, ListedError):
        return _of_problems(error)
    if isinstance(error, StackfeatError):
        said = str(error)
        return Failure(error.code, said, error.exit_code, remedy=remedy_of(said), found=error.found)
    last = traceback.extract_tb(error.__traceback__)[-1]
    remedy = "Run the command again with --verbose for the traceback, and report it, please"
    return Failure(
        "bug",
        f"this is a bug in stackfeat: {described(error)} ({Path(last.filename).name}, line {last.lineno}). {remedy}",
        1,
        f"{Path(last.filename).name}:{last.lineno}",
        remedy,
    )


def _of_arguments(error: Any) -> Failure:
    """Return what click, or typer's own copy of it, says of the words of a command."""
    message = continued(_plain_words(error) or error.format_message())
    parameter = getattr(error, "param", None)
    where = getattr(error, "option_name", None)
    if parameter is not None:
        option = next((name for name in parameter.opts if name.startswith("--")), None)
        where = option or parameter.metavar or parameter.name
    remedy = re.search(
        r"\(?(Did you mean .*?\?|Possible options: .*?|Choose from:.*)\)?$", message, re.DOTALL
    )
    return Failure(UsageError.code, message, error.exit_code, where, remedy and remedy[1])


_WANTED = {
    "float_parsing": "a number",
    "int_parsing": "a whole number",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
}


def _plain_words(error: Any) -> str:
    """Return in our words what is wrong with a value, where typer says it in those of pydantic; else nothing."""
    cause, parameter = error.__cause__, getattr(error, "param", None)
    if parameter is None or not hasattr(cause, "errors"):
        return ""
    first = cause.errors(include_url=False)[0]
    wanted = _WANTED.get(first["type"])
    if wanted is None:
        return str(error.format_message()).replace("Value error, ", "")
    return f"{parameter.opts[0]} must be {wanted.format(**first.get('ctx', {}))}; got {first['input']!r}"


def _of_problems(error: ListedError) -> Failure:
    """Return the whole message; where there is one problem, its place and remedy are those of the failure."""
    problems = tuple(
        {
            "file": one.file or None,
            "line": one.line,
            "option": one.where or None,
            "message": one.message,
            "remedy": remedy_of(one.message),
        }
        for one in error.problems
    )
    only = error.problems[0] if len(problems) == 1 else None
    where, remedy = (None, None) if only is None else (_place(only), remedy_of(only.message))
    return Failure(error.code, str(error), error.exit_code, where, remedy, problems)


def _place(problem: Problem) -> str | None:
    place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    return ": ".join(part for part in (place, problem.where) if part) or None


_QUOTED = r"'[^'\n]*'(?!\w)|\"[^\"\n]*\"|\([^()\n]*\)"
_GOT = re.compile(r"(?:^|[;,:.] )got ")
_PART = re.compile(rf"(?<!\w)(?:{_QUOTED})|(?P<end>; |\. (?=[A-Z`]))|.", re.DOTALL)
"""Of what was got: what is quoted or in brackets; its end, a semicolon or full stop elsewhere; or a character."""

_SUGGESTION = re.compile(r"(?P<remedy>Did you mean [^?]*\?)$")


def remedy_of(message: str) -> str | None:
    """Return the part of a message that follows what must hold and what was got; None where there is none.

    Examples
    --------
    >>> remedy_of("seed must be a whole number; got 'a; b'; give --seed 1")
    'give --seed 1'
    >>> remedy_of("metric must be one of mae, rmse; got 'rms'. Did you mean 'rmse'?")
    "Did you mean 'rmse'?"
    >>> remedy_of("no member was left") is None
    True
    """
    for got in _GOT.finditer(message):
        # No one pattern for all of it: the possessive loop that it takes is broken in Python before 3.11.5.
        end = next((part.end() for part in _PART.finditer(message, got.end()) if part["end"]), len(message))
        if end < len(message):
            return message[end:]
    found = _SUGGESTION.search(message)
    return found["remedy"] if found else None
