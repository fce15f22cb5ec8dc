"""What can go wrong: an exception for each kind, whose fault it is, and how its text is written.

User errors say what must hold, what was got, and what to do. Every class is also a standard exception, so code
that does not know stackfeat can catch it. `exit_code` is what the command line returns for it, `code` is its name
for programs, which never changes. `machine_fault`
tells an error of the machine (disk, memory, permissions), which ends a run, from one of the code that raised it.

Names and texts from files can hold whatever a terminal obeys: escape sequences, carriage returns, marks of
direction. `visible` writes them out, `one_line` also line breaks and tabs, and `continued` indents all lines but
the first, so that only messages of ours begin at the margin.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

INTERRUPTED = 130
"""The exit code of what Ctrl-C or a signal ended, which is no error of a class."""


class StackfeatError(Exception):
    """Base of every error raised on purpose.

    Attributes
    ----------
    found : mapping
        What a command had found and shown by then, for programs.
    """

    code = "error"
    exit_code = 1
    found: Mapping[str, Any] = MappingProxyType({})

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


class ListedError(StackfeatError, ValueError):
    """Something of the user's with one or more problems, listed at once."""

    code = "problems"

    def __init__(self, problems: str | Sequence[Problem]) -> None:
        self.problems = [Problem("", problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __str__(self) -> str:
        """Return a line for each problem; further lines of one are indented."""
        return "\n".join(continued(problem) for problem in self.problems)


class ConfigError(ListedError):
    """A config that cannot run; lists every problem at once.

    Attributes
    ----------
    rest : LoadedConfig or None
        The config without what is wrong, for checks that go on.
    """

    code = "config"
    exit_code = 2
    rest: Any = None

    def followed_by(self, problems: Sequence[Problem]) -> Self:
        """Return the same error with further problems."""
        return type(self)([*self.problems, *problems])


class UsageError(StackfeatError, ValueError):
    """A command or call that makes no sense as given."""

    code = "usage"
    exit_code = 2


class TrustError(ConfigError):
    """Code named by a config that the user has not agreed to run."""

    code = "untrusted-code"


class ChangedCodeError(TrustError):
    """A file changed after it was agreed to; ends a run, whatever member met it."""

    code = "changed-code"


class DataError(ListedError):
    """Input files that cannot be used; names files, columns and rows."""

    code = "data"
    exit_code = 3


class MissingColumnsError(DataError):
    """New rows without columns that models read.

    Attributes
    ----------
    columns : tuple of str
        Those that models read; a column of ids may be missing besides.
    """

    code = "missing-columns"

    def __init__(self, problems: str | Sequence[Problem], columns: Sequence[str] = ()) -> None:
        super().__init__(problems)
        self.columns = tuple(columns)


class LackError(DataError):
    """Rows that lack something, which other rows of the same file may have."""

    code = "incomplete-rows"


class StructureError(DataError):
    """A value read from a stored file that is not made as this version makes it."""

    code = "malformed-file"


class MissingExtraError(StackfeatError, ImportError):
    """An optional package is needed; names the extra that installs it."""

    code = "missing-package"
    exit_code = 2


class LayerNotFoundError(StackfeatError, LookupError):
    """A tap names a layer that the module does not have."""

    code = "layer-not-found"
    exit_code = 2


class TapError(StackfeatError, ValueError):
    """A layer exists but cannot be read as asked."""

    code = "tap"
    exit_code = 2


class NetRefusedError(TapError, RuntimeError):
    """A net raised an error on what it was given; names the layer."""

    code = "net-refused"


class InfrastructureError(StackfeatError):
    """The machine failed, not a member: disk, memory, permissions, workers. Ends the run, which can go on."""

    code = "machine"

    def reworded(self, text: str) -> Self:
        """Return the same error in other words."""
        error = type(self)(text)
        error.__dict__.update(self.__dict__)
        return error


class StoreError(InfrastructureError, OSError):
    """The store, or another place that we write to, cannot be used: full, read-only, gone, no permission.

    Attributes
    ----------
    place : str
        What could not be used, where the system named it.
    """

    code = "storage"
    place = ""

    def reworded(self, text: str) -> Self:
        error = super().reworded(text)
        error.errno = self.errno
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError keeps its number outside of what it pickles.
        return numbered, (type(self), self.args, self.errno), self.__dict__


def numbered(kind: type[StoreError], args: tuple[Any, ...], number: int | None) -> StoreError:
    """Return an error of the store with the number that the system gave."""
    error = kind(*args)
    error.errno = number
    return error


class DamagedEntryError(StoreError):
    """A stored entry does not match its manifest, and was put aside; or another process removed it."""

    code = "damaged-entry"


class OutOfMemoryError(InfrastructureError, MemoryError):
    """The machine, or its GPU, has less memory than the jobs that run at once need."""

    code = "out-of-memory"


class WorkerLostError(InfrastructureError, RuntimeError):
    """A job's worker process died at every try."""

    code = "worker-lost"


class MemberError(StackfeatError, RuntimeError):
    """A member could not be fitted; the others go on."""

    code = "member"


class JobEnded(StackfeatError):
    """A job that was ended because the time of the run was up; it is no fault of its member."""

    code = "job-ended"


class JobTimeoutError(MemberError):
    """A job of the member ran longer than executor.timeout."""

    code = "job-timeout"


class NaNLossError(MemberError):
    """Training diverged at every learning rate tried."""

    code = "nan-loss"


class RunFailed(StackfeatError, RuntimeError):
    """No member was left to make an ensemble of."""

    code = "run-failed"


class TimeLimitReached(RunFailed):
    """The time limit came before any member was finished; the same command goes on."""

    code = "time-limit"
    exit_code = 5


class LeakWarning(UserWarning):
    """Something makes the out-of-fold scores look better than new data will be."""


class DataWarning(UserWarning):
    """Input files can be used, but something in them looks wrong."""


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

NO_ACCESS = (errno.EROFS, errno.EACCES, errno.EPERM)

_ALWAYS = (*NO_SPACE, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)
"""Whatever file they are about, no member can help these."""

_OWN_MISTAKES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""Kinds of error that a full disk does not lead to."""

_FULL_BYTES = 64 * 1024

_SAID = {
    number: re.compile(re.escape(os.strerror(number)), re.IGNORECASE)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.EIO)
}

_OUT_OF_MEMORY = re.compile(
    r"bad_?alloc|bad allocation|can't allocate memory|cannot allocate memory|out of memory|OutOfMemoryError",
    re.IGNORECASE,
)


def machine_fault(error: BaseException, folders: Sequence[Path] = ()) -> InfrastructureError | None:
    """Return what the machine could not give, where that is what an error comes from.

    Parameters
    ----------
    error : BaseException
        Its causes are looked at too: libraries raise errors of their own about a full disk.
    folders : sequence of Path
        Where we write: the store. What fails there is no member's fault, nor is a temporary folder
        without space.

    Examples
    --------
    >>> print(machine_fault(OSError(errno.ENOSPC, "No space left on device", "/data/x")))
    the machine must have the disk space that a run needs; got /data/x: No space left on device; free some, or ...
    >>> machine_fault(FileNotFoundError(errno.ENOENT, "No such file or directory", "my_own.txt"))
    """
    # An error of ours about somebody's file has said whose it is.
    own_folders = () if isinstance(error, StackfeatError) else folders
    for link in _chain(error):
        if isinstance(link, InfrastructureError):
            return link
        found = _memory_fault(link) or _file_fault(link, own_folders)
        if found is not None:
            return found
    return _full_folder(error, folders)


def in_one_line(error: BaseException) -> BaseException:
    """Return an error of a member's own code in one line that names its kind; one of ours as it is."""
    if isinstance(error, StackfeatError):
        return error
    # With the file that it is about, which `first_line` leaves to its callers.
    name = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
    kind, _, words = described(error).partition(": ")
    said = MemberError(f"it raised {kind}{name}{': ' if words else ''}{words} (the traceback is in run.log)")
    for note in getattr(error, "__notes__", ()):
        said.add_note(note)
    return said


@contextmanager
def as_written(what: str, remedy: str) -> Iterator[None]:
    """Give every error over something stored in one line: whatever reads it, it is not what a run wrote.

    Raises
    ------
    InfrastructureError
        If the machine is at fault.
    StructureError
        If code other than our checks failed: a library at a state that it does not know.
    """
    try:
        yield
    except StructureError as error:
        # Our own checks say what is wrong, not yet what to do.
        raise StructureError(str(error) if remedy in str(error) else f"{error}; {remedy}") from error
    except StackfeatError:
        raise
    except Exception as error:
        fault = machine_fault(error)
        if fault is not None:
            raise fault from error
        got = described(error)
        raise StructureError(f"{what} must be as a run wrote it; got {got}; {remedy}") from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and what that was raised from."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _memory_fault(error: BaseException) -> OutOfMemoryError | None:
    is_external = isinstance(error, RuntimeError) or type(error).__module__ != "builtins"
    said = f"{type(error).__name__}: {error}" if is_external and not isinstance(error, StackfeatError) else ""
    if not (isinstance(error, MemoryError) or (said and _OUT_OF_MEMORY.search(said))):
        return None
    return OutOfMemoryError(
        f"the machine must have the memory that the jobs of a run need; got {described(error)}; use fewer "
        "executor.jobs, a smaller member or batch, or a machine with more memory"
    )


def _file_fault(error: BaseException, folders: Sequence[Path]) -> StoreError | None:
    """Return what disk, permissions or descriptors did not allow; None where it is about somebody's own file."""
    number = error.errno if isinstance(error, OSError) else _number_said(error)
    if number is None:
        return _no_temporary_folder(error)
    name = os.fsdecode(error.filename) if isinstance(error, OSError) and _is_path(error.filename) else ""
    path = Path(name).absolute()
    is_ours = bool(name) and any(path.is_relative_to(folder.absolute()) for folder in folders)
    if number in _ALWAYS or is_ours:
        return machine_error(number, name or type(error).__name__, first_line(error))
    return _no_temporary_folder(error)


def _is_path(filename: object) -> bool:
    return isinstance(filename, str | bytes | os.PathLike) and bool(filename)


def _number_said(error: BaseException) -> int | None:
    """Return the number of what a library says the system told it, in an error of its own."""
    if isinstance(error, (StackfeatError, *_OWN_MISTAKES)):
        return None
    return next((number for number, said in _SAID.items() if said.search(str(error))), None)


def _no_temporary_folder(error: BaseException) -> StoreError | None:
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return machine_error(error.errno or errno.ENOENT, "the temporary folder", first_line(error))
    return None


def _full_folder(error: BaseException, folders: Sequence[Path]) -> StoreError | None:
    """Return that a folder has no space left, for an error that can come from it but does not say so."""
    if isinstance(error, (StackfeatError, *_OWN_MISTAKES)) or not isinstance(error, Exception):
        return None
    for folder in (*folders, *_temporary_folder()):
        try:
            free = shutil.disk_usage(folder).free
        except OSError:
            continue
        if free < _FULL_BYTES:
            return machine_error(errno.ENOSPC, str(folder), f"{free} bytes left, and {described(error)}")
    return None


def _temporary_folder() -> tuple[Path, ...]:
    try:
        return (Path(tempfile.gettempdir()),)
    except OSError:
        return ()


_ADVICE = (
    (NO_SPACE, "disk space", "free some, or use a place that has more (`store`, `outputs.dir`, TMPDIR)"),
    (NO_ACCESS, "permissions", "make the place writable, or choose another (`store`, `outputs.dir`, TMPDIR)"),
    ((errno.EMFILE, errno.ENFILE), "open files", "raise the limit (`ulimit -n`), or use fewer executor.jobs"),
    ((errno.ENOMEM,), "memory", "use fewer executor.jobs or a smaller member"),
    ((errno.ENOENT, errno.ENOTDIR), "folders", "see that nobody removes it while a run works"),
)
"""What the machine must have where the system gives one of these numbers, and what to do."""


def machine_error(number: int, place: str, words: str) -> StoreError:
    """Return the error that says what could not be done where, and what to do about it."""
    named = ((wanted, advice) for numbers, wanted, advice in _ADVICE if number in numbers)
    otherwise = "working disk", "check the disk, or use another (`store`, `outputs.dir`, TMPDIR)"
    wanted, advice = next(named, otherwise)
    text = f"the machine must have the {wanted} that a run needs; got {place}: {words}; {advice}"
    error = numbered(StoreError, (text,), number)
    error.place = place
    return error


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line; its kind where it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def described(error: BaseException) -> str:
    """Return the kind of an error and what it says, in one line."""
    kind, words = type(error).__name__, first_line(error)
    return kind if words == kind else f"{kind}: {words}"


INDENT = "    "


_HIDDEN = re.compile(
    # Controls (C0 but tab and line feed, delete, C1), soft hyphen, Arabic letter mark, Mongolian separator,
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e"
    # spaces without width, marks of direction, separators of lines and paragraphs, invisible operators,
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    # half surrogate pairs, musical controls, tags and variation selectors. Joiners of scripts and emoji stay.
    "\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    r"""Write out what a terminal would obey or not show; line breaks and tabs stay.

    Examples
    --------
    >>> print(visible("a\x1b[2Jb\rc"))
    a\x1b[2Jb\rc
    >>> visible("naïve 特徴 👩‍💻") == "naïve 特徴 👩‍💻"
    True
    """
    return text if text.isascii() and text.isprintable() else _HIDDEN.sub(_written, text)


def one_line(text: object) -> str:
    r"""Return a name as it may stand in a line of ours: as `visible`, its line breaks and tabs written out too.

    Examples
    --------
    >>> print(one_line("price\n1 error"))
    price\n1 error
    """
    return visible(str(text)).replace("\n", "\\n").replace("\t", "\\t")


def continued(text: object) -> str:
    """Return a message that may have several lines, all but the first indented."""
    return visible(str(text)).replace("\n", f"\n{INDENT}")


def in_quotes(text: str) -> str:
    r"""Return a text in double quotes, as JSON and YAML read it back, with nothing in it that is not seen.

    Examples
    --------
    >>> print(in_quotes('a\x1b"b'))
    "a\u001b\"b"
    """
    return _HIDDEN.sub(_quoted, json.dumps(text, ensure_ascii=False))


def _quoted(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def _written(found: re.Match[str]) -> str:
    code = ord(found.group())
    short = {7: "\\a", 8: "\\b", 11: "\\v", 12: "\\f", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 256 else _quoted(found))
