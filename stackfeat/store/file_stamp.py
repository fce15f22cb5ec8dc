"""File stamps: when a file that was hashed may be taken for unchanged without hashing it again.

In:  what the file system says of a file.
Out: a stamp that differs after every change, but for changes within one tick of the file system's clock;
so a file counts by its stamp only if its last change was longer ago than a tick when it was looked at.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

TICK_NS = 100_000_000
"""Clocks of file systems move in steps of up to 10 ms, and may be behind ours by one."""
COARSE_TICK_NS = 3_000_000_000
"""Some keep whole seconds (ext3, HFS+), or every second one (FAT)."""
_SECOND_NS = 1_000_000_000


class Stamp(NamedTuple):
    """What changes with a file. Anybody can set `changed` back; `noted` is the system's own."""

    size: int
    changed: int
    noted: int
    inode: int


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def is_settled(stamp: Stamp, looked_at: int) -> bool:
    """Return whether every change after `looked_at` gives another stamp.

    Parameters
    ----------
    looked_at : int
        `now_ns` of a moment before the file was asked for its stamp.
    """
    last = max(stamp.changed, stamp.noted)
    tick = COARSE_TICK_NS if last % _SECOND_NS == 0 else TICK_NS
    return looked_at - last > tick


def now_ns() -> int:
    """Return the time as file systems note it."""
    return time.time_ns()
