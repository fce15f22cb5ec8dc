"""Verdicts on the files of a pool: which of them take part in a run, and which are merged.

In:  the stored entry of a judged pool.
Out: `PoolVerdicts`: for each file ok, look or refuse, with reasons; what a run takes of them. Nothing is judged here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from stackfeat.engine.external.checkpoints import MemberFiles
from stackfeat.engine.external.common_folds import RUN_FOLDS
from stackfeat.engine.recipes import PoolRecipe
from stackfeat.members.prediction_files import PredictionFiles
from stackfeat.store import Entry, EntryStore, EntryWriter

Kind = Literal["ok", "look", "refuse"]

SHOWN = 5
"""Files of each verdict that are named in the log; all of them stand in pool.csv."""

COLUMNS = ("member", "verdict", "used", "score", "twin_of", "folds", "reasons")
"""Of pool.csv."""


@dataclass(frozen=True)
class Verdict:
    """What was found of one file.

    Attributes
    ----------
    member : str
        Full name, such as ``base/mates:a``.
    verdict : {"ok", "look", "refuse"}
        ``look``: something speaks against it, and it takes part only where a config names it. ``refuse``: it
        cannot be used.
    is_used : bool
        Whether it takes part, itself or in the mean of its twins.
    score : float or None
        Out of fold, by the metric of the run; None where it could not be read.
    twin_of : str
        The member whose place it shares, as both say nearly the same; empty for all others.
    reasons : tuple of str
    folds : str
        The split that its rows, or those of the member whose place it shares, show; empty where they show none.
    """

    member: str
    verdict: Kind
    is_used: bool
    score: float | None = None
    twin_of: str = ""
    reasons: tuple[str, ...] = ()
    folds: str = ""

    @property
    def text(self) -> str:
        """Reasons, and the split that was found."""
        return "; ".join([*self.reasons, *([f"folds: {self.folds}"] if self.folds else [])])

    @property
    def said(self) -> str:
        return f"{self.member}: {self.verdict}: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class PoolVerdicts:
    """Verdicts of all files of a pool, in the order of their names.

    Attributes
    ----------
    name : str
        Level and name of the pool in the config.
    comparison : str
        What the files that are left out would change; empty where there are none.
    """

    name: str
    verdicts: tuple[Verdict, ...]
    comparison: str = ""

    @property
    def left_out(self) -> set[str]:
        """Members that are not there in a run: suspected or refused, or merged into another one."""
        return {one.member for one in self.verdicts if not one.is_used or one.twin_of}

    @property
    def twins(self) -> dict[str, list[str]]:
        """Members that stand for several, with those that they stand for besides themselves."""
        found: dict[str, list[str]] = {}
        for one in self.verdicts:
            if one.is_used and one.twin_of:
                found.setdefault(one.twin_of, []).append(one.member)
        return found

    def notes(self) -> Iterator[str]:
        """Yield what a run says of the pool; ``warning: `` in front of what somebody should look at."""
        counts = Counter(one.verdict for one in self.verdicts)
        text = f"{self.name}: {len(self.verdicts)} files: {counts['ok']} ok"
        if counts["look"]:
            used = sum(one.is_used for one in self.verdicts if one.verdict == "look")
            text += f", {counts['look']} to look at ({used} used, as the config names them)"
        text += f", {counts['refuse']} refused" if counts["refuse"] else ""
        yield f"warning: {text}; see pool.csv" if counts["look"] or counts["refuse"] else text
        for kind in ("refuse", "look"):
            found = [one for one in self.verdicts if one.verdict == kind]
            yield from (f"warning: {one.said}" for one in found[:SHOWN])
            if len(found) > SHOWN:
                yield f"warning: {self.name}: {len(found) - SHOWN} more ({kind}) in pool.csv"
        twins = self.twins
        if twins:
            n_merged = sum(map(len, twins.values()))
            first = next(iter(twins))
            yield (
                f"{self.name}: {n_merged} files say nearly the same as another; the mean of each such group takes "
                f"part under the name of its first file ({len(twins)} groups; {first}: {len(twins[first]) + 1} files)"
            )
        yield from self._fold_notes()
        if self.comparison:
            yield f"{self.name}: {self.comparison}"

    def _fold_notes(self) -> Iterator[str]:
        """Yield which files were made with which folds, where any shows them."""
        by_split: dict[str, list[str]] = {}
        for one in self.verdicts:
            if one.folds:
                by_split.setdefault(one.folds, []).append(one.member)
        if not by_split:
            return
        known = sum(map(len, by_split.values()))
        groups = "; ".join(
            f"{split}: {len(members)} files ({', '.join(members[:2])}{', ...' if len(members) > 2 else ''})"
            for split, members in sorted(by_split.items(), key=lambda item: -len(item[1]))
        )
        unknown = len(self.verdicts) - known
        rest = f"; unknown: {unknown} files" if unknown else ""
        is_mixed = len(by_split) > 1 or RUN_FOLDS not in by_split
        why = ". Models of other folds than the run's saw labels of rows that are held out together here"
        yield f"{self.name}: folds by what the rows show: {groups}{rest}{why if is_mixed else ''}"

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield rows of pool.csv."""
        for one in self.verdicts:
            score = "" if one.score is None else f"{one.score:.6g}"
            used = "yes" if one.is_used else "no"
            yield one.member, one.verdict, used, score, one.twin_of, one.folds, "; ".join(one.reasons)

    def save(self, writer: EntryWriter) -> None:
        writer.json("pool", asdict(self))

    @classmethod
    def load(cls, entry: Entry) -> PoolVerdicts:
        found: PoolVerdicts = entry.structure("pool", cls)
        return found


@dataclass(frozen=True)
class Pool:
    """A pool of a config: its members, and those that the config names one by one."""

    name: str
    members: Mapping[str, PredictionFiles]
    named: Collection[str]

    def recipe(
        self,
        files: MemberFiles,
        *,
        test: str | None,
        holdout: str | None,
        metric: str,
        metric_code: str | None,
        seed: int,
    ) -> PoolRecipe:
        """Return the recipe of the verdicts; keyword arguments are as in `ImportCheckRecipe`."""
        return PoolRecipe(
            name=self.name,
            imported={name: files.imported(given).key for name, given in self.members.items()},
            named=tuple(sorted(self.named)),
            folds=files.folds,
            test=test,
            holdout=holdout,
            metric=metric,
            metric_code=metric_code,
            seed=seed,
        )

    def stored(self, recipe: PoolRecipe, store: EntryStore) -> PoolVerdicts | None:
        """Return the verdicts if the store has them, and the rows of all files that they use."""
        if not store.has(recipe.key):
            return None
        found = PoolVerdicts.load(store.read(recipe.key))
        used = [recipe.imported[one.member] for one in found.verdicts if one.is_used]
        return found if all(map(store.has, used)) else None
