"""Commands that use the models of a finished run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from stackfeat.cli.app import (
    Answer,
    DataRoots,
    Force,
    TrustCode,
    app,
    is_quiet,
    is_verbose,
)
from stackfeat.cli.choices import StudentName
from stackfeat.errors import continued, one_line
from stackfeat.log import noted_warnings


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
    interval: Annotated[
        float | None,
        typer.Option(metavar="LEVEL", help="Also write an interval, or a set of classes; such as 0.9."),
    ] = None,
    spread: Annotated[
        bool, typer.Option("--spread", help="Also write how far the models of the folds are apart.")
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
    force: Force = False,
    trust_code: TrustCode = False,
) -> Answer:
    """Predict new rows with the models of a run. For the run's test file this gives its submission."""
    from stackfeat.pipeline.predict import Wanted, predict_file

    if isolate:
        from stackfeat.executors.isolated import run_isolated

        code, found = run_isolated([one for one in sys.argv[1:] if one != "--isolate"])
        return Answer(found, "" if code else _wrote(output, found.get("rows")), code)
    with noted_warnings() as said:
        n_rows = predict_file(
            run_folder,
            data,
            output,
            trust_code=trust_code or None,
            without=without or (),
            data_roots=data_root or (),
            allow_missing=allow_missing,
            wanted=Wanted(proba, members, interval, spread),
            force=force,
        )
    return Answer({"output": output, "rows": n_rows, "warnings": said}, _wrote(output, n_rows))


def _wrote(output: Path, n_rows: object) -> str:
    return f"wrote {one_line(output)} ({n_rows} rows)"


@app.command()
def refresh(
    context: typer.Context,
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run; it stays.")],
    train: Annotated[Path, typer.Option(help="The new training file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The new run folder; default: RUN-refreshed.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Folder of the run's store, if it was moved.")] = None,
    data_root: DataRoots = None,
    trust_code: TrustCode = False,
) -> Answer:
    """Fit the models of a run to new rows. All that the run chose stays as it was."""
    from stackfeat.output.live_table import LiveTable
    from stackfeat.pipeline.refresh import refresh as refresh_run

    with LiveTable(quiet=is_quiet(context), each_job=is_verbose(context)) as table:
        found = refresh_run(
            run_folder,
            train,
            output,
            store=store,
            data_roots=data_root or (),
            trust_code=trust_code or None,
            progress=table,
        )
    return Answer(found.to_json(), continued(str(found)))


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("model.zip"),
    force: Force = False,
) -> Answer:
    """Write the models of a run as one file, for another machine."""
    from stackfeat.output.packed_predictor import pack_predictor

    n_bytes = pack_predictor(run_folder, output, force=force)
    text = f"wrote {one_line(output)} ({n_bytes / 1e6:.1f} MB)"
    return Answer({"output": output, "bytes": n_bytes}, text)


@app.command()
def distil(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    student: Annotated[StudentName, typer.Option(help="What learns: boosted trees, or a small net.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("student.zip"),
    force: Force = False,
    store: Annotated[Path | None, typer.Option(help="Folder of the run's store, if it was moved.")] = None,
    trust_code: TrustCode = False,
) -> Answer:
    """Train one small model on the predictions of a stack. It is written only if they make it better."""
    from stackfeat.pipeline.distil import distil as distil_run

    found = distil_run(
        run_folder, str(student), output, store=store, trust_code=trust_code or None, force=force
    )
    text = one_line(str(found))
    if found.path is not None:
        place = one_line(found.path)
        text += f"\nwrote {place}; predict with: stackfeat predict {place} DATA -o FILE"
    return Answer(found.to_json(), text, found.exit_code)
