"""Derived columns of a fold: made of its training rows alone, and for these by inner splits once more.

In:  a fold's training rows and its held-out rows.
Out: columns of both. Those of training rows never come from a fit that counted the row itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import TargetEncoder

N_FOLDS = 5

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Data:
    """The rows of a set; `n_classes` is 0 where the target is a value."""

    X: pd.DataFrame
    y: np.ndarray
    n_classes: int
    group: np.ndarray | None = None
    in_time: bool = False
    dates: pd.Series | None = None

    @property
    def n_outputs(self) -> int:
        return self.n_classes if self.n_classes > 2 else 1

    @property
    def cluster(self) -> np.ndarray:
        return np.arange(len(self.y)) if self.group is None else self.group

    def take(self, rows: np.ndarray) -> Data:
        return replace(
            self,
            X=self.X.iloc[rows],
            y=self.y[rows],
            group=None if self.group is None else self.group[rows],
            dates=None if self.dates is None else self.dates.iloc[rows],
        )

    def splits(self, seed: int) -> Iterator[Split]:
        """Folds of one kind, outside and inside."""
        if self.in_time:
            return TimeSeriesSplit(N_FOLDS).split(self.X)
        if self.group is not None:
            return GroupKFold(N_FOLDS, shuffle=True, random_state=seed).split(self.X, self.y, self.group)
        way = StratifiedKFold if self.n_classes else KFold
        return way(N_FOLDS, shuffle=True, random_state=seed).split(self.X, self.y)


def booster(data: Data, seed: int, n_rounds: int) -> Any:
    way = lgb.LGBMClassifier if data.n_classes else lgb.LGBMRegressor
    return way(
        n_estimators=n_rounds,
        learning_rate=0.1 if data.n_classes < 10 else 0.2,
        num_leaves=15,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.7,
        n_jobs=1,
        random_state=seed,
        verbose=-1,
    )


def rounds_of(train: Data, X: pd.DataFrame, init: np.ndarray | None = None) -> int:
    """Return how many rounds suit the last inner fold, for the fit on all rows."""
    inside, outside = list(train.splits(1))[-1]
    more: dict[str, Any] = {}
    if init is not None:
        more = {"init_score": init[inside], "eval_init_score": [init[outside]]}
    found = booster(train, 0, 1000).fit(
        X.iloc[inside],
        train.y[inside],
        eval_set=[(X.iloc[outside], train.y[outside])],
        callbacks=[lgb.early_stopping(30, verbose=False)],
        **more,
    )
    return max(int(found.best_iteration_), 5)


def with_columns(X: pd.DataFrame, columns: np.ndarray | None) -> pd.DataFrame:
    if columns is None:
        return X
    names = [f"derived{number}" for number in range(columns.shape[1])]
    return pd.concat([X, pd.DataFrame(columns, index=X.index, columns=names)], axis=1)


def predicted(model: Any, X: pd.DataFrame, data: Data) -> np.ndarray:
    if not data.n_classes:
        return np.asarray(model.predict(X))[:, None]
    proba = np.full((len(X), data.n_classes), 1e-9)
    proba[:, model.classes_] = model.predict_proba(X)
    return proba / proba.sum(axis=1, keepdims=True)


def row_loss(data: Data, prediction: np.ndarray) -> np.ndarray:
    if not data.n_classes:
        return (data.y - prediction[:, 0]) ** 2
    return -np.log(np.clip(prediction[np.arange(len(data.y)), data.y], 1e-6, None))


def ranked_columns(train: Data) -> list[str]:
    """Names of columns, the one that helps a quick booster most first."""
    quick = booster(train, 0, 30).fit(train.X, train.y)
    gain = quick.booster_.feature_importance("gain")
    return [train.X.columns[j] for j in np.argsort(-gain, kind="stable")]


def as_codes(X: pd.DataFrame, reference: pd.DataFrame, n_bins: int) -> pd.DataFrame:
    """Categories as they are; numbers by quantiles of the reference where they have more values than bins."""
    codes = {}
    for column in X:
        if isinstance(X[column].dtype, pd.CategoricalDtype):
            codes[column] = X[column].cat.codes.to_numpy().astype(np.int64) + 1
        else:
            edges = np.unique(reference[column].dropna())
            if len(edges) > n_bins:
                edges = np.unique(np.nanquantile(reference[column], np.linspace(0, 1, n_bins + 1)[1:-1]))
            codes[column] = np.searchsorted(edges, X[column].to_numpy(), side="right")
            codes[column] = np.where(X[column].isna(), len(edges) + 1, codes[column])
    return pd.DataFrame(codes, index=X.index)


def crossed(codes: pd.DataFrame, names: tuple[str, ...]) -> np.ndarray:
    found = np.zeros(len(codes), dtype=np.int64)
    for name in names:
        found = found * 100_003 + codes[name].to_numpy()
    return found


def cross_fitted(
    train: Data, held: Data, seed: int, fit: Callable[[Data], Callable[[Data], np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Columns of training rows by inner splits (missing where time has none before them), of others by all."""
    outside = fit(train)(held)
    inside = np.full((len(train.y), outside.shape[1]), np.nan)
    for inner, rest in train.splits(seed + 100):
        inside[rest] = fit(train.take(inner))(train.take(rest))
    return inside, outside


def encoded(
    train: Data, held: Data, seed: int, n_columns: int, size: int, n_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Target means of crossed columns: those that tell more than the best of their parts, in training rows."""
    top = ranked_columns(train)[:n_columns]
    sets = [(name,) for name in top] + list(combinations(top, size))
    in_train, in_held = (as_codes(each.X[top], train.X, n_bins) for each in (train, held))
    codes = [np.column_stack([crossed(each, names) for names in sets]) for each in (in_train, in_held)]

    def fit(part: Data) -> Callable[[Data], np.ndarray]:
        kind = "continuous" if not data_classes else "binary" if data_classes == 2 else "multiclass"
        encoder = TargetEncoder(target_type=kind).fit(codes[0][position(part)], part.y)

        def transform(rows: Data) -> np.ndarray:
            found = encoder.transform(codes[1] if rows is held else codes[0][position(rows)])
            if kind != "multiclass":
                return found
            full = np.zeros((len(found), len(sets), data_classes))
            full[:, :, encoder.classes_] = found.reshape(len(found), len(sets), -1)
            return full.reshape(len(found), -1)

        return transform

    data_classes, index = train.n_classes, pd.Series(np.arange(len(train.y)), index=train.X.index)

    def position(part: Data) -> np.ndarray:
        return index[part.X.index].to_numpy()

    inside, outside = cross_fitted(train, held, seed, fit)
    width = train.n_outputs
    known = ~np.isnan(inside[:, 0])
    known_rows = train.take(np.flatnonzero(known))
    losses = {}
    for j, names in enumerate(sets):
        values = inside[known, j * width : (j + 1) * width]
        values = np.column_stack([1 - values, values]) if train.n_classes == 2 else values
        losses[names] = row_loss(known_rows, values).mean()
    gains = [min(losses[(name,)] for name in names) - losses[names] for names in sets[len(top) :]]
    kept = len(top) + np.argsort(gains)[::-1][: int(np.clip(60 // width, 3, 12))]
    columns = np.concatenate([np.arange(j * width, (j + 1) * width) for j in kept])
    return inside[:, columns], outside[:, columns]


def pair_encoding(train: Data, held: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return encoded(train, held, seed, 8, 2, 16)


def triple_encoding(train: Data, held: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return encoded(train, held, seed, 6, 3, 8)


def group_stats(train: Data, held: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of top numbers within values of top keys, and the distance of the row from that mean."""
    top = ranked_columns(train)
    values = [name for name in top if name in numbers(train) and train.X[name].nunique() > 10][:5]
    keys = [name for name in top if name not in values[:1]][:4]

    def fit(part: Data) -> Callable[[Data], np.ndarray]:
        codes = as_codes(part.X[keys], train.X, 16)
        tables = {
            key: part.X[values].groupby(codes[key].to_numpy()).agg(["mean", "std"])
            for key in keys
            if len(values)
        }

        def transform(rows: Data) -> np.ndarray:
            rows_codes, found = as_codes(rows.X[keys], train.X, 16), [np.zeros((len(rows.y), 1))]
            for key, table in tables.items():
                met = table.reindex(rows_codes[key].to_numpy())
                for value in values:
                    if value != key:
                        mean, std = (met[(value, way)].to_numpy() for way in ("mean", "std"))
                        found.append(np.column_stack([mean, std, rows.X[value].to_numpy() - mean]))
            return np.hstack(found)

        return transform

    return cross_fitted(train, held, seed, fit)


def numbers(data: Data) -> list[str]:
    return list(data.X.select_dtypes("number").columns)


def arithmetic(train: Data, held: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums, differences, products and ratios of top numbers: those that a quick booster uses most."""
    top = [name for name in ranked_columns(train) if name in numbers(train)][:6]

    def all_of(data: Data) -> np.ndarray:
        found = [np.zeros(len(data.y))]
        for one, other in combinations(top, 2):
            a, b = data.X[one].to_numpy(), data.X[other].to_numpy()
            found += [a + b, a - b, a * b, a / np.where(b == 0, np.nan, b)]
        return np.column_stack(found)

    inside, outside = all_of(train), all_of(held)
    quick = booster(train, 0, 30).fit(with_columns(train.X, inside), train.y)
    gain = quick.booster_.feature_importance("gain")[train.X.shape[1] :]
    kept = np.argsort(-gain, kind="stable")[:12]
    return inside[:, kept], outside[:, kept]


def digits(train: Data, held: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Single digits of top numbers, and the numbers rounded to two digits."""
    top = [name for name in ranked_columns(train) if name in numbers(train) and train.X[name].nunique() > 20]

    def all_of(data: Data) -> np.ndarray:
        found = [np.zeros(len(data.y))]
        for name in top[:8]:
            values = data.X[name].to_numpy()
            size = np.nanquantile(np.abs(train.X[name]), 0.9)
            unit = 10.0 ** (np.floor(np.log10(size)) - 1 if size > 0 else 0)
            found += [np.round(values / unit)]
            found += [np.floor(np.abs(values) / unit * 10.0**power + 1e-9) % 10 for power in (0, 1, 2, 3)]
        return np.column_stack(found)

    return all_of(train), all_of(held)


def counts(train: Data, held: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often the row's value, or pair of values, occurs among other rows, as a share."""
    top = ranked_columns(train)
    sets = [(name,) for name in top[:10]] + list(combinations(top[:5], 2))
    names = list(dict.fromkeys(name for each in sets for name in each))

    def fit(part: Data) -> Callable[[Data], np.ndarray]:
        codes = as_codes(part.X[names], train.X, 10_000)
        tables = [pd.Series(crossed(codes, each)).value_counts(normalize=True) for each in sets]

        def transform(rows: Data) -> np.ndarray:
            rows_codes = as_codes(rows.X[names], train.X, 10_000)
            found = [
                table.reindex(crossed(rows_codes, each)).fillna(0).to_numpy()
                for each, table in zip(sets, tables, strict=True)
            ]
            return np.column_stack(found)

        return transform

    return cross_fitted(train, held, seed, fit)


def dates(train: Data, held: Data, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Parts of a date, and days since the first."""
    if train.dates is None:
        return None

    def all_of(given: pd.Series) -> np.ndarray:
        parts = given.dt
        return np.column_stack(
            [parts.day, parts.day_of_week, parts.day_of_year, parts.month, given.astype("int64")]
        )

    return all_of(train.dates), all_of(held.dates)


def numeric_matrix(train: Data, held: Data) -> tuple[np.ndarray, np.ndarray]:
    """One-hot categories and standardised numbers, by the training rows."""
    frame = pd.get_dummies(pd.concat([train.X, held.X]), dtype=float)
    kept = frame.iloc[: len(train.y)].std() > 0
    kept &= (frame.iloc[: len(train.y)] != 0).sum() >= 5
    frame = frame.loc[:, kept]
    middle, spread = frame.iloc[: len(train.y)].median(), frame.iloc[: len(train.y)].std()
    both = ((frame.fillna(middle) - middle) / spread).clip(-6, 6).to_numpy()
    return both[: len(train.y)], both[len(train.y) :]


def neighbours(train: Data, held: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean target of 5 and 25 neighbours among other rows, and how far they are."""
    top = ranked_columns(train)[:12]
    train, held = replace(train, X=train.X[top]), replace(held, X=held.X[top])
    targets = train.n_classes and max(train.n_classes - (train.n_classes == 2), 1)

    def fit(part: Data) -> Callable[[Data], np.ndarray]:
        def transform(rows: Data) -> np.ndarray:
            inside, outside = numeric_matrix(part, rows)
            search = NearestNeighbors(n_neighbors=min(25, len(inside))).fit(inside)
            distance, who = search.kneighbors(outside)
            aim = np.eye(part.n_classes)[part.y][:, -targets:] if targets else part.y[:, None]
            means = [aim[who[:, :k]].mean(axis=1) for k in (5, 25)]
            return np.column_stack([*means, distance[:, 0], distance.mean(axis=1)])

        return transform

    return cross_fitted(train, held, seed, fit)


def together(train: Data, held: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What most promised, in one member."""
    parts = [kind(train, held, seed) for kind in (arithmetic, group_stats, pair_encoding)]
    inside, outside = (np.hstack(side) for side in zip(*parts, strict=True))
    return inside, outside


DERIVED: dict[str, Callable[[Data, Data, int], tuple[np.ndarray, np.ndarray] | None]] = {
    "pair_encoding": pair_encoding,
    "triple_encoding": triple_encoding,
    "group_stats": group_stats,
    "arithmetic": arithmetic,
    "digits": digits,
    "counts": counts,
    "dates": dates,
    "neighbours": neighbours,
    "together": together,
}
