"""Judge the files of a pool: each alone, then each beside the others.

In:  the files of its members, the rows of the run.
Out: `PoolVerdicts`, stored with the aligned rows of all files that could be read. Files are read one after the
     other, and of each only a sample of rows is kept for what takes all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from stackfeat.engine.external.checkpoints import MemberFiles
from stackfeat.engine.external.leak_signs import HIGHEST_AUC, SMALLEST, better_order, likeness, order_text
from stackfeat.engine.external.pool_signs import (
    N_SIGNS,
    SHIFTS,
    PoolRows,
    copied_test_rows,
    exchanged_test_rows,
    lost_test_rows,
    memorised_labels,
    middle,
    near_twins,
    shifted_rows,
    surest_by_chance,
)
from stackfeat.engine.external.pool_verdicts import Kind, Pool, PoolVerdicts, Verdict
from stackfeat.engine.external.predictions import (
    Candidate,
    Check,
    RunRows,
    id_checks,
    read_candidate,
    value_checks,
)
from stackfeat.engine.recipes import PoolRecipe
from stackfeat.errors import DataError
from stackfeat.members.imported_rows import Aligned, on_members_scale, positions
from stackfeat.members.prediction_files import PredictionFiles
from stackfeat.meta.votes.greedy import greedy_selection
from stackfeat.store import EntryStore
from stackfeat.tasks.rows import spread_rows

MOST_ROWS = 20_000
"""Training rows, and test rows, of each file that are compared with those of the others."""
MOST_GREEDY_ROWS = 5_000
AUC_MARGIN = 0.1
HIGHEST_AUC_OF_MEANS = 0.8
"""Where one test file stands for all fold models: their mean is smoother than each, and no fault."""


def ensure_pool(
    pool: Pool, recipe: PoolRecipe, files: MemberFiles, rows: RunRows, store: EntryStore
) -> PoolVerdicts:
    """Return the verdicts of a pool; the rows of the files that it uses are in the store afterwards.

    Raises
    ------
    DataError
        If no file can be used, or one that the config names.
    """
    found = pool.stored(recipe, store)
    if found is None:
        judged = _judge(pool, recipe, files, rows, store)
        found = PoolVerdicts(pool.name, judged.verdicts(), judged.comparison())
        with recipe.write(store) as writer:
            found.save(writer)
    refused = [one for one in found.verdicts if one.member in pool.named and one.verdict == "refuse"]
    if not any(one.is_used for one in found.verdicts):
        raise DataError(
            f"{pool.name}: at least one file of a pool must be usable; none of {len(found.verdicts)} is. "
            f"{found.verdicts[0].said}"
        )
    if refused:
        raise DataError("\n".join(f"{one.said}. The config names it: correct the file" for one in refused))
    return found


@dataclass
class _Judged:
    """What was found so far of the files of a pool.

    Attributes
    ----------
    sample, test_sample : int arrays
        Training rows and test rows that are compared.
    refused : dict of str to tuple of str
        Reasons by member.
    oof, test : dict of str to float32 array
        Rows of the sample, of the files that can be used.
    doubts : dict of str to list of str
        Reasons to look at a file.
    one_view : set of str
        Members whose one test file stands for all fold models.
    folds : dict of str to str
        The split that a member's rows show.
    """

    pool: Pool
    rows: RunRows
    sample: np.ndarray
    test_sample: np.ndarray
    refused: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    oof: dict[str, np.ndarray] = field(default_factory=dict)
    test: dict[str, np.ndarray] = field(default_factory=dict)
    doubts: dict[str, list[str]] = field(default_factory=dict)
    one_view: set[str] = field(default_factory=set)
    folds: dict[str, str] = field(default_factory=dict)

    def limit(self, n_ways: int = 1) -> float:
        """Return how many standard errors a sign must exceed that is looked for in so many ways."""
        return surest_by_chance(len(self.pool.members) * N_SIGNS * n_ways)

    def look_alone(self, name: str, members: Aligned) -> None:
        """Look at a file that can be read, whose rows are on the members' scale."""
        rows, task = self.rows, self.rows.train.task
        values, y = members.oof[rows.rows], rows.train.labels[rows.rows]
        weight = None if rows.train.weight is None else rows.train.weight[rows.rows]
        self.scores[name] = rows.metric.score(
            task.to_target_scale(y), task.to_target_scale(values), task, weight
        )
        order = better_order(y, values, self.limit())
        if order is not None:
            self.refused[name] = (order_text(order, task),)
            return
        doubts = self.doubts.setdefault(name, [])
        if np.ptp(values, axis=0).max() <= 0:
            doubts.append("all rows are the same")
        shift, sure = shifted_rows(y, values, task)
        if sure > self.limit(len(SHIFTS)):
            doubts.append(
                f"its rows fit the labels better when they are moved by {shift:+d} ({sure:.0f} standard errors): are "
                "ids beside the wrong rows?"
            )
        self.oof[name] = members.oof[self.sample].astype(np.float32)
        if members.is_one_view:
            self.one_view.add(name)
        if members.test and rows.test is not None:
            places = positions(members.test_ids, rows.test.ids)[self.test_sample]
            # One draw of the views for each row, as a later member meets them.
            drawn = np.random.default_rng(rows.seed).integers(len(members.test), size=len(places))
            self.test[name] = np.stack(members.test)[drawn, places].astype(np.float32)

    def look_beside(self) -> None:
        """Look at each file beside the others."""
        names = list(self.oof)
        given = self.stacked(names)
        if not given.is_enough:
            return
        limit = self.limit()
        for name, knows, lost in zip(names, memorised_labels(given), lost_test_rows(given), strict=True):
            if knows > limit:
                self.doubts[name].append(
                    f"it knows labels of its own out-of-fold rows ({knows:.0f} standard errors): were its models "
                    "trained on these rows?"
                )
            if lost > limit:
                self.doubts[name].append(
                    "its test rows do not follow those of the others, as its out-of-fold rows do: is it the right "
                    "test file, with the right ids?"
                )
        # What is odd already would make others look odd.
        names_left = [name for name in names if not self.doubts[name]]
        copied = copied_test_rows(self.on_open_scale(names_left)) if names_left else []
        for member, other in copied:
            self._doubt_test(names_left, member, other, "are those of")
        both = {names_left[one] for pair in copied for one in pair}
        names_left = [name for name in names_left if name not in both]
        exchanged = exchanged_test_rows(self.on_open_scale(names_left)) if names_left else []
        for member, other in exchanged:
            self._doubt_test(names_left, member, other, "look like those that belong to")
        self._look_at_kinds(given, names)

    def _doubt_test(self, names: list[str], member: int, other: int, how: str) -> None:
        text = f"its test rows {how} {names[other]}: is it the right test file?"
        self.doubts[names[member]].append(text)

    def _look_at_kinds(self, given: PoolRows, names: list[str]) -> None:
        """Look whether out-of-fold rows and test rows of a file can be told apart, more than those of the pool."""
        assert given.test is not None
        task, seed = self.rows.train.task, self.rows.seed
        common, _ = likeness(middle(given.oof), middle(given.test), task, seed)
        for name, oof, test in zip(names, given.oof, given.test, strict=True):
            auc, _ = likeness(oof, test, task, seed)
            highest = HIGHEST_AUC_OF_MEANS if name in self.one_view else HIGHEST_AUC
            if auc > max(highest, common + AUC_MARGIN, self.highest_auc()):
                self.doubts[name].append(
                    f"two-sample AUC {auc:.2f} between out-of-fold and test rows (middle of the pool: {common:.2f})"
                )

    def highest_auc(self) -> float:
        """Return the AUC that rows of the same kind reach by chance in one of all files."""
        sizes = np.minimum([len(self.sample), len(self.test_sample)], 2000)
        error = np.sqrt((sizes.sum() + 1) / (12 * sizes.prod()))
        return float(0.5 + self.limit() * error)

    def stacked(self, names: list[str]) -> PoolRows:
        """Return the sampled rows of some files."""
        target = self.rows.train.task.indicators(self.rows.train.labels)[self.sample]
        test = np.stack([self.test[name] for name in names]) if self.test and names else None
        oof = (
            np.stack([self.oof[name] for name in names])
            if names
            else np.empty((0, len(target), 1), np.float32)
        )
        return PoolRows(oof, test, target)

    def on_open_scale(self, names: list[str]) -> PoolRows:
        """Return the sampled rows of some files as log-odds, or values, which are as spread as the files are sure."""
        given, task = self.stacked(names), self.rows.train.task

        def opened(rows: np.ndarray) -> np.ndarray:
            return np.stack([task.unbounded(one, SMALLEST).astype(np.float32) for one in rows])

        return replace(given, oof=opened(given.oof), test=None if given.test is None else opened(given.test))

    def is_used(self, name: str) -> bool:
        return name in self.oof and (not self.doubts[name] or name in self.pool.named)

    def leaders(self) -> dict[str, str]:
        """Return the member that each one is merged into: nearly the same, used, and named by nobody."""
        names = [name for name in self.oof if self.is_used(name) and name not in self.pool.named]
        if not names:
            return {}
        given = self.on_open_scale(names)
        parts = [part for part in (given.oof, given.test) if part is not None]
        return {
            names[member]: names[leader]
            for member, leader in enumerate(near_twins(parts))
            if member != leader
        }

    def verdicts(self) -> tuple[Verdict, ...]:
        leaders = self.leaders()
        found = []
        for name in self.pool.members:
            score = self.scores.get(name)
            if name in self.refused:
                found.append(Verdict(name, "refuse", False, score, reasons=self.refused[name]))
                continue
            doubts = tuple(self.doubts[name])
            kind: Kind = "look" if doubts else "ok"
            leader = leaders.get(name, "")
            folds = self.folds.get(leader or name, "")
            found.append(Verdict(name, kind, self.is_used(name), score, leader, doubts, folds))
        return tuple(found)

    def comparison(self) -> str:
        """Return the cross-fitted greedy score without the files to look at, and with all of them."""
        doubtful = [name for name in self.oof if self.doubts[name]]
        leaders = self.leaders()
        sound = [name for name in self.oof if not self.doubts[name] and name not in leaders]
        if not doubtful or not sound:
            return ""
        train = self.rows.train
        few = train.task.spread(train.labels[self.sample], MOST_GREEDY_ROWS, self.rows.seed)
        without, with_them = (self._greedy(names, few) for names in (sound, [*sound, *doubtful]))
        used = sum(name in self.pool.named for name in doubtful)
        state = f"{used} of them are used" if used else "they are left out"
        return (
            f"greedy selection, cross-fitted on {len(few):,} rows: {self.rows.metric.name} {without:.6g} without the "
            f"{len(doubtful)} files to look at, {with_them:.6g} with them; {state}. A better score with them says "
            "nothing for them: leaks look like that"
        )

    def _greedy(self, names: list[str], few: np.ndarray) -> float:
        rows, task, metric = self.rows, self.rows.train.task, self.rows.metric
        chosen = self.sample[few]
        y, fold_of = rows.train.labels[chosen], rows.folds.fold_of(0)[chosen]
        weight = None if rows.train.weight is None else rows.train.weight[chosen]
        # Rows that are kept in 32 bits sum to 1 again.
        predictions = np.stack([task.checked(self.oof[name][few], name) for name in names])
        combined = np.empty_like(predictions[0])
        for fold in np.unique(fold_of):
            fitted, held = fold_of != fold, fold_of == fold
            shares = greedy_selection(
                list(predictions[:, fitted]),
                y[fitted],
                metric,
                task,
                seed=rows.seed,
                weight=None if weight is None else weight[fitted],
            )
            combined[held] = np.tensordot(shares, predictions[:, held], axes=1)
        return metric.score(task.to_target_scale(y), task.to_target_scale(combined), task, weight)


def _judge(pool: Pool, recipe: PoolRecipe, files: MemberFiles, rows: RunRows, store: EntryStore) -> _Judged:
    sample = rows.rows[rows.train.task.spread(rows.train.labels[rows.rows], MOST_ROWS, rows.seed)]
    for samples in (rows.train, rows.test):
        if samples is not None:
            # Their places in the files are then looked for once, not in each file.
            samples.ids.flags.writeable = False
    n_test = 0 if rows.test is None else rows.test.n_rows
    judged = _Judged(pool, rows, sample, spread_rows(np.zeros(n_test), MOST_ROWS, rows.seed))
    for name, given in pool.members.items():
        read = _read(given, recipe.imported[name], files, rows, store)
        if isinstance(read, Aligned):
            judged.look_alone(name, read)
        else:
            judged.refused[name] = read
    from stackfeat.engine.external.pool_folds import FoldSearch

    judged.look_beside()
    leaders = judged.leaders()
    search = FoldSearch(rows.train, rows.folds.fold_of(0), rows.held is None, rows.seed)
    firsts = ((name, recipe.imported[name]) for name in judged.oof if name not in leaders)
    judged.folds = search.find((name, Aligned.load(store.read(key)).oof) for name, key in firsts)
    return judged


def _read(
    given: PredictionFiles, key: str, files: MemberFiles, rows: RunRows, store: EntryStore
) -> Aligned | tuple[str, ...]:
    """Return the rows of a file on the members' scale, from the store where it has them; or why there are none."""
    if store.has(key):
        aligned = Aligned.load(store.read(key))
        failed = _failed(id_checks(_candidate(rows, aligned)))
        return failed or aligned
    try:
        candidate = read_candidate(given, files, rows)
    except DataError as error:
        return (str(error),)
    failed = _failed([*id_checks(candidate), *value_checks(candidate)])
    if failed:
        return failed
    members = on_members_scale(candidate.aligned, rows.train.task)
    with files.imported(given).write(store) as writer:
        members.save(writer)
    return members


def _candidate(rows: RunRows, aligned: Aligned) -> Candidate:
    return Candidate(**vars(rows), aligned=aligned, ignored=(), by_name=True, fold_file=None, claimed=None)


def _failed(checks: Iterable[Check]) -> tuple[str, ...]:
    return tuple(f"{check.name}: {check.text}" for check in checks if check.state == "failed")
