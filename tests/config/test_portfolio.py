"""The portfolio is whole, keeps to its budgets, and leaves out what is not installed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss

from stackfeat.config import portfolio as module
from stackfeat.config.portfolio import PRESETS, Portfolio, Table
from stackfeat.members.boosters import booster_of

SMALL = Table(600, 10, 2, "binary")
USUAL = Table(15_000, 20, 0, "regression")
MANY = Table(16_000, 16, 26, "multiclass")
MIXED = Table(26_000, 14, 2, "binary", n_categories=8)
LARGE = Table(494_000, 41, 5, "multiclass")


def test_bands_name_members_once_and_the_last_takes_every_table() -> None:
    portfolio = Portfolio.load()
    listed = [name for band in portfolio.bands for name in band["members"]]
    assert set(listed) == set(portfolio.members) - {"stacked"}
    for band in portfolio.bands:
        assert len(set(band["members"])) == len(band["members"])
    assert set(portfolio.bands[-1]) == {"says", "members", "twins"}


@pytest.mark.parametrize("table", [SMALL, USUAL, MANY, LARGE])
def test_what_is_chosen_fits_the_budget_in_the_order_of_the_band(table: Table) -> None:
    portfolio = Portfolio.load()
    chosen = {preset: portfolio.chosen(preset, table) for preset in PRESETS}
    order = portfolio.order(table)
    for choice in chosen.values():
        assert list(choice.members) == sorted(choice.members, key=order.index) and len(choice.members) >= 2
        assert not choice.seeds
    assert set(chosen["good"].members) <= set(chosen["best"].members)
    spent = sum(portfolio.seconds(name, table) for name in chosen["good"].members)
    assert spent <= PRESETS["good"] * module.MOST_AS_LARGE


def test_boosting_that_reads_categories_in_its_own_way_pays_for_them() -> None:
    portfolio = Portfolio.load()
    numeric = replace(MIXED, n_categories=0)
    assert portfolio.seconds("catboost_slow", MIXED) > 2 * portfolio.seconds("catboost_slow", numeric)
    assert portfolio.seconds("gbm", MIXED) == portfolio.seconds("gbm", numeric)
    assert "catboost_small" not in portfolio.chosen("good", MIXED).members


LIMITS = (20.0, 60.0, 150.0, 600.0)


@pytest.mark.parametrize("table", [SMALL, USUAL, MANY, MIXED])
def test_a_longer_limit_takes_nothing_away_and_is_used_up(table: Table) -> None:
    portfolio = Portfolio.load()
    choices = [portfolio.chosen("best", table, limit) for limit in LIMITS]
    assert len(choices[0].members) < len(choices[-1].members)
    for few, many in itertools.pairwise(choices):
        core = portfolio.order(table)[: module.CORE]
        assert few.n_repeats <= many.n_repeats
        assert len(few.members) <= len(many.members) or (
            few.n_repeats < many.n_repeats and set(core) <= set(many.members)
        )
    for limit, choice in zip(LIMITS, choices, strict=True):
        spent = sum(
            portfolio.seconds(name, table) * choice.seeds.get(name, 1) * choice.n_repeats
            for name in choice.members
        )
        is_full = choice.n_repeats >= module.REPEATS["best"] and all(
            choice.seeds.get(name) == module.MOST_SEEDS
            for name in choice.members
            if portfolio.members[name].get("drawn", True)
        )
        budget = module.SPENT * (limit - max(0.15 * limit, min(30, limit / 2)) - module.START_SECONDS)
        assert spent <= budget or len(choice.members) == module.FEWEST["best"]
        assert is_full or spent > 0.7 * budget


def test_boosting_pays_for_columns_and_nets_for_categories() -> None:
    portfolio = Portfolio.load()
    narrow = replace(MIXED, n_categories=0)
    spread = replace(narrow, n_columns=105, n_own=14)
    for name, one in portfolio.members.items():
        is_boosting = name.startswith(("gbm", "hist", "xgb", "catboost"))
        same = portfolio.seconds(name, spread) == portfolio.seconds(name, narrow)
        assert same == (is_boosting or one["seconds"][2] == 0), name


def test_categories_are_split_off_one_at_a_time_by_those_who_have_few_of_them() -> None:
    members = Portfolio.load().members
    assert members["gbm_cuts"]["params"]["max_cat_to_onehot"] == 64
    assert members["xgb_cuts"]["params"]["max_cat_to_onehot"] == 64
    assert {members[name]["params"]["one_hot_max_size"] for name in ("catboost", "catboost_small")} == {64}


def test_spare_time_goes_to_assignments_of_folds_and_then_to_seeds() -> None:
    portfolio = Portfolio.load()
    few = portfolio.chosen("best", SMALL, 150.0)
    assert module.REPEATS["best"] < few.n_repeats <= module.MOST_REPEATS
    assert not portfolio.chosen("best", SMALL).seeds, "without a limit nobody asked for more"
    more = replace(SMALL, n_rows=5_000)
    assert portfolio.chosen("best", more, 20.0).n_repeats == 1
    assert portfolio.chosen("best", more, 150.0).n_repeats > 1
    in_time = portfolio.chosen("best", replace(more, in_time=True), 150.0)
    assert in_time.n_repeats == 1 and set(in_time.seeds.values()) <= set(range(2, module.MOST_SEEDS + 1))
    assert in_time.seeds and not {"linear", "knn"} & set(in_time.seeds), "more seeds change nothing there"


@pytest.mark.parametrize("table", [SMALL, USUAL, MANY, LARGE])
def test_boosting_reads_the_date_and_some_of_it_does_without_too(table: Table) -> None:
    portfolio = Portfolio.load()
    plain, dated = replace(table, in_time=True), replace(table, in_time=True, is_dated=True)
    order, names = portfolio.order(dated), portfolio.order(plain)
    readers = [name for name in order if name.endswith(module.DATED)]
    originals = [name.removesuffix(module.DATED) for name in readers]
    assert originals == [
        name for name in names if booster_of(portfolio.options(name, plain).get("estimator", ""))
    ]
    assert list(dict.fromkeys(name.removesuffix(module.DATED) for name in order)) == names
    twins = [name for name in originals if name in order]
    assert len(twins) == 2
    for twin in twins:
        assert order[order.index(twin) - 1] == twin + module.DATED
    for reader, original in zip(readers, originals, strict=True):
        assert portfolio.options(reader, dated) == portfolio.options(original, plain)
        assert portfolio.seconds(reader, dated) == portfolio.seconds(original, plain)


@pytest.mark.parametrize("table", [SMALL, USUAL, MANY, LARGE])
@pytest.mark.parametrize("limit", [None, *LIMITS])
def test_who_does_without_the_date_comes_beside_who_reads_it_and_takes_no_place_but_cpu(
    table: Table, limit: float | None
) -> None:
    portfolio, dated = Portfolio.load(), replace(table, in_time=True, is_dated=True)
    order = set(portfolio.order(dated))
    for preset in PRESETS:
        members = portfolio.chosen(preset, dated, limit).members
        twins = {name for name in members if name + module.DATED in order}
        assert {name + module.DATED for name in twins} <= set(members), "none does without the date alone"
        assert len(members) - len(twins) <= module.MOST[preset]
    spent = sum(portfolio.seconds(name, dated) for name in portfolio.chosen("good", dated).members)
    assert spent <= PRESETS["good"] * module.MOST_AS_LARGE


def test_tables_of_very_many_classes_get_nets_trained_for_long_and_one_kind_that_noise_does_not_hurt() -> (
    None
):
    portfolio = Portfolio.load()
    chosen = portfolio.chosen("best", replace(MANY, n_rows=12_800, n_folds=8), 150.0).members
    assert {"mlp_cycle", "mlp_long", "mlp_plain", "extra"} <= set(chosen)
    assert portfolio.options("mlp_plain", MANY)["scaling"] == "standard"


def test_members_whose_package_is_absent_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_module", lambda package, folder: None)
    chosen = Portfolio.load().chosen("best", USUAL).members
    assert len(chosen) > 5 and not {"catboost", "xgb", "tabm"} & set(chosen)


def test_nets_get_fewer_epochs_where_rows_are_many() -> None:
    portfolio = Portfolio.load()
    few, many = (portfolio.options("realmlp", table)["train"]["epochs"] for table in (USUAL, LARGE))
    assert few == portfolio.members["realmlp"]["epochs"]
    assert 2 <= many < few
    assert portfolio.seconds("realmlp", LARGE) < portfolio.seconds("realmlp", USUAL) * 30


def test_names_of_estimators_follow_the_task() -> None:
    portfolio = Portfolio.load()
    assert portfolio.options("gbm", SMALL)["estimator"] == "lightgbm.LGBMClassifier"
    assert portfolio.options("gbm", USUAL)["estimator"] == "lightgbm.LGBMRegressor"
    assert portfolio.options("linear", USUAL)["estimator"] == "sklearn.linear_model.Ridge"


def test_boosting_that_nothing_stops_does_not_run_away_on_classes_of_a_few_rows() -> None:
    import lightgbm

    random, n_rows = np.random.default_rng(0), 6000
    X = np.round(random.normal(size=(n_rows, 4)), 1)
    y, rare = (X[:, 0] > 0).astype(int), random.permutation(n_rows)[:38]
    y[rare[:30]], y[rare[30:]] = 2, 3
    X[rare[:30], 1] += 4
    X[rare[30:], 2] += 3
    train = np.arange(n_rows) % 2 == 0
    train[rare] = np.arange(38) % 2 == 0
    given = Portfolio.load().members["gbm_few_rounds"]["params"]
    losses = []
    for params in (given, {**given, "min_child_weight": 1e-3}):
        model = lightgbm.LGBMClassifier(n_jobs=1, verbose=-1, random_state=0, **params)
        proba = model.fit(X[train], y[train]).predict_proba(X[~train])
        losses.append(log_loss(y[~train], proba))
    assert losses[0] < 0.025 and losses[0] < 0.7 * losses[1]
