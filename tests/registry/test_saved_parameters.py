"""Parameters of loaded estimators: honest ones pass, hostile ones are found wherever they hide."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import yaml

from stackfeat.errors import TrustError
from stackfeat.members.construct import construct
from stackfeat.members.estimator import EstimatorMember
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.registry.allowed import ALLOWED_ESTIMATORS, allowed_class
from stackfeat.registry.parameters import object_problems
from stackfeat.store.skops_file import save_object

HONEST = yaml.safe_load(Path(__file__).with_name("honest_parameters.yaml").read_text())


@pytest.mark.parametrize(("path", "values"), HONEST, ids=[f"{i}-{row[0]}" for i, row in enumerate(HONEST)])
def test_estimators_as_people_write_them_pass(path, values):
    assert object_problems(construct(path, values, seed=0, threads=2)) == []


def test_defaults_of_every_allowed_class_pass():
    for path in ALLOWED_ESTIMATORS:
        cls = allowed_class(path)
        required = [
            name
            for name, parameter in inspect.signature(cls).parameters.items()
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        ]
        assert object_problems(cls(**dict.fromkeys(required))) == [], path


def test_fitted_estimators_pass():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), np.arange(60) % 2
    for path, values in (
        ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 3}),
        ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 3}),
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 3}),
        ("lightgbm.LGBMClassifier", {"n_estimators": 3, "metric": "auc"}),
        ("xgboost.XGBClassifier", {"n_estimators": 3, "eta": 0.3}),
        ("catboost.CatBoostClassifier", {"iterations": 3}),
        ("sklearn.svm.SVC", {"class_weight": {0: 1.0, 1: 2.0}}),
        ("sklearn.calibration.CalibratedClassifierCV", {"cv": 2}),
    ):
        assert object_problems(construct(path, values, seed=0, threads=1).fit(X, y)) == [], path


def hostile():
    from catboost import CatBoostClassifier
    from lightgbm import LGBMClassifier
    from sklearn.ensemble import BaggingClassifier, VotingClassifier
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    cached = Pipeline([("scale", StandardScaler())], memory="canary")
    fitted = StandardScaler()
    fitted.anything_ = np.array([cached, None], dtype=object)
    return {
        "a vectorizer of files": CountVectorizer(input="filename"),
        "a free pattern": CountVectorizer(token_pattern="(a+)+$"),
        "a cache": cached,
        "a cache inside": BaggingClassifier(cached),
        "a cache in a list": VotingClassifier([("a", cached)]),
        "a cache in an attribute": fitted,
        "machines": LGBMClassifier(machines="127.0.0.1:9"),
        "a file": LGBMClassifier(output_model="canary"),
        "a folder": CatBoostClassifier(train_dir="canary"),
        "too many threads": LGBMClassifier(n_jobs=10**6),
    }


@pytest.mark.parametrize("kind", list(hostile()))
def test_hostile_parameters_are_found_in_saved_estimators(kind):
    assert object_problems(hostile()[kind])


class OneFile:
    """An entry that holds one saved estimator."""

    def __init__(self, data):
        self.data = data

    def structure(self, name, cls):
        return cls(n=1, scales=(), report=None, types=())

    def bytes(self, name):
        return self.data


def test_a_member_refuses_to_load_them():
    data = save_object(hostile()["a vectorizer of files"])
    member = EstimatorMember(EstimatorOptions(estimator="sklearn.feature_extraction.text.CountVectorizer"))
    with pytest.raises(TrustError, match=r"saved CountVectorizer: input must be .*--trust-code"):
        member.load(OneFile(data), None, {})


@pytest.mark.parametrize(
    "text", [np.array(["filename"]), np.array("filename"), np.array(["filename"], dtype=object)]
)
def test_a_text_in_an_array_is_judged_as_the_text(text):
    from sklearn.feature_extraction.text import CountVectorizer

    assert object_problems(CountVectorizer(input=text))[0].place[0] == "input"


def test_estimators_in_a_stored_preparer_are_judged():
    from sklearn.feature_extraction.text import HashingVectorizer

    from stackfeat.data.prepare.estimator import ScaledPrepare

    prepare = ScaledPrepare()
    prepare.encoder = HashingVectorizer(input="filename")
    with pytest.raises(TrustError, match="input"):
        ScaledPrepare.from_bytes(prepare.to_bytes())
