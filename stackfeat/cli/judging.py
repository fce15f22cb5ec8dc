"""Commands that judge finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stackfeat.cli.app import (
    Answer,
    TrustCode,
    app,
    is_quiet,
)


@app.command()
def audit(
    context: typer.Context,
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
) -> Answer:
    """Prove that no row's features saw its label. Also reruns the stack on permuted labels."""
    from stackfeat.audit.audit import audit as audit_run
    from stackfeat.cli.audit import AuditProgress, print_audit, verdict_line

    progress = AuditProgress(quiet=is_quiet(context))
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
    values = {"run": run_folder, "sentence": verdict_line(found), **found.to_json()}
    return Answer(values, lambda: print_audit(found), found.exit_code)


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    store: Annotated[Path | None, typer.Option(help="Folder of the run's store, if it was moved.")] = None,
) -> Answer:
    """Write report.html of a finished run anew, from the files of its folder."""
    from stackfeat.output.report.stored import remake_report

    found = remake_report(run_folder, store)
    values = {"report": str(found.path), "pictures": list(found.pictures), "missing": dict(found.missing)}
    lines = [f"report: {found.path}", f"pictures: {', '.join(found.pictures)}"]
    return Answer(
        values, "\n".join([*lines, *(f"missing: {name}: {why}" for name, why in found.missing.items())])
    )
