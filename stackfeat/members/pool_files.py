"""Files of a pool: a glob, a folder or a manifest becomes the files of one member for each name.

In:  the options of a pool, and where paths of a config may lead.
Out: for each name (what the `*` stands for, or the name in a manifest) the out-of-fold file and the test file; or
     what is wrong. Files are looked for, not opened, except a manifest.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from stackfeat.data.files.tables import holds, suffixes_of
from stackfeat.registry.patterns import fill, has_fold, is_pattern
from stackfeat.registry.resolve import quote_values, quoted, suggest

MANIFEST = ("name", "oof", "test")
MOST_BYTES = 2**20
"""Of a manifest."""
LONGEST_NAME = 100


class Folders(Protocol):
    """Where paths of a config may lead."""

    @property
    def folder(self) -> Path: ...

    def file_problem(self, path: str, /) -> str | None: ...

    def data_folder_problem(self, path: str, /) -> str | None: ...


@dataclass(frozen=True)
class PoolMatch:
    """What was found of a pool.

    Attributes
    ----------
    files : mapping of str to (str, str or None)
        Name to the out-of-fold file and the test file, sorted by name.
    problems : tuple of (str, str)
        The option, and what is wrong with it.
    """

    files: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    problems: tuple[tuple[str, str], ...] = ()


class _WrongFiles(Exception):
    """An option of a pool names no usable files: the option, and a message."""


def find_pool(files: str, test: str | None, folders: Folders) -> PoolMatch:
    """Look for the files of a pool.

    Parameters
    ----------
    files : str
        A glob with one ``*``, a folder, or a csv file with the columns name, oof and test.
    test : str or None
        A glob or a folder of test files; ``{fold}`` in a glob stands for a file of each fold's model.
    """
    try:
        found = dict(_pairs(files, test, folders))
        _refuse_names(found)
        _refuse_mixed([oof for oof, _ in found.values()], "files")
    except _WrongFiles as error:
        return PoolMatch(problems=(error.args,))
    return PoolMatch(found)


def _pairs(files: str, test: str | None, folders: Folders) -> Iterator[tuple[str, tuple[str, str | None]]]:
    if not is_pattern(files) and holds(files, "table"):
        if test is not None:
            message = (
                f"a manifest names the test files itself, in its column test; got test={test!r}. Remove it"
            )
            raise _WrongFiles("test", message)
        yield from _from_manifest(files, folders)
        return
    oof = _matches("files", files, folders)
    if test is None:
        yield from ((name, (path, None)) for name, path in oof.items())
        return
    tests = _matches("test", test, folders)
    for option, here, there in (("files", oof, tests), ("test", tests, oof)):
        alone = [here[name] for name in here if name not in there]
        if alone:
            other = "test" if option == "files" else "out-of-fold"
            raise _WrongFiles(
                option,
                f"every file needs its {other} file, paired by what the * stands for; {len(alone)} of {len(here)} "
                f"have none: {quote_values(alone)}. Add the missing files, or take these out",
            )
    for name, path in oof.items():
        yield name, (path, test.replace("*", name) if has_fold(test) else tests[name])


def _matches(option: str, pattern: str, folders: Folders) -> dict[str, str]:
    """Return the files of a glob or a folder by name."""
    if is_pattern(pattern):
        found = _of_glob(option, pattern, folders)
    else:
        found = _of_folder(option, pattern, folders)
    if not found:
        raise _WrongFiles(
            option, f"must match at least one file; got none for {pattern!r} in {folders.folder}"
        )
    return dict(sorted(found.items()))


def _of_glob(option: str, pattern: str, folders: Folders) -> dict[str, str]:
    if pattern.count("*") != 1 or "?" in pattern:
        message = f"a glob has one *, which stands for the name of a member; got {pattern!r}"
        raise _WrongFiles(option, f"{message}. Write it with one *, or name the files in a manifest")
    # Fold 0 tells which names there are; that the other folds are there is checked as for a single member.
    parts = fill(pattern).split("/")
    place = next(number for number, part in enumerate(parts) if "*" in part)
    above, below = "/".join(parts[:place]), parts[place + 1 :]
    before, after = parts[place].split("*")
    found = {}
    for entry in _entries(option, above or ("/" if place else "."), folders):
        is_meant = (
            entry.startswith(before) and entry.endswith(after) and len(entry) > len(before) + len(after)
        )
        if not is_meant or (not before and entry.startswith(".")):
            continue
        name = entry[len(before) : len(entry) - len(after)]
        path = "/".join([*parts[:place], entry, *below])
        # Where the * is a folder, others than those with the file may stand beside it.
        is_there = not (folders.folder / path).is_dir() and (not below or (folders.folder / path).exists())
        if is_there:
            found[name] = path
    return found


def _of_folder(option: str, path: str, folders: Folders) -> dict[str, str]:
    suffixes = sorted(suffixes_of("table", "array"), key=len, reverse=True)
    found: dict[str, str] = {}
    for entry in _entries(option, path, folders):
        suffix = next((one for one in suffixes if entry.lower().endswith(one)), None)
        if suffix is None or entry.startswith("."):
            continue
        name, file = entry[: -len(suffix)], f"{path.rstrip('/')}/{entry}"
        if name in found:
            message = (
                f"names of members must be unique; {quote_values([found[name], file])} are both {name!r}"
            )
            raise _WrongFiles(
                option, f"{message}. Name one of them with a glob such as {path.rstrip('/')}/*{suffix}"
            )
        found[name] = file
    return found


def _entries(option: str, path: str, folders: Folders) -> list[str]:
    """Return what is in a folder, sorted."""
    problem = folders.data_folder_problem(path)
    if problem is None:
        try:
            return sorted(entry.name for entry in (folders.folder / path).iterdir())
        except OSError as error:
            problem = f"the folder {path!r} must be readable; got: {error.strerror}"
    raise _WrongFiles(option, problem)


def _from_manifest(path: str, folders: Folders) -> Iterator[tuple[str, tuple[str, str | None]]]:
    problem = folders.file_problem(path)
    if problem is not None:
        raise _WrongFiles("files", problem)
    rows = _manifest_rows(path, folders)
    seen = set()
    for line, row in enumerate(rows, 2):
        name, oof = (row.get("name") or "").strip(), (row.get("oof") or "").strip()
        if not name or not oof:
            raise _WrongFiles(
                "files", f"{path}, line {line}: every row names a member and its oof file; got {row}"
            )
        if name in seen:
            raise _WrongFiles(
                "files", f"{path}, line {line}: names must be unique; got {name!r} again. Rename one"
            )
        seen.add(name)
        yield name, (oof, (row.get("test") or "").strip() or None)


def _manifest_rows(path: str, folders: Folders) -> list[dict[str, str]]:
    file = folders.folder / path
    columns = f"the columns {', '.join(MANIFEST[:-1])} and, where the run has test rows, {MANIFEST[-1]}"
    try:
        if file.stat().st_size > MOST_BYTES:
            raise _WrongFiles(
                "files", f"a manifest has at most {MOST_BYTES:,} bytes; {path!r} has more: is it data?"
            )
        reader = csv.DictReader(io.StringIO(file.read_text("utf-8-sig")), restkey="more")
        rows, names = list(reader), list(reader.fieldnames or ())
    except (OSError, ValueError, csv.Error) as error:
        raise _WrongFiles("files", f"{path}: must be a csv file with {columns}; got: {error}") from None
    odd = [name for name in names if name not in MANIFEST]
    if odd or not {"name", "oof"} <= set(names):
        hint = suggest(odd[0], MANIFEST) if odd else ""
        remedy = "To import one file, write oof: instead of files:"
        raise _WrongFiles("files", f"{path}: must have {columns}; got {quote_values(names)}.{hint} {remedy}")
    if not rows or any("more" in row for row in rows):
        got = "a row with more cells than columns" if rows else "no rows"
        raise _WrongFiles("files", f"{path}: must have a row for each member, with {columns}; got {got}")
    return rows


def _refuse_names(names: Mapping[str, object]) -> None:
    for name in names:
        if not name.isprintable() or set(name) & set("*?/\\") or len(name) > LONGEST_NAME:
            raise _WrongFiles(
                "files",
                f"names of members are printable, without * ? / \\, and have at most {LONGEST_NAME} characters; got "
                f"{quoted(name[: LONGEST_NAME + 20])}. Rename the file, or name it in a manifest",
            )


def _refuse_mixed(paths: list[str], option: str) -> None:
    arrays = [path for path in paths if holds(path, "array")]
    if arrays and len(arrays) < len(paths):
        table = next(path for path in paths if not holds(path, "array"))
        raise _WrongFiles(
            option,
            "the files of a pool are all tables, which have ids, or all arrays, whose ids stand in one file "
            f"(oof_ids); got {quote_values([table, arrays[0]])}. Make two pools",
        )
