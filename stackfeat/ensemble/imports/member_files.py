"""Which files a member is made of, and the keys of their entries.

In:  a member's options, the config's folder.
Out: paths and hashes; for every unit the keys of the entries that it reads, by role. Nothing is parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stackfeat.data.fingerprint import hash_file
from stackfeat.ensemble.graph import Node
from stackfeat.ensemble.imports.roles import FOLDS, PREDICTIONS, weights_role
from stackfeat.ensemble.options import PredictionFiles, PredictionsOptions
from stackfeat.ensemble.units import Fold
from stackfeat.features.file_keys import checkpoint_recipe, fold_file_recipe, imported_recipe
from stackfeat.features.keys import Recipe, key_of
from stackfeat.nets.options import NetOptions
from stackfeat.registry.file_template import fill, has_fold

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
    """

    folder: Path
    memory: Path | None
    samples: str
    folds: str
    id_name: str
    target: str

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

    def imported(self, given: PredictionFiles) -> Recipe:
        """Return the recipe of predictions from files."""
        roles: dict[str, list[str]] = {"oof": [given.oof]}
        if given.test is not None:
            roles["test"] = self.of_folds(given.test)
        for role in ("oof_ids", "test_ids"):
            name = getattr(given, role)
            roles |= {role: [name]} if name is not None else {}
        hashes = {role: [self.hash(name) for name in names] for role, names in roles.items()}
        return imported_recipe(hashes, self.samples, self.id_name, self.target, given.classes)

    def sources(self, node: Node, repeat: int, fold: Fold) -> dict[str, str]:
        """Return the keys of the entries that a unit reads, by role; none for most members."""
        if isinstance(node.options, PredictionsOptions):
            return {PREDICTIONS: key_of(self.imported(node.options.predictions))}
        if isinstance(node.options, NetOptions) and node.options.weights is not None:
            return self._checkpoints(node.options, node.options.weights, repeat, fold)
        return {}

    def _checkpoints(self, options: NetOptions, pattern: str, repeat: int, fold: Fold) -> dict[str, str]:
        """Return the checkpoints of one fold; with predictions alone and a folds file, those of all."""
        of_all = has_fold(pattern) and options.folds is not None and not options.taps()
        roles: dict[str, str] = {FOLDS: key_of(self.fold_file(options.folds or ""))} if of_all else {}
        folds = range(len(self.of_folds(pattern, repeat))) if of_all else (None,)
        for one in folds:
            for seed in range(options.seeds):
                number = one if one is not None else fold if isinstance(fold, int) else 0
                name = fill(pattern, fold=number, repeat=repeat, seed=seed)
                roles[weights_role(seed, one)] = key_of(checkpoint_recipe(self.hash(name)))
        return roles

    def fold_file(self, name: str) -> Recipe:
        """Return the recipe of the folds of checkpoints."""
        return fold_file_recipe(self.hash(name), self.samples, self.folds, self.id_name)
