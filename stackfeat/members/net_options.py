"""Options of `net` members: nets that are trained in every fold, or come from checkpoints; torch-free.

In:  a member's mapping in a config, or in the recipe of a fit.
Out: what follows from it: blocks of its taps, keys, cost, files, the learner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_serializer, model_validator

from stackfeat.data.options import TEXT_TYPES
from stackfeat.encodings.options import DEFAULT_ENCODINGS, FROZEN_ENCODINGS, TapOptions
from stackfeat.errors import UsageError
from stackfeat.members.finished import FinishedFits, middle
from stackfeat.members.options import VERSIONS, Checkpoints, MemberOptions, Output, Report, made
from stackfeat.members.pool_files import Folders
from stackfeat.members.run_facts import RunFacts
from stackfeat.members.settings import NetSettings, RunSettings
from stackfeat.nets.options import TrainOptions, with_training_defaults
from stackfeat.registry.mistakes import net_mistakes, tap_mistake
from stackfeat.registry.names import FAMILY_PACKAGES, NET_FACTS, NET_FAMILIES, NET_PACKAGES, NETS, TEXT_NETS
from stackfeat.registry.parameters import net_problems, parameter_problems
from stackfeat.registry.patterns import fill, has_fold, placeholder_problem, placeholders
from stackfeat.registry.resolve import name_problems
from stackfeat.registry.source import find_module, library_versions
from stackfeat.tasks.task import OUTPUTS, task_class

if TYPE_CHECKING:
    from stackfeat.members.protocol import Member

FEW_EPOCHS, SMALL_BATCH = 20, 64
QUICK_NETS, SHORT_TRAINING = ("mlp", "realmlp"), 50
"""Nets of a table, and epochs, that cost about as much as boosting."""
_WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
HUGGING_FACE, WEIGHTS = "hf:", "model.safetensors"
BESIDE = ("config.json", "tokenizer.json")
"""Files of a folder of Hugging Face besides its weights."""
_NEED_WEIGHTS = ("folds", "frozen", "state_key", "head", "freeze", "lr_decay", "lrs", "classes")
_SEEN = (
    "one net for all folds has seen the labels it would be asked to predict; got {!r}. Name a checkpoint of each "
    "fold ({{fold}} in the name, and folds); if it was trained on other data, set frozen: true for its features, or "
    "give train to start from it"
)
_UNKNOWN_FOLDS = (
    "checkpoints of folds need to say which rows each of them did not see: without it features of row i may come "
    "from a net that was trained on label i, and every score that follows is too good. Add folds: FILE.csv with the "
    "columns id and fold, or put the fold into the training file (data.fold, folds.kind: column)"
)
EmitItem = str | TapOptions


def folder_of(net: object) -> str | None:
    """Return the folder that a net ``hf:FOLDER`` comes from; None of other nets."""
    is_one = isinstance(net, str) and net.startswith(HUGGING_FACE)
    return str(net).removeprefix(HUGGING_FACE).rstrip("/") if is_one else None


class NetOptions(MemberOptions):
    """A member whose learner is a PyTorch net."""

    net: str = Field(description="A name of the table NETS, or 'pkg.mod:Class'.")
    params: dict[str, Any] = {}
    inputs: tuple[str, ...] | None = None
    train: TrainOptions = TrainOptions()
    emit: tuple[EmitItem, ...] | Literal["auto"] = "auto"
    seeds: int = Field(1, ge=1, le=100, description="Nets per fold; their predictions are averaged.")
    scaling: Literal["auto", "quantile", "standard", "clipped", "none"] = Field(
        "auto",
        description="Of numeric columns; auto: clipped on at most 100 rows, else quantile; with weights none.",
    )
    output: Literal["auto", "logits", "proba", "log_proba", "value"] = "auto"
    output_item: int | str = Field(
        0, description="Which item of a tuple, list or mapping that the net returns is its output."
    )
    classes: tuple[str | int | float | bool, ...] | None = Field(
        None, description="weights: the order of the net's output columns; the sorted order without it."
    )
    weights: str | None = Field(
        None, description="Checkpoint; may hold {fold} (from 0), {fold1} (from 1), {repeat}, {seed}."
    )
    folds: str | None = Field(
        None, description="csv of id and fold: which rows each fold's checkpoint did not see."
    )
    frozen: bool = Field(False, description="One net, trained on other data: its features, no folds needed.")
    state_key: str | None = Field(None, description="Where the state dict is in the checkpoint.")
    head: Literal["keep", "reset"] = Field(
        "keep", description="reset: last layers that do not fit the checkpoint start anew."
    )
    freeze: tuple[str, ...] = Field((), description="Fine-tuning: parameters (globs) that stay as they are.")
    lr_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Fine-tuning: factor of the learning rate from block to block, last first.",
    )
    lrs: dict[str, float] = Field({}, description="Fine-tuning: factor of the learning rate by glob.")

    _place: Path | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def a_folder_brings_its_weights(cls, values: Any) -> Any:
        """The encoder in a folder is trained on under a new head, unless it is frozen."""
        folder = folder_of(values.get("net")) if isinstance(values, dict) else None
        if folder is None:
            return values
        trained: dict[str, Any] = {} if values.get("frozen") is True else {"train": {}}
        return {"weights": f"{folder}/{WEIGHTS}", "head": "reset", **trained, **values}

    @field_validator("lrs")
    @classmethod
    def factors_are_positive(cls, value: dict[str, float]) -> dict[str, float]:
        for pattern, factor in value.items():
            if not factor > 0:
                raise ValueError(f"factors must be above 0; got {pattern}: {factor:g}. Use freeze for 0")
        return value

    @model_validator(mode="before")
    @classmethod
    def frozen_taps_have_a_default_of_their_own(cls, values: Any) -> Any:
        """One net has one space, so its activations may be handed on as they are."""
        if not isinstance(values, dict) or values.get("frozen") is not True:
            return values
        emit = values.get("emit", "auto")
        if not isinstance(emit, list | tuple):
            return values
        taps = [
            {**item, "encode": list(FROZEN_ENCODINGS)}
            if isinstance(item, dict) and "encode" not in item
            else item
            for item in emit
        ]
        return {**values, "emit": taps}

    @model_serializer(mode="wrap")
    def only_what_is_used(self, handler: Any) -> dict[str, Any]:
        """Leave `train` out where checkpoints are taken as they are: that it is given asks for fine-tuning."""
        values: dict[str, Any] = handler(self)
        if self.weights is not None and not self.is_tuned:
            values.pop("train", None)
        return values

    @field_validator("emit", "inputs", "freeze", mode="before")
    @classmethod
    def one_item_is_a_list(cls, value: Any) -> Any:
        return value if value is None or value == "auto" or isinstance(value, list | tuple) else (value,)

    @property
    def is_tuned(self) -> bool:
        """Whether training starts from given weights, and is not just left out."""
        return self.weights is not None and "train" in self.model_fields_set

    @property
    def chosen_scaling(self) -> Literal["auto", "quantile", "standard", "clipped", "none"]:
        """`scaling`, which is `none` with weights where nothing is given; other `auto` is for rows to say."""
        is_given = self.weights is not None and self.folder is None
        return "none" if self.scaling == "auto" and is_given else self.scaling

    @property
    def folder(self) -> str | None:
        """The folder of Hugging Face that the net comes from."""
        return folder_of(self.net)

    def found_in(self, folders: Folders) -> Self:
        if self.folder is None:
            return self
        found = self.model_copy()
        found._place = folders.folder / self.folder
        return found

    def member(self, trust_code: bool = False) -> Member:
        if self.folder is not None:
            return made("hugging_face:HuggingFaceMember", self, trust_code, None, None, self._place)
        learner = "net:NetMember" if self.weights is None else "checkpoint:CheckpointMember"
        return made(learner, self, trust_code)

    def code_problems(self, task: str, folder: Path, trust_code: bool) -> Iterator[tuple[str, str, bool]]:
        options = {"packages": (), "trust_code": trust_code, "search_path": folder}
        found = list(name_problems("net", self.net, NETS, "net", **options))
        yield from found
        for index, item in () if found else enumerate(() if self.emit == "auto" else self.emit):
            tap = item.tap if isinstance(item, TapOptions) else item
            mistake = None if tap in OUTPUTS else tap_mistake(self.net, tap, folder)
            if mistake is not None:
                yield f"emit.{index}", mistake, False
        is_refused = any(is_untrusted for *_, is_untrusted in found)
        untrusted = [] if trust_code or is_refused else net_problems(self.net, self.params)
        mistakes = () if found else net_mistakes(self.net, self.params, NET_FACTS, folder)
        yield from parameter_problems(untrusted, mistakes)

    def problems(self, run: RunFacts) -> Iterator[tuple[str, str]]:
        extra, packages = NET_PACKAGES.get(self.net, ("", ()))
        missing = [package for package in packages if find_module(package, None) is None]
        if missing:
            message = f"net {self.net!r} needs {' and '.join(missing)}, not installed here"
            yield "net", f'{message}. Install: pip install "stackfeat[{extra}]"'
        has_texts = {*TEXT_TYPES} & {*run.data.types.values()} or run.data.array_inputs
        if self.net.partition(":")[0] in TEXT_NETS and not has_texts:
            message = f"net {self.net!r} must have a column of text to read; got none"
            yield "net", f"{message}. Declare one, data.types: {{COLUMN: text}}, or choose another net"
        task = task_class(run.task)
        if self.emit == ():
            message = f"must name at least one output; got none. Name {task.output}, or a layer"
            yield "emit", message
        emit = () if self.emit == "auto" else self.emit
        for place, (item, tap) in enumerate(zip(emit, self.emitted(), strict=True)):
            for option, message in tap.problems():
                yield f"emit.{place}.{option}" if isinstance(item, TapOptions) else f"emit.{place}", message
        *legal, last = ("auto", *task.head_outputs)
        if self.output not in (*legal, last):
            message = f"must be {', '.join(legal)} or {last} for task {run.task}; got {self.output}"
            yield "output", message
        for option, message in self.train.problems(run.task):
            yield f"train.{option}", message
        yield from self._weights_problems(run)

    def _weights_problems(self, run: RunFacts) -> Iterator[tuple[str, str]]:
        if self.weights is None:
            for name in _NEED_WEIGHTS:
                if self.is_set(name):
                    message = f"{name} is about given weights; got no weights. Name the file, or remove it"
                    yield name, message
            return
        if problem := placeholder_problem(self.weights):
            yield "weights", problem
            return
        if self.folder is not None and self.weights != f"{self.folder}/{WEIGHTS}":
            yield "weights", f"a folder brings its weights; got {self.weights!r}. Remove it"
            return
        for name in () if self.folder is None else BESIDE:
            if problem := run.file_problem(f"{self.folder}/{name}"):
                yield "net", problem
                return
        yield from self._file_problems(run, self.weights)
        yield from self._fold_problems(run, self.weights)
        yield from self._tuning_problems(run, self.weights)
        if self.classes is not None and self.head == "reset":
            message = "classes is the order of a head that is kept; got head: reset. Remove one of them"
            yield "classes", message
        if self.classes is not None and not task_class(run.task).most_classes:
            yield "classes", f"values have no classes; got task={run.task}. Remove it"
        if run.averaging == "refit" and has_fold(self.weights):
            message = "averaging: refit needs a model of all rows; got checkpoints of folds only"
            yield "weights", f"{message}. Use averaging: late"
        yield from self._image_problems(run)

    def _file_problems(self, run: RunFacts, weights: str) -> Iterator[tuple[str, str]]:
        if not weights.lower().endswith(_WEIGHT_SUFFIXES):
            suffixes = ", ".join(_WEIGHT_SUFFIXES)
            yield "weights", f"must be a file of {suffixes}; got {weights!r}. Save the state dict"
            return
        first = weights.replace("{repeat}", "0").replace("{seed}", "0")
        # A folds file decides how many there are, which is not opened here.
        is_told = self.folds is not None and not self.taps()
        if problem := run.files_problem(fill(first) if is_told else first):
            yield "weights", problem
        if self.folds is not None and (problem := run.file_problem(self.folds)):
            yield "folds", problem

    def _fold_problems(self, run: RunFacts, weights: str) -> Iterator[tuple[str, str]]:
        if self.frozen:
            if has_fold(weights):
                message = f"frozen is one net for all folds; got {weights!r}. Remove frozen, or name one file"
                yield "weights", message
            if self.folds is not None:
                message = "a frozen net never saw these rows, so it has no folds. Remove folds, or frozen"
                yield "folds", message
        elif not has_fold(weights):
            if self.folds is not None:
                message = f"folds say which rows each checkpoint did not see; got {weights!r}"
                yield "folds", f"{message}. Use {{fold}} in weights"
            if not self.is_tuned:
                yield "weights", _SEEN.format(weights)
        else:
            kind, repeats = run.folds.kind, run.folds.repeats
            has_given = kind == "column" or (kind == "auto" and run.data.fold is not None)
            if self.folds is None and not has_given:
                yield "weights", _UNKNOWN_FOLDS
            if self.folds is not None and run.data.id is None:
                yield "folds", "folds files are aligned by id; got no data.id. Name the id column"
            has_repeats = repeats > 1 and run.folds.repeats_as == "stacks"
            if has_repeats and not has_given and "repeat" not in placeholders(weights):
                message = f"each of {repeats} repeats has its own folds; got {weights!r}. Use {{repeat}}"
                yield "weights", message

    def _tuning_problems(self, run: RunFacts, weights: str) -> Iterator[tuple[str, str]]:
        if self.is_tuned:
            if self.frozen:
                yield "frozen", "a frozen net is not trained; got train too. Remove one of them"
            return
        for name in ("freeze", "lr_decay", "lrs"):
            if self.is_set(name):
                yield name, f"{name} is about fine-tuning; got no train. Add train, or remove it"
        output = task_class(run.task).output
        if self.head == "reset" and self.emits(output):
            message = "a head that starts anew has learnt nothing; got no train"
            yield "head", f"{message}. Add it, or emit no {output}"
        if self.seeds > 1 and "seed" not in placeholders(weights):
            message = f"{self.seeds} seeds need a checkpoint each; got {weights!r}"
            yield "seeds", f"{message}. Use {{seed}}, or remove seeds"
        if run.folds.repeats_as == "blocks" and run.folds.repeats > 1:
            message = "repeats_as: blocks trains nets again, and checkpoints are not trained"
            yield "weights", f"{message}. Use seeds and {{seed}}"

    def _image_problems(self, run: RunFacts) -> Iterator[tuple[str, str]]:
        """A net that was trained on pictures is wrong on pictures of another size or scale, without a word."""
        inputs = run.data.inputs or {}
        for name in inputs if self.inputs is None else self.inputs:
            given = inputs.get(name)
            if given is None:
                continue
            if given.column is not None and (given.size is None or given.normalize == "auto"):
                missing = "size" if given.size is None else "normalize"
                message = "a net with given weights needs its pictures as in its training"
                yield (
                    "weights",
                    f"{message}; {name!r} says no {missing}. State data.inputs.{name}.size and normalize",
                )
            elif given.normalize == "standard" and self.chosen_scaling == "none":
                message = "a net with given weights does not know the mean and spread of this run's folds"
                remedy = "Use imagenet, unit or none, as in its training"
                place = f"data.inputs.{name}.normalize"
                yield place, f"{message}; got {name!r} with normalize: standard. {remedy}"

    @property
    def learner(self) -> str:
        return f"net {self.net.rpartition(':')[2]}"

    @property
    def reads(self) -> tuple[str, ...] | None:
        return self.inputs

    def input_problems(
        self, raw: Sequence[str], blocks: Sequence[str], features: Sequence[str]
    ) -> Iterator[str]:
        if blocks:
            yield "nets that read blocks are not built yet; name raw inputs, or use an estimator"

    def outputs(self, task: str, report: Report) -> tuple[Output, ...]:
        name = task_class(task).output
        for place, item in enumerate(self.emitted()):
            if item.tap in OUTPUTS and item.tap != name:
                report(f"emit.{place}", f"in a {task} task the output is {name!r}; got {item.tap!r}")
        outputs = [Output(name, "prediction")] if self.emits(name) else []
        seen: set[str] = set()
        for tap in self.taps():
            for encoding in tap.encode:
                output = Output(f"{tap.key}@{encoding}", "feature", tap, encoding)
                if output.name in seen:
                    report(
                        "emit",
                        f"each output is named once; got {output.name!r} twice. Give one of the taps a name",
                    )
                seen.add(output.name)
                outputs.append(output)
        return tuple(outputs)

    def named_classes(self) -> Iterator[tuple[str, Sequence[object]]]:
        if self.classes is not None:
            yield "classes", self.classes

    def emits(self, *names: str) -> bool:
        """Whether predictions, called one of `names`, are handed on; a frozen net knows other classes than ours."""
        return not self.frozen if self.emit == "auto" else any(name in self.emit for name in names)

    def emitted(self) -> list[TapOptions]:
        """What `emit` lists, names written out; predictions are among them."""
        encode = FROZEN_ENCODINGS if self.frozen else DEFAULT_ENCODINGS
        items = () if self.emit == "auto" else self.emit
        return [
            item if isinstance(item, TapOptions) else TapOptions(tap=item, encode=encode) for item in items
        ]

    def taps(self) -> list[TapOptions]:
        """The layers that are read, `emit: auto` resolved."""
        if self.emit == "auto":
            return [
                TapOptions(tap="penultimate", encode=FROZEN_ENCODINGS if self.frozen else DEFAULT_ENCODINGS)
            ]
        return [tap for item, tap in zip(self.emit, self.emitted(), strict=True) if item not in OUTPUTS]

    def recipe(self) -> dict[str, Any]:
        # The file counts by its bytes, not by its name.
        given = {"weights": None if self.weights is None else "given"}
        net = {} if self.folder is None else {"net": f"{HUGGING_FACE}given"}
        return super().recipe() | given | net | {"emit": [tap.to_json() for tap in self.taps()]}

    def settings(self, run: RunSettings, *, has_blocks: bool, has_features: bool) -> NetSettings:
        return NetSettings(
            threads=run.threads,
            seeds=self.seeds * run.seed_copies,
            device=run.device,
            version=VERSIONS["net"],
            loss=self.train.loss if self.train.loss != "auto" else run.loss,
            predicts=None if self.weights is None else self.emits(*OUTPUTS),
        )

    def libraries(self) -> dict[str, str]:
        family = self.net.partition(":")[0]
        if family in NET_FAMILIES:
            packages = FAMILY_PACKAGES[family][1]
            return library_versions("torch", "numpy", "scikit-learn", *packages[: 2 if self.folder else 1])
        more = NET_PACKAGES.get(self.net, ("", ()))[1]
        return library_versions("torch", "numpy", "scikit-learn", *more)

    @property
    def code(self) -> str | None:
        return self.net

    @property
    def cost(self) -> int:
        if self.weights is not None:
            return 3
        epochs = self.train.epochs
        is_short = isinstance(epochs, int) and epochs <= SHORT_TRAINING and self.train.stopping != "refit"
        return 2 if is_short and self.net in QUICK_NETS else 4

    def resolved(self, task: str, folder: Path) -> Self:
        if self.frozen and self.folder is not None:
            return self
        train = with_training_defaults(self.net, self.train, task, folder)
        return self if train is self.train else self.model_copy(update={"train": train})

    def reduced(self) -> Self:
        # Few rows and large batches would be too few steps for a net to learn labels by heart.
        few = {"epochs": FEW_EPOCHS, "batch_size": SMALL_BATCH}
        given = {name: getattr(self.train, name) for name in few}
        train = {name: n if given[name] == "auto" else min(n, given[name]) for name, n in few.items()}
        return self.model_copy(update={"train": self.train.model_copy(update=train), "seeds": 1})

    def decided(self, fits: FinishedFits) -> dict[str, Any]:
        from stackfeat.data.prepare.net import scaling_of

        if self.weights is not None and has_fold(self.weights):
            raise UsageError(
                f"a run is refreshed where all its members can be fitted again; got {fits.name}, whose checkpoints "
                f"({self.weights}) were trained on folds of the old rows; train it here, or submit a member that "
                "does not read it"
            )
        values = super().decided(fits)
        values["emit"] = [name for name in OUTPUTS if name in fits.outputs]
        values["emit"] += [tap.to_json() for one in self.taps() if (tap := one.narrowed(fits.outputs))]
        if self.weights is None or self.is_tuned:
            epochs = middle([self._epochs_kept(n) for report in fits.deciding for n in report["epochs"]])
            values["train"] = self.train.decided(epochs, fits.n_rows).to_json()
        if self.chosen_scaling == "auto":
            values["scaling"] = scaling_of(fits.n_rows)
        return values

    def _epochs_kept(self, n_trained: int) -> int:
        """Return for how many epochs the net that was kept had been trained."""
        patience, most = self.train.patience, self.train.epochs
        if (
            self.train.stopping != "inner"
            or patience is None
            or (isinstance(most, int) and n_trained >= most)
        ):
            return n_trained
        return max(1, n_trained - patience)

    @property
    def has_layers(self) -> bool:
        return True

    def open_taps(self) -> list[TapOptions]:
        return [tap for tap in self.taps() if tap.is_open]

    def with_layers(self, layers: Mapping[str, Sequence[str]]) -> Self:
        emit: list[EmitItem] = []
        for item, tap in zip(() if self.emit == "auto" else self.emit, self.emitted(), strict=True):
            if not tap.is_open:
                emit.append(item)
            elif isinstance(item, TapOptions):
                emit += [item.model_copy(update={"tap": name}) for name in layers[tap.tap]]
            else:
                emit += layers[tap.tap]
        return self.model_copy(update={"emit": tuple(emit)})

    @property
    def checkpoints(self) -> Checkpoints | None:
        if self.weights is None:
            return None
        return Checkpoints(
            pattern=self.weights,
            folds=self.folds,
            seeds=self.seeds,
            passes_features=bool(self.taps()),
            is_tuned=self.is_tuned,
            has_classes=self.classes is not None,
            beside=() if self.folder is None else tuple(f"{self.folder}/{name}" for name in BESIDE),
        )

    @property
    def is_given(self) -> bool:
        return self.weights is not None and has_fold(self.weights)

    @property
    def is_foreign(self) -> bool:
        return self.weights is not None and not self.is_tuned

    @property
    def is_frozen(self) -> bool:
        return self.frozen
