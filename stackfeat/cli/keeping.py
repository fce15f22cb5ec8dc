"""Commands about the machine, the store and the form of a config."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stackfeat.cli.app import (
    Answer,
    StorePath,
    app,
)
from stackfeat.errors import UsageError


@app.command()
def doctor(
    full: Annotated[bool, typer.Option("--full", help="Also import torch and try it.")] = False,
) -> Answer:
    """Say which packages, device and disk stackfeat found."""
    from stackfeat.cli.inspect import examine_environment

    found = examine_environment(full=full)
    return Answer(found.to_json(), str(found))


@app.command()
def schema() -> Answer:
    """Print the JSON schema of a config, for editors."""
    import json

    from stackfeat.config import json_schema

    found = json_schema()
    return Answer(found, json.dumps(found, indent=2))


@app.command()
def show(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="A key's beginning, or a kind of entry.")
    ] = "",
    store: StorePath = Path(".stackfeat"),
    why: Annotated[str, typer.Option(metavar="KEY", help="What differs from the nearest entry.")] = "",
    size: Annotated[bool, typer.Option("--size", help="What entries take, by kind and learner.")] = False,
) -> Answer:
    """List what is stored, or say why an entry was computed again."""
    from stackfeat.cli.entries import explain_entry, list_entries, measure_store

    if why and (size or pattern):
        raise UsageError(
            f"--why is about one entry; got it with {'--size' if size else 'PATTERN'}; leave one of the two out"
        )
    if why:
        one = explain_entry(store, why)
        return Answer(asdict(one), str(one))
    found = measure_store(store, pattern) if size else list_entries(store, pattern)
    return Answer(found.to_json(), str(found))


@app.command()
def clean(
    store: StorePath = Path(".stackfeat"),
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Also remove entries of this age.")
    ] = None,
    keep_run: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="A run whose entries stay, whatever their age; repeatable."),
    ] = None,
) -> Answer:
    """Remove leftovers of killed runs and damaged entries."""
    from stackfeat.cli.entries import clean_store

    found = clean_store(store, older_than, keep_run or ())
    return Answer(found.to_json(), str(found))
