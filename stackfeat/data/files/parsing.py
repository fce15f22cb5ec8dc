"""The border to other people's parsers, and wrong rows of a file as messages name them.

In:  a block of code that has numpy, pandas, pyarrow, Pillow or a codec read a file; which rows are wrong.
Out: nothing where all is well; else a DataError that names the file and the rows, or the error of a machine that
     has run out of memory, disk or descriptors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stackfeat.errors import DataError, StackfeatError, StructureError, machine_fault
from stackfeat.registry.resolve import cut, name_values, quoted, suggest

Item = TypeVar("Item")
Read = TypeVar("Read")
_TIMES_UNPACKED = 1000
_LONGEST_REASON = 200


@contextmanager
def parsing(where: object, must: str, remedy: str, *, states_sizes: bool = False) -> Iterator[None]:
    """Turn every error of the block into a DataError ``where: must ...; got: ...; remedy``.

    Parameters
    ----------
    where : object
        The file, and the array or column in it where these are known.
    must, remedy : str
        What must hold, and what to do where it does not.
    states_sizes : bool
        Whether the format says beforehand how much memory it takes. Then a small file for which there is
        not enough of it is a damaged one.
    """
    try:
        yield
    except StructureError as error:
        raise DataError(f"{error}; {remedy}") from error
    except (StackfeatError, ImportError):
        raise
    except Exception as error:
        is_lie = states_sizes and isinstance(error, MemoryError) and _is_small(where)
        fault = None if is_lie else machine_fault(error)
        if fault is not None:
            raise fault from error
        raise DataError(f"{where}: {must}; got: {reason(error)}; {remedy}") from error


def reason(error: BaseException) -> str:
    """Return what an error says, in one short line."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return cut(" ".join(text[: 10 * _LONGEST_REASON].split()), _LONGEST_REASON) or type(error).__name__


def _is_small(where: object) -> bool:
    """Whether a file can only fill the memory by saying that it is larger than it is."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return isinstance(where, Path) and where.stat().st_size * _TIMES_UNPACKED < memory
    except (OSError, ValueError):
        return False


def read_each(items: Iterable[tuple[str, Item]], read: Callable[[str, Item], Read]) -> dict[str, Read]:
    """Return what is read of each item, by name; all that cannot be read are named in one error."""
    found, problems = {}, []
    for name, item in items:
        try:
            found[name] = read(name, item)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return found


def refuse_rows(wrong: np.ndarray, must: str, remedy: str, got: Any = "none") -> None:
    """Raise DataError ``must; got VALUE in rows ...; remedy`` where a row is wrong; `got`: all values, or a word."""
    if wrong.any():
        first = got if isinstance(got, str) else np.asarray(got)[wrong][0]
        shown = quoted(first) if isinstance(first, str) and first is not got else first
        raise DataError(f"{must}; got {shown} in {name_rows(wrong)}; {remedy}")


def unknown_name(must: str, name: object, known: Iterable[str], listed: str = "") -> DataError:
    """Return the error over a name that is not known: ``must; got 'x'. Did you mean 'y'?``."""
    return DataError(f"{must}; got {quoted(name)}{listed}.{suggest(str(name), known)}")


def name_rows(wrong: np.ndarray) -> str:
    """Turn a row mask into ``row 3`` or ``rows 3, 7, 9 and 12 more``, counted from 1 below the header."""
    rows = np.flatnonzero(wrong) + 1
    return ("row " if len(rows) == 1 else "rows ") + name_values(rows.tolist())
