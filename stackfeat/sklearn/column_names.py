"""Names of columns that a library refuses, although scikit-learn and the other libraries take them.

In:  an estimator, X with its columns' names.
Out: X; for LightGBM and XGBoost under names that they take, where they refuse its own: the same ones in `fit` and in
     `predict`, because the names alone decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd


class Refusal(NamedTuple):
    """Characters that no name may hold, and others that are all read as an underscore."""

    characters: str
    as_underscore: str = ""


REFUSED = {"lightgbm": Refusal('",:[]{}\n\r\0', " "), "xgboost": Refusal("[]<\0")}
"""By library."""


def with_taken_names(estimator: Any, X: Any) -> Any:
    """Return X under names that the estimator's library takes; X itself where it takes them as they are."""
    refusal = _refusal_of(type(estimator))
    if refusal is None or not hasattr(X, "columns"):
        return X
    names = [str(name) for name in X.columns]
    taken = taken_names(names, refusal)
    if taken == names:
        return X
    if isinstance(X, pd.DataFrame):
        return X.set_axis(taken, axis=1)
    return X.rename(dict(zip(names, taken, strict=True)))


def taken_names(names: Sequence[str], refusal: Refusal) -> list[str]:
    """Return names without the refused characters, each once; those that are fine already stay.

    Examples
    --------
    >>> taken_names(["a[0]", "a_0_", "b", "b"], REFUSED["xgboost"])
    ['a_0__1', 'a_0_', 'b', 'b_1']
    """
    out = str.maketrans(dict.fromkeys(refusal.characters, "_"))
    read = str.maketrans(dict.fromkeys(refusal.as_underscore, "_"))
    plain = [name.translate(out) or "column" for name in names]
    own = {one.translate(read) for one, name in zip(plain, names, strict=True) if one == name}
    found, given = [], set[str]()
    for one, name in zip(plain, names, strict=True):
        taken, n_before = one, 0
        while taken.translate(read) in given or (taken != name and taken.translate(read) in own):
            n_before += 1
            taken = f"{one}_{n_before}"
        given.add(taken.translate(read))
        found.append(taken)
    return found


def _refusal_of(kind: type) -> Refusal | None:
    packages = (base.__module__.partition(".")[0] for base in kind.__mro__)
    return next((REFUSED[package] for package in packages if package in REFUSED), None)
