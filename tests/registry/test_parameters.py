"""Honest parameters pass: documented ones of every allowed class, and sets as people write them."""

import inspect
import numbers
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from sklearn.feature_selection import chi2, f_classif, mutual_info_classif

from stackfeat.config.load import config_from_dict
from stackfeat.errors import TrustError
from stackfeat.members.construct import construct
from stackfeat.registry.allowed import ALLOWED_ESTIMATORS, ALLOWED_PARTS, allowed_class
from stackfeat.registry.parameter_kinds import BOOSTERS, GRIDS, MEMBER_LISTS, REFUSED
from stackfeat.registry.parameters import estimator_problems, net_problems

HONEST = yaml.safe_load(Path(__file__).with_name("honest_parameters.yaml").read_text())
SKLEARN_CLASSES = sorted(path for path in ALLOWED_ESTIMATORS if path.startswith("sklearn."))
REFUSED_TEXTS = {
    ("input", "file"): "reads a file",
    ("input", "filename"): "reads a file",
    ("metric", "pyfunc"): "calls a function",
    ("max_trials", "inf"): "never ends",
}
REFUSED_PARAMETERS = {
    "callback": "runs code",
    "func": "runs code",
    "inverse_func": "runs code",
    "is_data_valid": "runs code",
    "is_model_valid": "runs code",
    "memory": "a cache on disk, which is unpickled",
    "pooling_func": "runs code",
    "preprocessor": "runs code",
    "tokenizer": "runs code",
    "verbose_feature_names_out": "a free format string",
}
"""Parameters of scikit-learn whose texts and objects are refused; None, true, false and numbers pass."""


def values_of(name, constraints):
    """Yield valid values of a parameter as YAML can write them, from the class's own constraints."""
    from sklearn.utils._param_validation import Hidden, Interval, Options

    for rule in constraints if not isinstance(constraints, str) else ():
        rule = rule.constraint if isinstance(rule, Hidden) else rule
        if isinstance(rule, Interval):
            whole = rule.type is numbers.Integral
            low = rule.left if rule.left is not None else 0
            low = low if abs(low) < 1e6 else 0
            high = rule.right if rule.right is not None and rule.right < 1e6 else low + 5
            tried = (low, low + 1, high, low + 0.5, (low + high) / 2)
            yield from [int(n) if whole else n for n in tried if (int(n) if whole else n) in rule]
        elif isinstance(rule, Options):
            yield from [value for value in rule.options if isinstance(value, str | int | float)]
        elif rule is None or rule == "boolean":
            yield from (None,) if rule is None else (True, False)
        elif rule == "random_state":
            yield from (0, 42)
        elif rule == "verbose":
            yield from (0, 10)
        elif rule == "cv_object":
            yield from (3, {"estimator": "sklearn.model_selection.KFold", "params": {"n_splits": 4}})
        elif rule == "array-like":
            yield from ([1, 0], [-1, 1]) if name == "monotonic_cst" else ([1, 2], [0.5, 1.0])
        elif rule in (numbers.Real, numbers.Integral, float, int):
            yield from (1, 3)
        elif rule is dict and name == "class_weight":
            yield from ({"a": 1.0, "b": 2.5}, {0: 1, 1: 9})


def accepted(path, name, value):
    return not estimator_problems(path, {name: value})


@pytest.mark.parametrize("path", SKLEARN_CLASSES)
def test_documented_values_of_scikit_learn_pass(path):
    cls = allowed_class(path)
    rules = getattr(cls, "_parameter_constraints", {})
    for name in inspect.signature(cls).parameters:
        if name in MEMBER_LISTS or name in GRIDS:
            continue
        default = inspect.signature(cls).parameters[name].default
        if isinstance(default, str | int | float | None):
            assert accepted(path, name, default), (name, default)
        for value in values_of(name, rules.get(name, ())):
            if name in REFUSED_PARAMETERS or (name, str(value)) in REFUSED_TEXTS:
                continue
            # A table may have grown in a newer version: the list is complete for constraints.txt.
            if isinstance(value, str) and version("scikit-learn") != "1.9.1":
                continue
            assert accepted(path, name, value), (name, value, estimator_problems(path, {name: value}))


def test_what_is_refused_of_scikit_learn_is_pinned():
    """Each parameter that takes text by its constraints takes some, or is refused for a stated reason."""
    from sklearn.utils._param_validation import StrOptions

    for path in SKLEARN_CLASSES:
        for name, rules in getattr(allowed_class(path), "_parameter_constraints", {}).items():
            rules = rules if isinstance(rules, list) else []
            takes_text = any(rule is str or isinstance(rule, StrOptions) for rule in rules)
            texts = [text for rule in rules if isinstance(rule, StrOptions) for text in rule.options]
            free = ["mean", "a", "auto", "utf-8", "n_jobs", "accuracy", r"(?u)\b\w+\b"]
            passing = [text for text in texts or free if accepted(path, name, text)]
            if takes_text and not passing and name not in ("random_state", "shuffle"):
                assert name in REFUSED_PARAMETERS, (path, name)


@pytest.mark.parametrize(("entry", "values"), HONEST, ids=[f"{i}-{row[0]}" for i, row in enumerate(HONEST)])
def test_parameters_as_people_write_them_pass_and_construct(entry, values):
    assert estimator_problems(entry, values) == []
    estimator = construct(entry, values, seed=0, threads=1)
    given = estimator.get_params(deep=False)
    for name, value in values.items():
        if isinstance(value, int | float | str) and name in given and value == value:
            assert given[name] == value


def test_there_are_fifty_sets_of_parameters_and_they_pass_as_a_config_too():
    assert len(HONEST) >= 50
    kinds = {True: "regression", False: "multiclass"}
    of_classes = ("sklearn.svm.SVC", "sklearn.linear_model.LogisticRegression")
    for is_regression, task in kinds.items():
        members = {
            f"m{i}": {"estimator": path, "params": values}
            for i, (path, values) in enumerate(HONEST)
            if "Ranker" not in path and ("Classifier" not in path and path not in of_classes) == is_regression
        }
        metric = "rmse" if is_regression else "log_loss"
        values = {
            "task": task,
            "metric": metric,
            "data": {"train": "sklearn:diabetes" if is_regression else "sklearn:iris"},
            "levels": {"base": members},
        }
        assert config_from_dict(values, ".").config.levels


def test_every_parameter_that_lightgbm_knows_is_in_a_table():
    from lightgbm.basic import _ConfigAliases

    known = {name for names in _ConfigAliases._get_all_param_aliases().values() for name in names}
    refused = {name for names in REFUSED["lightgbm"].values() for name in names.split()}
    assert known - set(BOOSTERS["lightgbm"]) == known & refused
    assert not refused & set(BOOSTERS["lightgbm"])


@pytest.mark.parametrize("library", ["xgboost", "catboost"])
def test_every_parameter_of_the_constructors_is_in_a_table(library):
    refused = {name for names in REFUSED[library].values() for name in names.split()}
    for path in ALLOWED_ESTIMATORS:
        if path.startswith(library):
            known = set(inspect.signature(allowed_class(path)).parameters)
            assert known - set(BOOSTERS[library]) <= refused, path
    assert not refused & set(BOOSTERS[library])


@pytest.mark.parametrize("path", sorted(ALLOWED_PARTS))
def test_defaults_of_kernels_and_splitters_pass(path):
    for name, parameter in inspect.signature(allowed_class(path, nested=True)).parameters.items():
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        if isinstance(default, str | int | float | list):
            assert accepted(path, name, default), (name, default)


def test_grids_are_checked_by_the_parameters_they_set():
    inner = {"estimator": "catboost.CatBoostClassifier"}
    path = "sklearn.model_selection.GridSearchCV"
    assert not estimator_problems(path, {"estimator": inner, "param_grid": {"depth": [4, 6]}})
    for grid in (
        {"train_dir": ["x"]},
        {"save_snapshot": [True]},
        {"allow_writing_files": [True]},
        {"estimator__memory": ["x"]},
        {"depth": list(range(1, 200)), "iterations": list(range(1, 200))},
        {"depth": [{"estimator": "sklearn.datasets.clear_data_home"}]},
    ):
        assert estimator_problems(path, {"estimator": inner, "param_grid": grid}), grid
    lightgbm = {"estimator": {"estimator": "lightgbm.LGBMClassifier"}, "param_grid": {"num_machines": [2]}}
    assert estimator_problems(path, lightgbm)


def test_parameters_of_nets_are_numbers_and_known_words():
    assert not net_problems("mlp", {"hidden": [256, 128], "dropout": 0.1, "activation": "mish"})
    assert not net_problems("cnn", {"augment": {"flip": True, "crop": 0.1}})
    assert not net_problems(
        "fusion", {"how": "attention", "encoders": {"a": "tcn", "b": {"net": "gru", "depth": 1}}}
    )
    assert not net_problems("timm:resnet18", {"drop_rate": 0.1, "global_pool": "avg", "pretrained": False})
    for name, params in (
        ("mlp", {"hidden": [1e9]}),
        ("mlp", {"hidden": [60_000, 60_000]}),
        ("mlp", {"hidden": [10_000] * 100}),
        ("cnn", {"width": 32, "stages": 60}),
        ("tabm", {"hidden": 65_536}),
        ("mlp", {"activation": "os:system"}),
        ("timm:resnet18", {"checkpoint_path": "/x.pt"}),
        ("timm:resnet18", {"pretrained": True}),
        ("timm:resnet18", {"pretrained_cfg": {"url": "http://example.org/x"}}),
        ("timm:resnet18", {"cache_dir": "x"}),
        ("torchvision:resnet18", {"weights": "DEFAULT"}),
    ):
        assert net_problems(name, params), params


def test_a_misspelt_parameter_of_a_booster_is_answered_with_the_right_one():
    with pytest.raises(TrustError, match=r"no parameter 'learning_rat'.*Did you mean 'learning_rate'\?"):
        construct("lightgbm.LGBMClassifier", {"learning_rat": 0.1}, seed=0, threads=1)


def test_trust_lets_everything_through():
    made = construct(
        "sklearn.pipeline.Pipeline", {"steps": [], "memory": "x"}, seed=0, threads=1, trust_code=True
    )
    assert made.memory == "x"


@pytest.mark.parametrize(
    "params", [5, True, 1.5, "abc", [1], [["x", {"estimator": "sklearn.svm.SVC", "params": 7}]]]
)
def test_params_of_a_nested_estimator_that_are_no_mapping_are_a_problem_of_the_config(params):
    inner = {"estimator": "sklearn.svm.SVC", "params": params}
    member = {"estimator": "sklearn.ensemble.BaggingClassifier", "params": {"estimator": inner}}
    values = {"task": "multiclass", "metric": "log_loss", "data": {"train": "sklearn:iris"}}
    with pytest.raises(TrustError, match=r"levels\.base\.a\.params\.estimator\.params: must be a mapping"):
        config_from_dict({**values, "levels": {"base": {"a": member}}}, ".")


def test_a_search_may_refit_by_a_scorer_of_its_own_naming():
    inner = {"estimator": "sklearn.svm.SVC"}
    values = {"estimator": inner, "param_grid": {"C": [1]}, "scoring": {"mine": "accuracy"}, "refit": "mine"}
    assert not estimator_problems("sklearn.model_selection.GridSearchCV", values)
    assert estimator_problems("sklearn.model_selection.GridSearchCV", {**values, "refit": "/etc/x"})


def test_a_function_that_scores_columns_is_named_alone_and_in_a_grid():
    select = {"estimator": "sklearn.feature_selection.SelectKBest", "params": {"score_func": "chi2", "k": 2}}
    steps = [["select", select], ["model", {"estimator": "sklearn.svm.SVC"}]]
    pipeline = {"estimator": "sklearn.pipeline.Pipeline", "params": {"steps": steps}}
    values = {
        "estimator": pipeline,
        "param_grid": {"select__score_func": ["f_classif", "mutual_info_classif"]},
    }
    path = "sklearn.model_selection.GridSearchCV"
    assert not estimator_problems(path, values)
    search = construct(path, values, seed=0, threads=1)
    assert search.estimator.named_steps["select"].score_func is chi2
    assert search.param_grid["select__score_func"] == [f_classif, mutual_info_classif]
    for name in (
        "f_oneway",
        "SelectKBest",
        "sklearn.feature_selection.chi2",
        "os.system",
        ["chi2", "x"],
        chi2,
    ):
        assert estimator_problems(select["estimator"], {"score_func": name}), name
        grid = {"param_grid": {"select__score_func": [name]}}
        assert estimator_problems(path, {**values, **grid}), name


def test_a_covariance_may_stand_in_discriminant_analysis():
    path = "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"
    inner = {"estimator": "sklearn.covariance.ShrunkCovariance", "params": {"shrinkage": 0.2}}
    assert not estimator_problems(path, {"solver": "lsqr", "covariance_estimator": inner})
    construct(path, {"solver": "lsqr", "covariance_estimator": inner}, seed=0, threads=1)
