"""The commands: arguments in, one call, printed lines out; no logic of their own."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from stackfeat.cli.choices import PresetName, StudentName, TaskName
from stackfeat.errors import UsageError, continued, described, machine_fault, one_line
from stackfeat.executors.signals import EndOnSignals
from stackfeat.log import console, visible_streams

app = typer.Typer(
    name="stackfeat",
    help="Honest stacking and voting over the probabilities and hidden features of nets and estimators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130

_RESUME = "interrupted; finished jobs are stored: run the same command to go on"

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


@app.command()
def run(
    context: typer.Context,
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG|TRAIN", help="A config file (YAML), or a training file.")
    ],
    set_: Overrides = None,
    trust_code: TrustCode = False,
    data_root: DataRoots = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the result.")] = False,
    target: Annotated[str | None, typer.Option(help="With TRAIN: the column to predict.")] = None,
    test: Annotated[Path | None, typer.Option(help="With TRAIN: file with the rows to predict.")] = None,
    metric: Annotated[str | None, typer.Option(help="With TRAIN: the metric that decides.")] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With TRAIN: the longest that it may take, such as 10m."),
    ] = None,
    preset: Annotated[
        PresetName | None, typer.Option(help="With TRAIN: how much is computed; default: good.")
    ] = None,
) -> None:
    """Run a config, or a training file without one. What is stored already is not computed again."""
    from stackfeat.cli.progress import TerminalProgress, print_result
    from stackfeat.cli.training_file import config_of
    from stackfeat.pipeline.file_checks import load_checked

    of_file = {"--target": target, "--test": test, "--metric": metric, "--limit": limit, "--preset": preset}
    of_config = {"--set": set_, "--trust-code": trust_code, "--data-root": data_root}
    loaded = config_of(config, of_file, of_config)
    if loaded is None:
        loaded = load_checked(config, **given(set_, trust_code, data_root))
    from stackfeat.pipeline.run import run as run_config

    quiet = quiet or is_quiet(context)
    with TerminalProgress(quiet=quiet) as progress:
        result = run_config(loaded, progress=progress, started=context.obj)
    print_result(result, console(), quiet=quiet)
    raise typer.Exit(result.exit_code)


@app.command()
def check(
    config: ConfigPath,
    set_: Overrides = None,
    trust_code: TrustCode = False,
    data_root: DataRoots = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read all rows, build the nets and try their taps.")
    ] = False,
) -> None:
    """Check a config and its files, and print what would be run. Nothing is computed."""
    with _uncollected():
        from stackfeat.pipeline.check import describe_plan
        from stackfeat.pipeline.file_checks import load_checked

        loaded = load_checked(config, **given(set_, trust_code, data_root))
        text = describe_plan(loaded, deep=deep)
    typer.echo(text)


@app.command()
def init(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="Training file.")],
    target: Annotated[str, typer.Option(help="Column to predict.")],
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
    encoding: Annotated[str | None, typer.Option(help="Of text files, such as latin-1.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a config that is there.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Config file to write.")] = Path(
        "config.yaml"
    ),
) -> None:
    """Write a first config for a training file."""
    from stackfeat.config.scaffold import Wishes, folders_outside, scaffold_config
    from stackfeat.output.files import write_bytes

    if output.exists() and not force:
        raise UsageError(
            f"{output} exists already; choose another file with --output, or replace it with --force"
        )
    folder = output.absolute().parent
    told = None if task is None else str(task)
    wishes = Wishes(id_, group, time, told, metric, encoding, preset.value, limit)
    text = scaffold_config(train, target, test, sample_submission, wishes, folder=folder)
    write_bytes(output, text.encode())
    roots = folders_outside((train, test, sample_submission), folder)
    name = one_line(" ".join([str(output), *(f"--data-root {shlex.quote(str(root))}" for root in roots)]))
    typer.echo(f"wrote {one_line(output)}\nnext: stackfeat check {name}; stackfeat run {name}")


@app.command()
def predict(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a finished run, or a file of export or distil.")
    ],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="File with rows like the training file's.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    without: Annotated[
        list[str] | None, typer.Option(metavar="MEMBER", help="A member to leave out of votes; repeatable.")
    ] = None,
    data_root: Annotated[
        list[Path] | None, typer.Option(help="A folder that the predictor's paths may lead to; repeatable.")
    ] = None,
    proba: Annotated[
        bool, typer.Option("--proba", help="Write a probability of each class, whatever the metric.")
    ] = False,
    members: Annotated[
        bool, typer.Option("--members", help="Also write the predictions of each member of the stack.")
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Treat a missing column as an empty one.")
    ] = False,
    isolate: Annotated[
        bool,
        typer.Option(
            "--isolate", help="Predict in a process of its own, with limits: for a RUN that you were sent."
        ),
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Predict new rows with the models of a run. For the run's test file this gives its submission."""
    from stackfeat.pipeline.predict import Wanted, predict_file

    if isolate:
        from stackfeat.executors.isolated import run_isolated

        raise typer.Exit(run_isolated([one for one in sys.argv[1:] if one != "--isolate"]))
    n_rows = predict_file(
        run_folder,
        data,
        output,
        trust_code=trust_code or None,
        without=without or (),
        data_roots=data_root or (),
        allow_missing=allow_missing,
        wanted=Wanted(proba, members),
    )
    typer.echo(f"wrote {one_line(output)} ({n_rows} rows)")


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("model.zip"),
) -> None:
    """Write the models of a run as one file, for another machine."""
    from stackfeat.output.packed_predictor import pack_predictor

    n_bytes = pack_predictor(run_folder, output)
    typer.echo(f"wrote {one_line(output)} ({n_bytes / 1e6:.1f} MB)")


@app.command()
def distil(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    student: Annotated[StudentName, typer.Option(help="What learns: boosted trees, or a small net.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("student.zip"),
    store: Annotated[Path | None, typer.Option(help="Folder of the run's store, if it was moved.")] = None,
    trust_code: TrustCode = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Train one small model on the predictions of a stack. It is written only if they make it better."""
    import json

    from stackfeat.pipeline.distil import distil as distil_run

    found = distil_run(run_folder, str(student), output, store=store, trust_code=trust_code or None)
    typer.echo(json.dumps(found.to_json()) if as_json else one_line(str(found)))
    if found.path is not None and not as_json:
        typer.echo(
            f"wrote {one_line(found.path)}; predict with: stackfeat predict {one_line(found.path)} DATA -o FILE"
        )
    raise typer.Exit(found.exit_code)


NetParams = Annotated[
    str, typer.Option(metavar="JSON", help="Arguments of the class, as JSON or a file of it.")
]

NetWeights = Annotated[Path | None, typer.Option(help="State dict: .safetensors, or .pt with tensors only.")]


@app.command()
def extract(
    context: typer.Context,
    net: Annotated[str, typer.Argument(metavar="NET", help="The net's class or factory: pkg.mod:Net.")],
    data: Annotated[
        list[Path], typer.Option("--data", help="npy, or npz by names of forward; repeatable: by position.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write to.")],
    taps: Annotated[
        list[str] | None, typer.Option(help="Where to read; repeatable. Default: penultimate.")
    ] = None,
    weights: NetWeights = None,
    params: NetParams = "",
    file_format: Annotated[str, typer.Option("--format", help="npy, npz, mat, parquet or csv.")] = "npy",
    batch_size: Annotated[str, typer.Option(help="Rows of a pass; auto: by timing.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    pool: Annotated[str, typer.Option(help="auto, none, flatten, mean, max, cls or last.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, bf16 or autocast.")] = "float32",
    trust_code: TrustCode = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the files only.")] = False,
) -> None:
    """Read layers of a trained net for every row of a file. An interrupted call resumes where it stopped."""
    from stackfeat.cli.extract import NetSource, extract_files

    source = NetSource(net, params, weights, trust_code)
    options = {
        "taps": taps or ["penultimate"],
        "device": device,
        "pool": pool,
        "precision": precision,
        "progress": not (quiet or is_quiet(context)),
    }
    lines = extract_files(
        source, data, output, file_format=file_format, batch_size=batch_size, options=options
    )
    typer.echo("\n".join(lines))


@app.command()
def layers(
    net: Annotated[str, typer.Argument(metavar="NET", help="A config file, or a class: pkg.mod:Net.")],
    member: Annotated[str, typer.Argument(metavar="[MEMBER]", help="A net member of the config.")] = "",
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="SHAPE", help="Such as 2x3x224x224 or 2x16:int64; repeatable."),
    ] = None,
    weights: NetWeights = None,
    params: NetParams = "",
    functions: Annotated[
        bool, typer.Option("--functions", help="Also the functions of torch that layers call.")
    ] = False,
    set_: Overrides = None,
    trust_code: TrustCode = False,
    data_root: DataRoots = None,
) -> None:
    """List the layers of a net. For each: what it gives in a dry run, or why it cannot be tapped."""
    from stackfeat.cli.extract import NetSource, describe_layers, describe_member_layers

    if member:
        options = given(set_, trust_code, data_root)
        text = describe_member_layers(Path(net), member, functions=functions, **options)
    else:
        text = describe_layers(NetSource(net, params, weights, trust_code), input_ or (), functions=functions)
    typer.echo(text)


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
def clean(
    store: StorePath = Path(".stackfeat"),
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Also remove entries of this age.")
    ] = None,
) -> None:
    """Remove leftovers of killed runs and damaged entries."""
    from stackfeat.cli.inspect import clean_store

    typer.echo(clean_store(store, older_than))


@app.command()
def audit(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    permutations: Annotated[
        int, typer.Option(metavar="N", help="Reruns, each on other permuted labels.")
    ] = 5,
    rows: Annotated[
        int, typer.Option(metavar="N", help="Training rows of a rerun at most; half as many are held out.")
    ] = 2000,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="Worker processes. Default: as the config says.")
    ] = None,
    no_null: Annotated[
        bool,
        typer.Option("--no-null", help="Prove from the store only; nothing is computed, no code is run."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of rows and permutations.")] = 0,
    store: Annotated[Path | None, typer.Option(help="Folder of the run's store, if it was moved.")] = None,
    trust_code: TrustCode = False,
) -> None:
    """Prove that no row's features saw its label. Also reruns the stack on permuted labels."""
    from stackfeat.audit.audit import audit as audit_run
    from stackfeat.cli.audit import AuditProgress, print_audit

    progress = AuditProgress()
    with progress:
        found = audit_run(
            run_folder,
            null=not no_null,
            permutations=permutations,
            rows=rows,
            jobs=jobs,
            seed=seed,
            store=store,
            trust_code=trust_code or None,
            progress=progress,
        )
    print_audit(found)
    raise typer.Exit(found.exit_code)


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
) -> None:
    """Check other people's predictions before they join a stack. The checks are those of a run; nothing is stored."""
    from stackfeat.cli.progress import print_checks
    from stackfeat.pipeline.check import NewFiles, check_imports

    new = None if oof is None else NewFiles(oof, test, folds, score)
    found = check_imports(config, new, **given(set_, trust_code, data_root))
    raise typer.Exit(print_checks(found))


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
) -> None:
    """Show your own code that a config would run, and agree to it. Nothing is run."""
    from stackfeat.pipeline.trust import describe_trusted, forget_config, remember, trust_request

    if list_:
        typer.echo(describe_trusted())
        return
    if config is None:
        raise UsageError("CONFIG must be named; got none; give a config file, or --list")
    if forget:
        typer.echo(forget_config(config))
        return
    asked = trust_request(config, data_root or ())
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


@app.callback()
def every_command(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the traceback of an error; also after the command.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print results only.")] = False,
) -> None:
    """Options of every command."""


def is_quiet(context: typer.Context) -> bool:
    """Return whether --quiet stands before the command."""
    return bool(context.find_root().params.get("quiet"))


def main() -> NoReturn:
    """Run the command line; errors become a message and an exit code."""
    # As a program of its own it ends at once on a signal; called by other Python code it unwinds.
    if sys._getframe(1).f_globals.get("__name__") == "__main__":
        ending = EndOnSignals(INTERRUPTED, _RESUME)
        try:
            _run_app()
        except SystemExit as leaving:
            ending.over(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
            raise
    with _interrupted_by("SIGTERM", "SIGHUP"):
        _run_app()


@visible_streams()
def _run_app() -> NoReturn:
    arguments, is_verbose = _verbose_first(sys.argv[1:])
    try:
        # Outside its standalone mode click returns the code of typer.Exit instead of raising it.
        # What it passes on is the time of the start, from which limits.time counts.
        code = app(arguments, standalone_mode=False, obj=time.monotonic())
        sys.stdout.flush()
    except SystemExit:
        raise
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough: `stackfeat show | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except BaseException as error:
        if is_verbose:
            traceback.print_exception(error)
        _fail(*_said_of(error))
    if code == INTERRUPTED:
        _fail(_RESUME, INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


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


@contextmanager
def _interrupted_by(*names: str) -> Iterator[None]:
    """Let signals end the block as Ctrl-C does, where the caller may set handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _verbose_first(arguments: list[str]) -> tuple[list[str], bool]:
    """Return the arguments with --verbose before the command, where click wants it, and whether it is there."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    rest = [word for word in arguments[:end] if word not in ("-v", "--verbose")]
    is_verbose = len(rest) < end
    return [*(["--verbose"] if is_verbose else []), *rest, *arguments[end:]], is_verbose


def _said_of(error: BaseException) -> tuple[str, int]:
    """Return message and exit code of an error: of the machine, of the user, or else a bug of ours."""
    fault = machine_fault(error)
    if fault is not None:
        return f"error: {fault}", fault.exit_code
    code = getattr(error, "exit_code", None)
    if code is not None:
        text = continued(error.format_message()) if hasattr(error, "format_message") else str(error)
        return (f"error: {text}" if code else "", int(code))
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"error: this is a bug in stackfeat: {described(error)} "
        f"({Path(last.filename).name}, line {last.lineno}). Run the command again with --verbose for the traceback, "
        "and report it, please",
        1,
    )


def _fail(message: str, code: int) -> NoReturn:
    if message:
        print(message, file=sys.stderr)
    sys.exit(code)
