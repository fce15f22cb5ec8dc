"""The command line's one application, the options that commands share, and what a command answers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from stackfeat.errors import UsageError
from stackfeat.log import VERSION

FLOW = (
    *("run", "check", "init", "trust", "import", "predict", "refresh", "export", "distil"),
    *("explain", "report", "compare", "runs", "note", "watch", "audit"),
    *("extract", "layers", "show", "clean", "doctor", "schema", "demo"),
)
"""Commands in the order in which a person meets them; help lists any other after these."""


class _InOrder(TyperGroup):
    """The commands in the order of the flow."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=lambda name: FLOW.index(name) if name in FLOW else len(FLOW))


app = typer.Typer(
    name="stackfeat",
    cls=_InOrder,
    help="Honest stacking and voting over the probabilities and hidden features of nets and estimators.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@dataclass(frozen=True)
class Answer:
    """What a command found, for people and for programs; `main` prints one of them.

    Attributes
    ----------
    values : mapping of str to value
        All that the text says, as JSON has it: what ``--json`` prints.
    text : str or callable
        Lines, or what prints them.
    exit_code : int
    """

    values: Mapping[str, Any]
    text: str | Callable[[], None]
    exit_code: int = 0


ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A config file (YAML).")]

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override an option of the config, such as seed=1; repeatable."
    ),
]

TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code", help="Allow classes and functions outside the known libraries: your own code."
    ),
]

DataRoots = Annotated[
    list[Path] | None, typer.Option(help="A folder outside the config's that paths may lead to; repeatable.")
]

Force = Annotated[bool, typer.Option("--force", help="Replace a file at --output, whatever it holds.")]

StorePath = Annotated[Path, typer.Option(help="Folder of the store.")]


def given(set_: list[str] | None, trust_code: bool, data_root: list[Path] | None) -> dict[str, Any]:
    """Return what a config is loaded with."""
    return {"overrides": set_ or (), "trust_code": trust_code or None, "data_roots": data_root or ()}


@app.callback()
def every_command(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> Answer | None:
    """Options of every command, before it or after it."""
    if version and context.invoked_subcommand is not None:
        raise UsageError(
            f"--version stands alone; got it with {context.invoked_subcommand}; leave one of the two out"
        )
    if version:
        return Answer({"version": VERSION}, f"stackfeat {VERSION}")
    if context.invoked_subcommand is None and not as_json:
        return Answer({}, context.get_help(), UsageError.exit_code)
    if context.invoked_subcommand is None:
        raise UsageError("a command must be named; got none; see stackfeat --help")
    return None


def is_quiet(context: typer.Context) -> bool:
    """Return whether --quiet was given."""
    return bool(context.find_root().params.get("quiet"))


def is_verbose(context: typer.Context) -> bool:
    """Return whether --verbose stands before the command, or after it."""
    return bool(context.find_root().params.get("verbose"))


def is_json(context: typer.Context) -> bool:
    """Return whether --json stands before the command, or after it."""
    return bool(context.find_root().params.get("as_json"))


def json_text(values: Any) -> str:
    """Return values as JSON in one line, of ASCII that a terminal shows; what is not finite is null."""
    return json.dumps(_plain(values), allow_nan=False).replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Real) and not isinstance(value, bool):
        # Numbers of numpy too.
        return int(value) if isinstance(value, Integral) else float(value) if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
