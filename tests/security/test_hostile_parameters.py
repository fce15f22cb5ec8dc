"""Every allowed class is given paths, callables, caches, hosts and callbacks: refused, nothing happens."""

import inspect
import re
import socket
from functools import cache
from pathlib import Path

import pytest

from stackfeat.audit.audit import _refuse_untrusted
from stackfeat.config.load import config_from_dict, load_config
from stackfeat.config.run_config import RunConfig
from stackfeat.errors import ConfigError, TrustError
from stackfeat.members.construct import construct
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.registry.allowed import ALLOWED_ESTIMATORS, allowed_class
from stackfeat.registry.parameter_kinds import NOT_GIVEN, REFUSED, SKLEARN
from stackfeat.registry.parameters import estimator_problems

HOSTILE = {
    "path": "{folder}/canary.txt",
    "path outside": "../canary.txt",
    "path on Windows": "C:\\canary.txt",
    "home": "~/canary.txt",
    "address": "http://127.0.0.1:9/canary",
    "paths": ["{folder}/canary.txt"],
    "mapping of paths": {"file": "{folder}/canary.txt"},
    "function": {"estimator": "sklearn.datasets.clear_data_home", "params": {"data_home": "{folder}"}},
    "function in a list": [{"estimator": "sklearn.utils._testing.assert_run_python_script_without_output"}],
    "function in a pair": [
        ["a", {"estimator": "sklearn.datasets.fetch_file", "params": {"url": "http://x"}}]
    ],
    "private class": {"estimator": "sklearn.linear_model._logistic.LogisticRegression"},
    "bytes": b"canary",
    "not a number": float("nan"),
    "infinity": float("inf"),
    "too great": 1e200,
    "too deep": [[[[[[[[[[[[1]]]]]]]]]]]],
}
NAMED_ONCE = sorted(
    path for path in ALLOWED_ESTIMATORS if path.split(".")[0] == "sklearn" or path.count(".") == 1
)
NAMES_OF_CODE = (
    "os:system",
    "os.system",
    "builtins.eval",
    "127.0.0.1:12400",
    "canary.txt",
    "warn",
    "deprecated",
)
BEYOND_CONSTRUCTORS = ["memory", "callbacks", "callback", "n_jobs_file", "verbose_file"]


def filled(value, folder):
    if isinstance(value, str):
        return value.replace("{folder}", str(folder))
    if isinstance(value, list):
        return [filled(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: filled(item, folder) for key, item in value.items()}
    return value


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """An empty working folder in which nothing may appear, and sockets that may not connect."""

    def connect(*_):
        raise AssertionError("something connected")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "create_connection", connect)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def parameters_of(path):
    own = [name for name in inspect.signature(allowed_class(path)).parameters if name != "kwargs"]
    library = path.partition(".")[0]
    passed_on = [name for names in REFUSED.get(library, {}).values() for name in names.split()]
    return [*own, *passed_on, *(BEYOND_CONSTRUCTORS if library == "sklearn" else [])]


def is_odd(name):
    return (name in SKLEARN and SKLEARN[name].odd) or name == "missing"


@cache
def takes_names(name, is_text):
    """Whether free names of columns or classes may stand there: a word in one of these opens nothing."""
    return any(
        not estimator_problems(path, {name: "city" if is_text else ["city"]})
        for path in ("sklearn.svm.SVC", "lightgbm.LGBMModel", "xgboost.XGBModel", "catboost.CatBoostRanker")
    )


@pytest.mark.parametrize("path", NAMED_ONCE)
def test_hostile_values_are_refused_for_every_parameter_of_every_allowed_class(path, watched):
    for name in parameters_of(path):
        for kind, value in HOSTILE.items():
            if kind in ("not a number", "infinity") and is_odd(name):
                continue
            assert estimator_problems(path, {name: filled(value, watched)}), (name, kind)
        for value in NAMES_OF_CODE:
            for given in (value, [value]):
                is_marker = value == NOT_GIVEN.get(name) or (name, value) == ("handle_unknown", "warn")
                if not is_marker and not takes_names(name, isinstance(given, str)):
                    assert estimator_problems(path, {name: given}), (name, given)


def in_parts(items, size):
    return [items[start : start + size] for start in range(0, len(items), size)]


def config_of(members):
    return {
        "task": "multiclass",
        "metric": "log_loss",
        "data": {"train": "sklearn:iris"},
        "levels": {"base": members},
    }


@pytest.mark.parametrize(
    "path",
    [
        "catboost.CatBoostClassifier",
        "lightgbm.LGBMClassifier",
        "xgboost.XGBClassifier",
        "sklearn.pipeline.Pipeline",
        *sorted(path for path in ALLOWED_ESTIMATORS if path.startswith("sklearn"))[::9],
    ],
)
def test_a_config_with_hostile_parameters_is_refused_with_each_place(path, watched):
    # A config shows its first hundred problems.
    for names in in_parts(parameters_of(path), 40):
        plain = {f"m{i}": {"estimator": path, "params": {name: "/canary"}} for i, name in enumerate(names)}
        nested = {
            f"n{i}": {
                "estimator": "sklearn.ensemble.BaggingClassifier",
                "params": {"estimator": {"estimator": path, "params": {name: "/canary"}}},
            }
            for i, name in enumerate(names)
        }
        with pytest.raises(ConfigError) as error:
            config_from_dict(config_of({**plain, **nested}), watched)
        # A name that nearly is another is a mistake, whoever trusts the config.
        refusal = re.compile(r"--trust-code|Did you mean '\w+'\?$")
        places = [item.where for item in error.value.problems if refusal.search(item.message)]
        for i, name in enumerate(names):
            assert any(place.startswith(f"levels.base.m{i}.params.{name}") for place in places), name
            where = f"levels.base.n{i}.params.estimator.params.{name}"
            assert any(place.startswith(where) for place in places), name


@pytest.mark.parametrize("path", NAMED_ONCE[::4])
def test_the_constructor_is_never_called_with_hostile_parameters(path, watched):
    for name in parameters_of(path)[::3]:
        nested = {"estimator": path, "params": {name: str(watched / "canary")}}
        with pytest.raises(TrustError, match=r"--trust-code"):
            construct(path, nested["params"], seed=0, threads=1)
        with pytest.raises(TrustError, match=r"--trust-code"):
            construct("sklearn.ensemble.BaggingClassifier", {"estimator": nested}, seed=0, threads=1)


def test_a_refusal_names_member_line_parameter_and_remedy(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "task: multiclass\nmetric: log_loss\ndata: {train: 'sklearn:iris'}\nlevels:\n  base:\n    gbm:\n"
        "      estimator: lightgbm.LGBMClassifier\n      params:\n        n_estimators: 1.0e+12\n"
        "        machines: 127.0.0.1:9\n"
    )
    with pytest.raises(TrustError) as error:
        load_config(file)
    first, second = map(str, error.value.problems)
    assert "config.yaml:9" in first and "levels.base.gbm.params.n_estimators" in first
    assert "config.yaml:10" in second and "machines" in second and "connects to other machines" in second
    assert "--trust-code" in first and "--trust-code" in second
    assert load_config(file, trust_code=True).config.levels


def test_overrides_are_checked_too(tmp_path):
    member = {"gbm": {"estimator": "lightgbm.LGBMClassifier"}}
    with pytest.raises(TrustError, match=r"--set levels\.base\.gbm\.params\.output_model"):
        config_from_dict(
            config_of(member), tmp_path, overrides=["levels.base.gbm.params.output_model=canary"]
        )


@pytest.mark.parametrize(
    ("kind", "name", "params"),
    [
        ("estimator", "sklearn.datasets.clear_data_home", {}),
        ("estimator", "sklearn.pipeline.Pipeline", {"steps": [], "memory": "cache"}),
        ("net", "timm:resnet18", {"checkpoint_path": "/etc/passwd"}),
        ("net", "mlp", {"hidden": [1e9]}),
        ("net", "stackfeat.pipeline.run:run", {}),
    ],
)
def test_reruns_of_an_audit_refuse_what_a_config_may_not_name(kind, name, params, watched):
    config = RunConfig.model_validate(config_of({"m": {kind: name, "params": params}}))
    with pytest.raises(TrustError, match=r"--trust-code"):
        _refuse_untrusted(config, watched, False)


def test_the_warnings_before_a_run_construct_nothing_that_is_not_allowed(watched):
    for path in ("sklearn.datasets.load_iris", "sklearn.utils._testing.create_memmap_backed_data"):
        assert EstimatorOptions(estimator=path).why_unsaveable(False) is None


def test_a_nested_catboost_writes_no_files_of_its_training(watched):
    import numpy as np

    inner = {"estimator": "catboost.CatBoostClassifier", "params": {"iterations": 2, "verbose": False}}
    outer = construct("sklearn.multiclass.OneVsRestClassifier", {"estimator": inner}, seed=0, threads=1)
    rows = np.random.default_rng(0).normal(size=(30, 2))
    outer.fit(rows, np.arange(30) % 3)
    assert not Path("catboost_info").exists()


@pytest.mark.parametrize("path", ["lightgbm:LGBMClassifier", "lightgbm.sklearn:LGBMClassifier"])
def test_a_colon_in_the_path_leads_to_the_same_table(path):
    assert estimator_problems(path, {"num_machines": 2})
    nested = {"estimator": {"estimator": path, "params": {"num_machines": 2}}}
    assert estimator_problems("sklearn.ensemble.BaggingClassifier", nested)
    grid = {"estimator": {"estimator": path}, "param_grid": {"num_machines": [2]}}
    assert estimator_problems("sklearn.model_selection.GridSearchCV", grid)


@pytest.mark.parametrize(
    "name", ["categorical_feature", "interaction_constraints", "metric", "monotone_constraints", "device"]
)
def test_no_parameter_of_lightgbm_can_carry_another_one(name):
    for text in ("a machines=127.0.0.1:9", "auc machines=127.0.0.1:9", "0 output_model=canary"):
        for value in (text, [text], [[text]], {text: 1}):
            assert estimator_problems("lightgbm.LGBMClassifier", {name: value})


def test_what_looks_like_an_estimator_is_never_taken_for_names():
    hidden = {"estimator": "sklearn.pipeline.Pipeline", "params": {"memory": "canary"}}
    for name in ("vocabulary", "class_weight", "metric_params", "classes"):
        for value in (hidden, [hidden], [[hidden]]):
            assert estimator_problems("sklearn.svm.SVC", {name: value}), name
