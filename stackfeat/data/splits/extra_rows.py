"""Extra rows: they train beside a fold's own rows and are never scored.

In:  rows of another file, the training rows, which of these a fit gets and which it must not know.
Out: which extra rows the fit may get; its rows with them behind; inner splits in which they only train.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from stackfeat.data.samples import Samples, Table
from stackfeat.data.splits.folds import hash_rows
from stackfeat.data.splits.splitters import Split


@dataclass(frozen=True)
class Identity:
    """What rows of tables are told apart by: their ids, without blanks around them, and all their features.

    Attributes
    ----------
    ids : array of str (n_rows,)
    hashes : uint64 array (n_rows,)
        Of features; numbers that are the same as float32 are equal: a copy of a file may hold them so.
    """

    ids: np.ndarray
    hashes: np.ndarray

    @classmethod
    def of(cls, samples: Samples) -> Identity:
        tables = {name: values for name, values in samples.inputs.items() if isinstance(values, Table)}
        rounded = {
            name: replace(table, numeric=table.numeric.astype(np.float32)) for name, table in tables.items()
        }
        return cls(np.char.strip(samples.ids), hash_rows(rounded))

    def take(self, rows: np.ndarray) -> Identity:
        """Return that of some of the rows."""
        return Identity(self.ids[rows], self.hashes[rows])

    def is_one_of(self, others: Identity) -> np.ndarray:
        """Return which rows have the id, or all features, of one of the others, bool of shape (n_rows,)."""
        # NumPy 2.0 fails over tables of such great numbers, which it takes where they are near each other.
        return np.asarray(np.isin(self.ids, others.ids) | np.isin(self.hashes, others.hashes, kind="sort"))


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
        own, of_train = self._identities
        kept = ~own.is_one_of(of_train.take(judged))
        if extra.group is not None and train.group is not None:
            kept &= ~np.isin(extra.group, train.group[judged])
        if self.in_time:
            assert extra.time is not None and train.time is not None
            kept &= extra.time <= train.time[fitted].max(initial=-np.inf)
        return np.flatnonzero(kept)

    @cached_property
    def _identities(self) -> tuple[Identity, Identity]:
        """Of the extra rows and of the training rows, which every inner split asks for."""
        return Identity.of(self.extra), Identity.of(self.train)


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
