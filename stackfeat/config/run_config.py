"""RunConfig: the options of all stages put together; what `config.yaml` holds.

Torch-free. Exactly one of the keys net, estimator, vote and predictions says which kind of member a mapping in
`levels` is. Besides: which names are legal at any place of a config, a config as YAML that `load_config` reads back
to an equal one, and the JSON schema that editors complete it with.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator
from ruamel.yaml import YAML

from stackfeat.data.options import DataOptions, FoldOptions
from stackfeat.executors import EXECUTORS, NOT_BUILT
from stackfeat.members import MEMBERS
from stackfeat.members.options import MemberOptions
from stackfeat.options import Options
from stackfeat.tasks.task import Kind


def member_kind(value: Any) -> str | None:
    """Return the kind of a member's mapping, or None where it is not exactly one."""
    present = [
        kind for kind in MEMBERS if (kind in value if isinstance(value, dict) else hasattr(value, kind))
    ]
    return present[0] if len(present) == 1 else None


if TYPE_CHECKING:
    AnyMember = MemberOptions
    ExecutorKind = str
else:
    ExecutorKind = Literal[(*EXECUTORS, *NOT_BUILT)]
    AnyMember = Annotated[
        Union[tuple(Annotated[options, Tag(kind)] for kind, options in MEMBERS.items())],  # noqa: UP007
        Discriminator(
            member_kind,
            custom_error_type="member_kind",
            custom_error_message=f"a member has exactly one of {', '.join(MEMBERS)}",
        ),
    ]


class OutputOptions(Options):
    """Where results go."""

    dir: str | None = None


SHORT = ("train", "test", "target", "sample_submission", "id", "group", "time", "quantiles", "query")
"""Options of `data` that may stand at the top level of a config."""
MOST_MEMBERS = 500

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_OF_EACH = re.compile(r"[A-Za-z0-9._-]+:[A-Za-z0-9._:#@\[\]-]+")
"""Such as ``per:mlp.penultimate@geometry``: a refreshed run calls its members as the old run did."""
_NUMBER = r"(\d+(?:\.\d+)?)"
_TIME = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m(?:in)?)?(?:{_NUMBER}s?)?")
_SECONDS = (86400, 3600, 60, 1)


def plain_name(name: str) -> str:
    """Refuse a level's or member's name that a pattern or a file name would have to escape."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"names use letters, digits, '.', '_' and '-' only; got {name!r}")
    return name


def member_name(name: str) -> str:
    """Refuse a member's name that is no plain one, and none that `each` makes."""
    return name if _OF_EACH.fullmatch(name) else plain_name(name)


Name = Annotated[str, AfterValidator(plain_name)]
MemberName = Annotated[str, AfterValidator(member_name)]


def parse_seconds(value: str | int | float) -> float:
    """Turn ``8h30m``, ``10m``, ``90s`` or a number into seconds."""
    if isinstance(value, int | float):
        return float(value)
    match = _TIME.fullmatch(value.replace(" ", ""))
    if not match or not any(match.groups()):
        raise ValueError(f"must look like 8h30m, 10m or 90s; got {value!r}")
    return sum(float(part) * unit for part, unit in zip(match.groups(), _SECONDS, strict=True) if part)


def readable_time(value: str | int | float | None) -> str | int | float | None:
    """Refuse a time that cannot be read, or is none."""
    if value is not None and not 0 < parse_seconds(value) < math.inf:
        raise ValueError(f"must be a time above zero; got {value}")
    return value


Time = Annotated[str | int | float | None, AfterValidator(readable_time)]

MOST_JOBS = 1024
"""Each is a process of its own; what asks for more is a slip or an attack."""


class ExecutorOptions(Options):
    """Where jobs run."""

    kind: ExecutorKind = "loky"
    jobs: int | Literal["auto"] = Field("auto", description="Worker processes; auto: one for each core.")
    threads_per_job: int = Field(1, ge=1, le=MOST_JOBS)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda|mps)(:\d+)?$")
    retries: int = Field(2, ge=0, le=100, description="Times a job is given again after its worker died.")
    timeout: Time = Field(
        None,
        description="The longest that one job may run, such as 10m, 90s, or seconds; then its member fails.",
    )

    @field_validator("jobs")
    @classmethod
    def number_of_processes(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= MOST_JOBS:
            raise ValueError(f"must be 'auto' or from 1 to {MOST_JOBS}; got {value}")
        return value

    @property
    def timeout_seconds(self) -> float | None:
        """The longest that one job may run, in seconds."""
        return None if self.timeout is None else parse_seconds(self.timeout)


class LimitOptions(Options):
    """What a run may use."""

    time: Time = Field(None, description="Such as 8h30m, 10m, 90s, or seconds.")
    memory: str | None = None
    disk: str | None = None

    @property
    def seconds(self) -> float | None:
        """The time limit in seconds."""
        return None if self.time is None else parse_seconds(self.time)


LARGEST_HOLDOUT = 0.5


class StackOptions(Options):
    """How the K fold pipelines are run and averaged."""

    averaging: Literal["late", "early", "refit"] = Field(
        "late",
        description="late: pipelines stay apart to the end; early: means of fold models; refit: models of all rows.",
    )
    average: Literal["mean", "logit", "rank"] = Field(
        "mean", description="How pipelines are averaged at the end."
    )
    meta_fit: Literal["fold", "all"] = Field(
        "all",
        description="averaging late: test view k goes through the fit on all out-of-fold rows, or through fit k.",
    )
    views: Literal["auto", "all", "last"] = Field(
        "auto", description="Pipelines used for test rows; auto: last for time folds."
    )
    gate_se: float = Field(0.5, ge=0, description="Standard errors a feature block must gain.")
    holdout: float | Literal["column"] = Field(
        0.0,
        description="Share of the training rows kept out of all levels to score them; column: given folds of -1.",
    )

    @field_validator("holdout")
    @classmethod
    def at_most_half(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and not 0 <= value <= LARGEST_HOLDOUT:
            raise ValueError(f"must be a share from 0 to {LARGEST_HOLDOUT}, or column; got {value:g}")
        return value


class DecisionOptions(Options):
    """A decision rule that is given, where others are fitted: how predictions become labels."""

    kind: Literal["threshold", "offsets", "cuts", "labels"]
    numbers: tuple[float, ...] = Field(
        description="The threshold; an offset of the log-probability of each class; cuts, ascending; or a threshold "
        "for each label."
    )
    labels: tuple[float, ...] = Field((), description="cuts: the label below the first, between, and above.")
    positive: Literal[0, 1] = Field(1, description="threshold: the place of the class that is compared.")

    @model_validator(mode="after")
    def numbers_fit(self) -> DecisionOptions:
        n_numbers, n_labels = len(self.numbers), len(self.labels)
        if self.kind == "threshold" and n_numbers != 1:
            raise ValueError(f"a threshold is one number; got {n_numbers}; give one")
        if self.kind == "cuts" and n_labels != n_numbers + 1:
            raise ValueError(
                f"there is one label more than cuts; got {n_labels} labels, {n_numbers} cuts; give one for each part"
            )
        return self


class RunConfig(Options):
    """Everything a run needs to know."""

    name: str = Field("run", min_length=1)
    task: Kind
    metric: str = Field(description="A name of METRICS, or 'pkg.mod:function'.")
    seed: int = Field(42, ge=0)
    data: DataOptions
    folds: FoldOptions = FoldOptions()
    levels: dict[Name, dict[MemberName, AnyMember]] = Field(description="Level name to members by name.")
    submit: str = Field("auto", description="A member's name, or auto: the best out-of-fold score.")
    interval: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="A level such as 0.9, at which intervals or class sets are measured out of fold.",
    )
    decision: Literal["auto", "argmax", "threshold"] | DecisionOptions = Field(
        "auto", description="How predictions become labels under a metric of labels; or a rule that is given."
    )
    outputs: OutputOptions = OutputOptions()
    executor: ExecutorOptions = ExecutorOptions()
    limits: LimitOptions = LimitOptions()
    store: str = ".stackfeat"
    cache: Literal["auto", "refresh", "readonly"] = "auto"
    stack: StackOptions = StackOptions()

    @field_validator("levels")
    @classmethod
    def levels_have_members(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if not value:
            raise ValueError("must name at least one level with one member")
        n_members = sum(map(len, value.values()))
        if n_members > MOST_MEMBERS:
            raise ValueError(
                f"a config has at most {MOST_MEMBERS} members; got {n_members}. Make several runs"
            )
        for level, members in value.items():
            if not members:
                raise ValueError(f"level {level!r} has no members")
        return value

    @property
    def decision_rule(self) -> str | dict[str, Any]:
        """How a decision rule is found, or one that is given, as recipes of scores have it."""
        return self.decision if isinstance(self.decision, str) else self.decision.to_json()

    @property
    def run_dir(self) -> str:
        """Folder of the results, relative to the config file."""
        return self.outputs.dir or f"runs/{self.name}"


Key = str | int


def value_at(values: Any, keys: Sequence[Key]) -> Any:
    """Return what stands at `keys`, or None."""
    for key in keys:
        if isinstance(values, dict):
            values = values.get(key)
        elif isinstance(values, list | tuple) and isinstance(key, int) and -len(values) <= key < len(values):
            values = values[key]
        else:
            return None
    return values


def options_class(keys: Sequence[Key], values: Any) -> type[Options] | None:
    """Return the class of the options at `keys`, or None where the place takes no options.

    Examples
    --------
    >>> options_class(["levels", "base", "a", "train"], {"levels": {"base": {"a": {"net": "mlp"}}}})
    <class 'stackfeat.nets.options.TrainOptions'>
    """
    annotation: Any = RunConfig
    rest = list(keys)
    if rest[:1] == ["levels"]:
        if len(rest) < 3:
            return None
        kind = member_kind(value_at(values, rest[:3]))
        if kind is None:
            return None
        annotation, rest = MEMBERS[kind], rest[3:]
    for key in rest:
        annotation = _step(annotation, key)
    return next((part for part in _parts(annotation) if _is_options(part)), None)


def homes_of(name: str, options: type[Options]) -> list[str]:
    """Return where below `options` an option called `name` is legal: ``lr`` -> ``train.lr``."""
    found = []
    for field_name, field in options.model_fields.items():
        inner = [part for part in _parts(field.annotation) if _is_options(part)]
        found += [f"{field_name}.{name}" for part in inner if name in part.names()]
    return found


def kinds_with(name: str) -> list[str]:
    """Return the kinds of member that have an option called `name`."""
    return [kind for kind in MEMBERS if name in MEMBERS[kind].names()]


def _is_options(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Options)


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of a union, without the wrapping of Annotated."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _step(annotation: Any, key: Key) -> Any:
    """Return the annotation one key further down; None where there is none."""
    steps = []
    for part in _parts(annotation):
        if _is_options(part):
            steps += [
                field.annotation for name, field in part.model_fields.items() if key in (name, field.alias)
            ]
        elif get_origin(part) is dict:
            steps.append(get_args(part)[1])
        elif get_origin(part) is tuple and isinstance(key, int):
            steps.append(get_args(part)[0])
    return Union[tuple(steps)] if steps else None  # noqa: UP007  (built from a list)


def dump_config(config: RunConfig) -> str:
    """Return the config as YAML, with every option written out.

    Examples
    --------
    >>> from stackfeat.config import RunConfig
    >>> levels = {"base": {"gbm": {"estimator": "lightgbm.LGBMClassifier"}}}
    >>> values = {"task": "multiclass", "metric": "log_loss", "levels": levels}
    >>> values["data"] = {"train": "sklearn:iris"}
    >>> dump_config(RunConfig.model_validate(values)).splitlines()[1]
    'task: multiclass'
    """
    yaml = YAML()
    yaml.width = 110
    yaml.representer.ignore_aliases = lambda data: True
    stream = io.StringIO()
    yaml.dump(_plain(config.model_dump(by_alias=True)), stream)
    return stream.getvalue()


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a config file."""
    schema = RunConfig.model_json_schema(by_alias=True)
    _allow_single_values(schema)
    _allow_left_out(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "stackfeat config",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _allow_left_out(schema: dict[str, Any]) -> None:
    """Let what is guessed of the files be left out in the schema too, and options of `data` stand at the top."""
    properties, data = schema["properties"], schema["$defs"]["DataOptions"]["properties"]
    schema["required"] = []
    levels = properties["levels"]
    levels["additionalProperties"] = {"anyOf": [{"const": "auto"}, levels["additionalProperties"]]}
    properties["levels"] = {"anyOf": [{"const": "auto"}, levels], "description": levels["description"]}
    schema["patternProperties"] = {f"^{name}$": data[name] for name in SHORT}


def _plain(value: Any) -> Any:
    """Return dicts, lists and scalars only; numpy numbers and tuples have no place in YAML."""
    if isinstance(value, dict):
        return {key if isinstance(key, str | int) else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _allow_single_values(schema: dict[str, Any]) -> None:
    """Let lists that take a single value do so in the schema too (`inputs: table`)."""
    for name, definition in schema.get("$defs", {}).items():
        for field in _single_value_fields(name):
            given = definition["properties"][field]
            for part in [given, *given.get("anyOf", ())]:
                if part.get("type") == "array" and "items" in part:
                    outer = {
                        key: given.pop(key)
                        for key in list(given)
                        if key in ("default", "title", "description")
                    }
                    definition["properties"][field] = {"anyOf": [part["items"], given], **outer}
                    break


def _classes_below(options: type[Options]) -> Iterator[type[Options]]:
    for found in options.__subclasses__():
        yield found
        yield from _classes_below(found)


def _single_value_fields(name: str) -> list[str]:
    """Return the fields of the options class `name` whose validators turn one value into a list."""
    model = next((found for found in _classes_below(Options) if found.__name__ == name), None)
    if model is None:
        return []
    validators = model.__pydantic_decorators__.field_validators.values()
    return [field for item in validators if item.info.mode == "before" for field in item.info.fields]
