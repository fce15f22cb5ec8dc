"""The command `trust`: arguments in, one call, printed lines out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from stackfeat.errors import UsageError


def trust(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A config file (YAML) that names your own code.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Agree without being asked, for scripts.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the configs that are trusted.")] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Trust CONFIG, and the runs it made, no longer.")
    ] = False,
    data_root: Annotated[
        list[Path] | None,
        typer.Option("--data-root", help="A folder outside the config's that paths may lead to; repeatable."),
    ] = None,
) -> None:
    """Show which code of your own a config would run, and remember that you agree to it; nothing is run."""
    from stackfeat.trusting import describe_trusted, examine, forget_config, remember

    if list_:
        typer.echo(describe_trusted())
        return
    if config is None:
        raise UsageError("CONFIG must be named; got none; give a config file, or --list")
    if forget:
        typer.echo(forget_config(config))
        return
    asked = examine(config, data_root or ())
    typer.echo(asked.text)
    if not asked.needs:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                "trust asks before it remembers; got no terminal to ask on; read the above, then give --yes"
            )
        if not typer.confirm("Remember that you trust all of this, until a byte of it changes?"):
            raise UsageError("trust must be agreed to; got no; nothing was remembered")
    typer.echo(remember(asked))
