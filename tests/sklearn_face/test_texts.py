"""`texts=` of nets: columns of a DataFrame whose words are read, as in a run."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import stackfeat as sf
from stackfeat.errors import UsageError

WORDS = [f"word{place}" for place in range(40)]


def reviews(n: int, seed: int, told: bool = True) -> tuple[pd.DataFrame, np.ndarray]:
    """Texts of seven words, of which the last tells the class where `told`, and two columns that say nothing."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    last = np.where(y == 1, "lovely", "awful") if told else rng.choice(WORDS, n)
    texts = [" ".join([*rng.choice(WORDS, 6), word]) for word in last]
    return pd.DataFrame({"review": texts, "size": rng.normal(size=n), "kind": rng.choice(["a", "b"], n)}), y


def net(module: str = "text_bag", **given: Any) -> Any:
    return sf.NetClassifier(module, **{"texts": ["review"], "epochs": 12, "random_state": 0, **given})


@pytest.mark.parametrize("module", ["mlp", "text_bag", "text_cnn"])
def test_words_tell_the_class(module: str) -> None:
    (X, y), (new, later) = reviews(200, 0), reviews(100, 1)
    fitted = net(module).fit(X, y)
    assert roc_auc_score(later, fitted.predict_proba(new)[:, 1]) > 0.9
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict_proba(new), fitted.predict_proba(new))
    # Of words that no training row has nothing is known, as of a text that is missing.
    unknown, missing = new.assign(review="zebra quark"), new.assign(review=None)
    np.testing.assert_array_equal(fitted.predict_proba(unknown), fitted.predict_proba(missing))


def test_strings_are_categories_unless_their_words_are_asked_for() -> None:
    (X, y), (new, later) = reviews(200, 0), reviews(100, 1)
    assert roc_auc_score(later, net("mlp", texts=None).fit(X, y).predict_proba(new)[:, 1]) < 0.7
    both = net("mlp", texts="review").fit(X, y), net("mlp", texts=("review",)).fit(X, y)
    np.testing.assert_array_equal(*(one.predict_proba(new) for one in both))


def test_texts_are_read_in_stacks_searches_and_out_of_fold() -> None:
    X, y = reviews(150, 0)
    line = make_pipeline(make_column_transformer(("passthrough", ["size"])), LogisticRegression())
    stack = sf.StackingClassifier([("words", net()), ("line", line)], cv=2).fit(X, y)
    assert roc_auc_score(y, stack.oof_[:, 0]) > 0.9 > 0.7 > roc_auc_score(y, stack.oof_[:, 1])
    search = GridSearchCV(net("mlp", epochs=3), {"texts": [None, ["review"]]}, cv=2).fit(X, y)
    assert search.best_params_ == {"texts": ["review"]}


def test_texts_that_say_nothing_stay_at_chance() -> None:
    scores = []
    for seed in range(5):
        X, y = reviews(120, seed, told=False)
        scores.append(roc_auc_score(y, sf.OutOfFoldFeatures(net(), cv=3, emit="proba").fit_transform(X, y)))
    assert np.mean(scores) - 0.5 < 3 * np.std(scores, ddof=1) / np.sqrt(len(scores))


@pytest.mark.parametrize(
    ("module", "texts", "message"),
    [
        (
            "mlp",
            ["revew"],
            r"texts must name columns .*got 'revew', which X has not\. ?Did you mean 'review'",
        ),
        ("mlp", [3], r"texts must be names of columns; got \[3\]"),
        (
            "text_bag",
            None,
            r"texts must name a column that 'text_bag' can read; got none; say texts=\['COLUMN'\]",
        ),
        (
            "hf:encoder",
            ["review"],
            r"must be trained in a run .*got 'hf:encoder'; use 'text_bag' or 'text_cnn'",
        ),
    ],
)
def test_what_cannot_be_read_is_said(module: str, texts: Any, message: str) -> None:
    X, y = reviews(20, 0)
    with pytest.raises(UsageError, match=message):
        net(module, texts=texts).fit(X, y)
    if module == "mlp":
        with pytest.raises(UsageError, match="texts must"):
            net(module, texts=texts).fit(X[["size"]].to_numpy(), y)
