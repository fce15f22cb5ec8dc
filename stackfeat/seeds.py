"""One root seed in, one independent seed per purpose out; pure arithmetic, no state."""

from __future__ import annotations

import hashlib

from stackfeat.errors import UsageError

LARGEST_SEED = 2**63 - 1


def check_seed(seed: int) -> None:
    """Raise UsageError unless a root seed can be drawn from, and kept in files."""
    if seed < 0:
        raise UsageError(f"seed must be at least 0; got seed={seed}; give a larger number")
    if seed > LARGEST_SEED:
        raise UsageError(f"seed must be at most {LARGEST_SEED}; got seed={seed}; give a smaller number")


def derive_seed(root: int, *parts: str | int) -> int:
    """Return the seed of one purpose, such as ``derive_seed(42, "base/mlp", repeat, fold)``.

    Parameters
    ----------
    root : int
        The seed of the run.
    *parts : str or int
        What the seed is for; different parts give independent seeds.

    Returns
    -------
    int
        In ``[0, 2**31)``, the range every library accepts.

    Examples
    --------
    >>> derive_seed(42, "base/mlp", 0, 1) == derive_seed(42, "base/mlp", 0, 1)
    True
    >>> derive_seed(42, "base/mlp", 0, 1) == derive_seed(42, "base/mlp", 1, 0)
    False
    """
    text = "\x1f".join([str(root), *(f"{type(part).__name__}:{part}" for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
