"""The command `audit`: arguments in, one call, printed lines out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def audit(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    permutations: Annotated[
        int, typer.Option("--permutations", metavar="N", help="Reruns, each on other permuted labels.")
    ] = 5,
    rows: Annotated[
        int,
        typer.Option(
            "--rows", metavar="N", help="Training rows of a rerun at most; half as many are held out."
        ),
    ] = 2000,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", help="Worker processes. Default: as the config says.")
    ] = None,
    no_null: Annotated[
        bool,
        typer.Option("--no-null", help="Prove from the store only; nothing is computed, no code is run."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of rows and permutations.")] = 0,
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder of the run's store, if it was moved.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Allow classes and functions of your own code.")
    ] = False,
) -> None:
    """Prove that no row's features saw its label, and rerun the stack on permuted labels."""
    from stackfeat.audit_table import AuditProgress, print_audit
    from stackfeat.auditing import audit as audit_run

    with AuditProgress() as progress:
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
