"""Remembered trust: which configs and runs the user agreed to, and whether a byte has changed since.

In:  a config's path and bytes with what it needs trust for; or a run folder that was made under trust.
Out: the Code that may be imported, or in words why none may.

Trust holds for one absolute path and for these bytes: of the config and of every source file behind the names in
it. It is kept as small JSON records in the user's own state folder, so a folder that was copied, moved or received
is never trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stackfeat.errors import TrustError, UsageError
from stackfeat.registry.source import ModuleFile, find_module, local_modules
from stackfeat.registry.user_code import NO_CODE, Code, SourceFile

logger = logging.getLogger(__name__)

VARIABLE = "STACKFEAT_STATE"
FORMAT = 1
CONFIGS, RUNS = "configs", "runs"
MAX_BYTES = 4_000_000
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_HAS_OWNERS = hasattr(os, "geteuid")


def state_folder() -> Path:
    """Return the folder; it may not be there yet.

    Raises
    ------
    UsageError
        If ``STACKFEAT_STATE`` is not an absolute path: a relative one would lie in whatever folder was received.
    """
    given = os.environ.get(VARIABLE, "")
    if given:
        if not Path(given).is_absolute():
            raise UsageError(
                f"{VARIABLE} must be an absolute path; got {given!r}; write it out from the root"
            )
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "stackfeat"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "stackfeat"
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    # The specification says to ignore a relative path.
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "stackfeat"


def read_record(kind: str, about: Path) -> dict[str, Any] | None:
    """Return the record about a path, or None where there is none that can be believed."""
    path = _path(kind, about)
    found = _believed(path) if _is_own(path.parent.parent, path.parent) else None
    return found if found is not None and found.get("about") == str(about) else None


def write_record(kind: str, about: Path, values: dict[str, Any]) -> None:
    """Write a record whole, readable and writable by its owner alone.

    Raises
    ------
    UsageError
        If the folder cannot be written, or others may write in it.
    """
    path = _path(kind, about)
    text = json.dumps({"about": str(about), **values}, indent=1, sort_keys=True) + "\n"
    temporary = ""
    try:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        if not _is_own(path.parent.parent, path.parent):
            why = "others could have written in it; remove it, or make it yours with mode 0700"
            raise PermissionError(0, why)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(_FILE_MODE)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
        raise UsageError(
            f"what is trusted is remembered in {path.parent}, which must be yours and writable; got "
            f"{error.strerror or error}. Repair it, or name another folder in {VARIABLE}"
        ) from error


def remove_record(kind: str, about: Path) -> bool:
    """Forget a record; return whether there was one."""
    try:
        _path(kind, about).unlink()
    except OSError:
        return False
    return True


def records(kind: str) -> Iterator[dict[str, Any]]:
    """Yield all records of a kind that can be believed, by path."""
    folder = state_folder() / kind
    if not _is_own(folder.parent, folder):
        return
    found = [_believed(path) for path in sorted(folder.glob("*.json"))]
    yield from sorted((item for item in found if item is not None), key=lambda item: str(item.get("about")))


def _path(kind: str, about: Path) -> Path:
    name = hashlib.sha256(os.fsencode(about)).hexdigest()
    return state_folder() / kind / f"{name}.json"


def _is_own(*folders: Path) -> bool:
    return all(_problem(folder, stat.S_ISDIR) is None for folder in folders)


def _believed(path: Path) -> dict[str, Any] | None:
    """Read a file that only its owner can have written; say why one is ignored."""
    if _problem(path, stat.S_ISREG) is not None:
        return None
    try:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            data = file.read(MAX_BYTES + 1)
        values = json.loads(data) if len(data) <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        _ignored(path, f"it cannot be read ({error})")
        return None
    if not isinstance(values, dict):
        _ignored(path, "it is damaged")
        return None
    return values


def _problem(path: Path, is_kind: Any) -> str | None:
    """Return why a file or folder is not believed, after a warning; "absent" without one."""
    try:
        found = path.lstat()
    except OSError:
        return "absent"
    if not is_kind(found.st_mode):
        problem = "it is a link, or of another kind"
    elif _HAS_OWNERS and found.st_uid != os.geteuid():
        problem = f"it belongs to user {found.st_uid}"
    elif _HAS_OWNERS and found.st_mode & _WRITABLE_BY_OTHERS:
        problem = f"others may write to it (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return None
    _ignored(path, problem)
    return problem


def _ignored(path: Path, why: str) -> None:
    logger.warning("what was trusted is ignored: %s: %s. Remove it and trust again", path, why)


@dataclass(frozen=True)
class Need:
    """One thing in a config that it may not have without trust.

    Attributes
    ----------
    path : str
        Where it stands: ``levels.base.mine.estimator``.
    what : str
        net, estimator, metric, splitter or parameter.
    value : object
        As the config has it, in JSON.
    """

    path: str
    what: str
    value: Any

    @property
    def is_name(self) -> bool:
        return self.what != "parameter" and isinstance(self.value, str)


@dataclass(frozen=True)
class ConfigFile:
    """A config as it was read.

    Attributes
    ----------
    path : Path
        As the user named it.
    sha256 : str
        Of the very bytes that were parsed.
    """

    path: Path
    sha256: str

    @property
    def real(self) -> Path:
        """The file behind all links: what trust is remembered for."""
        return _real(self.path)

    @property
    def folder(self) -> Path:
        """The folder that user code is looked for in: that of the name, not of what a link leads to."""
        return _real(self.path.absolute().parent)


def source_files(needs: Iterable[Need], folder: Path) -> list[SourceFile]:
    """Return every file that importing the names would run: their modules, and what these import from beside them.

    Raises
    ------
    UsageError
        If one of them is compiled: nobody can read it, so it is not remembered.
    """
    found: dict[str, ModuleFile] = {}
    for need in needs:
        is_code = need.is_name and ":" in need.value
        module = find_module(need.value.partition(":")[0], folder) if is_code else None
        if module is not None:
            # An installed package is the user's own choice: the module that is named stands for it.
            several = [module] if _is_installed(module, folder) else local_modules(module, folder)
            found |= {item.name: item for item in several if not _hides_standard(item, module)}
    return [_source_file(found[name], folder) for name in sorted(found)]


def _hides_standard(item: ModuleFile, named: ModuleFile) -> bool:
    """Whether a file is called like a module of Python itself: an import in the others gets that one."""
    top = item.name.partition(".")[0]
    return top in sys.stdlib_module_names and top != named.name.partition(".")[0]


def _is_installed(module: ModuleFile, folder: Path) -> bool:
    """Whether a module is of an installed package or of Python itself, and not beside the config."""
    path = module.path.absolute()
    if path.is_relative_to(folder / module.name.partition(".")[0]) or path.parent == folder:
        return False
    standard = Path(sysconfig.get_paths()["stdlib"])
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or path.is_relative_to(standard)


def _source_file(module: ModuleFile, folder: Path) -> SourceFile:
    path = module.path.absolute()
    if _is_installed(module, folder) and path.is_file():
        return SourceFile(module.name, str(path), _digest(path), installed=True)
    if path.is_dir():
        return SourceFile(module.name, str(path), "")
    if path.suffix != ".py":
        raise UsageError(
            f"trust is remembered for source files (.py), which can be read; got {path} for module {module.name!r}. "
            "Give --trust-code each time instead"
        )
    return SourceFile(module.name, str(path), _digest(path))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def remember_config(config: ConfigFile, needs: Sequence[Need], files: Sequence[SourceFile]) -> None:
    """Remember that the user agreed to all that a config needs."""
    values = {
        "folder": str(config.folder),
        "sha256": config.sha256,
        "needs": [asdict(need) for need in needs],
        "files": [asdict(file) for file in files],
    }
    _remember(CONFIGS, config.real, values)


def recall_config(config: ConfigFile, needs: Sequence[Need]) -> Code:
    """Return the code that a config may import by remembered trust: none where a byte has changed."""
    record = _Record.read(CONFIGS, config.real)
    if record is None or record.folder != str(config.folder):
        return NO_CODE
    changed = [str(config.path)] if record.values.get("sha256") != config.sha256 else []
    if changed := changed + record.changed:
        return Code(why_not=f"what was trusted has changed: {', '.join(changed)}")
    new = [need.path for need in needs if need not in record.needs]
    if new:
        return Code(why_not=f"not among what was trusted: {', '.join(new)}")
    return record.code(need.value for need in record.needs if need.is_name)


def remember_run(folder: Path, config: Path, code: Code) -> None:
    """Remember that the user's own trusted code made this run, for `predict` and `audit`."""
    values = {
        "folder": str(code.folder),
        "config": os.path.realpath(config),
        "names": list(code.names),
        "files": [asdict(file) for file in code.files or ()],
        "digest": run_digest(folder),
    }
    _remember(RUNS, _real(folder), values)


def recall_run(folder: Path) -> Code:
    """Return the code that a run's models may import by remembered trust: none where a byte has changed."""
    record = _Record.read(RUNS, _real(folder))
    if record is None:
        return NO_CODE
    changed = [str(folder)] if record.values.get("digest") != run_digest(folder) else []
    if changed := changed + record.changed:
        return Code(why_not=f"changed since the run was made: {', '.join(changed)}")
    return record.code(map(str, record.values.get("names") or ()))


def code_of_run(run_folder: Path, trust_code: bool | None) -> Code:
    """Decide which code of the user's own the models of a run may import; for all that loads a run.

    Parameters
    ----------
    trust_code : bool or None
        What the user says; None: as it is remembered.
    """
    if trust_code is None:
        return recall_run(run_folder)
    return Code(run_folder) if trust_code else NO_CODE


@contextmanager
def explaining_refusals(code: Code) -> Iterator[None]:
    """Add to a refusal of a run's code why remembered trust does not hold, and how to agree once."""
    try:
        yield
    except TrustError as error:
        how = agree_once(code.why_not, "stackfeat trust CONFIG, then stackfeat run CONFIG")
        raise TrustError(f"{str(error).rstrip('.')}.{how}") from error


def run_digest(folder: Path) -> str:
    """Return a hash of what says which code a run's models need: its config, and every JSON of its predictor.

    Manifests hold the hashes of all other files, which are compared before they are read.
    """
    named = [folder / "config.yaml", *sorted((folder / "predictor").rglob("*.json"))]
    listing = [f"{path.relative_to(folder).as_posix()} {_digest(path)}" for path in named if path.is_file()]
    return hashlib.sha256("\n".join(listing).encode("utf-8", "surrogateescape")).hexdigest()


def forget(config: Path) -> bool:
    """Forget a config and the runs it made; return whether it was trusted."""
    real = _real(config)
    for record in list(records(RUNS)):
        if record.get("config") == str(real):
            remove_record(RUNS, Path(str(record["about"])))
    return remove_record(CONFIGS, real)


def changed_files(config: ConfigFile, files: Iterable[SourceFile]) -> dict[str, str]:
    """Say of each path whether it is new or changed since the config was last trusted, or the same."""
    record = _Record.read(CONFIGS, config.real)
    if record is None:
        return {}
    own = str(config.real)
    before = {file.path: file.sha256 for file in record.files} | {own: record.values.get("sha256")}
    now = {file.path: file.sha256 for file in files} | {own: config.sha256}
    return {
        path: "new" if path not in before else "the same" if before[path] == digest else "changed"
        for path, digest in now.items()
    }


def trusted_configs() -> dict[str, list[str]]:
    """Return which files have changed of every config that is remembered, by its path."""
    found = {}
    for values in records(CONFIGS):
        record = _Record.of(values)
        if record is not None:
            path = Path(str(values["about"]))
            is_same = path.is_file() and _digest(path) == values.get("sha256")
            found[str(path)] = ([] if is_same else [str(path)]) + record.changed
    return found


@dataclass(frozen=True)
class _Record:
    """A record whose fields have the right types."""

    values: dict[str, Any]
    folder: str
    files: tuple[SourceFile, ...]
    needs: tuple[Need, ...]

    @classmethod
    def read(cls, kind: str, about: Path) -> _Record | None:
        values = read_record(kind, about)
        return None if values is None else cls.of(values)

    @classmethod
    def of(cls, values: dict[str, Any]) -> _Record | None:
        try:
            if values["format"] != FORMAT:
                return None
            files = tuple(SourceFile(**file) for file in values["files"])
            needs = tuple(Need(**need) for need in values.get("needs", ()))
            texts = [values["folder"], *(text for f in files for text in (f.module, f.path, f.sha256))]
        except (KeyError, TypeError):
            return None
        return cls(values, values["folder"], files, needs) if all(isinstance(t, str) for t in texts) else None

    @property
    def changed(self) -> list[str]:
        """Files that are not as they were agreed to."""
        return [file.path for file in self.files if not _is_same(file)]

    def code(self, names: Iterable[str]) -> Code:
        served = tuple(file for file in self.files if not file.installed)
        return Code(Path(self.folder), tuple(names), served)


def _is_same(file: SourceFile) -> bool:
    path = Path(file.path)
    if not file.sha256:
        return path.is_dir()
    try:
        return _digest(path) == file.sha256
    except OSError:
        return False


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _remember(kind: str, about: Path, values: dict[str, Any]) -> None:
    trusted = datetime.now(UTC).isoformat(timespec="seconds")
    write_record(kind, about, {"format": FORMAT, "trusted": trusted, **values})


def agree_once(why_not: str, command: str) -> str:
    """Return what a refusal adds: why remembered trust does not hold, and how to agree once."""
    said = f" {why_not[0].upper()}{why_not[1:]}." if why_not else ""
    return f"{said} To agree once, until a byte changes: {command}"
