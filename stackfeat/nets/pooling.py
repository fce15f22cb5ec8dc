"""From activations of any rank to one row of columns per sample: (n, ...) in, (n, d) out."""

from __future__ import annotations

from torch import Tensor

from stackfeat.errors import TapError
from stackfeat.nets.taps import Tap


def pool_rows(values: Tensor, tap: Tap, n_rows: int) -> Tensor:
    """Return `values` as (n_rows, n_columns).

    ``auto``: two dimensions as they are, images ``(n, channels, ...)`` by their spatial mean,
    sequences ``(n, steps, width)`` by the mean over steps. ``cls`` and ``last`` take one step.

    Raises
    ------
    TapError
        If the first dimension is not the batch, or `tap.pool` does not fit.
    """
    if values.ndim == 0 or len(values) != n_rows:
        raise TapError(
            f"the first dimension at tap {str(tap)!r} must be the {n_rows} rows of the batch; got "
            f"shape={tuple(values.shape)}; use batch_first=True, or tap another layer"
        )
    if values.ndim == 1:
        return values[:, None]
    if values.ndim == 2 or tap.pool == "flatten":
        return values.flatten(1)
    if tap.pool == "none":
        raise TapError(
            f"pool: none must have (rows, columns); got shape={tuple(values.shape)} at tap {str(tap)!r}; "
            "use pool: auto or flatten"
        )
    return pool_steps(values, tap.pool)


def pool_steps(values: Tensor, pool: str) -> Tensor:
    """Reduce the positions of a sequence (dimension 1) or of an image (dimensions 2 and on)."""
    positions = (1,) if values.ndim == 3 else tuple(range(2, values.ndim))
    if pool in ("auto", "mean"):
        return values.mean(dim=positions)
    if pool == "max":
        return values.amax(dim=positions)
    return (values[:, 0] if pool == "cls" else values[:, -1]).flatten(1)
