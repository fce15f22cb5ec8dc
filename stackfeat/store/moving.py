"""Moving whole entries: to their place, out of the way, into quarantine.

In:  finished folders and places.
Out: renames, so that readers see a whole entry or none.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stackfeat.store.cleaning import unique_name
from stackfeat.store.disk import make_folder, sync

_PLACE_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)


def publish(folder: Path, place: Path, is_taken: Callable[[], bool]) -> bool:
    """Move a finished folder to its place, unless a good entry is there already.

    Parameters
    ----------
    folder, place : Path
        On one file system; `folder` stands among the temporaries.
    is_taken : callable
        Says whether what stands at `place` counts. If not, it is removed.

    Returns
    -------
    bool
        Whether `folder` was moved.
    """
    make_folder(place.parent)
    while True:
        try:
            folder.replace(place)
        except OSError as error:
            if error.errno not in _PLACE_TAKEN:
                raise
        else:
            sync(place.parent)
            return True
        if is_taken():
            return False
        trash = folder.with_name(unique_name())
        with suppress(FileNotFoundError):
            place.replace(trash)
        shutil.rmtree(trash, ignore_errors=True)


def put_aside(place: Path, quarantine: Path, is_damaged: Callable[[Path], bool]) -> str:
    """Move a damaged entry into quarantine, and return what became of it.

    Parameters
    ----------
    is_damaged : callable
        Says whether what was moved is what was found damaged: others may have put it aside and computed
        it again in the meantime. If not, it is moved back.
    """
    aside = quarantine / f"{place.name}.{unique_name()}"
    try:
        make_folder(quarantine)
        place.replace(aside)
        if not is_damaged(aside):
            # Where one more process was faster, its entry is as good as this one.
            with suppress(OSError):
                aside.replace(place)
            return "another process has computed it anew; run again"
    except FileNotFoundError:
        return "another process has put it aside; run again to compute it anew"
    except OSError as error:
        return f"it could not be put aside ({error}); remove {place} yourself"
    return f"it is now {aside}; run again to compute it anew"
