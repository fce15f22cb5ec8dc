"""The border to other people's parsers: whatever one of them raises becomes one line about the file.

In:  a block of code that has numpy, pandas, pyarrow, Pillow or a codec read a file.
Out: nothing where it ends well; else a DataError that names the file, or the error of a machine that
     has run out of memory, disk or descriptors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stackfeat.data.messages import one_line
from stackfeat.errors import DataError, StackfeatError, StructureError, machine_fault

_TIMES_UNPACKED = 1000


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
    return one_line(text) or type(error).__name__


def _is_small(where: object) -> bool:
    """Whether a file can only fill the memory by saying that it is larger than it is."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return isinstance(where, Path) and where.stat().st_size * _TIMES_UNPACKED < memory
    except (OSError, ValueError):
        return False
