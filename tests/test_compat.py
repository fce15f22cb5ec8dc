"""Private names of scikit-learn and joblib stand in one module each, and their versions have an end."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPAT = {"sklearn": "stackfeat/sklearn/_compat.py", "joblib": "stackfeat/executors/_compat.py"}
# A name is added here when it is used, and only where nothing public does the same.
USED = {
    "joblib.externals.loky.cloudpickle_wrapper.dumps",
    "sklearn.base._fit_context",
    "sklearn.ensemble._base._fit_single_estimator",
    "sklearn.ensemble._stacking._BaseStacking",
    "sklearn.ensemble._voting._BaseVoting",
    "sklearn.model_selection._validation._enforce_prediction_order",
    "sklearn.utils._param_validation.HasMethods",
    "sklearn.utils._param_validation.Interval",
    "sklearn.utils._param_validation.StrOptions",
    "sklearn.utils._repr_html.estimator._VisualBlock",
    "sklearn.utils._safe_indexing",
    "sklearn.utils.metadata_routing._raise_for_params",
    "sklearn.utils.validation._check_feature_names",
    "sklearn.utils.validation._check_feature_names_in",
    "sklearn.utils.validation._check_method_params",
    "sklearn.utils.validation._check_n_features",
    "sklearn.utils.validation._check_sample_weight",
    "sklearn.utils.validation._estimator_has",
    "sklearn.utils.validation._num_samples",
}


def imported(tree: ast.Module) -> Iterator[str]:
    """Full names of all that is imported anywhere in a module, `import_module("...")` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (str(one.value) for one in node.args if isinstance(one, ast.Constant))


def private(tree: ast.Module) -> set[str]:
    """Names of scikit-learn and joblib with a private part; what joblib brings along is private too."""
    return {
        name
        for name in imported(tree)
        if name.partition(".")[0] in COMPAT and re.search(r"\._|^joblib\.externals\b", name)
    }


@cache
def found() -> dict[str, set[str]]:
    """Return the private names that each file of the package imports."""
    return {
        path.relative_to(ROOT).as_posix(): private(ast.parse(path.read_text("utf-8")))
        for path in sorted((ROOT / "stackfeat").rglob("*.py"))
    }


def test_private_names_are_imported_in_one_module_of_each_library() -> None:
    wrong = [
        f"{file} imports {name}"
        for file, names in found().items()
        for name in sorted(names)
        if COMPAT[name.partition(".")[0]] != file
    ]
    assert not wrong, "\n".join(wrong)


def test_the_private_names_in_use_are_those_of_the_list() -> None:
    assert set().union(*found().values()) == USED


@pytest.mark.parametrize("file", COMPAT.values())
def test_every_private_name_is_used(file: str) -> None:
    module = file.removesuffix(".py").replace("/", ".")
    given = {
        alias.asname
        for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    trees = (ast.parse((ROOT / path).read_text("utf-8")) for path in found())
    taken = {name for tree in trees for name in imported(tree)}
    assert {f"{module}.{name}" for name in given} <= taken


@pytest.mark.parametrize(
    "code",
    [
        "from sklearn.utils import Bunch, _safe_indexing",
        "from sklearn.ensemble._forest import BaseForest",
        "import sklearn._loss.loss",
        "def f():\n    from joblib.externals import loky",
        "importlib.import_module('sklearn._loss._loss')",
    ],
)
def test_a_private_name_is_seen(code: str) -> None:
    assert len(private(ast.parse(code))) == 1


@pytest.mark.parametrize("library", ["scikit-learn", "joblib"])
def test_versions_begin_with_the_oldest_and_end_with_the_series_that_is_tested(library: str) -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    (allowed,) = (one for one in listed if re.match(rf"{library}\b", one))
    series = re.findall(r"\d+\.\d+", pinned("constraints.txt", library))[0].split(".")
    oldest = pinned(".ci/oldest.txt", library).removesuffix(".0")
    assert allowed == f"{library}>={oldest},<{series[0]}.{int(series[1]) + 1}"


def pinned(file: str, library: str) -> str:
    return re.findall(rf"^{library}==(\S+)", (ROOT / file).read_text("utf-8"), re.M)[0]
