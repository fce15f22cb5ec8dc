"""The portfolio: members for tables, in the order in which they are worth their CPU, for presets of `init`.

In:  `portfolio.toml`; how many rows, columns and outputs a table has.
Out: names in order, as many as fit a budget of CPU; the options of each as a config writes them.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stackfeat.engine.schedule import Deadlines
from stackfeat.members.boosters import booster_of
from stackfeat.members.construct import is_tree_model
from stackfeat.registry.quantile_learners import learns_quantiles
from stackfeat.registry.source import find_module
from stackfeat.tasks.task import DEFAULT_QUANTILES, task_class

PRESETS = {"quick": 10.0, "good": 35.0, "best": 600.0}
"""CPU seconds that base members may take, by the costs of the table, with no more rows and columns than usual."""

USUAL_ROWS, USUAL_COLUMNS = 20_000, 30

CLASSES_A_SHARE, MOST_SHARES = 3, 3.0
"""Budgets grow with classes too: by this number of them, to so many times as much."""

MOST_AS_LARGE = 15.0
"""On larger tables budgets grow with rows, or cells if these grow faster; in all to so many times as much."""

FEWEST = {"quick": 2, "good": 3, "best": 3}
"""Where fewer fit, the cheapest others join them, whatever they cost."""

MOST = {"quick": 3, "good": 8, "best": 30}

TAPPED = {"quick": 0, "good": 1, "best": 2}
"""So many of the first nets pass on features of their last hidden layer too."""

MOST_TAPPED_ROWS = 50_000
"""On more rows none does: neighbours of that many take longer than the net."""

COSTLY_CLASSES, MOST_READ = 10, {5_000: 8, 50_000: 5, None: 3}
"""From so many classes on the linear meta-learner takes long: it reads no features, and of the first members so many
as are said for so many rows at most."""

N_FOLDS, MOST_FOLDS, LEAST_LIMIT = 5, {"quick": 5, "good": 5, "best": 8}, 120.0
"""Where more rows a fit are worth their CPU there are most folds; within a shorter limit members are worth more."""

GAIN_FROM_ROWS = (10_000, 50_000)
"""So many rows of classes gain from more folds; fewer rows gain as much from several assignments of folds."""

LEAST_STACKED_ROWS = {"quick": None, "good": None, "best": 10_000}
"""From so many rows on, where values are predicted, trees read the table beside the members' predictions."""

REPEATED_ROWS, REPEATS = 2_000, {"quick": 1, "good": 1, "best": 3}
"""Below so many rows everything is computed for so many assignments of folds."""

MOST_REPEATS, MOST_SEEDS, CORE = 6, 3, 14
"""With a limit, `best` takes as many assignments of folds as it can train the first members for, `CORE` of them; time
that is left goes to more seeds in every fold. Both lower what chance does to a fit, seeds half as much."""

SPENT = 2.0
"""With a limit of time, members are listed for so many times what the run has for the first level: that of two cores.
What does not fit would keep out better members that cost more."""

DATED = "_dated"
"""Behind the name of a member that reads the column that folds follow too. Votes choose by later rows."""

DATE = "date"
"""The input that has this column alone."""

START_SECONDS = 5.0
"""Of a limit, until all processes have imported what they need and read the data."""


@dataclass(frozen=True)
class Table:
    """What a table is like, as far as the worth of members follows from it.

    Attributes
    ----------
    n_rows, n_columns : int
    n_classes : int
        0 where values are predicted.
    task : str
    n_folds : int
        Fits of each member.
    n_categories : int
        Columns that hold categories.
    n_own : int
        Columns for boosting, which takes categories as they are; 0 if as many as ``n_columns``, where each
        category has a column of its own.
    in_time : bool
        Whether folds follow time, which assigns them in one way alone.
    is_dated : bool
        Whether members may read the column that folds follow.
    """

    n_rows: int
    n_columns: int
    n_classes: int
    task: str
    n_folds: int = 5
    n_categories: int = 0
    n_own: int = 0
    in_time: bool = False
    is_dated: bool = False

    @property
    def n_levels(self) -> int:
        """Quantiles that are predicted."""
        return len(DEFAULT_QUANTILES) if task_class(self.task).is_by_level else 0

    @property
    def n_trees(self) -> int:
        """Trees in a round of boosting."""
        return self.n_classes if self.n_classes > 2 else 1

    def suits(self, band: Mapping[str, Any]) -> bool:
        """Whether all conditions of a band hold."""
        family = task_class(self.task).family
        return (
            int(band.get("least_rows", 0)) <= self.n_rows <= int(band.get("most_rows", self.n_rows))
            and self.n_classes >= int(band.get("least_classes", 0))
            and band.get("family", family) == family
        )


@dataclass(frozen=True)
class Choice:
    """What a preset trains on a table.

    Attributes
    ----------
    members : tuple of str
        In the order in which they are worth their CPU.
    n_repeats : int
        Assignments of folds.
    seeds : dict of str to int
        Fits in every fold, of members that have more than one.
    """

    members: tuple[str, ...]
    n_repeats: int
    seeds: Mapping[str, int]


@dataclass(frozen=True)
class Portfolio:
    """Members by name, and bands of tables with their orders."""

    members: Mapping[str, Mapping[str, Any]]
    bands: tuple[Mapping[str, Any], ...]

    @classmethod
    @cache
    def load(cls) -> Portfolio:
        """Read the table that comes with the package."""
        values = tomllib.loads(Path(__file__).with_name("portfolio.toml").read_text("utf-8"))
        return cls(values["members"], tuple(values["bands"]))

    def about(self, name: str) -> Mapping[str, Any]:
        """Return what is known of a member; of one that reads the date, what is known of it without."""
        return self.members[name.removesuffix(DATED)]

    def is_there(self, name: str) -> bool:
        """Whether what a member needs is installed."""
        package = self.about(name).get("needs")
        return package is None or find_module(package, None) is not None

    def order(self, table: Table) -> list[str]:
        """Return the members of the first band that a table is in, as far as they are installed."""
        band = next(band for band in self.bands if table.suits(band))
        names = [name for name in band["members"] if self.is_there(name) and self.learns(name, table)]
        if not table.is_dated:
            return names
        return [one for name in names for one in self._dated(name, name in band["twins"], table)]

    def _dated(self, name: str, has_twin: bool, table: Table) -> list[str]:
        """Return a member where one may read the date: boosting does, and some of it without the date too."""
        path = self.options(name, table).get("estimator")
        if path is None or booster_of(path) is None:
            return [name]
        return [name + DATED, name] if has_twin else [name + DATED]

    def learns(self, name: str, table: Table) -> bool:
        """Whether a member can learn the task of a table."""
        is_net = "net" in self.about(name)
        return is_net or not table.n_levels or learns_quantiles(self.options(name, table)["estimator"])

    def seconds(self, name: str, table: Table) -> float:
        """Estimate the CPU of all folds of a member."""
        about = self.about(name)
        fixed, per_row, per_cell, per_category = (*about["seconds"], 0.0)[:4]
        thousands = table.n_rows * (1 - 1 / table.n_folds) / 1000
        if "net" in about:
            wanted = about.get("epochs")
            share = 1.0 if wanted is None else self._epochs(name, table) / wanted
            thousands *= share
        elif about.get("each_class", False):
            thousands *= table.n_trees
        is_native = "estimator" in about and is_tree_model(about["estimator"])
        n_columns = (table.n_own if is_native else 0) or table.n_columns
        by_row = per_row + per_cell * n_columns + per_category * table.n_categories
        # Only a net learns all quantiles at once.
        n_fits = 1 if "net" in about else max(1, table.n_levels)
        # In time one fit more, on all rows, predicts what is later.
        return float((table.n_folds + table.in_time) * n_fits * (fixed + thousands * by_row))

    def chosen(self, preset: str, table: Table, limit: float | None = None) -> Choice:
        """Return the members of a preset, in the order in which they are worth their CPU.

        A member that does not fit what is left of the budget is skipped; cheaper ones after it may still fit.

        Parameters
        ----------
        preset : {"quick", "good", "best"}
        table : Table
        limit : float, optional
            Seconds that the run may take.
        """
        budget = _budget(preset, table, limit)
        order = self.order(table)
        costs = {name: self.seconds(name, table) for name in order}

        def is_twin(name: str) -> bool:
            return name + DATED in costs

        n_repeats = 1 if table.in_time or table.n_rows >= REPEATED_ROWS else REPEATS[preset]
        has_more = preset == "best" and limit is not None
        if has_more and not table.in_time:
            core = sum(costs[name] for name in order[:CORE])
            n_repeats = max(n_repeats, min(MOST_REPEATS, int(budget / core)))
        costs = {name: seconds * n_repeats for name, seconds in costs.items()}
        taken: list[str] = []
        for name in order:
            if is_twin(name):
                has_room = name + DATED in taken
            else:
                has_room = sum(not is_twin(one) for one in taken) < MOST[preset]
            if has_room and costs[name] <= budget:
                taken.append(name)
                budget -= costs[name]
        others = sorted((name for name in order if name not in taken), key=costs.__getitem__)
        taken += others[: max(0, FEWEST[preset] - len(taken))]
        members = tuple(sorted(taken, key=order.index))
        return Choice(members, n_repeats, self._seeds(members, costs, budget) if has_more else {})

    def _seeds(self, members: Sequence[str], costs: Mapping[str, float], left: float) -> dict[str, int]:
        """Spend what is left on seeds, in the order of the members."""
        seeds: dict[str, int] = {}
        for n_seeds in range(2, MOST_SEEDS + 1):
            for name in members:
                is_drawn = self.about(name).get("drawn", True)
                if is_drawn and costs[name] <= left and seeds.get(name, 1) == n_seeds - 1:
                    seeds[name], left = n_seeds, left - costs[name]
        return seeds

    def options(self, name: str, table: Table) -> dict[str, Any]:
        """Return a member as a config writes it."""
        member, task = self.about(name), task_class(table.task)
        params = {"params": dict(member["params"])} if "params" in member else {}
        if "net" not in member:
            path = member.get("estimator") or member[task.family]
            return {"estimator": path.replace("*", task.estimator_suffix), **params}
        train = dict(member.get("train", {}))
        if "epochs" in member:
            train["epochs"] = self._epochs(name, table)
        scaling = {"scaling": member["scaling"]} if "scaling" in member else {}
        return {"net": member["net"], **params, **scaling, **({"train": train} if train else {})}

    def _epochs(self, name: str, table: Table) -> int:
        member = self.about(name)
        return epochs(member["epochs"], member["most_steps"], table.n_rows)


def folds_worth_their_time(preset: str, table: Table, limit: float | None) -> int:
    """Return how many folds a preset takes: more where a fit of more rows is worth more than its CPU costs."""
    least, most = GAIN_FROM_ROWS
    gains = table.n_classes >= COSTLY_CLASSES or (table.n_classes > 0 and least <= table.n_rows <= most)
    return MOST_FOLDS[preset] if gains and (limit is None or limit >= LEAST_LIMIT) else N_FOLDS


def written_members(
    preset: str, table: Table, choice: Choice
) -> Iterator[tuple[str, str, dict[str, str], bool]]:
    """Yield name, purpose, options as YAML, and whether layers are read, of the base members of a table."""
    portfolio = Portfolio.load()
    is_costly = table.n_rows > MOST_TAPPED_ROWS or table.n_classes >= COSTLY_CLASSES
    # Features of refitted nets, which predict what is later, are not like those out of fold.
    n_tapped = 0 if is_costly or table.in_time else TAPPED[preset]
    n_nets = 0
    for name in choice.members:
        options = portfolio.options(name, table)
        if name in choice.seeds:
            options["seeds"] = choice.seeds[name]
        n_nets += "net" in options
        says = portfolio.about(name)["says"]
        if table.is_dated:
            reads = name.endswith(DATED)
            options["inputs"] = ["table", DATE] if reads else ["table"]
            says = f"reads the date too; {says}" if reads else says
        lines = {key: _flow(value) for key, value in options.items()}
        yield name, says, lines, "net" in options and n_nets <= n_tapped


def stacked_member(preset: str, table: Table) -> dict[str, str] | None:
    """Return trees of the second level, their options as YAML; None where the preset has none."""
    least = LEAST_STACKED_ROWS[preset]
    if least is None or table.n_rows < least or table.n_classes or table.in_time or table.n_levels:
        return None
    return {key: _flow(value) for key, value in Portfolio.load().options("stacked", table).items()}


def plain_member(table: Table) -> str | None:
    """Return the linear model that stands beside boosting; None where it cannot learn the task."""
    portfolio = Portfolio.load()
    path: str = portfolio.options("linear", table)["estimator"]
    return path if portfolio.learns("linear", table) else None


def read_by_meta(table: Table, choice: Choice) -> list[str]:
    """Return the patterns of blocks that the linear meta-learner reads."""
    if table.n_classes < COSTLY_CLASSES:
        return ["base/*/*"]
    n_read = next(n for most, n in MOST_READ.items() if most is None or table.n_rows <= most)
    return [f"base/{name}/{task_class(table.task).output}" for name in choice.members[:n_read]]


def _flow(value: Any) -> str:
    """Return plain values as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _budget(preset: str, table: Table, limit: float | None) -> float:
    """Return the CPU seconds that base members may take."""
    large = table.n_rows / USUAL_ROWS * max(1.0, table.n_columns / USUAL_COLUMNS)
    classes = min(max(1.0, table.n_classes / CLASSES_A_SHARE), MOST_SHARES)
    budget = PRESETS[preset] * min(max(1.0, large) * classes, MOST_AS_LARGE)
    if limit is None:
        return budget
    most = SPENT * max(0.0, Deadlines.seconds_of_base(limit) - START_SECONDS)
    return most if preset == "best" else min(budget, most)


def epochs(wanted: int, most_steps: int, n_rows: int, batch_size: int = 256) -> int:
    """Return how many epochs a net gets: fewer where rows are many.

    Examples
    --------
    >>> [epochs(30, 6000, n) for n in (1000, 50_000, 1_000_000)]
    [30, 30, 2]
    """
    return max(2, min(wanted, most_steps * batch_size // max(1, n_rows)))
