"""The allow-list: every callable of the four packages is tried, and what passes is pinned."""

import contextlib
import importlib
import inspect
import pkgutil
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest

from stackfeat.errors import StackfeatError, TrustError
from stackfeat.registry.allowed import (
    ALLOWED_ESTIMATORS,
    ALLOWED_PARTS,
    allowed_class,
    is_allowed_class,
    is_allowed_path,
    public_path,
    wrong_kind,
)
from stackfeat.registry.names import ESTIMATORS, TRUSTED_PACKAGES
from stackfeat.registry.resolve import check_name, resolve

PINNED = Path(__file__).with_name("allowed_classes.txt")
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "xgboost": "xgboost-cpu",
}
NEVER = {"datasets", "utils", "externals", "tests", "testing", "dask", "spark", "experimental"}
FULFIL_THE_RULE_BUT_ARE_LEFT_OUT = {
    "sklearn.preprocessing.FunctionTransformer": "runs callables",
    "sklearn.impute.IterativeImputer": "only there after an import of sklearn.experimental",
    "sklearn.model_selection.HalvingGridSearchCV": "only there after an import of sklearn.experimental",
    "sklearn.model_selection.HalvingRandomSearchCV": "only there after an import of sklearn.experimental",
    "catboost.CatBoost": "takes all its parameters as one mapping",
    "lightgbm.DaskLGBMClassifier": "connects to other machines",
    "lightgbm.DaskLGBMRanker": "connects to other machines",
    "lightgbm.DaskLGBMRegressor": "connects to other machines",
}


def pinned_versions():
    lines = CONSTRAINTS.read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def is_pinned():
    wanted = pinned_versions()
    return all(version(name) == wanted[name] for name in DISTRIBUTIONS.values() if name in wanted)


@pytest.fixture(scope="module")
def callables(tmp_path_factory):
    """Every callable attribute, public or private, of every module that can be imported, by dotted path."""
    # Test modules of xgboost make a cache in the working folder when they are imported.
    with contextlib.chdir(tmp_path_factory.mktemp("working")):
        return callables_of_trusted_packages()


def callables_of_trusted_packages():
    for package in map(importlib.import_module, TRUSTED_PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda _: None):
            if not {"tests", "conftest", "__main__", "widget"} & set(module.name.split(".")):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        importlib.import_module(module.name)
                    except Exception:
                        continue
    found = {}
    for name in sorted(sys.modules):
        if name.partition(".")[0] not in TRUSTED_PACKAGES:
            continue
        for attribute in [item for item in dir(sys.modules[name]) if item.isidentifier()]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = getattr(sys.modules[name], attribute, None)
            if callable(value):
                found[f"{name}.{attribute}"] = value
    return found


def test_what_passes_of_all_callables_is_what_is_pinned(callables):
    passing = sorted(path for path in callables if is_allowed_path(path))
    assert len(callables) > 5_000
    if is_pinned():
        assert len(callables) > 10_000
        assert passing == PINNED.read_text().split()
    for path in passing:
        *modules, _ = path.split(".")
        assert not NEVER & set(modules)
        assert not any(module.startswith("_") for module in modules)


def test_what_passes_is_a_class_with_fit_and_predict_or_transform(callables):
    for path in callables:
        if not is_allowed_path(path):
            continue
        check_name(path, ESTIMATORS, "estimator")
        found = resolve(path, ESTIMATORS, "estimator")
        assert inspect.isclass(found) and not inspect.isabstract(found)
        assert callable(found.fit) and (hasattr(found, "predict") or hasattr(found, "transform"))
        assert is_allowed_class(found) and found is allowed_class(path)
        assert is_allowed_path(public_path(f"{found.__module__}.{found.__name__}"))


def test_everything_else_is_refused_as_an_object_too(callables):
    allowed = [value for path, value in callables.items() if is_allowed_path(path, nested=True)]
    for path, value in callables.items():
        if not any(value is item for item in allowed):
            assert not is_allowed_class(value, nested=True), path


def refused(path, function):
    with pytest.raises(StackfeatError) as error:
        function(path, ESTIMATORS, "estimator")
    return error.value


def test_a_sample_of_what_is_refused_is_refused_by_check_and_resolve_before_it_is_called(callables):
    others = [path for path in callables if not is_allowed_path(path)]
    for path in others[:: len(others) // 30]:
        for function in (check_name, resolve):
            assert refused(path, function).exit_code == 2, path


def test_every_class_that_fulfils_the_rule_is_on_the_list_or_left_out_for_a_reason(callables):
    if not is_pinned():
        pytest.skip("the list is complete for the versions of constraints.txt")
    from sklearn.base import BaseEstimator

    allowed = {allowed_class(path) for path in ALLOWED_ESTIMATORS}
    left_out = set()
    for path, value in callables.items():
        *modules, name = path.split(".")
        is_public = not any(part.startswith("_") for part in [*modules, name]) and not NEVER & set(modules)
        is_learner = isinstance(value, type) and (
            issubclass(value, BaseEstimator) or value.__module__ == "catboost.core"
        )
        if is_public and is_learner and callable(getattr(value, "fit", None)):
            is_whole = hasattr(value, "predict") or hasattr(value, "transform")
            if is_whole and not inspect.isabstract(value) and value not in allowed:
                left_out.add(public_path(f"{value.__module__}.{name}"))
    assert {path.replace(".core.", ".").replace(".dask.", ".") for path in left_out} <= set(
        FULFIL_THE_RULE_BUT_ARE_LEFT_OUT
    )


def test_a_class_that_only_has_the_name_of_an_allowed_one_is_not_allowed():
    impostor = type("SVC", (), {"fit": print, "predict": print, "__module__": "sklearn.svm"})
    assert not is_allowed_class(impostor)
    assert is_allowed_class(allowed_class("sklearn.svm.SVC"))


@pytest.mark.parametrize("path", sorted(ALLOWED_PARTS))
def test_kernels_and_splitters_are_parameters_and_never_members(path):
    assert allowed_class(path, nested=True).__name__ == path.rpartition(".")[2]
    with pytest.raises(TrustError, match="--trust-code"):
        check_name(path, ESTIMATORS, "estimator")


@pytest.mark.parametrize(
    "path", ["sklearn:svm.SVC", "sklearn.svm:", ":SVC", "sklearn.svm.SVC:SVC", "sklearn.svm::SVC", ""]
)
def test_odd_spellings_of_an_allowed_path_are_refused(path):
    assert not is_allowed_path(path)


def test_a_private_path_is_answered_with_the_public_one():
    with pytest.raises(TrustError, match=r"Did you mean 'sklearn\.svm\.SVC'"):
        allowed_class("sklearn.svm._classes.SVC")


def test_a_counterpart_is_on_the_list_and_of_the_other_kind() -> None:
    kinds = {"Classifier": "classifier", "Regressor": "regressor"}
    n_found = 0
    for path in sorted(ALLOWED_ESTIMATORS):
        for suffix, kind in kinds.items():
            found = wrong_kind(path, suffix)
            if found is None:
                continue
            if found:
                n_found += 1
                assert wrong_kind(found, suffix) is None, found
                assert found in ALLOWED_ESTIMATORS and _declared_kind(found) == kind, (path, found)
            assert _declared_kind(path) != kind, path
    assert n_found > 40


def _declared_kind(path: str) -> str | None:
    """Return what a class says of itself, without an object of it."""
    from sklearn.base import ClassifierMixin, RegressorMixin

    cls = allowed_class(path)
    if issubclass(cls, RegressorMixin) or "Regressor" in cls.__name__:
        return "regressor"
    return "classifier" if issubclass(cls, ClassifierMixin) or "Classifier" in cls.__name__ else None
