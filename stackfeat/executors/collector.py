"""How often a process of our own looks for garbage.

Most of what a run makes stays until its end: modules, classes of libraries, tables. Python looks through all of
it again and again, by default after every few hundred new objects, which took a tenth of a short run.
"""

from __future__ import annotations

import gc

_YOUNG_OBJECTS = 10_000


def collect_rarely() -> None:
    """Look for garbage after more new objects than by default; called where the process is ours alone."""
    gc.set_threshold(_YOUNG_OBJECTS)
