"""The command that shows the whole package at work."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from stackfeat.cli.app import Answer, app, is_quiet, is_verbose
from stackfeat.errors import one_line
from stackfeat.log import console


@app.command()
def demo(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder to write to.")
    ] = Path("stackfeat-demo"),
) -> Answer:
    """Write the quickstart into a new folder and run it: nets, trees, stacks and votes on built-in data."""
    from stackfeat.cli.progress import print_result, result_values
    from stackfeat.output.live_table import LiveTable
    from stackfeat.pipeline.demo import write_demo
    from stackfeat.pipeline.run import run

    quiet = is_quiet(context)
    config = write_demo(output)
    if not quiet:
        typer.echo(one_line(f"wrote {config}; running it takes half a minute on two idle cores"))
    with LiveTable(quiet=quiet, each_job=is_verbose(context)) as table:
        result = run(config, progress=table, started=context.obj)
    steps = {
        "read the report": str(result.report),
        "run it again, from the store": f"stackfeat run {shlex.quote(str(config))}",
        "prove that it is honest": f"stackfeat audit {shlex.quote(str(result.folder))}",
        "begin with your own data": "stackfeat run TRAIN.csv --target COLUMN",
    }

    def show() -> None:
        print_result(result, console(), quiet=quiet)
        width = max(map(len, steps))
        typer.echo("next:")
        for what, how in steps.items():
            typer.echo(one_line(f"  {what:<{width}}  {how}"))

    return Answer({"config": config, **result_values(result), "next": steps}, show, result.exit_code)
