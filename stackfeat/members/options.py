"""Options of members, torch-free: a class for each kind of member, which owns all that follows from its kind.

In:  a member's mapping in a config, or in the recipe of a fit.
Out: the blocks it hands on, what its keys depend on, what it costs, and the learner that is fitted. Nobody
     else asks which kind a member is; a new kind is a class like these and a row of the table `MEMBERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, PrivateAttr, Tag

from stackfeat.encodings import CROSS_FOLD
from stackfeat.encodings.options import EncodingName, TapOptions
from stackfeat.errors import UsageError
from stackfeat.members.finished import FinishedFits
from stackfeat.members.pool_files import Folders
from stackfeat.members.prediction_files import PoolFiles, PredictionFiles
from stackfeat.members.run_facts import RunFacts
from stackfeat.members.settings import FitSettings, RunSettings
from stackfeat.options import Options
from stackfeat.registry.source import library_versions
from stackfeat.tasks.task import TASKS, task_class

if TYPE_CHECKING:
    from stackfeat.members.protocol import Member

VERSIONS = {
    "net": 3,  # of nets alone: how their layers are read, what `auto` means for their training and scaling
    "gated_linear": 4,  # of its fits alone: a new meta-learner trains no net anew
    "gate": 1,  # of fits of other estimators that judge feature blocks
    "rounds": 1,  # of fits of boosting that finds its number of rounds, or stops early
    "prior_vote": 1,  # of hard votes whose ties go to the more frequent class
    "greedy_vote": 2,  # of its weights: all rows under most built-in metrics, an early stop
    "weighted_vote": 2,  # of its weights: all rows where they are searched
    "calibration": 2,  # of fits whose predictions are calibrated
}
"""Parts of the keys of some members, counted up when what their fits give changes."""

_KINDS = ("net", "estimator", "vote")

Report = Callable[[str, str], None]
"""Takes what is wrong with a member: a place below it, and a message."""


@dataclass(frozen=True)
class Output:
    """One block of a member: its predictions, or an encoded tap.

    Attributes
    ----------
    tap : TapOptions or None
        How the layer is read; None for predictions, and in a saved stack, whose layers are read as their fits say.
    """

    name: str
    kind: Literal["prediction", "feature"]
    tap: TapOptions | None = None
    encoding: EncodingName | None = None

    @property
    def is_cross_fold(self) -> bool:
        """Whether it is a tap whose fold spaces are aligned."""
        return self.encoding in CROSS_FOLD

    @property
    def needs_untrained(self) -> bool:
        """Whether it is made with the help of the net before any training."""
        return self.encoding in CROSS_FOLD and CROSS_FOLD[self.encoding].needs_untrained

    @property
    def tap_name(self) -> str:
        """Name of the tap, without the encoding."""
        return self.name.removesuffix(f"@{self.encoding}")


@dataclass(frozen=True)
class Checkpoints:
    """Files of nets that were trained elsewhere.

    Attributes
    ----------
    pattern : str
        Name of the files; may hold ``{fold}`` and the like.
    folds : str or None
        Name of the file of the folds that they were trained with.
    seeds : int
        Nets of each fold.
    passes_features : bool
        Whether layers are read, and not predictions alone.
    is_tuned : bool
        Whether training starts from them.
    has_classes : bool
        Whether the order of their columns is given.
    beside : tuple of str
        Further files that a net is made of.
    """

    pattern: str
    folds: str | None
    seeds: int
    passes_features: bool
    is_tuned: bool
    has_classes: bool
    beside: tuple[str, ...] = ()


class MemberOptions(Options):
    """What a member is made of. The facts below are those of most kinds; a kind says where it differs."""

    does_without_inputs: ClassVar[bool] = False
    """Whether it still predicts when some of its inputs are left out after the fit."""
    is_short: ClassVar[bool] = False
    """Whether a fit takes so little time that it is tried even when a run is late."""

    def member(self, trust_code: bool = False) -> Member:
        """Return what is fitted; its module is imported only then."""
        raise NotImplementedError

    @classmethod
    def member_of(cls, recipe: Mapping[str, Any], trust_code: bool) -> Member:
        """Return what is fitted, from the values that `recipe` returned."""
        return cls(**recipe).member(trust_code)

    # What it is, for people.

    @property
    def learner(self) -> str:
        """What learns, in a word or two."""
        return ""

    @property
    def told(self) -> dict[str, Any]:
        """The options that are not their defaults, but for what it reads and what learns."""
        given = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {name: value for name, value in given.items() if name not in ("inputs", "each", *_KINDS)}

    # What it reads and hands on.

    @property
    def reads(self) -> tuple[str, ...] | None:
        """Raw inputs by name and blocks by pattern; None: not said, which means all raw inputs."""
        return ()

    @property
    def each_block(self) -> str | None:
        """A pattern: one member is made for every block that matches."""
        return None

    def input_problems(
        self, raw: Sequence[str], blocks: Sequence[str], features: Sequence[str]
    ) -> Iterator[str]:
        """Say what of its inputs it cannot read; `features` are those of its blocks that hold activations."""
        yield from ()

    def weights_problem(self, inputs: Sequence[str]) -> str | None:
        """Say what is wrong with the number of weights for inputs of these names, if anything."""
        return None

    def outputs(self, task: str, report: Report) -> tuple[Output, ...]:
        """List the blocks it hands on; what it cannot hand on is reported."""
        return (Output(task_class(task).output, "prediction"),)

    # What is wrong with it.

    def code_problems(self, task: str, folder: Path, trust_code: bool) -> Iterator[tuple[str, str, bool]]:
        """Yield (place, message, whether trust is the remedy) for code that it names, and its parameters."""
        yield from ()

    def problems(self, run: RunFacts) -> Iterator[tuple[str, str]]:
        """Yield (place, message) for options that go against each other, the rest of the config, or files.

        Places are below the member, such as ``train.loss``, or those of an input: ``data.inputs.image.size``.
        """
        yield from ()

    def named_classes(self) -> Iterator[tuple[str, Sequence[object]]]:
        """Yield (place, labels) for options that name classes of the target."""
        yield from ()

    # What its keys depend on.

    def recipe(self) -> dict[str, Any]:
        """Return the options that can change what a fit gives; files count by their contents."""
        values = self.to_json()
        for name in ("inputs", "each", "seeds", "folds", "nested"):
            values.pop(name, None)
        return values

    def settings(self, run: RunSettings, *, has_blocks: bool, has_features: bool) -> FitSettings:
        """Return what a fit depends on of the settings of a run, given what it reads."""
        return FitSettings(threads=run.threads)

    def libraries(self) -> dict[str, str]:
        """Return the versions of the libraries whose change may change a fit."""
        return library_versions("numpy", "scipy")

    @property
    def code(self) -> str | None:
        """The name of code that may be the user's own, whose source then counts."""
        return None

    # How it is fitted.

    @property
    def is_fitted(self) -> bool:
        """Whether a fit learns from labels, so that with time folds it covers one fold fewer than its inputs."""
        return True

    @property
    def cost(self) -> int:
        """How costly a fit is likely to be, before anything is measured: 0 least, 4 most."""
        return 0

    @property
    def nesting(self) -> bool | Literal["auto"]:
        """Whether it trains on predictions of models that saw neither fold, where it reads predictions."""
        return False

    @property
    def is_calibrated(self) -> bool:
        """Whether a fit looks for a calibration of the predictions."""
        return False

    @property
    def is_gated(self) -> bool:
        """Whether feature blocks that it reads are judged first."""
        return True

    @property
    def is_tree_learner(self) -> bool:
        """Whether it is made of trees, by its name."""
        return False

    def resolved(self, task: str, folder: Path) -> Self:
        """Return the member with defaults of its own learner written out; `folder` may hold the learner's source."""
        return self

    def found_in(self, folders: Folders) -> Self:
        """Return the member with the files looked up that it names by a pattern."""
        return self

    def entries(self, name: str) -> Iterator[tuple[str, MemberOptions]]:
        """Yield the members that it stands for under this name in a config: itself, or one for each of its files."""
        yield name, self

    def reduced(self) -> Self:
        """Return the member on a budget of seconds, for reruns on few rows."""
        return self

    def decided(self, fits: FinishedFits) -> dict[str, Any]:
        """Return its mapping in a config with all that finished fits chose, so that the next ones choose nothing.

        Raises
        ------
        UsageError
            If it cannot be fitted to other rows.
        """
        return {**self.to_json(), "inputs": fits.inputs}

    # Where it comes from, and what may be done with it.

    @property
    def has_layers(self) -> bool:
        """Whether its learner is a net, whose layers can be read."""
        return False

    def open_taps(self) -> list[TapOptions]:
        """The taps that mean one block for every layer that matches, which only the net can tell."""
        return []

    def with_layers(self, layers: Mapping[str, Sequence[str]]) -> Self:
        """Return the member with each open tap replaced by the layers that it means."""
        return self

    @property
    def checkpoints(self) -> Checkpoints | None:
        """The checkpoints that it is made of."""
        return None

    @property
    def files(self) -> PredictionFiles | None:
        """The files that its predictions come from."""
        return None

    @property
    def twins(self) -> tuple[PredictionFiles, ...]:
        """Files of other members, whose mean with its own it stands for."""
        return ()

    def with_twins(self, files: Sequence[PredictionFiles]) -> Self:
        """Return the member that stands for the mean of its own files and of these."""
        return self

    @property
    def allows_early(self) -> bool:
        """Whether trees may read it though one test file stands for all fold models."""
        return False

    @property
    def is_given(self) -> bool:
        """Whether its fold models were made elsewhere: there is none that saw neither of two folds."""
        return self.files is not None

    @property
    def is_foreign(self) -> bool:
        """Whether its predictions come from files, or from nets that were trained elsewhere."""
        return self.files is not None

    @property
    def is_frozen(self) -> bool:
        """Whether one net, trained on other data, stands for all folds, so that its activations share columns."""
        return False

    def why_unsaveable(self, trust_code: bool) -> str | None:
        """Say, before anything is computed, why it cannot score later data; None where it can."""
        return None

    @property
    def preference(self) -> int:
        """Which of several members with equal scores is submitted: the least."""
        return 2

    @property
    def gives_probabilities(self) -> bool:
        """Whether it is worth being judged by a metric of probabilities."""
        return True


def made(path: str, *values: Any) -> Member:
    """Return an object of the class ``module:Class`` of this room, made of `values`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"stackfeat.members.{module}"), name)(*values)  # type: ignore[no-any-return]


class CalibratedOptions(MemberOptions):
    """A member whose predictions may be calibrated, where it stands above the first level."""

    calibrate: Literal["none", "auto", "temperature", "class_scaling", "by_label", "linear", "shift"] = Field(
        "none",
        description="Above the first level: auto calibrates predictions where that lowers the out-of-fold loss by "
        "more than one standard error; a family of maps is fitted whatever it gains.",
    )

    @property
    def is_calibrated(self) -> bool:
        """Whether a fit looks for a calibration of the predictions."""
        return self.calibrate != "none"

    @property
    def calibration_version(self) -> int | None:
        """That of the settings of its fits."""
        return VERSIONS["calibration"] if self.is_calibrated else None

    def problems(self, run: RunFacts) -> Iterator[tuple[str, str]]:
        if not self.is_calibrated:
            return
        if run.is_first:
            yield (
                "calibrate",
                "votes and meta-learners above the first level can be calibrated, by the folds of the rows that they "
                f"read; got {self.calibrate!r} in the first level. Remove it, and calibrate a later member that "
                "reads this one",
            )
        elif not task_class(run.task).calibrations:
            can = ", ".join(kind for kind in TASKS if task_class(kind).calibrations)
            yield (
                "calibrate",
                f"predictions of tasks {can} can be calibrated; got task {run.task!r}. Remove it",
            )
        elif self.calibrate not in ("auto", *task_class(run.task).calibrations):
            legal = ", ".join(("none", "auto", *task_class(run.task).calibrations))
            yield "calibrate", f"must be one of {legal} for task {run.task}; got {self.calibrate!r}. Use auto"

    def recipe(self) -> dict[str, Any]:
        values = super().recipe()
        values.pop("calibrate")
        return values | self.calibration_recipe()

    def calibration_recipe(self) -> dict[str, str]:
        """Return what a recipe says of the calibration: nothing where there is none."""
        return {"calibrate": self.calibrate} if self.is_calibrated else {}

    def decided(self, fits: FinishedFits) -> dict[str, Any]:
        found = [report["calibration"]["family"] for report in fits.deciding if "calibration" in report]
        kept = next((family for family in found if family != "none"), "none")
        return super().decided(fits) | {"calibrate": kept}

    def calibrated(self, member: Member) -> Member:
        """Return the member with its predictions calibrated, if they are to be."""
        if not self.is_calibrated:
            return member
        family = None if self.calibrate == "auto" else self.calibrate
        return made("calibrated:CalibratedMember", member, self.learns, family)

    @property
    def learns(self) -> bool:
        """Whether its fit without the calibration learns from labels."""
        return True


def _files_kind(value: Any) -> str:
    """Return whether files are those of a pool or of one member."""
    is_pool = "files" in value if isinstance(value, dict) else hasattr(value, "files")
    return "a pool" if is_pool else "one member"


class PredictionsOptions(MemberOptions):
    """A member read from files, or a pool of them."""

    predictions: Annotated[
        Annotated[PredictionFiles, Tag("one member")] | Annotated[PoolFiles, Tag("a pool")],
        Discriminator(_files_kind),
    ]
    allow_early: bool = Field(
        False, description="Let trees read it though one test file stands for all fold models."
    )

    _twins: tuple[PredictionFiles, ...] = PrivateAttr(default=())

    @property
    def learner(self) -> str:
        return "predictions from files"

    def member(self, trust_code: bool = False) -> Member:
        return self.member_of({}, trust_code)

    @classmethod
    def member_of(cls, recipe: Mapping[str, Any], trust_code: bool) -> Member:
        return made("imported:ImportedMember")

    def found_in(self, folders: Folders) -> Self:
        pool = self.pool
        return self if pool is None else self.model_copy(update={"predictions": pool.found_in(folders)})

    def entries(self, name: str) -> Iterator[tuple[str, MemberOptions]]:
        if self.pool is None:
            yield name, self
            return
        for part, files in self.pool.parts.items():
            yield f"{name}:{part}", self.model_copy(update={"predictions": files})

    def problems(self, run: RunFacts) -> Iterator[tuple[str, str]]:
        if run.data.id is None:
            message = "rows of imported files are aligned by id, never by position; got no data.id"
            yield "predictions", f"{message}. Name the column of the training file that identifies rows"
        parts = [self.predictions] if self.pool is None else self.pool.parts.values()
        if run.data.test is not None and any(part.test is None for part in parts):
            message = "data.test is given, so this member needs its test rows too; got no test. Add test"
            yield "predictions", message
        for role, message in self.predictions.problems(run):
            yield f"predictions.{role}", message

    def recipe(self) -> dict[str, Any]:
        return {"predictions": {}}

    def decided(self, fits: FinishedFits) -> dict[str, Any]:
        raise UsageError(
            f"a run is refreshed where all its members can be fitted again; got {fits.name}, whose predictions come "
            "from files that know the old rows only; submit a member that does not read it, or import new files"
        )

    @property
    def pool(self) -> PoolFiles | None:
        """The files of a pool."""
        return self.predictions if isinstance(self.predictions, PoolFiles) else None

    @property
    def files(self) -> PredictionFiles | None:
        return self.predictions if isinstance(self.predictions, PredictionFiles) else None

    @property
    def twins(self) -> tuple[PredictionFiles, ...]:
        return self._twins

    def with_twins(self, files: Sequence[PredictionFiles]) -> Self:
        member = self.model_copy()
        member._twins = tuple(files)
        return member

    @property
    def is_given(self) -> bool:
        return True

    @property
    def is_foreign(self) -> bool:
        return True

    def named_classes(self) -> Iterator[tuple[str, Sequence[object]]]:
        if self.predictions.classes is not None:
            yield "predictions.classes", self.predictions.classes

    @property
    def allows_early(self) -> bool:
        return self.allow_early
