"""Placeholders in the names of files: ``best{fold}.pt`` stands for a file of each fold.

``{fold}`` counts from 0, ``{fold1}`` from 1; ``{repeat}`` and ``{seed}`` count from 0.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from stackfeat.registry.resolve import suggest

PLACEHOLDERS = ("fold", "fold1", "repeat", "seed")
FOLD = ("fold", "fold1")
_NAME = re.compile(r"\{([^{}]*)\}")


def placeholders(pattern: str) -> tuple[str, ...]:
    """Return the names in braces, each once, in order.

    Examples
    --------
    >>> placeholders("r{repeat}/best{fold1}.pt")
    ('repeat', 'fold1')
    """
    return tuple(dict.fromkeys(_NAME.findall(pattern)))


def has_fold(pattern: str) -> bool:
    """Whether there is a file for each fold."""
    return any(name in FOLD for name in placeholders(pattern))


def fill(pattern: str, *, fold: int = 0, repeat: int = 0, seed: int = 0) -> str:
    """Return the file's name.

    Examples
    --------
    >>> fill("best_model{fold1}.pt", fold=0)
    'best_model1.pt'
    """
    values = {"fold": fold, "fold1": fold + 1, "repeat": repeat, "seed": seed}
    return _NAME.sub(lambda found: str(values[found.group(1)]), pattern)


def placeholder_problem(pattern: str, allowed: Collection[str] = PLACEHOLDERS) -> str | None:
    """Say what is wrong with the placeholders of a name, or None."""
    for name in placeholders(pattern):
        if name not in allowed:
            legal = ", ".join(f"{{{item}}}" for item in allowed)
            return f"names of files may hold {legal}; got {{{name}}} in {pattern!r}.{suggest(name, allowed)}"
    if all(name in placeholders(pattern) for name in FOLD):
        return f"a name holds {{fold}} (from 0) or {{fold1}} (from 1); got both in {pattern!r}. Use one"
    return None
