"""Turn a name of a config into an object, and say beforehand whether that will work.

In:  a name ("mlp", "sklearn.linear_model.Ridge" or "my_pkg.nets:Net"), a table of short names,
     the packages that need no trust.
Out: the object (`resolve`), or nothing but the same errors without importing anything (`check_name`).
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

from stackfeat.errors import ConfigError, MissingExtraError, StackfeatError, TrustError
from stackfeat.registry.allowed import ALLOWED_ESTIMATORS, allowed_class, check_allowed
from stackfeat.registry.names import (
    ESTIMATORS,
    NETS,
    TRUSTED_PACKAGES,
    check_family,
    in_family,
    made_by_family,
)
from stackfeat.registry.source import (
    ModuleFile,
    find_installed,
    find_module,
    hash_sources,
    local_modules,
    names_defined,
    submodules,
)
from stackfeat.registry.user_code import agreed, first_on_path, is_agreed

LONGEST_SUGGESTED = 200
MOST_COMPARED = 5_000


def suggest(name: str, options: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest option, or an empty string.

    Examples
    --------
    >>> suggest("acuracy", ["accuracy", "rmse"])
    " Did you mean 'accuracy'?"
    >>> suggest("zzz", ["accuracy"])
    ''
    """
    if len(name) > LONGEST_SUGGESTED:
        return ""
    # A name of twice the length is never near, and comparing long names takes time by the square of it.
    near = (option for option in options if len(option) <= 2 * len(name) + 8)
    by_lower_case = {option.lower(): option for option in islice(near, MOST_COMPARED)}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    return f" Did you mean {by_lower_case[close[0]]!r}?" if close else ""


def is_user_code(name: str, table: Mapping[str, str], packages: Iterable[str] = TRUSTED_PACKAGES) -> bool:
    """Whether `name` is a path to code outside the table and the trusted packages."""
    if name in table or in_family(name, table):
        return False
    module, attribute = _split(name)
    return bool(attribute) and module.partition(".")[0] not in tuple(packages)


def check_name(
    name: str,
    table: Mapping[str, str],
    what: str,
    *,
    packages: Iterable[str] = TRUSTED_PACKAGES,
    trust_code: bool = False,
    search_path: Path | None = None,
    nested: bool = False,
) -> None:
    """Raise what `resolve` would raise, without importing anything.

    Parameters
    ----------
    name : str
        A key of `table`, ``package.module.Name`` of a trusted package, or ``pkg.mod:Name``.
    table : mapping of str to str
        Short names to paths.
    what : str
        What the name stands for, for messages: "net", "estimator", "metric".
    packages : iterable of str
        Top-level packages whose classes on the allow-list need no trust.
    trust_code : bool
        Whether other code may be named.
    search_path : Path or None
        Folder searched before the installed packages: the config's folder.
    nested : bool
        Whether it is a parameter of another class, where kernels, splitters and covariances may stand too.

    Raises
    ------
    ConfigError
        If the name, its module or its attribute does not exist.
    TrustError
        If the name is not on the allow-list and `trust_code` is false, or if a file in
        `search_path` takes the place of a trusted package.
    MissingExtraError
        If the trusted package is not installed.
    """
    if name in table:
        return
    if in_family(name, table):
        check_family(name, what)
        return
    packages = tuple(packages)
    _check_source(name, table, what, packages, trust_code, search_path)
    if not trust_code and not is_user_code(name, table, packages):
        check_allowed(name, what, nested=nested)


def name_problems(
    place: str, name: str, table: Mapping[str, str], what: str, **options: Any
) -> Iterator[tuple[str, str, bool]]:
    """Yield `place`, the message that `check_name` would raise, and whether the remedy is to trust the name."""
    try:
        check_name(name, table, what, **options)
    except StackfeatError as error:
        yield place, str(error), isinstance(error, TrustError)


def resolve(
    name: str,
    table: Mapping[str, str],
    what: str,
    *,
    packages: Iterable[str] = TRUSTED_PACKAGES,
    trust_code: bool = False,
    search_path: Path | None = None,
    nested: bool = False,
) -> object:
    """Return the object that `name` stands for; parameters and errors as in `check_name`."""
    packages = tuple(packages)
    if name in table:
        module_name, attribute = _split(table[name])
        return _attribute(importlib.import_module(module_name), attribute, name, what)
    if in_family(name, table):
        return made_by_family(name)
    found = _check_source(name, table, what, packages, trust_code, search_path)
    module_name, attribute = _split(name)
    if is_user_code(name, table, packages):
        return _attribute(_import_user_module(module_name, found, what, search_path), attribute, name, what)
    if not trust_code:
        return allowed_class(name, what, nested=nested)
    return _attribute(importlib.import_module(module_name), attribute, name, what)


def source_hash(name: str, search_path: Path | None = None) -> str:
    """Return the SHA-256 of the source behind ``pkg.mod:Name`` without importing it.

    Modules that this file imports and that lie beside it (in `search_path`, or in the same package)
    count too, so a change in them is seen.

    Raises
    ------
    ConfigError
        If the module cannot be found.
    """
    module_name, _ = _split(name)
    found = find_module(module_name, search_path)
    if found is None:
        raise ConfigError(_no_module(module_name, name, "user code", search_path))
    return hash_sources(found, search_path)


def _split(name: str) -> tuple[str, str]:
    """Return (module, attribute); the attribute is empty for a plain name."""
    separator = ":" if ":" in name else "."
    module, _, attribute = name.rpartition(separator)
    return (module, attribute) if module else (name, "")


def _check_source(
    name: str,
    table: Mapping[str, str],
    what: str,
    packages: tuple[str, ...],
    trust_code: bool,
    search_path: Path | None,
) -> ModuleFile:
    """Check a name that is not in the table; return where its module lies."""
    module_name, attribute = _split(name)
    if not attribute or not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise ConfigError(_unknown(name, table, what, packages))
    top = module_name.partition(".")[0]
    is_installed = top in packages
    if is_installed:
        _check_installed(top, name, what, search_path)
        search_path = None
    elif not trust_code:
        near = suggest(name, table) or suggest(top, packages)
        raise TrustError(
            f"{what} {name!r} is code that a config alone may not run.{near} "
            "Read it, then agree to it with --trust-code (trust_code=True)."
        )
    elif not is_agreed(name):
        raise TrustError(
            f"{what} {name!r} is not among the code that was agreed to. Read it, then run `stackfeat trust` again, "
            "or give --trust-code (trust_code=True)."
        )
    elif ":" not in name:
        raise ConfigError(
            f"{what} must be written 'package.module:Name'; got {name!r}. Write '{module_name}:{attribute}'."
        )
    found = find_installed(module_name) if is_installed else find_module(module_name, search_path)
    if found is None:
        raise ConfigError(_no_module(module_name, name, what, search_path))
    known = names_defined(found)
    if known is not None and attribute not in known:
        raise ConfigError(
            f"{what} {name!r} does not exist: module {module_name!r} has no {attribute!r}."
            f"{suggest(attribute, known)}"
        )
    return found


def _check_installed(top: str, name: str, what: str, search_path: Path | None) -> None:
    """The trusted package must be installed, and not be replaced by a file beside the config."""
    if search_path is not None:
        for shadow in (search_path / f"{top}.py", search_path / top):
            if shadow.exists():
                raise TrustError(
                    f"{what} {name!r} must come from the installed package {top!r}; got {str(shadow)!r}, "
                    "which would take its place. Rename that file or folder."
                )
    if find_installed(top) is None:
        raise MissingExtraError(
            f"{what} {name!r} needs package {top!r}, which is not installed. "
            f"Install it: pip install {_distribution(top)}"
        )


def _distribution(top: str) -> str:
    extra = "'stackfeat[boosting]'"
    return {"sklearn": "scikit-learn", "catboost": extra, "xgboost": extra}.get(top, top)


def _unknown(name: str, table: Mapping[str, str], what: str, packages: tuple[str, ...]) -> str:
    names, near = ", ".join(sorted(table)) or "nothing", suggest(name, table)
    near = near or (_nearest_class(name) if packages else "")
    paths = f", a path such as '{packages[0]}.module.Name'" if packages else ""
    return f"{what} must be one of {names}{paths} or 'package.module:Name'; got {name!r}.{near}"


def _nearest_class(name: str) -> str:
    """Return a suggestion for the bare name of an estimator: the path of the class that it comes closest to."""
    paths = {path.rpartition(".")[2]: path for path in sorted(ALLOWED_ESTIMATORS, key=len, reverse=True)}
    near = suggest(name, paths).split("'")[1:2]
    return f" Did you mean {paths[near[0]]!r}?" if near else ""


def _no_module(module_name: str, name: str, what: str, search_path: Path | None) -> str:
    parent, _, last = module_name.rpartition(".")
    near = suggest(last, submodules(parent, search_path))
    if last == "py":
        near = f" Write '{name.replace('.py:', ':', 1)}', without '.py'."
    where = f" Looked in {str(search_path)!r} and the installed packages." if search_path is not None else ""
    return f"{what} {name!r} cannot be found: there is no module {module_name!r}.{near}{where}"


def _attribute(module: ModuleType, attribute: str, name: str, what: str) -> object:
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ConfigError(
            f"{what} {name!r} does not exist: module {module.__name__!r} has no {attribute!r}."
            f"{suggest(attribute, dir(module))}"
        ) from None


def _import_user_module(
    module_name: str, found: ModuleFile, what: str, search_path: Path | None
) -> ModuleType:
    """Import user code as it is on disk now, not a namesake or an older text imported before."""
    digest = hash_sources(found, search_path)
    local = local_modules(found, search_path)
    finder = agreed()
    if finder is not None:
        finder.forget_others()
    loaded = sys.modules.get(module_name)
    is_older_text = loaded is not None and getattr(loaded, "__stackfeat_source__", digest) != digest
    if is_older_text or any(_is_namesake(module) for module in local):
        for module in local:
            sys.modules.pop(module.name, None)
    with first_on_path(search_path):
        try:
            imported = importlib.import_module(module_name)
        except (TrustError, KeyboardInterrupt):
            raise
        except BaseException as error:
            got = f"got {type(error).__name__}: {error}. Repair {found.path}."
            raise ConfigError(f"{what} module {module_name!r} must be importable; {got}") from error
    # The module itself remembers the text that was run, so that a later edit is noticed.
    imported.__dict__["__stackfeat_source__"] = digest
    return imported


def _is_namesake(module: ModuleFile) -> bool:
    """Whether another file was imported under this module's name."""
    origin = getattr(sys.modules.get(module.name), "__file__", None)
    return origin is not None and Path(origin).resolve() != module.path.resolve()


LONGEST = 80
SHOWN = 5


def quoted(value: object) -> str:
    """Return a value of a file as one writes it in code, cut where it is long.

    Examples
    --------
    >>> quoted("red")
    "'red'"
    >>> quoted("x" * 100_000)[-25:]
    "'... (100,000 characters)"
    """
    text = value if isinstance(value, str) else repr(value)
    return repr(value) if len(text) <= LONGEST else f"{text[:LONGEST]!r}... ({len(text):,} characters)"


def cut(text: str, longest: int = LONGEST) -> str:
    """Return the beginning of a long text."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def name_values(values: Iterable[object], n_shown: int = SHOWN) -> str:
    """Join the first values, and say how many more there are.

    Examples
    --------
    >>> name_values(range(8))
    '0, 1, 2, 3, 4 and 3 more'
    """
    listed = list(values)
    return _first([cut(str(value)) for value in listed[:n_shown]], len(listed))


def quote_values(values: Iterable[object]) -> str:
    """Join values as `name_values`, each in quotes."""
    listed = list(values)
    return _first([quoted(value) for value in listed[:SHOWN]], len(listed))


def _first(shown: Sequence[str], n_values: int) -> str:
    return ", ".join(shown) + (f" and {n_values - len(shown)} more" if n_values > len(shown) else "")


def code_hash(name: str, folder: Path) -> str | None:
    """Return the hash of the user's source behind a name; None for tables and known packages."""
    return source_hash(name, folder) if is_user_code(name, {**NETS, **ESTIMATORS}) else None
