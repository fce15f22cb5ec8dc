"""Commands that make a run, and look at one before it starts."""

from __future__ import annotations

import gc
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stackfeat.cli.app import (
    Answer,
    ConfigPath,
    DataRoots,
    Overrides,
    TrustCode,
    app,
    given,
    is_quiet,
    is_verbose,
)
from stackfeat.cli.choices import PresetName, TaskName
from stackfeat.errors import DataError, UsageError, one_line
from stackfeat.log import console

if TYPE_CHECKING:
    from stackfeat.pipeline.trust import TrustRequest


@app.command()
def run(
    context: typer.Context,
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG|TRAIN", help="A config file (YAML), or a training file.")
    ],
    set_: Overrides = None,
    trust_code: TrustCode = False,
    data_root: DataRoots = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Jobs at a time; default: executor.jobs of the config."),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="With TRAIN: the column to predict; several: a,b.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="With TRAIN: file with the rows to predict.")] = None,
    metric: Annotated[str | None, typer.Option(help="With TRAIN: the metric that decides.")] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With TRAIN: the longest that it may take, such as 10m."),
    ] = None,
    preset: Annotated[
        PresetName | None, typer.Option(help="With TRAIN: how much is computed; default: good.")
    ] = None,
    task: Annotated[
        TaskName | None, typer.Option(help="With TRAIN: the task; default: guessed from the target.")
    ] = None,
    query: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With TRAIN: the list of a row, of a ranking.")
    ] = None,
) -> Answer:
    """Run a config, or a training file without one. What is stored already is not computed again."""
    from stackfeat.cli.progress import print_result, result_values
    from stackfeat.cli.training_file import config_of, named_targets
    from stackfeat.output.live_table import LiveTable
    from stackfeat.pipeline.file_checks import load_checked

    of_file = {
        "--target": named_targets(target) if target else None,
        "--test": test,
        "--metric": metric,
        "--limit": limit,
        "--preset": preset,
        "--task": task,
        "--query": query,
    }
    of_config = {"--set": set_, "--trust-code": trust_code, "--data-root": data_root}
    at_once = [] if jobs is None else [f"executor.jobs={jobs}"]
    quiet, said = is_quiet(context), tuple[str, ...]()
    loaded = config_of(config, of_file, of_config, at_once)
    if loaded is None:
        loaded = load_checked(config, **given([*(set_ or ()), *at_once], trust_code, data_root))
    elif not quiet:
        said = loaded.guesses
        typer.echo("\n".join(map(one_line, said)))
    from stackfeat.pipeline.run import run as run_config

    with LiveTable(quiet=quiet, each_job=is_verbose(context)) as table:
        result = run_config(loaded, progress=table, started=context.obj)
    values = {"guesses": loaded.guesses, **result_values(result)}
    return Answer(values, lambda: print_result(result, console(), quiet=quiet, said=said), result.exit_code)


@app.command()
def check(
    config: ConfigPath,
    set_: Overrides = None,
    trust_code: TrustCode = False,
    data_root: DataRoots = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read all rows, build the nets and try their taps.")
    ] = False,
) -> Answer:
    """Check a config and its files, and print what would be run. Nothing is computed."""
    with _uncollected():
        from stackfeat.pipeline.check import describe_plan
        from stackfeat.pipeline.file_checks import load_checked

        loaded = load_checked(config, **given(set_, trust_code, data_root))
        found = describe_plan(loaded, deep=deep)
    return Answer(found.to_json(), str(found))


@app.command()
def init(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="Training file.")],
    target: Annotated[list[str], typer.Option(help="Column to predict; several: a,b.")],
    test: Annotated[Path | None, typer.Option(help="File with the rows to predict.")] = None,
    sample_submission: Annotated[
        Path | None, typer.Option(help="The submission is checked against it.")
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", help="Column that names rows; default: guessed.")] = None,
    preset: Annotated[
        PresetName, typer.Option(help="How much is computed: a first look, a good stack, or all there is.")
    ] = PresetName.good,
    limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest that a run may take, such as 10m.")
    ] = None,
    task: Annotated[TaskName | None, typer.Option(help="Default: guessed from the target.")] = None,
    metric: Annotated[str | None, typer.Option(help="What decides; default: by the task.")] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Its rows stay in one fold; default: guessed.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Folds follow it: for predicting the future.")
    ] = None,
    query: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The list of a row, of a ranking.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of text files, such as latin-1.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a config that is there.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Config file to write.")] = Path(
        "config.yaml"
    ),
) -> Answer:
    """Write a first config for a training file."""
    from stackfeat.cli.training_file import named_targets
    from stackfeat.config.guessed import guesses_of
    from stackfeat.config.scaffold import Wishes, folders_outside, scaffold_config
    from stackfeat.output.files import write_bytes

    if output.exists() and not force:
        raise UsageError(
            f"{output} exists already; choose another file with --output, or replace it with --force"
        )
    folder = output.absolute().parent
    told = None if task is None else str(task)
    wishes = Wishes(id_, group, time, told, metric, encoding, preset.value, limit, query)
    text = scaffold_config(train, named_targets(target), test, sample_submission, wishes, folder=folder)
    write_bytes(output, text.encode())
    roots = folders_outside((train, test, sample_submission), folder)
    name = one_line(" ".join([str(output), *(f"--data-root {shlex.quote(str(root))}" for root in roots)]))
    steps = [f"stackfeat check {name}", f"stackfeat run {name}"]
    values = {"output": output, "guesses": guesses_of(text), "next": steps}
    return Answer(values, f"wrote {one_line(output)}\nnext: {'; '.join(steps)}")


@app.command()
def trust(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A config file (YAML) that names your own code.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Agree without being asked, for scripts.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the configs that are trusted.")] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Trust CONFIG, and the runs it made, no longer.")
    ] = False,
    data_root: DataRoots = None,
) -> Answer:
    """Show your own code that a config would run, and agree to it. Nothing is run."""
    from stackfeat.pipeline.trust import forget_config, list_trusted, remember, trust_request

    if list_:
        found = list_trusted()
        return Answer(found.to_json(), str(found))
    if config is None:
        raise UsageError("CONFIG must be named; got none; give a config file, or --list")
    if forget:
        return Answer({"forgotten": config}, forget_config(config))
    asked = trust_request(config, data_root or ())
    if not asked.needs:
        return Answer({**asked.to_json(), "trusted": False}, str(asked))
    # Before the question, whatever becomes of it.
    typer.echo(str(asked))
    if not yes:
        _ask(asked)
    return Answer({**asked.to_json(), "trusted": True}, remember(asked))


def _ask(asked: TrustRequest) -> None:
    """Raise UsageError unless somebody agrees."""
    if not sys.stdin.isatty():
        error = UsageError(
            "trust asks before it remembers; got no terminal to ask on; read the above, then give --yes"
        )
    elif typer.confirm("Remember that you trust all of this, until a byte of it changes?"):
        return
    else:
        error = UsageError("trust must be agreed to; got no; nothing was remembered")
    error.found = {**asked.to_json(), "trusted": False}
    raise error


@app.command("import")
def import_(
    config: ConfigPath,
    oof: Annotated[
        Path | None, typer.Option(help="Out-of-fold rows to check; without it the config's own imports.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Test rows; may hold {fold}.")] = None,
    folds: Annotated[
        Path | None, typer.Option(help="csv of id and fold that the rows were made with.")
    ] = None,
    score: Annotated[float | None, typer.Option(help="What the sender claims.")] = None,
    set_: Overrides = None,
    trust_code: TrustCode = False,
    data_root: DataRoots = None,
) -> Answer:
    """Check other people's predictions before they join a stack. The checks are those of a run; nothing is stored."""
    from stackfeat.cli.progress import print_checks
    from stackfeat.pipeline.import_checks import NewFiles, check_imports

    new = None if oof is None else NewFiles(oof, test, folds, score)
    found = check_imports(config, new, **given(set_, trust_code, data_root))
    code = DataError.exit_code if any(one.is_refused for one in found.values()) else 0
    values = {"members": {name: one.to_json() for name, one in found.items()}}
    return Answer(values, lambda: print_checks(found), code)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage: that takes a tenth of a second in which imports make objects that stay."""
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()
