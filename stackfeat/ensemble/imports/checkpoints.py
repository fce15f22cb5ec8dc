"""Checkpoints in the store: their bytes, and the folds they were trained with.

In:  the net members of a plan that have weights, the rows and folds of the run.
Out: entries of bytes and of folds; notes; or an error that says why these checkpoints would leak.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stackfeat.data.folds import Folds
from stackfeat.data.samples import Samples
from stackfeat.ensemble.graph import Node
from stackfeat.ensemble.imports.fold_file import FoldFile, read_fold_file
from stackfeat.ensemble.imports.member_files import ABSENT, MemberFiles
from stackfeat.ensemble.imports.roles import STEM
from stackfeat.errors import DataError
from stackfeat.features.file_keys import checkpoint_recipe
from stackfeat.features.keys import key_of
from stackfeat.nets.options import NetOptions
from stackfeat.registry.file_template import fill, has_fold
from stackfeat.store import EntryStore


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


def checkpoint_nodes(nodes: Sequence[Node]) -> list[Node]:
    """Return the members whose weights come from files."""
    return [
        node for node in nodes if isinstance(node.options, NetOptions) and node.options.weights is not None
    ]


def ensure_checkpoints(
    nodes: Sequence[Node], files: MemberFiles, rows: CheckpointRows, store: EntryStore
) -> list[str]:
    """Store checkpoints and their folds, unless the store has them.

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
    for node in checkpoint_nodes(nodes):
        assert isinstance(node.options, NetOptions) and node.options.weights is not None
        n_folds = rows.folds.n_folds
        if node.options.folds is not None:
            try:
                file = _ensure_folds(node.options.folds, files, rows, store)
            except DataError as error:
                problems.append(f"{node.full_name}: {error}")
                continue
            found = _fold_problem(node.options, file, rows)
            problems += [f"{node.full_name}: {found}"] if found else []
            notes += [f"warning: {node.full_name}: {text}" for text in _fold_notes(file)] if not found else []
            n_folds = n_folds if file.is_identical else file.n_folds
        for name in _needed(node.options, n_folds, rows.folds.n_repeats):
            problem = _ensure_bytes(name, files, store)
            problems += [f"{node.full_name}: {problem}"] if problem else []
        if node.options.is_tuned and not has_fold(node.options.weights):
            notes.append(
                f"{node.full_name}: every fold starts from {node.options.weights}; that it never saw these labels is "
                "taken on trust"
            )
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))
    return notes


def _needed(options: NetOptions, n_folds: int, n_repeats: int) -> Iterator[str]:
    """Yield the names of all files that some unit reads, each once."""
    pattern = options.weights or ""
    names = (
        fill(pattern, fold=fold, repeat=repeat, seed=seed)
        for repeat in range(n_repeats)
        for fold in range(n_folds)
        for seed in range(options.seeds)
    )
    yield from dict.fromkeys(names)


def _ensure_bytes(name: str, files: MemberFiles, store: EntryStore) -> str | None:
    """Copy a checkpoint into the store; return what is wrong with the file, or None."""
    hashed = files.hash(name)
    if hashed == ABSENT:
        return f"there must be a checkpoint for every fold, repeat and seed; {name!r} is not there"
    recipe = checkpoint_recipe(hashed)
    if not store.has(key_of(recipe)):
        path = files.path(name)
        with store.write(key_of(recipe), "checkpoint", recipe) as writer:
            writer.bytes(f"{STEM}{path.suffix.lower()}", path.read_bytes())
    return None


def _ensure_folds(name: str, files: MemberFiles, rows: CheckpointRows, store: EntryStore) -> FoldFile:
    recipe = files.fold_file(name)
    key = key_of(recipe)
    if not store.has(key):
        file = read_fold_file(files.path(name), rows.train.ids, rows.folds, files.id_name)
        with store.write(key, "fold_file", recipe) as writer:
            file.save(writer)
    return FoldFile.load(store.read(key))


def _fold_problem(options: NetOptions, file: FoldFile, rows: CheckpointRows) -> str | None:
    """Say why these checkpoints cannot be used beside the run's folds, or None."""
    if rows.n_held and file.n_other:
        return (
            f"held-out rows must be unknown to every model; {file.n_other} other rows than this run's stand "
            "in folds of the folds file, so checkpoints were trained on them. Set stack.holdout: 0, or hold "
            "out rows of fold -1 (stack.holdout: column)"
        )
    if file.is_identical or not options.taps():
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


def _fold_notes(file: FoldFile) -> list[str]:
    if file.is_identical:
        return []
    return [
        f"checkpoints of other folds than the run's ({file.fingerprint}; run {file.run_fingerprint}): each row "
        "goes through the net that did not see it, but these nets saw labels that the run holds back in its folds"
    ]
