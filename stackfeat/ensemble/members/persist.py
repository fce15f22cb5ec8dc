"""Persist: scikit-learn style estimators to bytes and back, by skops with an explicit type list.

No pickle is ever loaded. Bytes come from the store, whose hash was checked before any
parser sees them (LightGBM's text parser ends the process on damaged files).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from typing import Any

from stackfeat.errors import MemberError, TrustError

TRUSTED_TYPES = frozenset(
    {
        "builtins.super",
        "catboost.core.CatBoostClassifier",
        "catboost.core.CatBoostRegressor",
        "collections.OrderedDict",
        "collections.defaultdict",
        # Holds a function and its arguments without calling it; the function needs trust of its own.
        "functools.partial",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRegressor",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.IdentityLink",
        "sklearn._loss.link.LogLink",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.AbsoluteError",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
        "sklearn._loss.loss.HalfSquaredError",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.calibration._TemperatureScaling",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "sklearn.utils.validation.check_array",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBRegressor",
    }
)


def to_bytes(estimator: Any) -> bytes:
    """Return the estimator's skops file.

    Raises
    ------
    MemberError
        If skops cannot write this type.
    """
    from skops.io import dumps

    try:
        # Forests shrink tenfold at the fastest level, and load faster.
        data = bytes(dumps(estimator, compression=zipfile.ZIP_DEFLATED, compresslevel=1))
    except Exception as error:
        raise MemberError(f"{type(estimator).__name__} cannot be saved by skops: {error}") from error
    if _holds_nameless(data):
        raise MemberError(
            f"{type(estimator).__name__} cannot be saved by skops: it holds a lambda or a local function or class, "
            "which no import can find again. Define it at the top of a module"
        )
    return data


def _holds_nameless(data: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        schema = file.read("schema.json")
    return b"<lambda>" in schema or b"<locals>" in schema


def from_bytes(data: bytes, extra: Iterable[str] = ()) -> Any:
    """Construct the estimator after checking every type in the file against the list.

    Parameters
    ----------
    extra : iterable of str
        Types of user code, given only under ``--trust-code``.

    Raises
    ------
    TrustError
        If the file holds another type.
    """
    from skops.io import get_untrusted_types, loads

    unknown = [name for name in unknown_types(data) if name not in set(extra)]
    if unknown:
        raise TrustError(
            f"a saved estimator must hold known types only; got {', '.join(unknown)}. "
            "If the class is your own code, give --trust-code"
        )
    return loads(data, trusted=get_untrusted_types(data=data))


def unknown_types(data: bytes) -> list[str]:
    """Return the types in a skops file that need the user's trust, sorted."""
    from skops.io import get_untrusted_types

    found = get_untrusted_types(data=data)
    return sorted(name for name in found if name not in TRUSTED_TYPES and not _is_scikit_learn(name))


def _is_scikit_learn(name: str) -> bool:
    # Types of scikit-learn itself came in with a config that may name any of its classes;
    # functions are left to the list.
    return name.startswith("sklearn.") and name.rsplit(".", 1)[-1].lstrip("_")[:1].isupper()


def unsaveable(estimator: Any) -> str | None:
    """Say why an unfitted estimator cannot be saved, or None; tried before a run starts."""
    try:
        to_bytes(estimator)
    except MemberError as error:
        return str(error)
    return None
