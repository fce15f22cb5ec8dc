"""The command line's one application, the options that commands share, and what a command answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="stackfeat",
    help="Honest stacking and voting over the probabilities and hidden features of nets and estimators.",
    no_args_is_help=True,
    add_completion=False,
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

StorePath = Annotated[Path, typer.Option(help="Folder of the store.")]


def given(set_: list[str] | None, trust_code: bool, data_root: list[Path] | None) -> dict[str, Any]:
    """Return what a config is loaded with."""
    return {"overrides": set_ or (), "trust_code": trust_code or None, "data_roots": data_root or ()}


@app.callback()
def every_command(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of an error; also after the command.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; also after the command.")
    ] = False,
) -> None:
    """Options of every command."""


def is_quiet(context: typer.Context) -> bool:
    """Return whether --quiet stands before the command."""
    return bool(context.find_root().params.get("quiet"))


def is_verbose(context: typer.Context) -> bool:
    """Return whether --verbose stands before the command, or after it."""
    return bool(context.find_root().params.get("verbose"))


def is_json(context: typer.Context) -> bool:
    """Return whether --json stands before the command, or after it."""
    return bool(context.find_root().params.get("as_json"))
