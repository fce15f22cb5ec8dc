"""Metrics by name, among them those that carry a number in their name: ``fbeta@2``.

In:  metrics, and families of metrics: a stem, what its number must be, the metric of a number.
Out: one mapping, which holds ``fbeta@2`` as it holds ``rmse``; iterated over, it gives the names without a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from stackfeat.metrics.metric import Metric

MARK = "@"


@dataclass(frozen=True)
class Family:
    """Metrics that differ by a number.

    Attributes
    ----------
    stem : str
        What stands before the ``@``.
    symbol : str
        What the number is called: ``fbeta@B``.
    make : callable
        The metric of a name and a number.
    is_count : bool
        Whether the number is a whole one of at least 1; else any number above 0.
    example : str
        A number for messages.
    """

    stem: str
    symbol: str
    make: Callable[[str, float], Metric]
    is_count: bool = True
    example: str = "5"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Kinds of task that its metrics fit."""
        return self.make(self.pattern, float(self.example)).tasks

    @property
    def pattern(self) -> str:
        return f"{self.stem}{MARK}{self.symbol}"

    @property
    def described(self) -> str:
        kind = "a whole number of at least 1" if self.is_count else "a number above 0"
        return f"{self.pattern} with {kind} in the place of {self.symbol}, such as {self.stem}{MARK}{self.example}"

    def number(self, text: str) -> float | None:
        """Return the number that a name ends with; None unless it is written the one way such a number is."""
        try:
            found = float(text)
        except ValueError:
            return None
        is_legal = 0.0 < found < 1e9 and (found.is_integer() or not self.is_count)
        # One metric has one name: neither 5.0 nor 05 nor 5e0.
        return found if is_legal and text == f"{found:.12g}" else None


class Metrics(Mapping[str, Metric]):
    """Metrics by name.

    Parameters
    ----------
    metrics : iterable of Metric
    families : iterable of Family
    """

    def __init__(self, metrics: Iterable[Metric], families: Iterable[Family] = ()) -> None:
        self._metrics = {metric.name: metric for metric in metrics}
        self._numbered: dict[str, Metric] = {}
        self.families = {family.stem: family for family in families}

    def __getitem__(self, name: str) -> Metric:
        known = self._metrics.get(name) or self._numbered.get(name)
        if known is not None:
            return known
        stem, mark, text = name.partition(MARK)
        family = self.families.get(stem) if mark else None
        number = None if family is None else family.number(text)
        if family is None or number is None:
            raise KeyError(name)
        return self._numbered.setdefault(name, family.make(name, number))

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self[name] is not None
        except KeyError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)
