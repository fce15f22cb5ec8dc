"""Import a user's own code: all that lies in a folder, or the very files that were agreed to.

In:  a Code value: which code may run, as the command line or remembered trust says.
Out: imports that find it, for as long as a block lasts, or for the life of a worker process.

Under ``--trust-code`` the config's folder is put first on ``sys.path``. Under remembered trust nothing
is: a finder serves the agreed files alone, and runs the very bytes whose SHA-256 it has just compared.
So no byte code is read, a file that is put beside them later is never imported, and an edit between the
check and the import is an error.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from stackfeat.errors import ChangedCodeError


@dataclass(frozen=True)
class SourceFile:
    """One module that was agreed to.

    Attributes
    ----------
    module : str
        Dotted name.
    path : str
        Absolute; the folder of a package without ``__init__.py``.
    sha256 : str
        Of the file's bytes; empty for such a folder.
    installed : bool
        Whether it belongs to an installed package, which is imported as ever.
    """

    module: str
    path: str
    sha256: str
    installed: bool = False

    @property
    def is_package(self) -> bool:
        return not self.sha256 or Path(self.path).name == "__init__.py"


@dataclass(frozen=True)
class Code:
    """Which code of the user's own may be imported.

    Attributes
    ----------
    folder : Path or None
        Where it is looked for first: the config's folder. None: no such code may run.
    names : tuple of str
        What remembered trust covers, as configs write it: ``pkg.mod:Name``.
    files : tuple of SourceFile or None
        The files that were agreed to; None under ``--trust-code``, which is asked for anew every time.
    why_not : str
        Why trust that was remembered does not hold; empty where it does, or never was.
    """

    folder: Path | None = None
    names: tuple[str, ...] = ()
    files: tuple[SourceFile, ...] | None = None
    why_not: str = ""

    @property
    def is_trusted(self) -> bool:
        return self.folder is not None

    @property
    def is_remembered(self) -> bool:
        return self.files is not None

    def beside(self, folder: Path) -> Code:
        """Return the code with the folder that a run says its code lies in; a memory knows better."""
        return replace(self, folder=folder) if self.is_trusted and not self.is_remembered else self


NO_CODE = Code()


@contextmanager
def importing(code: Code) -> Iterator[None]:
    """Let imports find this code for as long as the block lasts; no byte code is left beside it."""
    if code.files is None:
        with first_on_path(code.folder):
            yield
        return
    if agreed() is not None:
        yield
        return
    finder = AgreedFinder(code)
    finder.forget_others()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def serving_agreed(code: Code) -> Iterator[None]:
    """Serve agreed files as long as the block lasts; under the flag each import asks for its folder itself."""
    with importing(code if code.is_remembered else NO_CODE):
        yield


def import_always(code: Code) -> None:
    """Let imports find this code from now on: for worker processes, which live for one run."""
    sys.dont_write_bytecode = sys.dont_write_bytecode or code.is_trusted
    if code.files is not None:
        sys.meta_path.insert(0, AgreedFinder(code))
    elif code.folder is not None:
        sys.path.insert(0, str(code.folder.resolve()))


@contextmanager
def first_on_path(folder: Path | None) -> Iterator[None]:
    """Import from `folder` first, and leave no byte code there: its time stamps are too coarse to trust.

    Where a finder of agreed files is at work it alone says what is imported.
    """
    if folder is None or agreed() is not None:
        yield
        return
    entry, writes_nothing = str(folder.resolve()), sys.dont_write_bytecode
    sys.path.insert(0, entry)
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_nothing
        sys.path.remove(entry)


def agreed() -> AgreedFinder | None:
    """Return the finder of agreed files that is at work, if one is."""
    return next((finder for finder in sys.meta_path if isinstance(finder, AgreedFinder)), None)


def is_agreed(name: str) -> bool:
    """Whether a name that needs trust may be resolved: any under the flag, else one that was agreed to."""
    finder = agreed()
    return finder is None or name in finder.code.names


def agreed_types(types: Iterable[str]) -> list[str]:
    """Return the types (``mod.Name``) that saved estimators may hold beyond the list.

    Under the flag all of them; under remembered trust those of modules that were agreed to.
    """
    finder = agreed()
    return [name for name in types if finder is None or any(name.startswith(f"{m}.") for m in finder.files)]


class AgreedFinder(importlib.abc.MetaPathFinder):
    """Finds the modules that were agreed to, and stops their packages from giving others."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.files: Mapping[str, SourceFile] = {file.module: file for file in code.files or ()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        file = self.files.get(fullname)
        if file is None:
            self._refuse_neighbour(fullname)
            return None
        if not file.sha256:
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [file.path]
            return spec
        return importlib.util.spec_from_file_location(
            fullname,
            file.path,
            loader=_AgreedLoader(file),
            submodule_search_locations=[str(Path(file.path).parent)] if file.is_package else None,
        )

    def forget_others(self) -> None:
        """Take modules out of this process that bear an agreed name and were not read from its bytes."""
        for name, file in self.files.items():
            loader = getattr(getattr(sys.modules.get(name), "__spec__", None), "loader", None)
            if name in sys.modules and not (isinstance(loader, _AgreedLoader) and loader.file == file):
                del sys.modules[name]

    def _refuse_neighbour(self, fullname: str) -> None:
        """A package beside the config gives no module that was not agreed to; an installed one may."""
        top = fullname.partition(".")[0]
        parent = self.files.get(fullname.rpartition(".")[0])
        assert self.code.folder is not None
        if parent is not None and Path(parent.path).is_relative_to(self.code.folder.resolve() / top):
            raise ModuleNotFoundError(
                f"module {fullname!r} is not among the files that were agreed to. Import it by a plain import "
                "statement and run `stackfeat trust` again, or give --trust-code",
                name=fullname,
            )


class _AgreedLoader(importlib.machinery.SourceFileLoader):
    """Runs a source file if its bytes are those that were agreed to; never byte code."""

    def __init__(self, file: SourceFile) -> None:
        super().__init__(file.module, file.path)
        self.file = file

    def get_code(self, fullname: str) -> CodeType | None:
        data = Path(self.file.path).read_bytes()
        if hashlib.sha256(data).hexdigest() != self.file.sha256:
            raise ChangedCodeError(
                f"code must be as it was when it was agreed to; got {self.file.path}, which has changed. Read it, "
                "then run `stackfeat trust CONFIG` again, or give --trust-code"
            )
        code: Any = compile(data, self.file.path, "exec", dont_inherit=True)
        return code  # type: ignore[no-any-return]
