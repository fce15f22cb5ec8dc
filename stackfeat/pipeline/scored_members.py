"""Scored members: the members of a finished run with the rules that scored them, and how they combine.

In:  ``scores.json`` of a run folder, and the run's store.
Out: what the submitted vote loses without each of its inputs, and what each level gains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.config.run_config import RunConfig
from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.drop_one import without_each
from stackfeat.engine.judged import Judged
from stackfeat.engine.level_gains import MOST_ROWS, LevelGain, level_gains
from stackfeat.engine.permutation_importance import Rise
from stackfeat.engine.scoring import oof_prediction
from stackfeat.errors import as_written
from stackfeat.metrics.decision_rule import Decision
from stackfeat.output.explanation import Dropped
from stackfeat.output.provenance import REMEDY
from stackfeat.pipeline.explained_rows import ExplainedRows, decided_by
from stackfeat.pipeline.teacher import SCORES, Teacher
from stackfeat.structure import checked, parse_json


@dataclass(frozen=True)
class ScoredMembers:
    """The members of a run.

    Attributes
    ----------
    rules : mapping of str to mapping of int to Decision
        By member and fold how predictions become labels; none where the metric reads probabilities or values.
    weights : mapping of str to mapping of str to (float, float)
        By vote and block the weight and its standard error.
    """

    teacher: Teacher
    train: Samples
    folds: Folds
    judged: Judged
    rules: Mapping[str, Mapping[int, Decision]]
    weights: Mapping[str, Mapping[str, tuple[float, float]]]

    @classmethod
    def of(
        cls, folder: Path, teacher: Teacher, config: RunConfig, train: Samples, folds: Folds
    ) -> ScoredMembers:
        """Return the members of the run in this folder."""
        where = str(folder / SCORES)
        with as_written(where, REMEDY):
            scores = checked(dict[str, Any], parse_json((folder / SCORES).read_bytes(), where), where)
            rules = {
                member: {
                    int(fold): Decision.from_json(rule) for fold, rule in found["fold_decisions"].items()
                }
                for member, found in scores["members"].items()
            }
            weights = {
                vote: {block: (float(one["whole"]), float(one["se"])) for block, one in found.items()}
                for vote, found in scores["weights"].items()
            }
        averaging, fold_of = teacher.whole.averaging, folds.fold_of(0)
        judged = Judged.of(train, config.metric, teacher.whole.trust_code, fold_of, folds.is_time)
        if averaging.ranks_within_folds(folds.is_time) and judged.metric.ranking:
            judged = replace(judged, within=fold_of)
        return cls(teacher, train, folds, judged, rules, weights)

    def dropped(self, ready: ExplainedRows) -> list[Dropped]:
        """Return what the submitted vote loses without each of its inputs; nothing where no vote is submitted."""
        teacher, vote = self.teacher, self.teacher.submitted
        if not ready.predictor.plan.graph.node(vote).does_without_inputs:
            return []
        whole, without = without_each(
            teacher.store,
            teacher.plan,
            vote,
            self.train,
            self.folds,
            ready.rows,
            trust_code=teacher.whole.trust_code,
        )
        before, found = ready.losses(whole), list[Dropped]()
        for member, said in without.items():
            rise = Rise.of(ready.losses(said) - before, len(without), ready.importance.trains_others)
            own = [one for block, one in self.weights.get(vote, {}).items() if block.startswith(f"{member}/")]
            weight = sum(value for value, _ in own) if own else None
            error = float(np.hypot.reduce([se for _, se in own])) if own else None
            found.append(Dropped(vote, member, weight, error, rise.value, rise.se))
        return sorted(found, key=lambda one: -one.loss)

    def levels(self, seed: int) -> list[LevelGain]:
        """Return what each level gains, on rows that all members predict."""
        plan, task = self.teacher.plan, self.train.task
        nodes = [node for node in plan.graph.nodes if node.prediction and node.full_name in self.rules]
        said, everywhere = [], np.ones(self.train.n_rows, dtype=bool)
        for node in nodes:
            assert node.prediction is not None
            places = [plan.oof_places(node.prediction, repeat) for repeat in range(plan.sources.n_repeats)]
            average = self.teacher.whole.averaging.average
            values, covered = oof_prediction(self.teacher.store, places, self.folds, task, average)
            everywhere &= covered
            said.append(values)
        rows = np.flatnonzero(everywhere)
        rows = rows[task.spread(self.train.labels[rows], MOST_ROWS, seed)]
        fold_of, levels = self.folds.fold_of(0)[rows], dict[str, list[np.ndarray]]()
        for node, values in zip(nodes, said, strict=True):
            decided = decided_by(
                self.rules[node.full_name], np.asarray(task.to_target_scale(values[rows])), fold_of
            )
            levels.setdefault(node.level, []).append(decided)
        return level_gains(levels, self.judged.take(rows), self.folds, rows, seed)
