"""A vote without one of its inputs, fitted again in each pipeline."""

from __future__ import annotations

import numpy as np
import pytest

from stackfeat.engine.blocks import assemble
from stackfeat.engine.drop_one import without_each
from tests.engine.by_hand import BAYES, PRIOR, Engine, engine, folds_of_rows

BASE = {"bayes": BAYES, "prior": PRIOR}


def of(made: Engine, vote: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rows = np.arange(made.samples.n_rows)
    return without_each(made.store, made.plan, vote, made.samples, made.folds, rows)


def oof(made: Engine, block: str) -> np.ndarray:
    return assemble(made.store, made.plan.oof_places(block, 0), made.folds, 0)[0]


def test_a_vote_with_all_inputs_is_the_one_of_the_run_and_without_one_the_other_is_left() -> None:
    vote = {"vote": "greedy", "inputs": ["base/*/proba"], "picks": 5}
    made = engine({"base": BASE, "final": {"greedy": vote}}, folds=folds_of_rows(24)).carry_out()
    whole, without = of(made, "final/greedy")
    np.testing.assert_array_equal(whole, oof(made, "final/greedy/proba"))
    np.testing.assert_allclose(without["base/bayes"], oof(made, "base/prior/proba"))
    np.testing.assert_allclose(without["base/prior"], oof(made, "base/bayes/proba"))


def test_weights_that_are_given_are_shared_out_and_what_is_nothing_is_left_out() -> None:
    vote = {"vote": "soft", "inputs": ["base/*/proba"], "weights": [3.0, 1.0]}
    alone = {"vote": "soft", "inputs": ["base/*/proba"], "weights": [1.0, 0.0]}
    final = {"soft": vote, "alone": alone}
    made = engine({"base": BASE, "final": final}, folds=folds_of_rows(24)).carry_out()
    whole, without = of(made, "final/soft")
    bayes, prior = (oof(made, f"base/{name}/proba") for name in ("bayes", "prior"))
    np.testing.assert_allclose(whole, 0.75 * bayes + 0.25 * prior)
    np.testing.assert_allclose(without["base/bayes"], prior)
    # Without the only input that has a weight there is no vote.
    assert set(of(made, "final/alone")[1]) == {"base/prior"}
    assert of(made, "final/alone")[1]["base/prior"] == pytest.approx(bayes)


@pytest.mark.parametrize("kind", ["soft", "greedy"])
@pytest.mark.parametrize("family", ["auto", "temperature"])
def test_a_calibrated_vote_is_calibrated_again_by_the_folds_of_its_rows(kind: str, family: str) -> None:
    vote = {"vote": kind, "inputs": ["base/*/proba"], "calibrate": family}
    made = engine({"base": BASE, "final": {"vote": vote}}, folds=folds_of_rows(24)).carry_out()
    whole, without = of(made, "final/vote")
    np.testing.assert_array_equal(whole, oof(made, "final/vote/proba"))
    assert set(without) == {"base/bayes", "base/prior"}
