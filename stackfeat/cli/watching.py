"""The command that follows a run from another terminal."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stackfeat.cli.app import Answer, app, is_json, is_quiet
from stackfeat.errors import RunFailed, UsageError, continued, one_line
from stackfeat.output.digits import with_error

if TYPE_CHECKING:
    from stackfeat.output.run_state import RunState

LOOK_SECONDS = 0.5


@app.command()
def watch(
    context: typer.Context,
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that a run works on.")],
) -> Answer:
    """Follow a run from another terminal, until it ends; with --json say how it stands now."""
    from stackfeat.output.events import EVENTS, EventsReader
    from stackfeat.output.live_table import LiveTable
    from stackfeat.output.run_file import runs_near

    reader = EventsReader(run_folder / EVENTS)
    begun = reader.read_last_run()
    if not os.path.lexists(run_folder):
        raise UsageError(
            f"RUN must be a run folder; got {one_line(run_folder)}, which is not there{runs_near(run_folder)}"
        )
    if not begun:
        raise UsageError(
            f"RUN must be a run folder whose {EVENTS} tells of a run; got {one_line(run_folder)}, in which "
            "nothing has: has the run begun yet? Its folder is outputs.dir of the config, or runs/NAME"
        )
    with LiveTable(quiet=is_quiet(context) or is_json(context)) as table:
        for event in begun:
            table(event)
        while not is_json(context) and table.state.how() == "running":
            time.sleep(LOOK_SECONDS)
            for event in reader.read():
                table(event)
    state = table.state
    how, code = state.how(), state.end.exit_code if state.end else 0
    if how == "killed":
        state.halt()
    values = {"state": how, **state.to_json(time.time())}
    return Answer(values, _words(state, how), RunFailed.exit_code if how == "killed" else code)


def _words(state: RunState, how: str) -> str:
    """Return the last words about a run."""
    end, short = state.end, state.cut_short()
    if short or end is None:
        return continued(short) or how
    files = "".join(f"\n{name + ':':<13}{one_line(file)}" for name, file in end.files.items())
    score = "" if end.score is None or end.se is None else f", {state.metric} {with_error(end.score, end.se)}"
    return f"done in {end.seconds:.0f} s: {one_line(str(end.submitted))} is submitted{score}{files}"
