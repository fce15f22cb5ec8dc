"""The command `import`: arguments in, one call, a printed table out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A config file (YAML).")],
    oof: Annotated[
        Path | None,
        typer.Option("--oof", help="Out-of-fold rows to check; without it the config's own imports."),
    ] = None,
    test: Annotated[str | None, typer.Option("--test", help="Test rows; may hold {fold}.")] = None,
    folds: Annotated[
        Path | None, typer.Option("--folds", help="csv of id and fold that the rows were made with.")
    ] = None,
    score: Annotated[float | None, typer.Option("--score", help="What the sender claims.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override an option; repeatable.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Allow classes and functions of your own code.")
    ] = False,
    data_root: Annotated[
        list[Path] | None,
        typer.Option(
            "--data-root", help="A folder outside the config's that its paths may lead to; repeatable."
        ),
    ] = None,
) -> None:
    """Check other people's predictions as a run would, and print what was found; nothing is stored."""
    from stackfeat.importing import NewFiles, check_imports, print_checks

    new = None if oof is None else NewFiles(oof, test, folds, score)
    found = check_imports(
        config, new, overrides=set_ or (), trust_code=trust_code or None, data_roots=data_root or ()
    )
    raise typer.Exit(print_checks(found))
