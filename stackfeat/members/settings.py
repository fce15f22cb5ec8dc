"""Settings: what fits depend on besides data, folds and a member's own options.

In:  the settings of a run.
Out: those that a fit of one kind of member depends on; they are part of its key.
"""

from __future__ import annotations

from dataclasses import dataclass

from stackfeat.seeds import derive_seed


@dataclass(frozen=True)
class RunSettings:
    """What results of a run depend on; a stack that only predicts knows no more than its threads.

    Attributes
    ----------
    loss : str
        That a net is trained with unless its options name one: it follows from the metric.
    metric_code : str or None
        Hash of the source of a user's metric.
    seed_copies : int
        By how much seeds of members are multiplied (`repeats_as: blocks`).
    """

    threads: int
    device: str = "cpu"
    loss: str = ""
    gate_se: float = 0.5
    metric: str = ""
    metric_code: str | None = None
    seed_copies: int = 1


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """What every fit depends on.

    Attributes
    ----------
    version : int or None
        Of this kind of fit, where it has one of its own: `members.options.VERSIONS`.
    calibration : int or None
        Version of how predictions are calibrated, where they are: `members.options.VERSIONS`.
    """

    threads: int
    version: int | None = None
    calibration: int | None = None


@dataclass(frozen=True, kw_only=True)
class SeededSettings(FitSettings):
    """What fits depend on that are made with several seeds."""

    seeds: int

    def seeds_from(self, seed: int) -> list[int]:
        """Return a seed for each fit of one fold; the first is that of the fold."""
        return [seed if i == 0 else derive_seed(seed, "seed", i) for i in range(self.seeds)]


@dataclass(frozen=True, kw_only=True)
class EstimatorSettings(SeededSettings):
    """What fits of estimators depend on.

    Attributes
    ----------
    gate_se : float or None
        None where there are no blocks.
    loss : str or None
        That of the run, or an NDCG, where boosting stops under it; None where it stops under its own.
    rounds : int or None
        Version of the search for the number of rounds, where there is one: `members.options.VERSIONS`.
    """

    gate_se: float | None = None
    loss: str | None = None
    rounds: int | None = None

    @property
    def gate(self) -> float:
        """`gate_se`; where there are no blocks it does not matter."""
        return 0.5 if self.gate_se is None else self.gate_se


@dataclass(frozen=True, kw_only=True)
class NetSettings(SeededSettings):
    """What fits of nets depend on; `predicts`, whether predictions are made, is None where they always are."""

    device: str
    loss: str
    predicts: bool | None = None


@dataclass(frozen=True, kw_only=True)
class VoteSettings(FitSettings):
    """What fits of votes depend on that learn from labels."""

    metric: str
    metric_code: str | None


Settings = EstimatorSettings | NetSettings | VoteSettings | FitSettings
