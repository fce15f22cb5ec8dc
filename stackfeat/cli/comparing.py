"""Commands that compare finished runs, and keep a ledger of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stackfeat.cli.app import Answer, Force, TrustCode, app
from stackfeat.cli.choices import RunOrder
from stackfeat.errors import UsageError


@app.command()
def compare(
    run_folders: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN ...", help="Folders of finished runs on one training file."),
    ],
    member: Annotated[
        str | None,
        typer.Option(metavar="LEVEL/MEMBER", help="Compare this member of each run, not what it submits."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Score all runs with this metric; needed where theirs differ.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write every pair to this csv file.")
    ] = None,
    force: Force = False,
    store: Annotated[Path | None, typer.Option(help="Folder of the runs' store, if it was moved.")] = None,
    trust_code: TrustCode = False,
) -> Answer:
    """Say which of several runs is better, by how much, and whether that is chance."""
    from stackfeat.cli.ledger_text import comparison_text
    from stackfeat.output.output_file import has_columns, refuse_output
    from stackfeat.pipeline.compare import PAIR_COLUMNS
    from stackfeat.pipeline.compare import compare as compare_runs

    if output is not None:
        refuse_output(output, has_columns(PAIR_COLUMNS), force=force)
    found = compare_runs(
        *run_folders, member=member, metric=metric, store=store, trust_code=trust_code or None
    )
    if output is not None:
        found.save(output)
    values = {**found.to_json(), "output": None if output is None else str(output)}
    return Answer(values, comparison_text(found, output))


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to look for run folders.")] = Path(),
    sort: Annotated[RunOrder, typer.Option(help="Oldest first, or best first.")] = RunOrder.date,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the list to this csv file.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", help="Draw public scores against those of cross-validation."),
    ] = None,
    force: Force = False,
) -> Answer:
    """List all runs below a folder, what was changed, and what their scores are worth together."""
    from stackfeat.cli.ledger_text import ledger_text
    from stackfeat.output.leaderboard_picture import refuse_picture
    from stackfeat.output.output_file import has_columns, refuse_output
    from stackfeat.pipeline.ledger import COLUMNS, ledger

    if output is not None and picture is not None and output == picture.with_suffix(".csv"):
        raise UsageError(
            f"--output must be another file than the picture's numbers; got {output}; rename one of them"
        )
    if output is not None:
        refuse_output(output, has_columns(COLUMNS), force=force)
    if picture is not None:
        refuse_picture(picture, force=force)
    found = ledger(folder, sort=sort.value)
    written = [] if picture is None else found.public_scores().write(picture)
    if output is not None:
        found.save(output)
        written.append(output)
    values = {**found.to_json(), "written": [str(one) for one in written]}
    return Answer(values, ledger_text(found, written))


@app.command()
def note(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    lb: Annotated[float | None, typer.Option(help="Its score on the public leaderboard.")] = None,
    private: Annotated[float | None, typer.Option(help="Its score on the private leaderboard.")] = None,
    text: Annotated[str, typer.Option(help="Whatever is worth knowing later.")] = "",
) -> Answer:
    """Write down a leaderboard score or a remark about a run; without options show what was noted."""
    from dataclasses import asdict

    from stackfeat.cli.ledger_text import notes_text
    from stackfeat.output.run_notes import add_note, marked_run, read_notes

    if lb is None and private is None and not text:
        marked_run(run_folder)
        notes = read_notes(run_folder)
    else:
        notes = add_note(run_folder, lb=lb, private=private, text=text)
    values = {"run": str(run_folder), "notes": [asdict(one) for one in notes]}
    return Answer(values, notes_text(run_folder, notes))
