"""Run facts: what the options of a member are checked against, besides themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stackfeat.data.options import DataOptions, FoldOptions
from stackfeat.registry.patterns import fill, has_fold


@dataclass(frozen=True)
class RunFacts:
    """What the options of a member are checked against: the rest of a config.

    Attributes
    ----------
    is_first : bool
        Whether its level is the first.
    file_problem : callable
        Says of a path what is wrong with the file there, or None.
    """

    task: str
    data: DataOptions
    folds: FoldOptions
    averaging: str
    is_first: bool
    file_problem: Callable[[str], str | None]

    def files_problem(self, name: str) -> str | None:
        """Say what is wrong with the files of all folds; with the first where rows decide how many there are."""
        rows_decide = self.folds.kind == "column" or self.data.fold is not None or ":" in self.folds.kind
        n_folds = 1 if rows_decide or not has_fold(name) else self.folds.n
        found = (self.file_problem(fill(name, fold=fold)) for fold in range(n_folds))
        return next(filter(None, found), None)
