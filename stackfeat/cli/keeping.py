"""Commands about the machine, the store and the form of a config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stackfeat.cli.app import (
    StorePath,
    app,
)


@app.command()
def doctor(
    full: Annotated[bool, typer.Option("--full", help="Also import torch and try it.")] = False,
) -> None:
    """Say which packages, device and disk stackfeat found."""
    from stackfeat.cli.inspect import examine_environment

    typer.echo(examine_environment(full=full))


@app.command()
def schema() -> None:
    """Print the JSON schema of a config, for editors."""
    import json

    from stackfeat.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def show(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="A key's beginning, or a kind of entry.")
    ] = "",
    store: StorePath = Path(".stackfeat"),
    why: Annotated[str, typer.Option(metavar="KEY", help="What differs from the nearest entry.")] = "",
) -> None:
    """List what is stored, or say why an entry was computed again."""
    from stackfeat.cli.inspect import explain_entry, list_entries

    typer.echo(explain_entry(store, why) if why else list_entries(store, pattern))


@app.command()
def clean(
    store: StorePath = Path(".stackfeat"),
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Also remove entries of this age.")
    ] = None,
) -> None:
    """Remove leftovers of killed runs and damaged entries."""
    from stackfeat.cli.inspect import clean_store

    typer.echo(clean_store(store, older_than))
