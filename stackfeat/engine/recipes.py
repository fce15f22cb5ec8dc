"""Recipes: everything a stored result depends on, as values whose JSON is hashed to its key.

A recipe is also the whole order for the work: a worker that reads it needs nothing else.
Options that cannot change results (job count, verbosity) stay out of it. The version of a
stage goes up when its results change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, Self

from stackfeat.encodings.options import EncodingName
from stackfeat.members.settings import Settings
from stackfeat.meta.widening import Widening
from stackfeat.registry.source import library_versions
from stackfeat.store import EntryStore, EntryWriter, hash_recipe
from stackfeat.structure import checked, must, plain, structured

Fold = int | str
"""A number, "all", or for nested fits two numbers as "0-1": neither fold is trained on."""

View = int | str
"""How test rows are seen: by the pipeline of a number; as the "mean" over fold models; by one "refit"."""

Place = tuple[str, str]
"""Where an array stands: the key of an entry, and its name there."""

HOLDOUT_VERSION = 1
"""Of how rows are drawn that a run holds out."""


def key_of(recipe: Mapping[str, Any]) -> str:
    """Return the key (64 hex digits) of a recipe."""
    return hash_recipe(recipe)


_RECIPES: dict[str, type[Recipe]] = {}
"""By stage, filled by the classes below."""


def _installed(*packages: str) -> Any:
    return field(default_factory=partial(library_versions, *packages))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the entries of one stage depend on.

    Its JSON is that of `structure.plain`, so options that came later leave older keys as they were.

    Attributes
    ----------
    stage : str
        What is made, and the kind of the entry.
    version : int
        Counted up when the results of the stage change.
    """

    stage: ClassVar[str]
    version: ClassVar[int]

    def __init_subclass__(cls, stage: str = "", version: int = 0) -> None:
        cls.stage, cls.version = stage, version
        if stage:
            _RECIPES.setdefault(stage, cls)

    def to_json(self) -> dict[str, Any]:
        return {"stage": self.stage, "version": self.version, **plain(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str = "a recipe") -> Self:
        """Return what `to_json` described; StructureError if it is not made so."""
        given = {name: value for name, value in values.items() if name not in ("stage", "version")}
        return structured(cls, given, where)

    @cached_property
    def key(self) -> str:
        """The key of the entry."""
        return key_of(self.to_json())

    def write(self, store: EntryStore) -> AbstractContextManager[EntryWriter]:
        """Write the entry."""
        return store.write(self.key, self.stage, self.to_json())


@dataclass(frozen=True, kw_only=True)
class SamplesRecipe(Recipe, stage="samples", version=4):
    """Rows of a file, typed; test rows also depend on the training file's schema (`train`, its key).

    With `holdout` the rows that are kept (`part` train) or held out (`part` holdout) alone.
    """

    file: str
    options: Mapping[str, Any]
    task: str
    part: str
    train: str | None
    libraries: Mapping[str, str]
    holdout: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        file: str,
        options: Mapping[str, Any],
        task: str,
        part: str,
        train: str | None = None,
        holdout: Mapping[str, Any] | None = None,
    ) -> SamplesRecipe:
        """Return the recipe with the versions of what reads the file and draws the rows."""
        libraries = library_versions("pandas", *(["scikit-learn"] if file.startswith("sklearn:") else []))
        drawn = None if holdout is None else {"version": HOLDOUT_VERSION, **holdout}
        return cls(
            file=file, options=options, task=task, part=part, train=train, libraries=libraries, holdout=drawn
        )


@dataclass(frozen=True, kw_only=True)
class FoldsRecipe(Recipe, stage="folds", version=1):
    """Index arrays of every fold of every repeat."""

    samples: str
    options: Mapping[str, Any]
    code: str | None
    libraries: Mapping[str, str] = _installed("scikit-learn")


@dataclass(frozen=True)
class BlockReference:
    """Where the OOF rows of a block stand: the place of each fold, or None if not predicted."""

    name: str
    kind: Literal["prediction", "feature"]
    encoding: EncodingName | None
    oof: tuple[Place | None, ...]


@dataclass(frozen=True, kw_only=True)
class MemberRecipe(Recipe):
    """What a stage that makes a member depends on.

    Attributes
    ----------
    member : mapping
        Its options, as `stackfeat.members.make_member` takes them.
    raw : tuple of str
        Names of the inputs that it reads.
    """

    member: Mapping[str, Any]
    samples: str
    folds: str
    seed: int
    raw: tuple[str, ...]
    settings: Settings
    libraries: Mapping[str, str]
    code: str | None

    @property
    def encodings(self) -> set[str]:
        """Encodings of its taps."""
        return {name for tap in self.member.get("emit", ()) for name in tap["encode"]}


@dataclass(frozen=True)
class ExtraReference:
    """Rows that only train: the key of their entry, and what one weighs; None: 1 or nothing, as inner rows tell."""

    samples: str
    factor: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExtraFactorRecipe(Recipe, stage="extra_factor", version=1):
    """Whether extra rows lower the loss of boosting on inner rows of a fold."""

    samples: str
    folds: str
    extra: str
    repeat: int
    fold: Fold
    seed: int
    libraries: Mapping[str, str] = _installed("lightgbm", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class FitRecipe(MemberRecipe, stage="fit", version=10):
    """One member fitted for one fold (or on all OOF rows: fold ``all``), and its OOF rows."""

    repeat: int
    fold: Fold
    blocks: tuple[BlockReference, ...]
    extra: ExtraReference | None = None

    @property
    def sources(self) -> Mapping[str, str]:
        """Keys of the entries of files that the member is made of, by role."""
        found: Mapping[str, str] = self.member.get("sources", {})
        return found

    @property
    def folds_left_out(self) -> list[int]:
        """The two folds that a nested fit leaves out, such as "0-1"; none for other fits."""
        return [int(part) for part in str(self.fold).split("-")] if "-" in str(self.fold) else []


@dataclass(frozen=True, kw_only=True)
class ReferenceRecipe(MemberRecipe, stage="reference", version=1):
    """Activations of anchors in a member's net before any training; one for all folds and repeats."""


@dataclass(frozen=True)
class EmitView:
    """One view of other rows: for each block that is read its place, or several whose mean is read."""

    fold: View
    blocks: tuple[Place | tuple[Place, ...], ...]

    @classmethod
    def of(cls, fold: View, blocks: Sequence[Sequence[Place]]) -> EmitView:
        """Return the view; a single place is written as such, as it was before rows could be averaged early."""
        return cls(fold, tuple(places[0] if len(places) == 1 else tuple(places) for places in blocks))

    @property
    def places(self) -> list[Place]:
        """All places that are read."""
        return [
            place for block in self.blocks for place in (block if isinstance(block[0], tuple) else (block,))
        ]


@dataclass(frozen=True, kw_only=True)
class EmitRecipe(Recipe, stage="emit", version=1):
    """What a fitted member says of other rows; `without` names blocks it was fitted with and does not get."""

    fit: str
    samples: str
    raw: tuple[str, ...]
    views: tuple[EmitView, ...]
    without: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SpacesRecipe(Recipe):
    """What maps between the fold spaces of one tap depend on, or to the space of a `reference`."""

    fits: tuple[str, ...]
    reference: str | None
    tap: str
    folds: str
    repeat: int
    libraries: Mapping[str, str] = _installed("numpy", "scipy")


@dataclass(frozen=True, kw_only=True)
class AlignRecipe(SpacesRecipe, stage="align", version=2):
    """Orthogonal maps that bring one tap's fold spaces together, or each to the space of a `reference`."""

    parts: tuple[str, ...]
    reduce: int | None
    seed: int

    def with_refit(self, fit: str) -> AlignRefitRecipe:
        """Return the recipe of this alignment with the space of a refitted net added."""
        shared = {item.name: getattr(self, item.name) for item in fields(SpacesRecipe)}
        return AlignRefitRecipe(align=self.key, fit=fit, **shared)


@dataclass(frozen=True, kw_only=True)
class AlignRefitRecipe(SpacesRecipe, stage="align_refit", version=2):
    """An alignment (`align`, its key) with the space of a net added that was refitted on all rows (`fit`)."""

    align: str
    fit: str


@dataclass(frozen=True, kw_only=True)
class AlignEmitRecipe(Recipe, stage="align_emit", version=2):
    """Other rows' activations of one fold model (or of the refit: fold ``refit``), mapped."""

    align: str
    emit: str
    tap: str
    fold: View


@dataclass(frozen=True, kw_only=True)
class ImportedRecipe(Recipe, stage="imported", version=2):
    """Predictions from files, aligned with the training rows.

    Attributes
    ----------
    files : mapping
        Hashes by role: ``oof``, ``test`` (one, or one for each fold), ``oof_ids``, ``test_ids``.
    """

    files: Mapping[str, tuple[str, ...]]
    samples: str
    id: str
    target: str
    classes: tuple[Any, ...] | None
    libraries: Mapping[str, str] = _installed("pandas")


@dataclass(frozen=True, kw_only=True)
class ImportCheckRecipe(Recipe, stage="import_check", version=1):
    """What was found out of imported predictions beside the rows, folds and metric of a run."""

    imported: str
    test: str | None
    holdout: str | None
    folds: str
    folds_file: str | None
    metric: str
    metric_code: str | None
    claimed: float | None
    seed: int
    libraries: Mapping[str, str] = _installed("numpy", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class PoolRecipe(Recipe, stage="pool", version=3):
    """Verdicts on the files of a pool beside the rows, folds and metric of a run.

    Attributes
    ----------
    imported : mapping
        Keys of the rows of its files, by member.
    named : tuple of str
        Members that the config names one by one.
    """

    name: str
    imported: Mapping[str, str]
    named: tuple[str, ...]
    test: str | None
    holdout: str | None
    folds: str
    metric: str
    metric_code: str | None
    seed: int
    libraries: Mapping[str, str] = _installed("numpy", "scipy", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class CheckpointRecipe(Recipe, stage="checkpoint", version=1):
    """The bytes of a checkpoint."""

    file: str


@dataclass(frozen=True, kw_only=True)
class FoldFileRecipe(Recipe, stage="fold_file", version=1):
    """Folds from a file, aligned with the training rows and compared with the run's folds."""

    file: str
    samples: str
    folds: str
    id: str


@dataclass(frozen=True, kw_only=True)
class LayersRecipe(Recipe, stage="layers", version=1):
    """Which layers of a net patterns of taps mean."""

    net: Mapping[str, Any]
    taps: tuple[str, ...]
    samples: str
    libraries: Mapping[str, str]
    code: str | None


@dataclass(frozen=True, kw_only=True)
class MetricRecipe(Recipe):
    """What a score of predictions of some rows depends on."""

    samples: str
    average: str
    metric: str
    metric_code: str | None
    seed: int
    libraries: Mapping[str, str] = _installed("numpy", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class OofMetricRecipe(MetricRecipe):
    """What a score of OOF rows depends on.

    Attributes
    ----------
    first_fold : int
        Rows of earlier folds do not count: with time folds, those that not all members predict.
    within_folds : bool
        The mean of the scores of the folds counts, not the score of pooled rows.
    """

    folds: str
    first_fold: int
    within_folds: bool = False


@dataclass(frozen=True, kw_only=True)
class ScoreRecipe(OofMetricRecipe, stage="score", version=7):
    """A member's score on its OOF rows; `places` are those of every fold, for each repeat.

    `decision` says how the rule from predictions to labels is found, or is one that is given.
    """

    block: str
    places: tuple[tuple[Place | None, ...], ...]
    decision: str | Mapping[str, Any]


@dataclass(frozen=True)
class Contender:
    """A member that may be submitted: its OOF rows, and the key of its score.

    Attributes
    ----------
    rank : tuple of int
        Among members as good as the best the lowest is taken.
    """

    name: str
    rank: tuple[int, ...]
    places: tuple[tuple[Place | None, ...], ...]
    score: str


@dataclass(frozen=True, kw_only=True)
class SelectRecipe(OofMetricRecipe, stage="select", version=4):
    """What choosing among members is worth: in each fold by the rows of the others."""

    contenders: tuple[Contender, ...]


@dataclass(frozen=True, kw_only=True)
class HoldoutScoreRecipe(MetricRecipe, stage="holdout_score", version=3):
    """A member's score on held-out rows; `score` is the key of its OOF score, which holds its decision."""

    block: str
    views: tuple[Place, ...]
    score: str
    widening: Widening | None = None


@dataclass(frozen=True, kw_only=True)
class IntervalRecipe(Recipe, stage="interval", version=1):
    """The intervals of a member; `places` are those of its OOF rows, for each repeat and fold."""

    block: str
    places: tuple[tuple[Place | None, ...], ...]
    samples: str
    folds: str
    average: str
    seed: int
    libraries: Mapping[str, str] = _installed("numpy", "lightgbm")


@dataclass(frozen=True, kw_only=True)
class DiagnoseRecipe(Recipe, stage="diagnose", version=2):
    """How far a block's folds, and its OOF and test rows, can be told apart."""

    block: str
    oof: tuple[Place | None, ...]
    views: tuple[Place, ...]
    align: str | None
    samples: str
    folds: str
    seed: int
    averaging: str = "late"
    libraries: Mapping[str, str] = _installed("numpy", "scikit-learn")


def read_recipe(values: object, where: str = "a recipe") -> Recipe:
    """Return the recipe that JSON describes.

    Raises
    ------
    StructureError
        If it is of no stage of a run, or not made as such.
    """
    given = checked(dict[str, Any], values, where)
    stage = given.get("stage")
    must(stage in _RECIPES, f"{where}.stage", f"be one of {', '.join(_RECIPES)}", stage)
    return _RECIPES[str(stage)].from_json(given, where)
