"""Decide which classes may be named without ``--trust-code``: the one allow-list, used by everything.

In:  a path such as 'sklearn.svm.SVC', or a class that was imported.
Out: whether it is on the list, ``classes.toml``; the class; or a TrustError that says what to do.

A path alone decides, so configs are checked without importing anything. When a class is really
imported, it must also be what the list takes it for: a class, defined in its own package, with the
methods of an estimator.
"""

from __future__ import annotations

import difflib
import importlib
import tomllib
from pathlib import Path

from stackfeat.errors import TrustError

_CLASSES: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_name("classes.toml").read_text("utf-8")
)


def _paths(section: str) -> frozenset[str]:
    return frozenset(
        f"{module}.{name}" for module, names in _CLASSES[section].items() for name in names.split()
    )


ALLOWED_ESTIMATORS = _paths("estimators")
"""Public paths of estimators with ``fit`` and ``predict`` or ``transform``."""

ALLOWED_PARTS = _paths("parts")
"""Public paths of what such estimators take as a parameter: kernels, splitters, covariances; never a member."""

SAVED_PARTS = _paths("inside")
"""Classes inside saved estimators, besides estimators, by the names of the modules that define them."""

SAVED_LOSSES = _paths("losses")
"""Likewise the compiled losses."""

SAVED_NODES = {kind: frozenset(names.split()) for kind, names in _CLASSES["nodes"].items()} | {
    "LossNode": SAVED_LOSSES,
    "ObjectNode": SAVED_PARTS | SAVED_LOSSES,
}
"""By kind of node the types that it may build; estimators of the list as ``ObjectNode`` besides."""

_COUNTERPARTS: dict[str, str] = _CLASSES["counterparts"]
"""By path of a classifier that of its regressor, where their names do not tell."""

REMEDY = "Read what it does, then agree to it with --trust-code (trust_code=True)"


def is_allowed_path(path: str, *, nested: bool = False) -> bool:
    """Whether a path is on the list, without importing it.

    Parameters
    ----------
    path : str
        ``sklearn.svm.SVC`` or ``sklearn.svm:SVC``: where the package's documentation has it.
    nested : bool
        Whether it is a parameter of another class, where kernels, splitters and covariances may stand too.

    Examples
    --------
    >>> is_allowed_path("sklearn.svm.SVC"), is_allowed_path("sklearn.datasets.fetch_file")
    (True, False)
    """
    name = _dotted(path)
    return name in ALLOWED_ESTIMATORS or (nested and name in ALLOWED_PARTS)


_KINDS = ("Classifier", "Regressor", "Ranker")
"""How names end of what learns classes, values, or the order of rows in lists."""


def wrong_kind(path: str, suffix: str) -> str | None:
    """Return the estimator to use in the place of one of the other kind; "" where there is none of its method.

    Parameters
    ----------
    suffix : {"Classifier", "Regressor"}
        The kind that is needed.

    Returns
    -------
    str or None
        None where nothing is known to be wrong.

    Examples
    --------
    >>> wrong_kind("sklearn.linear_model.RidgeClassifier", "Regressor")
    'sklearn.linear_model.Ridge'
    """
    name = _dotted(path)
    listed = _COUNTERPARTS if suffix == "Regressor" else {value: key for key, value in _COUNTERPARTS.items()}
    if name in listed:
        return listed[name]
    named = name.rpartition(".")[2].removesuffix("CV")
    other = next((one for one in _KINDS if one != suffix and named.endswith(one)), None)
    if name not in ALLOWED_ESTIMATORS or other is None:
        return None
    swapped = name.removesuffix(other) + suffix
    return swapped if swapped in ALLOWED_ESTIMATORS else ""


def public_path(path: str) -> str:
    """Return where a class is documented that is defined in a private module, as saved files name it.

    Examples
    --------
    >>> public_path("sklearn.linear_model._logistic.LogisticRegression")
    'sklearn.linear_model.LogisticRegression'
    """
    *modules, name = _dotted(path).split(".")
    public = next((i for i, module in enumerate(modules) if module.startswith("_")), len(modules))
    return ".".join([*modules[:public], name])


def path_of(cls: type) -> str:
    """Return where a class is documented."""
    return public_path(f"{cls.__module__}.{cls.__qualname__}")


def is_allowed_class(cls: object, *, nested: bool = False) -> bool:
    """Whether an imported object is a class of the list; its name alone proves nothing."""
    if not isinstance(cls, type):
        return False
    path = path_of(cls)
    return is_allowed_path(path, nested=nested) and _imported(path) is cls and _is_what_it_says(path, cls)


def allowed_class(path: str, what: str = "estimator", *, nested: bool = False) -> type:
    """Import and return a class of the list.

    Raises
    ------
    TrustError
        If the path is not on the list, or stands for something else than such a class.
    """
    check_allowed(path, what, nested=nested)
    found = _imported(path)
    if not isinstance(found, type) or not _is_what_it_says(path, found):
        raise TrustError(
            f"{what} must be a public class with fit and predict or transform; got {path!r}, which is "
            f"{type(found).__name__} {getattr(found, '__qualname__', found)!r} here. {REMEDY}."
        )
    return found


def check_allowed(path: str, what: str, *, nested: bool = False) -> None:
    """Raise TrustError unless a path is on the list; nothing is imported."""
    if not is_allowed_path(path, nested=nested):
        raise TrustError(
            f"{what} must be a public estimator class of scikit-learn, LightGBM, XGBoost or CatBoost; got "
            f"{path!r}, which is not on the list of those.{_hint(path, nested)} {REMEDY}."
        )


def _hint(path: str, nested: bool) -> str:
    known = ALLOWED_ESTIMATORS | (ALLOWED_PARTS if nested else frozenset())
    name = _dotted(path).rpartition(".")[2]
    same = sorted(item for item in known if item.rpartition(".")[2] == name)
    near = same or difflib.get_close_matches(_dotted(path), known, n=1, cutoff=0.85)
    return f" Did you mean {near[0]!r}?" if near else ""


def _dotted(path: str) -> str:
    """Return ``package.module:Name`` with a dot; a colon elsewhere stays, and is on no list."""
    module, colon, name = path.partition(":")
    return f"{module}.{name}" if colon and name.isidentifier() else path


def _imported(path: str) -> object:
    module, _, name = _dotted(path).rpartition(".")
    return getattr(importlib.import_module(module), name, None)


def _is_what_it_says(path: str, cls: type) -> bool:
    name = _dotted(path)
    if cls.__module__.partition(".")[0] != name.partition(".")[0]:
        return False
    if name in ALLOWED_PARTS:
        return True
    return callable(getattr(cls, "fit", None)) and any(
        hasattr(cls, method) for method in ("predict", "transform")
    )
