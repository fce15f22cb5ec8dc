"""How a training went: numbers alone, as JSON in the entry of a fit."""

from __future__ import annotations

from dataclasses import dataclass

from stackfeat.structure import structured


@dataclass(frozen=True)
class TrainReport:
    """How training went.

    Attributes
    ----------
    epochs : int
        Epochs run.
    best_epoch : int
        Epochs after which validation was best; `epochs` without validation.
    losses, validation_losses : tuple of float
        Mean loss of each epoch.
    retries : int
        How often a loss that was not finite made it start again.
    lr : float
        The peak learning rate that worked.
    stopped : bool
        Whether `should_stop` ended it.
    n_parts : int
        In how many parts a batch was computed, because memory ran out otherwise.
    """

    epochs: int
    best_epoch: int
    losses: tuple[float, ...]
    validation_losses: tuple[float, ...] = ()
    retries: int = 0
    lr: float = 0.0
    stopped: bool = False
    n_parts: int = 1

    @classmethod
    def from_json(cls, values: object) -> TrainReport:
        """Return the report whose fields stand in a net's header; StructureError if it is not made so."""
        return structured(cls, values, "report")
