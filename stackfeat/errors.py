"""What can go wrong, a class for each kind.

User errors say what must hold, what was got, and what to do. Every class is also a
standard exception, so code that does not know stackfeat can catch it. `exit_code` is
what the command line returns for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from stackfeat.escaping import continued


class StackfeatError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message; text of files and names in it moves no cursor and begins no line."""
        return continued(super().__str__())


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a config: where it is, and what to do about it."""

    where: str
    message: str
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = (
            f"{self.file}:{self.line}: " if self.line is not None else f"{self.file}: " if self.file else ""
        )
        return f"{place}{self.where}: {self.message}" if self.where else f"{place}{self.message}"


class ConfigError(StackfeatError, ValueError):
    """A config that cannot run; lists every problem at once."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[Problem]) -> None:
        self.problems = [Problem("", problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __str__(self) -> str:
        """Return a line for each problem; further lines of one are indented."""
        return "\n".join(continued(problem) for problem in self.problems)


class UsageError(StackfeatError, ValueError):
    """A command or call that makes no sense as given."""

    exit_code = 2


class TrustError(ConfigError):
    """Code named by a config that the user has not agreed to run."""


class ChangedCodeError(TrustError):
    """A file changed after it was agreed to; ends a run, whatever member met it."""


class DataError(StackfeatError, ValueError):
    """Input files that cannot be used; names files, columns and rows."""

    exit_code = 3


class StructureError(DataError):
    """A value read from a stored file that is not made as this version makes it."""


class MissingExtraError(StackfeatError, ImportError):
    """An optional package is needed; names the extra that installs it."""

    exit_code = 2


class LayerNotFoundError(StackfeatError, LookupError):
    """A tap names a layer that the module does not have."""

    exit_code = 2


class TapError(StackfeatError, ValueError):
    """A layer exists but cannot be read as asked."""

    exit_code = 2


class InfrastructureError(StackfeatError):
    """The machine failed, not a member: disk, memory, permissions, workers. Ends the run, which can go on."""

    def reworded(self, text: str) -> Self:
        """Return the same error in other words."""
        error = type(self)(text)
        error.__dict__.update(self.__dict__)
        return error


class StoreError(InfrastructureError, OSError):
    """The store, or another place that we write to, cannot be used: full, read-only, gone, no permission."""

    def reworded(self, text: str) -> Self:
        error = super().reworded(text)
        error.errno = self.errno
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError keeps its number outside of what it pickles.
        return _with_number, (type(self), self.args, self.errno), self.__dict__


def _with_number(kind: type[StoreError], args: tuple[Any, ...], number: int | None) -> StoreError:
    error = kind(*args)
    error.errno = number
    return error


class DamagedEntryError(StoreError):
    """A stored entry does not match its manifest, and was put aside; or another process removed it."""


class OutOfMemoryError(InfrastructureError, MemoryError):
    """The machine, or its GPU, has less memory than the jobs that run at once need."""


class WorkerLostError(InfrastructureError, RuntimeError):
    """A job's worker process died at every try."""


class MemberError(StackfeatError, RuntimeError):
    """A member could not be fitted; the others go on."""


class JobEnded(StackfeatError):
    """A job that was ended because the time of the run was up; it is no fault of its member."""


class JobTimeoutError(MemberError):
    """A job of the member ran longer than executor.timeout."""


class NaNLossError(MemberError):
    """Training diverged at every learning rate tried."""


class RunFailed(StackfeatError, RuntimeError):
    """No member was left to make an ensemble of."""


class TimeLimitReached(RunFailed):
    """The time limit came before any member was finished; the same command goes on."""

    exit_code = 5


class LeakWarning(UserWarning):
    """Something makes the out-of-fold scores look better than new data will be."""


class DataWarning(UserWarning):
    """Input files can be used, but something in them looks wrong."""
