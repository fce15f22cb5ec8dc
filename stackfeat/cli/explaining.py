"""The command that says what the predictions of a run rest on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stackfeat.cli.app import Answer, Force, TrustCode, app, is_quiet
from stackfeat.errors import UsageError, one_line
from stackfeat.output.digits import significant, to_error, with_error

if TYPE_CHECKING:
    from rich.table import Table

    from stackfeat.output.explanation import Explanation, Ranked

FILE_WIDTH = 160


@app.command()
def explain(
    context: typer.Context,
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a finished run; with DATA also a file of export.")
    ],
    data: Annotated[
        Path | None, typer.Argument(metavar="[DATA]", help="Rows to explain; default: held-out rows.")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="Columns that are printed.")] = 20,
    repeats: Annotated[int, typer.Option(metavar="N", help="Permutations of each column.")] = 5,
    rows: Annotated[int, typer.Option(metavar="N", help="Rows at most.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of rows and permutations.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A csv file to write.")] = None,
    force: Force = False,
    store: Annotated[Path | None, typer.Option(help="Folder of the run's store, if it was moved.")] = None,
    data_root: Annotated[
        list[Path] | None, typer.Option(help="A folder that the predictor's paths may lead to; repeatable.")
    ] = None,
    trust_code: TrustCode = False,
) -> Answer:
    """Say which columns, members and levels the predictions of a run rest on, with standard errors."""
    if top < 1:
        raise UsageError(f"--top must be at least 1; got --top {top}; give a larger number")
    from stackfeat.pipeline.explain import explain as explain_run

    begun = time.process_time()
    found = explain_run(
        run_folder,
        data,
        rows=rows,
        repeats=repeats,
        seed=seed,
        store=store,
        trust_code=trust_code or None,
        data_roots=data_root or (),
        output=output,
        force=force,
        progress=None if is_quiet(context) else lambda text: typer.echo(text, err=True),
    )
    seconds = round(time.process_time() - begun, 2)
    files = [*([run_folder / "explain.json"] if found.is_of_run else []), *([output] if output else [])]
    values = {**found.to_json(), "cpu_seconds": seconds, "files": files}
    return Answer(values, partial(_print, found, top, seconds, files))


def _print(found: Explanation, top: int, seconds: float, files: Sequence[Path]) -> None:
    from stackfeat.log import console as visible_console

    console = visible_console()
    if not console.is_terminal:
        console = visible_console(width=FILE_WIDTH)
    say = partial(console.print, markup=False, soft_wrap=True, highlight=False)
    say(one_line(_headline(found)))
    measure = f"by how much {found.metric} gets worse" if found.has_labels else "how far predictions move"
    say(one_line(f"importance: {measure} with values of other rows"))
    console.print(_table("column", found.columns[:top]), markup=False)
    for line in _on_columns(found, top):
        say(one_line(line))
    if found.members:
        console.print(_table("member", found.members), markup=False)
    for line in _on_members(found):
        say(one_line(line))
    wrote = f"; wrote {', '.join(map(str, files))}" if files else ""
    say(one_line(f"took {seconds:.1f} s of CPU{wrote}"))


def _headline(found: Explanation) -> str:
    score = "" if found.score is None else f", {found.metric} {significant(found.score, 4)}"
    way = "held-out rows, each through the pipeline that had not seen it" if found.is_of_run else found.of
    return f"{found.member} on {found.n_rows} rows ({way}){score}"


def _table(what: str, listed: Sequence[Ranked]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(what, overflow="fold")
    for name in ("importance", "± se", "interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in listed:
        low, high, error = (to_error(value, one.se) for value in (one.low, one.high, one.se))
        interval = "" if one.low is None or one.high is None else f"{low} to {high}"
        error = "" if one.se is None else error
        table.add_row(one_line(one.name), to_error(one.importance, one.se), error, interval)
    return table


def _on_columns(found: Explanation, top: int) -> Iterator[str]:
    if len(found.columns) > top:
        yield f"and {len(found.columns) - top} columns more; --top shows them"
    alike = [one for one in found.columns if not one.stands_out]
    if found.has_labels and alike:
        yield f"{len(alike)} of {len(found.columns)} columns are worth no more than chance"
    for one in found.groups:
        why = "say nearly the same, so each alone looks weaker than it is"
        yield f"{one.name} {why}; together {with_error(one.importance, one.se)}"


def _on_members(found: Explanation) -> Iterator[str]:
    for drop in found.dropped:
        weight = "" if drop.weight is None else f", weight {drop.weight:.2f}"
        word = "worse" if drop.loss >= 0 else "better"
        by = with_error(abs(drop.loss), drop.se)
        yield f"{drop.vote} without {drop.member}{weight}: {found.metric} {word} by {by}"
    for level in found.levels:
        if level.gain is not None and level.se is not None:
            word = "better" if level.gain >= 0 else "worse"
            yield (
                f"level {level.level} is {word} than those before it by {with_error(abs(level.gain), level.se)} "
                f"({found.metric})"
            )
    yield from (gate.text for gate in found.gates)
    yield from found.notes
