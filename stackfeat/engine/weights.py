"""Weights of fitted votes: what they are out of fold, how sure, and what rows say that no level has seen.

In:  a plan that was carried out, and its store.
Out: for each vote the weights of its inputs; a member that has more weight out of fold than fresh rows give it was
     flattered by rows that it knows something of: it was stopped on them, say, or shares their groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from stackfeat.data.samples import Samples
from stackfeat.data.splits.holdout import InnerSplits
from stackfeat.engine.fitted import fit_recipe
from stackfeat.engine.jobs import Averaging
from stackfeat.engine.judged import clusters_of
from stackfeat.engine.plan import Plan
from stackfeat.engine.scoring import test_prediction, view_places
from stackfeat.members import make_member
from stackfeat.members.protocol import FitContext
from stackfeat.meta.columns import BlockRows, Rows
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.seeds import derive_seed
from stackfeat.store import EntryStore

N_RESAMPLES = 20
MOST_CELLS = 1_000_000
"""With more rows times inputs the weights are fitted once, without a standard error."""
FALSE_ALARMS = 0.025
"""With which probability any input of a vote that is not flattered is said to be."""


@dataclass(frozen=True)
class Weight:
    """The weight of one input of a vote.

    Attributes
    ----------
    whole : float
        Fitted on all out-of-fold rows.
    se : float
        From the fits that leave a fold out (jackknife).
    fresh, fresh_se : float or None
        Fitted on held-out rows alone, and the standard error over resamples of them; None without such rows.
    """

    whole: float
    se: float
    fresh: float | None = None
    fresh_se: float | None = None

    def is_flattered(self, n_inputs: int) -> bool:
        """Whether it is surely above what fresh rows give, as one of so many weights."""
        if self.fresh is None or self.fresh_se is None:
            return False
        limit = -ndtri(FALSE_ALARMS / n_inputs)
        return bool(self.whole - self.fresh > limit * np.hypot(self.fresh_se, self.se))


def flattered(weights: Mapping[str, Mapping[str, Weight]]) -> list[str]:
    """Say which inputs votes weigh more than fresh rows do."""
    return [
        f"{vote} weighs {block} with {weight.whole:.2f} out of fold, and with {weight.fresh:.2f} ± "
        f"{weight.fresh_se:.2g} on held-out rows: its out-of-fold rows look better than it is. Was it stopped on "
        "them, or do rows of one group stand in several folds?"
        for vote, inputs in weights.items()
        for block, weight in inputs.items()
        if weight.is_flattered(len(inputs))
    ]


def weights_of(
    store: EntryStore,
    plan: Plan,
    fits: Mapping[tuple[str, int, Any], FitInfo],
    averaging: Averaging,
    held: Samples | None,
    trust_code: bool,
) -> dict[str, dict[str, Weight]]:
    """Return the weights of every fitted vote, by its name and the blocks that it reads."""
    found = {}
    for node in plan.graph.nodes:
        whole = fits.get((node.full_name, 0, "all"))
        if whole is None or "weights" not in whole.report:
            continue
        folds = [fits[node.full_name, 0, fold].report.get("weights", {}) for fold in plan.folds_of(node)]
        fresh = None
        if held is not None and plan.held is not None:
            fresh = _on_fresh_rows(store, plan, node.full_name, averaging, held, trust_code)
        found[node.full_name] = _weights(whole.report["weights"], folds, fresh)
    return found


def _weights(
    whole: Mapping[str, float],
    folds: Sequence[Mapping[str, float]],
    fresh: Sequence[Mapping[str, float]] | None,
) -> dict[str, Weight]:
    found = {}
    for name, weight in whole.items():
        parts = np.array([one.get(name, 0.0) for one in folds] or [weight])
        se = float(np.sqrt((len(parts) - 1) * parts.var()))
        if fresh is None:
            found[name] = Weight(float(weight), se)
            continue
        first, *drawn = [float(one.get(name, 0.0)) for one in fresh]
        error = float(np.std(drawn, ddof=1)) if len(drawn) > 1 else None
        found[name] = Weight(float(weight), se, first, error)
    return found


def _on_fresh_rows(
    store: EntryStore, plan: Plan, name: str, averaging: Averaging, held: Samples, trust_code: bool
) -> list[dict[str, float]]:
    """Return the weights fitted on held-out rows, then those fitted on resamples of them."""
    assert plan.held is not None
    recipe = fit_recipe(store, plan.fits[name, 0, "all"])
    blocks = []
    for block in recipe.blocks:
        places = view_places(plan.held, block.name, averaging)
        values = test_prediction(store, places, held.task, averaging.average)
        blocks.append((block.name, values))
    random = np.random.default_rng(derive_seed(plan.sources.seed, "weights", name))
    clusters = clusters_of(held, np.zeros(held.n_rows, dtype=np.int64), held.time is not None)
    clusters = np.arange(held.n_rows) if clusters is None else clusters
    members = [np.flatnonzero(clusters == cluster) for cluster in np.unique(clusters)]
    draws = [np.arange(held.n_rows)]
    n_resamples = N_RESAMPLES if held.n_rows * len(blocks) <= MOST_CELLS else 0
    drawn = random.integers(0, len(members), (n_resamples, len(members)))
    draws += [np.concatenate([members[one] for one in resample]) for resample in drawn]
    found = []
    # Weights are fitted before predictions are calibrated.
    bare = {name: value for name, value in recipe.member.items() if name != "calibrate"}
    for rows in draws:
        context: FitContext[Any] = FitContext(
            task=held.task,
            y=held.labels[rows],
            weight=None if held.weight is None else held.weight[rows],
            fold_of=np.zeros(len(rows), dtype=np.int64),
            inner=InnerSplits(held, rows, "kfold", recipe.seed),
            seed=recipe.seed,
            settings=recipe.settings,
        )
        read = tuple(BlockRows(block, "prediction", None, values[rows]) for block, values in blocks)
        fitted = make_member(bare, trust_code).fit(Rows(len(rows), {}, read), context)
        found.append(dict(fitted.report()["weights"]))
    return found
