"""A predictor scores new rows as its models do, and is read only as it was written."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.naive_bayes import GaussianNB

import stackfeat as sf
from stackfeat.engine.jobs import Averaging
from stackfeat.engine.predictor import (
    HASHES,
    MODELS,
    WIRING,
    Predictor,
    load_predictor,
    read_predictor,
    write_hashes,
)
from stackfeat.engine.wiring import Wiring
from stackfeat.errors import DataError, StackfeatError, UsageError
from stackfeat.store import Store
from stackfeat.store.manifest import seal
from tests.engine.by_hand import BAYES, BINARY, PRIOR, Engine, engine, folds_of_rows
from tests.projects import Project

LEVELS = {
    "base": {"bayes": BAYES, "prior": PRIOR},
    "final": {"soft": {"vote": "soft", "inputs": ["base/*/proba"]}},
}
ALL = Averaging("mean", "all", False)


@pytest.fixture(scope="module")
def made() -> Engine:
    return engine(LEVELS, folds=folds_of_rows(24, n_repeats=2)).carry_out()


def predictor_of(made: Engine) -> Predictor:
    return Predictor(made.plan, made.store, "final/soft/proba", ALL, BINARY)


def by_hand(made: Engine, members: int) -> np.ndarray:
    """The mean over folds and repeats of naive Bayes, and with two members of class shares beside it."""
    X, said = made.test.inputs["table"].numeric, []
    for splits in made.folds.splits:
        for train, _ in splits:
            y = made.samples.labels[train]
            model = GaussianNB().fit(made.X(train), y).predict_proba(X)
            share = np.tile(np.bincount(y) / len(y), (len(X), 1))
            said.append((model + share) / 2 if members == 2 else model)
    return np.mean(said, axis=0)


def test_new_rows_get_the_mean_of_all_pipelines(made: Engine) -> None:
    np.testing.assert_allclose(predictor_of(made).predict(made.test), by_hand(made, 2), rtol=1e-9)


def test_a_row_alone_gets_what_it_gets_among_others(made: Engine) -> None:
    predictor = predictor_of(made)
    together = predictor.predict(made.test)
    for row in (0, 5):
        np.testing.assert_array_equal(predictor.predict(made.test.take(np.array([row])))[0], together[row])


def test_predicting_leaves_nothing_in_the_store_of_the_models(made: Engine) -> None:
    before = made.store.keys()
    predictor_of(made).predict(made.test)
    assert made.store.keys() == before


def test_a_vote_does_without_a_member_and_not_without_itself(made: Engine) -> None:
    predictor = predictor_of(made)
    np.testing.assert_allclose(predictor.leave_out(["prior"]).predict(made.test), by_hand(made, 1), rtol=1e-9)
    with pytest.raises(UsageError, match="must leave the submitted member; got final/soft"):
        predictor.leave_out(["final/soft"])
    with pytest.raises(UsageError, match=r"must name a member of the stack .*; got 'bayse'.*Did you mean"):
        predictor.leave_out(["bayse"])


@pytest.fixture
def folder(made: Engine, tmp_path: Path) -> Path:
    """Return a predictor folder."""
    wiring = Wiring.of(made.plan, "final/soft", ALL, BINARY)
    models = Store(tmp_path / MODELS)
    for key in wiring.keys:
        entry = made.store.read(key)
        with models.write(key, entry.kind, entry.recipe) as writer:
            for name in entry.files:
                writer.bytes(name, entry.bytes(name))
    (tmp_path / WIRING).write_text(json.dumps(wiring.to_json()))
    write_hashes(tmp_path, wiring.keys)
    return tmp_path


def test_a_folder_brings_back_the_predictor(made: Engine, folder: Path) -> None:
    predictor, described = load_predictor(folder)
    assert described["member"] == "final/soft"
    np.testing.assert_array_equal(predictor.predict(made.test), predictor_of(made).predict(made.test))


def test_a_changed_wiring_is_refused(folder: Path) -> None:
    text = (folder / WIRING).read_text()
    (folder / WIRING).write_text(text.replace('"threads": 1', '"threads": 2'))
    with pytest.raises(
        DataError, match="must be as it was written; got contents of another hash; run the config"
    ):
        read_predictor(folder)


@pytest.mark.parametrize("name", [WIRING, HASHES])
def test_a_file_that_is_gone_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"must hold a predictor; got no file {name}; run the config first"):
        load_predictor(folder)


def test_an_entry_without_a_hash_is_named_when_it_is_loaded(folder: Path, made: Engine) -> None:
    (folder / HASHES).unlink()
    write_hashes(folder, Wiring.of(made.plan, "final/soft", ALL, BINARY).keys[1:])
    with pytest.raises(DataError, match=r"hashes\.json must name every entry; got"):
        load_predictor(folder)


def test_a_stack_refuses_only_what_needs_a_member_that_was_not_saved(made: Engine, folder: Path) -> None:
    values = {**json.loads((folder / WIRING).read_text()), "unsaved": {"base/bayes": "it holds a lambda"}}
    (folder / WIRING).write_text(json.dumps(values))
    (folder / HASHES).unlink()
    write_hashes(folder, Wiring.of(made.plan, "final/soft", ALL, BINARY).keys)
    predictor, _ = load_predictor(folder)
    message = (
        "cannot score later data: base/bayes: it holds a lambda; the others predict --without base/bayes"
    )
    with pytest.raises(StackfeatError, match=message):
        predictor.predict(made.test)
    left = predictor.leave_out(["bayes"])
    np.testing.assert_allclose(left.predict(made.test), shares_by_hand(made), rtol=1e-9)


def shares_by_hand(made: Engine) -> np.ndarray:
    """The mean over folds and repeats of the class shares."""
    shares = [
        np.bincount(made.samples.labels[train]) / len(train)
        for splits in made.folds.splits
        for train, _ in splits
    ]
    return np.tile(np.mean(shares, axis=0), (len(made.test.ids), 1))


CHAINED = {
    "base": {"bayes": BAYES, "prior": PRIOR},
    "meta": {
        "logit": {"estimator": "sklearn.linear_model.LogisticRegression", "inputs": ["base/bayes/proba"]}
    },
    "final": {"soft": {"vote": "soft", "inputs": ["base/prior/proba", "meta/logit/proba"]}},
}


def test_what_reads_a_member_that_was_not_saved_is_left_out_with_it() -> None:
    chained = engine(CHAINED, folds=folds_of_rows(24, n_repeats=2)).carry_out()
    unsaved = {"base/bayes": "its library has no way"}
    whole = Predictor(chained.plan, chained.store, "final/soft/proba", ALL, BINARY, unsaved=unsaved)
    with pytest.raises(
        StackfeatError, match="its library has no way; the others predict --without base/bayes"
    ):
        whole.predict(chained.test)
    left = whole.leave_out(["base/bayes", "meta/logit"])
    np.testing.assert_allclose(left.predict(chained.test), shares_by_hand(chained), rtol=1e-9)
    alone = Predictor(chained.plan, chained.store, "meta/logit/proba", ALL, BINARY, unsaved=unsaved)
    with pytest.raises(StackfeatError, match="run the config again without base/bayes, or submit a vote"):
        alone.predict(chained.test)
    other = Predictor(
        chained.plan, chained.store, "final/soft/proba", ALL, BINARY, unsaved={"base/gone": "why"}
    )
    assert other.predict(chained.test).shape == (len(chained.test.ids), 2)


def test_models_that_fail_here_name_the_versions_that_they_were_made_with(
    plain: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*given: object) -> np.ndarray:
        raise AttributeError("'LogisticRegression' object has no attribute 'multi_class'")

    frame = pd.read_csv(plain.folder / "test.csv", dtype={"row_id": str})
    monkeypatch.setattr("sklearn.linear_model.LogisticRegression.predict_proba", failing)
    with pytest.raises(StackfeatError, match=r"no attribute 'multi_class'.*; run the config again") as same:
        sf.load(plain.run_folder).predict(frame)
    assert "pip install" not in str(same.value)
    monkeypatch.setattr("stackfeat.engine.predictor.library_versions", lambda name: {name: "9.9"})
    pins = rf"9\.9\): pip install .*'scikit-learn=={re.escape(version('scikit-learn'))}'.* or run the config"
    with pytest.raises(StackfeatError, match=pins) as other:
        sf.load(plain.run_folder).predict(frame)
    assert "\n" not in str(other.value)


def test_a_predictor_of_a_later_format_says_which_version_reads_it(folder: Path) -> None:
    values = {**json.loads((folder / HASHES).read_text()), "format": 99, "version": "7.8.9"}
    (folder / HASHES).write_bytes(seal(values))
    with pytest.raises(DataError, match=r"got 99, of stackfeat 7\.8\.9; .*pip install 'stackfeat==7\.8\.9'"):
        load_predictor(folder)
    (folder / HASHES).write_bytes(seal({**values, "version": "1; rm -rf"}))
    with pytest.raises(DataError, match="of another version of stackfeat; run the config again"):
        load_predictor(folder)
    (folder / HASHES).write_bytes(seal({**values, "format": 1}))
    with pytest.raises(DataError, match="of another version of stackfeat; run the config again"):
        load_predictor(folder)
