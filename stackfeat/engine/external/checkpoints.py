"""Checkpoints in the store: their bytes, and the folds they were trained with.

In:  the net members of a plan that have weights, the rows and folds of the run.
Out: entries of bytes and of folds; notes; or an error that says why these checkpoints would leak.

`MemberFiles` says which files a member is made of, and the keys of their entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from stackfeat.data.files.fingerprint import hash_file
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.recipes import CheckpointRecipe, Fold, FoldFileRecipe, ImportedRecipe
from stackfeat.errors import DataError
from stackfeat.members.imported_rows import (
    FOLDS,
    STEM,
    FoldFile,
    beside_role,
    read_fold_file,
    twin_role,
    weights_role,
)
from stackfeat.members.options import Checkpoints, MemberOptions
from stackfeat.members.prediction_files import PredictionFiles
from stackfeat.registry.patterns import fill, has_fold
from stackfeat.store import EntryStore

MOST_FOLDS = 100

ABSENT = "absent"


@dataclass(frozen=True)
class MemberFiles:
    """Files of the members of one run.

    Attributes
    ----------
    folder : Path
        What paths are relative to.
    memory : Path or None
        A file that remembers hashes, as for data files.
    samples, folds : str
        Keys of the training rows and of the run's folds.
    id_name, target : str
        Names of these columns in the training file.
    text : DataOptions or None
        How the run's files write numbers; part of `samples`.
    """

    folder: Path
    memory: Path | None
    samples: str
    folds: str
    id_name: str
    target: str
    text: DataOptions | None = None

    def path(self, name: str) -> Path:
        return self.folder / name

    def hash(self, name: str) -> str:
        """Return the hash of a file's bytes and its suffix; a word where there is no such file.

        That a file is missing is said where files are read, for a plan can be made before.
        """
        path = self.path(name)
        return f"{hash_file(path, self.memory)}{path.suffix.lower()}" if path.is_file() else ABSENT

    def of_folds(self, pattern: str, repeat: int = 0) -> list[str]:
        """Return the names of the files of folds 0, 1, ... that exist, at least that of fold 0."""
        if not has_fold(pattern):
            return [fill(pattern, repeat=repeat)]
        names = [fill(pattern, fold=fold, repeat=repeat) for fold in range(MOST_FOLDS)]
        n_there = next((fold for fold, name in enumerate(names) if not self.path(name).is_file()), MOST_FOLDS)
        return names[: max(n_there, 1)]

    def imported(self, given: PredictionFiles) -> ImportedRecipe:
        """Return the recipe of predictions from files."""
        roles = {
            "oof": [given.oof],
            "test": [] if given.test is None else self.of_folds(given.test),
            "oof_ids": [] if given.oof_ids is None else [given.oof_ids],
            "test_ids": [] if given.test_ids is None else [given.test_ids],
        }
        return ImportedRecipe(
            files={role: tuple(map(self.hash, names)) for role, names in roles.items() if names},
            samples=self.samples,
            id=self.id_name,
            target=self.target,
            classes=None if given.classes is None else tuple(given.classes),
        )

    def sources(self, options: MemberOptions, repeat: int, fold: Fold) -> dict[str, str]:
        """Return the keys of the entries that a job reads, by role; none for most members."""
        if options.files is not None:
            given = (options.files, *options.twins)
            return {twin_role(place): self.imported(one).key for place, one in enumerate(given)}
        return {} if options.checkpoints is None else self._checkpoints(options.checkpoints, repeat, fold)

    def _checkpoints(self, given: Checkpoints, repeat: int, fold: Fold) -> dict[str, str]:
        """Return the checkpoints of one fold; with predictions alone and a folds file, those of all."""
        pattern = given.pattern
        of_all = has_fold(pattern) and given.folds is not None and not given.passes_features
        roles: dict[str, str] = {FOLDS: self.fold_file(given.folds or "").key} if of_all else {}
        for place, name in enumerate(given.beside):
            roles[beside_role(place)] = CheckpointRecipe(file=self.hash(name)).key
        folds = range(len(self.of_folds(pattern, repeat))) if of_all else (None,)
        for one in folds:
            for seed in range(given.seeds):
                number = one if one is not None else fold if isinstance(fold, int) else 0
                name = fill(pattern, fold=number, repeat=repeat, seed=seed)
                roles[weights_role(seed, one)] = CheckpointRecipe(file=self.hash(name)).key
        return roles

    def fold_file(self, name: str) -> FoldFileRecipe:
        """Return the recipe of the folds of checkpoints."""
        return FoldFileRecipe(file=self.hash(name), samples=self.samples, folds=self.folds, id=self.id_name)


@dataclass(frozen=True)
class CheckpointRows:
    """What checkpoints are compared with.

    Attributes
    ----------
    n_held : int
        Rows that the run holds out of all levels.
    """

    train: Samples
    folds: Folds
    n_held: int


def ensure_checkpoints(
    given: Mapping[str, Checkpoints], files: MemberFiles, rows: CheckpointRows, store: EntryStore
) -> list[str]:
    """Store checkpoints, by member, and their folds, unless the store has them.

    Returns
    -------
    list of str
        Notes, and warnings with ``warning: `` in front.

    Raises
    ------
    DataError
        If files are missing, or features would come from nets that saw the labels of their rows.
    """
    notes: list[str] = []
    problems: list[str] = []
    for member, own in given.items():
        n_folds = rows.folds.n_folds
        if own.folds is not None:
            try:
                file = _ensure_folds(own.folds, files, rows, store)
            except DataError as error:
                problems.append(f"{member}: {error}")
                continue
            found = _fold_problem(own, file, rows)
            problems += [f"{member}: {found}"] if found else []
            if not found and not file.is_identical:
                notes.append(
                    f"warning: {member}: checkpoints of other folds than the run's ({file.fingerprint}; run "
                    f"{file.run_fingerprint}): each row goes through the net that did not see it, but these nets saw "
                    "labels that the run holds back in its folds"
                )
            n_folds = n_folds if file.is_identical else file.n_folds
        # One file may serve several folds, repeats or seeds.
        parts = product(range(rows.folds.n_repeats), range(n_folds), range(own.seeds))
        names = [fill(own.pattern, fold=fold, repeat=repeat, seed=seed) for repeat, fold, seed in parts]
        for name in dict.fromkeys([*names, *own.beside]):
            problem = _ensure_bytes(name, files, store)
            problems += [f"{member}: {problem}"] if problem else []
        if own.is_tuned and not has_fold(own.pattern):
            notes.append(
                f"{member}: every fold starts from {own.pattern}; that it never saw these labels is taken on trust"
            )
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))
    return notes


def _ensure_bytes(name: str, files: MemberFiles, store: EntryStore) -> str | None:
    """Copy a checkpoint into the store; return what is wrong with the file, or None."""
    hashed = files.hash(name)
    if hashed == ABSENT:
        return f"there must be a checkpoint for every fold, repeat and seed; {name!r} is not there"
    recipe = CheckpointRecipe(file=hashed)
    if not store.has(recipe.key):
        path = files.path(name)
        with recipe.write(store) as writer:
            writer.bytes(f"{STEM}{path.suffix.lower()}", path.read_bytes())
    return None


def _ensure_folds(name: str, files: MemberFiles, rows: CheckpointRows, store: EntryStore) -> FoldFile:
    recipe = files.fold_file(name)
    if not store.has(recipe.key):
        file = read_fold_file(files.path(name), rows.train.ids, rows.folds, files.id_name)
        with recipe.write(store) as writer:
            file.save(writer)
    return FoldFile.load(store.read(recipe.key))


def _fold_problem(given: Checkpoints, file: FoldFile, rows: CheckpointRows) -> str | None:
    """Say why these checkpoints cannot be used beside the run's folds, or None."""
    if rows.n_held and file.n_other:
        return (
            f"held-out rows must be unknown to every model; {file.n_other} other rows than this run's stand "
            "in folds of the folds file, so checkpoints were trained on them. Set stack.holdout: 0, or hold "
            "out rows of fold -1 (stack.holdout: column)"
        )
    if file.is_identical or not given.passes_features:
        return None
    why = (
        "the folds are the same, but numbered otherwise; number the files and the folds file as the run does "
        "(its folds.csv), or split the run by them"
        if file.is_same
        else f"only {file.agreement:.0%} of pairs of rows agree. A row's features would stand beside those of rows "
        "whose nets saw its label. Split the run by these folds"
    )
    return (
        f"the folds of checkpoints that hand on features must be the run's own; {why}: put the column fold into the "
        "training file and name it as data.fold (folds.kind: column). Or hand on predictions only: emit: [proba]"
    )
