"""Rows that pass again with something changed get what fresh rows would get, and ask only what the change reaches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stackfeat.data.samples import Samples, Table
from stackfeat.engine.jobs import Averaging
from stackfeat.engine.passage import Passage
from stackfeat.engine.passed_rows import PassedRows
from stackfeat.engine.predictor import Predictor
from stackfeat.meta.widening import Widening
from tests.engine.by_hand import BAYES, BINARY, PRIOR, Engine, engine, folds_of_rows

LEVELS = {
    "base": {"bayes": BAYES, "prior": PRIOR},
    "meta": {"bayes": {**BAYES, "inputs": ["base/bayes/proba"]}},
    "final": {"soft": {"vote": "soft", "inputs": ["base/*/proba", "meta/*/proba"]}},
}


@pytest.fixture(scope="module")
def made() -> Engine:
    return engine(LEVELS, folds=folds_of_rows(24)).carry_out()


@pytest.fixture
def predictor(made: Engine) -> Predictor:
    averaging = Averaging("mean", "fold", False)
    return Predictor(made.plan, made.store, "final/soft/proba", averaging, BINARY, keeps=True)


def passed(predictor: Predictor, samples: Samples) -> PassedRows:
    passage = predictor.passage
    places, rows = passage.places[predictor.block], np.arange(samples.n_rows)
    return PassedRows.of(passage, predictor.parts, rows, samples, places, "mean")


def shifted(samples: Samples, by: float) -> Samples:
    table = samples.inputs["table"]
    assert isinstance(table, Table)
    return replace(samples, inputs={"table": replace(table, numeric=table.numeric + by)})


def test_changed_rows_get_what_fresh_rows_get_also_several_times_over(
    made: Engine, predictor: Predictor
) -> None:
    rows = passed(predictor, made.test)
    np.testing.assert_array_equal(rows.prediction, predictor.predict(made.test))
    twice = made.test.take(np.tile(np.arange(made.test.n_rows), 2))
    found = rows.changed(shifted(twice, 0.7), ["table"])
    fresh = predictor.predict(shifted(made.test, 0.7))
    assert not np.allclose(fresh, rows.prediction)
    np.testing.assert_array_equal(found, np.concatenate([fresh, fresh]))
    np.testing.assert_array_equal(rows.changed(twice, []), np.tile(rows.prediction, (2, 1)))


def test_a_widened_average_is_widened_for_changed_rows_too(made: Engine, predictor: Predictor) -> None:
    wide = replace(predictor, widenings={predictor.block: Widening((1.3, 1.3), (0.1, -0.1))})
    passage, rows = wide.passage, np.arange(made.test.n_rows)
    widening = wide.widenings[wide.block]
    found = PassedRows.of(
        passage, wide.parts, rows, made.test, passage.places[wide.block], "mean", widening=widening
    )
    np.testing.assert_array_equal(found.prediction, wide.predict(made.test))
    moved = shifted(made.test, 0.7)
    np.testing.assert_array_equal(found.changed(moved, ["table"]), wide.predict(moved))
    assert not np.allclose(found.prediction, predictor.predict(made.test))


def test_a_shuffled_member_is_that_of_other_rows_and_only_what_reads_it_is_asked(
    made: Engine, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, order = passed(predictor, made.test), np.random.default_rng(0).permutation(made.test.n_rows)
    said = predictor.predict_members(made.test)
    asked: list[str] = []
    ask = Passage.asked

    def noted(self: Passage, step: Any, *given: Any) -> Any:
        asked.extend(name for (name, *_), key in self.plan.emits.items() if key == step.key)
        return ask(self, step, *given)

    monkeypatch.setattr(Passage, "asked", noted)
    found = rows.shuffled("base/bayes", [order])
    assert set(asked) == {"meta/bayes", "final/soft"}
    # The second level reads it row by row, so it moves along with it.
    moved = said["base/bayes"][order] + said["meta/bayes"][order] + said["base/prior"]
    np.testing.assert_allclose(found, moved / 3, rtol=1e-12)
    asked.clear()
    alone = rows.shuffled("meta/bayes/proba", [order])
    assert set(asked) == {"final/soft"}
    moved = said["base/bayes"] + said["meta/bayes"][order] + said["base/prior"]
    np.testing.assert_allclose(alone, moved / 3, rtol=1e-12)


def test_what_is_given_is_not_asked(made: Engine, predictor: Predictor) -> None:
    passage = Passage.of(predictor.plan, predictor.averaging, only=1)
    place = passage.plan.view_place(predictor.block, 0, 1, "fold")
    key, rows = passage.plan.emits["base/prior", 0, 1], np.arange(made.test.n_rows)
    given = {(key, "view1/proba"): np.tile([0.1, 0.9], (made.test.n_rows, 1))}
    found = PassedRows.of(passage, predictor.parts, rows, made.test, [place], "mean", given)
    plain = PassedRows.of(passage, predictor.parts, rows, made.test, [place], "mean")
    prior = plain.said[key, "view1/proba"]
    np.testing.assert_allclose(found.prediction - plain.prediction, (given[key, "view1/proba"] - prior) / 3)
    again = found.changed(shifted(made.test, 0.5), ["table"])
    other = plain.changed(shifted(made.test, 0.5), ["table"])
    np.testing.assert_allclose(again - other, (given[key, "view1/proba"] - prior) / 3)
