"""Extra rows: they train beside a fold's own rows and are never scored.

In:  rows of another file, the training rows, which of these a fit gets and which it must not know.
Out: which extra rows the fit may get; its rows with them behind; inner splits in which they only train.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from stackfeat.data.samples import Samples, Table
from stackfeat.data.splits.folds import hash_rows
from stackfeat.data.splits.splitters import Split


def are_alike(rows: Samples, others: Samples) -> np.ndarray:
    """Return which rows of tables have the id, or all features, of one of the `others`, bool of shape (n_rows,).

    Numbers that are the same as float32 are equal: a copy of a file may hold them so. Blanks around an id do
    not count.
    """
    same_id = np.isin(np.char.strip(rows.ids), np.char.strip(others.ids))
    return np.asarray(same_id | np.isin(_hash_rounded(rows), _hash_rounded(others)))


def _hash_rounded(samples: Samples) -> np.ndarray:
    """Return a uint64 per row; rows with equal values as float32 get equal hashes."""
    tables = {name: values for name, values in samples.inputs.items() if isinstance(values, Table)}
    rounded = {
        name: replace(table, numeric=table.numeric.astype(np.float32)) for name, table in tables.items()
    }
    return hash_rows(rounded)


@dataclass(frozen=True)
class ExtraRows:
    """Extra rows beside the training rows of a run.

    Attributes
    ----------
    extra : Samples
        Read as the training file was, with `y`.
    train : Samples
    in_time : bool
        Whether folds follow time: extra rows that are later than those a fold trains on stay out of it.
    """

    extra: Samples
    train: Samples
    in_time: bool

    def allowed(self, fitted: np.ndarray, judged: np.ndarray) -> np.ndarray:
        """Return which extra rows may train beside `fitted` a model that is judged on `judged`.

        Parameters
        ----------
        fitted, judged : ndarray of int64
            Numbers of training rows.

        Returns
        -------
        ndarray of int64
            Numbers of the extra rows that share no id, no group and not all features with a judged row, and by
            time are no later than the last row that is fitted on.
        """
        extra, train = self.extra, self.train
        kept = ~are_alike(extra, train.take(judged))
        if extra.group is not None and train.group is not None:
            kept &= ~np.isin(extra.group, train.group[judged])
        if self.in_time:
            assert extra.time is not None and train.time is not None
            kept &= extra.time <= train.time[fitted].max(initial=-np.inf)
        return np.flatnonzero(kept)


@dataclass(frozen=True)
class SplitsWithExtra:
    """Inner splits of a fit whose rows have extra rows behind them; these train where they may, and never validate.

    Attributes
    ----------
    inner : callable
        Inner splits of the fit's own rows, as positions among them.
    rows : ndarray of int64
        Numbers of these rows.
    numbers : ndarray of int64
        Numbers of the extra rows behind them.
    """

    inner: Callable[[float, int], Split]
    extra: ExtraRows
    rows: np.ndarray
    numbers: np.ndarray

    def __call__(self, fraction: float, draw: int = 0) -> Split:
        """Return the positions of rows to fit on and of validation rows."""
        fitted, validation = self.inner(fraction, draw)
        allowed = self.extra.allowed(self.rows[fitted], self.rows[validation])
        behind = len(self.rows) + np.flatnonzero(np.isin(self.numbers, allowed))
        return np.concatenate([fitted, behind]), validation
