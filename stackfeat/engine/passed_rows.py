"""Passed rows: rows that went through a stack, and go again with some inputs or blocks changed.

In:  the way of rows through a stack, rows, and which of their inputs or blocks have other values now.
Out: what is said of them; parts of the stack that the change does not reach are not asked again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.engine.blocks import ReadPlace
from stackfeat.engine.passage import Parts, Passage
from stackfeat.engine.recipes import EmitRecipe, Place
from stackfeat.executors import pinned_threads
from stackfeat.meta.widening import Widening, averaged


@dataclass(frozen=True)
class PassedRows:
    """Rows, and what every step said of them.

    Attributes
    ----------
    rows : int64 array (n,)
        Their numbers among all rows that are looked at.
    samples : Samples
    places : sequence of Place
        Where the predictions stand whose average counts.
    average : str
    widening : Widening or None
        Of the average.
    said : mapping of Place to ndarray
    given : frozenset of str
        Keys of steps that were not asked, because what they say is read from files and no input changes it.
    """

    passage: Passage
    parts: Parts
    rows: np.ndarray
    samples: Samples
    places: Sequence[Place]
    average: str
    widening: Widening | None
    said: Mapping[Place, np.ndarray]
    given: frozenset[str]

    @classmethod
    def of(
        cls,
        passage: Passage,
        parts: Parts,
        rows: np.ndarray,
        samples: Samples,
        places: Sequence[Place],
        average: str,
        given: Mapping[Place, np.ndarray] | None = None,
        widening: Widening | None = None,
    ) -> PassedRows:
        """Pass rows through; `given` is what is said in steps that are not asked."""
        with pinned_threads(passage.plan.sources.settings.threads):
            said = passage.said(parts, samples, given)
        keys = frozenset(key for key, _ in given or {})
        return cls(passage, parts, rows, samples, places, average, widening, said, keys)

    @property
    def prediction(self) -> np.ndarray:
        """What is predicted of the rows as they are, float64 (n, n_outputs)."""
        return self._averaged(self.said.__getitem__)

    def changed(self, samples: Samples, inputs: Collection[str]) -> np.ndarray:
        """Return what is predicted of these rows, once or several times over, with other values in some inputs."""
        return self._again(samples, inputs, {})

    def shuffled(self, block: str, orders: Sequence[np.ndarray]) -> np.ndarray:
        """Return what is predicted where a block, or all blocks of a member, belong to other rows.

        Parameters
        ----------
        block : str
            ``level/member/output``, or ``level/member``.
        orders : sequence of int64 array (n,)
            For each time the place of the row, among these, whose values each row gets.
        """
        whole = np.concatenate(orders)
        replaced = {place: self.said[place][whole] for place in self._places_of(block)}
        samples = self.samples.take(np.tile(np.arange(self.samples.n_rows), len(orders)))
        return self._again(samples, (), replaced)

    def _places_of(self, block: str) -> Iterator[Place]:
        """Yield where the outputs of a block or a member stand; those that are mapped follow from the others."""
        plan = self.passage.plan
        level, member, *output = block.split("/", 2)
        name = f"{level}/{member}"
        mapped = {key for (one, *_), key in plan.align_emits.items() if one == block}
        own = {key for (one, *_), key in plan.emits.items() if one == name}
        for key, array in self.said:
            is_output = not output or array.partition("/")[2] == output[0]
            if key in mapped or (not mapped and key in own and is_output):
                yield key, array

    def _again(
        self, samples: Samples, inputs: Collection[str], replaced: Mapping[Place, np.ndarray]
    ) -> np.ndarray:
        n_times = samples.n_rows // self.samples.n_rows
        samples = samples.in_copies(n_times)
        now = dict(replaced)
        kept = self.given | {key for key, _ in replaced}

        def read(place: Place) -> np.ndarray:
            found = now.get(place)
            return np.concatenate([self.said[place]] * n_times) if found is None else found

        with pinned_threads(self.passage.plan.sources.settings.threads):
            for step in self.passage.steps:
                if step.key not in kept and _is_reached(step, inputs, now):
                    now |= self.passage.asked(step, self.parts, samples, read)
        return self._averaged(read)

    def _averaged(self, read: ReadPlace) -> np.ndarray:
        """Average the pipelines, apart for each time that rows are there: they may be ranked among each other."""
        views, n_rows = [read(place) for place in self.places], self.samples.n_rows
        times = range(0, len(views[0]), n_rows)
        parts = [[view[start : start + n_rows] for view in views] for start in times]
        task = self.samples.task
        return np.concatenate([averaged(part, task, self.average, self.widening) for part in parts])


def _is_reached(step: object, inputs: Collection[str], now: Collection[Place]) -> bool:
    """Whether a step reads something that has changed."""
    if isinstance(step, EmitRecipe):
        read = [place for view in step.views for place in view.places]
        return not set(inputs).isdisjoint(step.raw) or any(place in now for place in read)
    keys = {key for key, _ in now}
    return getattr(step, "emit", None) in keys
