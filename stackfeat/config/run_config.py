"""RunConfig: the options of all stages put together; what `config.yaml` holds.

Torch-free. Exactly one of the keys net, estimator, vote and predictions says which kind of member a mapping in
`levels` is.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator

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
    AnyMember, ExecutorKind = MemberOptions, str
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


MOST_MEMBERS = 500

_NAME = re.compile(r"[A-Za-z0-9._-]+")

_NUMBER = r"(\d+(?:\.\d+)?)"

_TIME = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m(?:in)?)?(?:{_NUMBER}s?)?")

_SECONDS = (86400, 3600, 60, 1)


def plain_name(name: str) -> str:
    """Refuse a level's or member's name that a pattern or a file name would have to escape."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"names use letters, digits, '.', '_' and '-' only; got {name!r}")
    return name


Name = Annotated[str, AfterValidator(plain_name)]


MOST_JOBS = 1024
"""Each is a process of its own; what asks for more is a slip or an attack."""


class ExecutorOptions(Options):
    """Where jobs run."""

    kind: ExecutorKind = "loky"
    jobs: int | Literal["auto"] = Field("auto", description="Worker processes; auto: one for each core.")
    threads_per_job: int = Field(1, ge=1, le=MOST_JOBS)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda|mps)(:\d+)?$")
    retries: int = Field(2, ge=0, le=100, description="Times a job is given again after its worker died.")
    timeout: str | int | float | None = Field(
        None,
        description="The longest that one job may run, such as 10m, 90s, or seconds; then its member fails.",
    )

    @field_validator("jobs")
    @classmethod
    def number_of_processes(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 1 <= value <= MOST_JOBS:
            raise ValueError(f"must be 'auto' or from 1 to {MOST_JOBS}; got {value}")
        return value

    @field_validator("timeout")
    @classmethod
    def readable_timeout(cls, value: str | int | float | None) -> str | int | float | None:
        return _readable_time(value)

    @property
    def timeout_seconds(self) -> float | None:
        """The longest that one job may run, in seconds."""
        return None if self.timeout is None else parse_seconds(self.timeout)


class LimitOptions(Options):
    """What a run may use."""

    time: str | int | float | None = Field(None, description="Such as 8h30m, 10m, 90s, or seconds.")
    memory: str | None = None
    disk: str | None = None

    @field_validator("time")
    @classmethod
    def readable_time(cls, value: str | int | float | None) -> str | int | float | None:
        return _readable_time(value)

    @property
    def seconds(self) -> float | None:
        """The time limit in seconds."""
        return None if self.time is None else parse_seconds(self.time)


def parse_seconds(value: str | int | float) -> float:
    """Turn ``8h30m``, ``10m``, ``90s`` or a number into seconds."""
    if isinstance(value, int | float):
        return float(value)
    match = _TIME.fullmatch(value.replace(" ", ""))
    if not match or not any(match.groups()):
        raise ValueError(f"must look like 8h30m, 10m or 90s; got {value!r}")
    return sum(float(part) * unit for part, unit in zip(match.groups(), _SECONDS, strict=True) if part)


def _readable_time(value: str | int | float | None) -> str | int | float | None:
    if value is not None and not 0 < parse_seconds(value) < math.inf:
        raise ValueError(f"must be a time above zero; got {value}")
    return value


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


class RunConfig(Options):
    """Everything a run needs to know."""

    name: str = Field("run", min_length=1)
    task: Kind
    metric: str = Field(description="A name of METRICS, or 'pkg.mod:function'.")
    seed: int = Field(42, ge=0)
    data: DataOptions
    folds: FoldOptions = FoldOptions()
    levels: dict[Name, dict[Name, AnyMember]] = Field(description="Level name to members by name.")
    submit: str = Field("auto", description="A member's name, or auto: the best out-of-fold score.")
    decision: Literal["auto", "argmax", "threshold"] = "auto"
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
    def run_dir(self) -> str:
        """Folder of the results, relative to the config file."""
        return self.outputs.dir or f"runs/{self.name}"
