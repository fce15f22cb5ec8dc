"""Prediction files: options that name files of somebody else's predictions, of one member or of a pool; torch-free.

In:  a mapping in a config.
Out: the files, looked up where a pattern names them, and what is wrong with their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, PrivateAttr

from stackfeat.data.files.format import Holds
from stackfeat.data.files.tables import holds, suffixes_of
from stackfeat.members.pool_files import Folders, PoolMatch, find_pool
from stackfeat.members.run_facts import RunFacts
from stackfeat.options import Options
from stackfeat.registry.patterns import FOLD, has_fold, placeholder_problem, placeholders


class PredictionFiles(Options):
    """Files of somebody else's predictions."""

    oof: str = Field(description="Out-of-fold rows: csv, parquet or npy, aligned by id.")
    test: str | None = Field(None, description="Test rows; {fold} in the name: a file of each fold's model.")
    folds: str | None = Field(None, description="csv of id and fold: the folds of these rows.")
    oof_ids: str | None = Field(None, description="npy: a file with an id for each row of oof.")
    test_ids: str | None = Field(None, description="npy: a file with an id for each row of test.")
    classes: tuple[str | int | float | bool, ...] | None = Field(
        None, description="npy: the order of its columns; the sorted order without it."
    )
    score: float | None = Field(None, description="What the sender says it scores by the metric of the run.")

    def problems(self, run: RunFacts) -> Iterator[tuple[str, str]]:
        """Yield (option, message) for what is wrong with the names of files, and what goes with npy files."""
        for role in ("oof", "test", "folds", "oof_ids", "test_ids"):
            name = getattr(self, role)
            problem = None if name is None else self._name_problem(role, name) or run.files_problem(name)
            if problem:
                yield role, problem
        # These files have no ids and no names of columns.
        arrays = [role for role in ("oof", "test") if holds(getattr(self, role) or "", "array")]
        for role in ("oof", "test"):
            if getattr(self, f"{role}_ids") is not None and role not in arrays:
                message = f"{role}_ids belongs to an npy file; got {role}={getattr(self, role)!r}. Remove it"
                yield f"{role}_ids", message
        if self.classes is not None and not arrays:
            message = "classes names the columns of npy files; columns of other files have names. Remove it"
            yield "classes", message

    @staticmethod
    def _name_problem(role: str, name: str) -> str | None:
        if role == "test_ids" and has_fold(name):
            return "one file of ids is for the test files of all folds; got {fold}. Name one file"
        if role != "test" and placeholders(name):
            return f"must be the name of one file; got {name!r}. Only test may hold {{fold}} or {{fold1}}"
        kinds: tuple[Holds, ...] = ("table",) if role == "folds" else ("table", "array")
        if problem := placeholder_problem(name, FOLD):
            return problem
        if not holds(name, *kinds):
            return f"must be a file of {', '.join(suffixes_of(*kinds))}; got {name!r}. Convert it"
        return None


class PoolFiles(Options):
    """Files of many members at once: one member for each out-of-fold file."""

    files: str = Field(
        description="Out-of-fold files: a glob with one *, a folder, or a csv file of name, oof and test."
    )
    test: str | None = Field(
        None, description="Test files: a glob or a folder; paired with files by what the * stands for."
    )
    folds: str | None = Field(None, description="csv of id and fold: the folds of all these rows.")
    oof_ids: str | None = Field(None, description="npy: a file with an id for each row of every oof file.")
    test_ids: str | None = Field(None, description="npy: a file with an id for each row of every test file.")
    classes: tuple[str | int | float | bool, ...] | None = Field(
        None, description="npy: the order of their columns; the sorted order without it."
    )

    _found: PoolMatch = PrivateAttr(default=PoolMatch())

    def found_in(self, folders: Folders) -> Self:
        """Return the pool with its files looked up."""
        pool = self.model_copy()
        pool._found = find_pool(self.files, self.test, folders)
        return pool

    @property
    def parts(self) -> dict[str, PredictionFiles]:
        """The files of each member by name; none before they were looked up, or where something is wrong."""
        shared = {name: getattr(self, name) for name in ("folds", "oof_ids", "test_ids", "classes")}
        return {
            name: PredictionFiles(oof=oof, test=test, **shared)
            for name, (oof, test) in self._found.files.items()
        }

    def problems(self, run: RunFacts) -> Iterator[tuple[str, str]]:
        """Yield (option, message), the first of each kind for the files."""
        yield from self._found.problems
        seen = set()
        for name, part in self.parts.items():
            for role, message in part.problems(run):
                if role not in seen:
                    seen.add(role)
                    yield ("files" if role == "oof" else role), f"{name}: {message}"
