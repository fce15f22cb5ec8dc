"""What is read of constructors in their text is what Python says of them once they are imported."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import pytest
from sklearn.utils._param_validation import make_constraint
from sklearn.utils.validation import has_fit_parameter

from stackfeat.registry.allowed import ALLOWED_ESTIMATORS
from stackfeat.registry.legal_values import value_problem
from stackfeat.registry.names import NETS
from stackfeat.registry.signatures import fit_takes, signature_of

BOOSTERS = ("lightgbm", "xgboost", "catboost")
OF_SKLEARN = sorted(path for path in ALLOWED_ESTIMATORS if not path.startswith(BOOSTERS))
WITHOUT_CONSTRUCTOR = {"sklearn.preprocessing.KernelCenterer", "sklearn.preprocessing.LabelEncoder"}
NUMBERS = (-1, 0, 1, 2, 7, 0.5, 1.0, 1.5, -0.5, 1e6)
TEXTS = ("auto", "gini", "squared_error", "balanced", "l2", "sqrt", "nonsense", "rbf", "lbfgs")
VALUES = (*NUMBERS, *TEXTS, True, False, None, [1, 2], ["a"], {"a": 1})


def imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def real_names(cls: Any) -> tuple[list[str], bool]:
    parameters = inspect.signature(cls).parameters.values()
    named = [item.name for item in parameters if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)]
    return named, any(item.kind is item.VAR_KEYWORD for item in parameters)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_names_are_those_of_every_class_that_a_config_may_name() -> None:
    read = {path: signature_of(path) for path in OF_SKLEARN}
    assert {path for path, found in read.items() if found is None} <= WITHOUT_CONSTRUCTOR
    for path, found in read.items():
        if found is not None:
            assert (list(found.names), found.is_open) == real_names(imported(path)), path


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_whether_fit_takes_weights_is_told_as_by_the_class_itself() -> None:
    found = {path: fit_takes(path, "sample_weight") for path in ALLOWED_ESTIMATORS}
    for path, takes in found.items():
        if importlib.util.find_spec(path.partition(".")[0]) and takes is not None:
            assert takes == has_fit_parameter(imported(path), "sample_weight"), path
    assert found["sklearn.neighbors.KNeighborsRegressor"] is False
    assert found["sklearn.svm.SVC"] is True and found["lightgbm.LGBMRanker"] is True
    told = [takes for path, takes in found.items() if path.startswith("sklearn.")]
    assert told.count(None) < len(told) / 10


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_value_is_refused_only_where_scikit_learn_refuses_it() -> None:
    n_refused = n_known = n_constraints = 0
    for path in OF_SKLEARN:
        found = signature_of(path)
        stated = getattr(imported(path), "_parameter_constraints", {})
        for name in found.names if found else ():
            items = stated.get(name, "no_validation")
            rules = found.rules.get(name, ()) if found else ()
            n_constraints += items != "no_validation"
            n_known += bool(rules)
            for value in VALUES:
                if value_problem(rules, value):
                    n_refused += 1
                    wanted = [] if items == "no_validation" else [make_constraint(item) for item in items]
                    assert wanted and not any(one.is_satisfied_by(value) for one in wanted), (
                        path,
                        name,
                        value,
                    )
    assert n_known > 0.9 * n_constraints
    assert n_refused > 10_000


def test_nets_of_the_registry_are_read_as_they_are() -> None:
    for name, path in NETS.items():
        module, _, attribute = path.partition(":")
        try:
            cls = getattr(importlib.import_module(module), attribute)
        except ImportError:
            continue
        found = signature_of(path)
        assert found is not None, name
        assert (list(found.names), found.is_open) == real_names(cls), name


CODE = """
import torch.nn as nn
from functools import wraps
from beside import Base, make as made_elsewhere

class Own(nn.Module):
    def __init__(self, n_features, width, *, depth=2):
        super().__init__()

class Inherits(Base):
    pass

class Free(nn.Module):
    def __init__(self, **kwargs):
        super().__init__()

class Unknown(whatever.Thing):
    pass

def factory(n_outputs: int, width: int = 3):
    '''
A docstring at the margin.
def factory(wrong): pass
'''

@wraps(factory)
def wrapped(*args):
    return factory(*args)
"""
BESIDE = "class Base:\n    def __init__(self, a, b=1):\n        pass\n\ndef make(c):\n    pass\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "beside.py").write_text(BESIDE)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "names", "required", "is_open"),
    [
        ("Own", ("n_features", "width", "depth"), ("n_features", "width"), False),
        ("Inherits", ("a", "b"), ("a",), False),
        ("Free", (), (), True),
        ("factory", ("n_outputs", "width"), ("n_outputs",), False),
        ("made_elsewhere", ("c",), ("c",), False),
    ],
)
def test_code_of_ones_own_is_read_where_it_tells(
    name: str, names: tuple[str, ...], required: tuple[str, ...], is_open: bool, folder: Path
) -> None:
    found = signature_of(f"mine:{name}", folder)
    assert found is not None
    assert (found.names, found.required, found.is_open) == (names, required, is_open)


@pytest.mark.parametrize("name", ["Unknown", "wrapped", "Absent", "nn.Module"])
def test_of_what_is_not_told_nothing_is_said(name: str, folder: Path) -> None:
    assert signature_of(f"mine:{name}", folder) is None


def test_text_that_is_no_python_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("class Net(:\n  def __init__(self, a\n")
    assert signature_of("broken:Net", tmp_path) is None
    assert signature_of("absent.module:Net", tmp_path) is None
