"""The portfolio is whole, keeps to its budgets, and leaves out what is not installed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from stackfeat.config import portfolio as module
from stackfeat.config.portfolio import PRESETS, Portfolio, Table

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
    assert set(portfolio.bands[-1]) == {"says", "members"}


@pytest.mark.parametrize("table", [SMALL, USUAL, MANY, LARGE])
def test_what_is_chosen_fits_the_budget_in_the_order_of_the_band(table: Table) -> None:
    portfolio = Portfolio.load()
    chosen = {preset: portfolio.chosen(preset, table) for preset in PRESETS}
    order = portfolio.order(table)
    for names in chosen.values():
        assert names == sorted(names, key=order.index) and len(names) >= 2
    assert set(chosen["good"]) <= set(chosen["best"])
    spent = sum(portfolio.seconds(name, table) for name in chosen["good"])
    assert spent <= PRESETS["good"] * module.MOST_AS_LARGE


def test_boosting_that_reads_categories_in_its_own_way_pays_for_them() -> None:
    portfolio = Portfolio.load()
    numeric = replace(MIXED, n_categories=0)
    assert portfolio.seconds("catboost_small", MIXED) > 2 * portfolio.seconds("catboost_small", numeric)
    assert portfolio.seconds("gbm", MIXED) == portfolio.seconds("gbm", numeric)
    assert "catboost_small" not in portfolio.chosen("good", MIXED)


def test_a_longer_limit_takes_nothing_away() -> None:
    portfolio = Portfolio.load()
    by_limit = [portfolio.chosen("best", USUAL, limit) for limit in (20.0, 60.0, 150.0, 600.0)]
    assert len(by_limit[0]) < len(by_limit[-1])
    assert all(len(few) <= len(many) for few, many in itertools.pairwise(by_limit))


def test_members_whose_package_is_absent_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_module", lambda package, folder: None)
    chosen = Portfolio.load().chosen("best", USUAL)
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
