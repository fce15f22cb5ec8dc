"""Find the source of a module and read it as text, without importing it.

In:  a dotted module name, and the folder that is searched before the installed packages.
Out: its file, the names it defines, the hash of it and of the local modules it imports; the versions of packages.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from stackfeat.errors import ConfigError


@dataclass(frozen=True)
class ModuleFile:
    """A module on disk.

    Attributes
    ----------
    name : str
        Dotted name.
    path : Path
        Source or extension file; the folder for a package without ``__init__.py``.
    locations : tuple of str
        Where submodules are searched; empty for a plain module.
    """

    name: str
    path: Path
    locations: tuple[str, ...] = ()


def find_module(name: str, search_path: Path | None) -> ModuleFile | None:
    """Return where module `name` lies, or None; `search_path` goes before the installed packages."""
    top, _, rest = name.partition(".")
    found = _find_top(top, search_path)
    for part in rest.split(".") if rest else ():
        if found is None:
            return None
        found = _find_in(f"{found.name}.{part}", found.locations)
    return found


def find_installed(name: str) -> ModuleFile | None:
    """Return where module `name` of the installed packages lies: the file that was imported, where it was."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return find_module(name, None) if spec is None else _as_module_file(name, spec)


def submodules(parent: str, search_path: Path | None) -> list[str]:
    """Return the names of the modules in package `parent`, or of the top level for an empty name."""
    if parent:
        found = find_module(parent, search_path)
        folders: Sequence[str] = found.locations if found else ()
    else:
        folders = [str(search_path)] if search_path is not None else []
    return sorted(module.name for module in pkgutil.iter_modules(folders))


def names_defined(module: ModuleFile) -> frozenset[str] | None:
    """Return the names a module's text defines or imports; None where the text does not tell."""
    if module.path.suffix != ".py":
        return None
    return _names_defined_by(module.path.read_bytes())


@lru_cache(maxsize=64)
def _names_defined_by(text: bytes) -> frozenset[str] | None:
    # A run asks this of the same module for every estimator it builds, and some are long.
    tree = _parse(text)
    if tree is None:
        return None
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return None if names & {"*", "__getattr__"} else frozenset(names)


def class_literal(path: Path, class_name: str, attribute: str) -> object:
    """Return the value of an attribute that a class's own text sets to a plain literal, or None.

    Raises
    ------
    ConfigError
        If the text sets it to an expression: nothing is run to find its value.
    """
    tree = _parse(path.read_bytes()) if path.suffix == ".py" else None
    classes = [node for node in (tree.body if tree else ()) if isinstance(node, ast.ClassDef)]
    for line in (line for node in classes if node.name == class_name for line in node.body):
        if not isinstance(line, ast.Assign | ast.AnnAssign) or line.value is None:
            continue
        targets = line.targets if isinstance(line, ast.Assign) else [line.target]
        if any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
            try:
                return ast.literal_eval(line.value)
            except (ValueError, TypeError) as error:
                raise ConfigError(
                    f"{attribute} of {class_name} must be a plain value; got "
                    f"{ast.unparse(line.value)!r} in {path.name}; write numbers, texts, lists and dicts"
                ) from error
    return None


def hash_sources(module: ModuleFile, search_path: Path | None) -> str:
    """Return the SHA-256 of a module's file, or of the hashes of it and the local modules it imports."""
    digests = {
        found.name: hashlib.sha256(found.path.read_bytes() if found.path.is_file() else b"").hexdigest()
        for found in local_modules(module, search_path)
    }
    if len(digests) == 1:
        return digests[module.name]
    listing = "\n".join(f"{name} {digest}" for name, digest in sorted(digests.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def local_modules(module: ModuleFile, search_path: Path | None) -> list[ModuleFile]:
    """Return `module` and, step by step, the modules it imports from beside it, and the packages around them."""
    top = module.name.partition(".")[0]
    known, waiting = {module.name: module}, [module]
    while waiting:
        current = waiting.pop()
        # Importing a.b.c runs the packages a and a.b first.
        names = {part for name in {current.name, *_imported_names(current)} for part in _with_packages(name)}
        for name in sorted(names - known.keys()):
            is_local = name.partition(".")[0] == top or (
                search_path is not None and _find_in(name.partition(".")[0], (str(search_path),)) is not None
            )
            found = find_module(name, search_path) if is_local else None
            if found is not None:
                known[name] = found
                waiting.append(found)
    return list(known.values())


def _with_packages(name: str) -> list[str]:
    """Return a dotted name and the packages it lies in: a.b gives a and a.b."""
    parts = name.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _find_top(top: str, search_path: Path | None) -> ModuleFile | None:
    if search_path is not None:
        local = _find_in(top, (str(search_path),))
        if local is not None:
            return local
    # What sys.path says now comes first: a namesake of another folder may have been imported before.
    importlib.invalidate_caches()
    spec = importlib.machinery.PathFinder.find_spec(top)
    if spec is None:
        try:
            spec = importlib.util.find_spec(top)
        except (ValueError, ImportError):
            return None
    return _as_module_file(top, spec)


def _find_in(name: str, locations: Sequence[str]) -> ModuleFile | None:
    if not locations:
        return None
    for location in locations:
        # What is known of all other folders stays: recipes ask this of every module of user code.
        finder = sys.path_importer_cache.get(location)
        if isinstance(finder, importlib.machinery.FileFinder):
            finder.invalidate_caches()
    # By its last part: for a whole name a folder without __init__.py would need its parent to be imported.
    last = name.rpartition(".")[2]
    return _as_module_file(name, importlib.machinery.PathFinder.find_spec(last, locations))


def _as_module_file(name: str, spec: importlib.machinery.ModuleSpec | None) -> ModuleFile | None:
    if spec is None:
        return None
    locations = tuple(spec.submodule_search_locations or ())
    if spec.has_location and spec.origin:
        return ModuleFile(name, Path(spec.origin), locations)
    return ModuleFile(name, Path(locations[0]), locations) if locations else None


def _parse(text: bytes) -> ast.Module | None:
    """Return the syntax tree, or None where importing the file will say what is wrong with it."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imported_names(module: ModuleFile) -> frozenset[str]:
    """Return the dotted names that a module's import statements may mean."""
    if module.path.suffix != ".py":
        return frozenset()
    package = module.name if module.locations else module.name.rpartition(".")[0]
    return _names_imported_by(module.path.read_bytes(), package)


@lru_cache(maxsize=64)
def _names_imported_by(text: bytes, package: str) -> frozenset[str]:
    names: set[str] = set()
    tree = _parse(text)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            names.update([base, *(f"{base}.{alias.name}" for alias in node.names)] if base else [])
    return frozenset(names)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def library_versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of packages, read from their metadata (nothing is imported)."""
    return {package: _library_version(package) for package in packages}


@cache
def _library_version(package: str) -> str:
    # A plan names the same packages in every recipe, and parsing metadata takes milliseconds.
    try:
        return version(package)
    except PackageNotFoundError:
        return provided_version(package) or "absent"


def provided_version(module: str) -> str | None:
    """Return the version of a module by whatever distribution brings it: ``xgboost`` comes with ``xgboost-cpu`` too.

    Returns
    -------
    str or None
        None where there is no such module; ``unknown`` where no distribution says that it brings it.
    """
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if found is None:
        return None
    folders = [*(found.submodule_search_locations or ()), *([found.origin] if found.origin else [])]
    for folder in dict.fromkeys(str(Path(place).parent) for place in folders[:1]):
        for distribution in distributions(path=[folder]):
            listed = f"\n{distribution.read_text('RECORD') or ''}"
            if f"\n{module}/" in listed or f"\n{module}.py," in listed:
                return distribution.version
    return "unknown"
