"""Options of `estimator`, `vote` and `predictions` members and of `stack`; torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from stackfeat.meta.votes import VOTES
from stackfeat.meta.votes.vote import Vote
from stackfeat.options import Options

LARGEST_HOLDOUT = 0.5
if TYPE_CHECKING:
    VoteName = str
else:
    VoteName = Literal[tuple(VOTES)]
ReadAs = Literal["auto", "proba", "logit", "rank"]


class EstimatorOptions(Options):
    """A member whose learner is a scikit-learn style estimator."""

    estimator: str = Field(
        description="'lightgbm.LGBMClassifier', 'sklearn...', 'gated_linear' or 'pkg.mod:Class'."
    )
    params: dict[str, Any] = {}
    inputs: tuple[str, ...] | None = Field(None, description="Raw inputs by name, blocks by pattern.")
    each: str | None = Field(None, description="One member for every matching block.")
    prepare: Literal["auto", "trees", "scaled", "none"] = "auto"
    gate: bool = True
    nested: bool | Literal["auto"] = Field(
        "auto",
        description="Raw columns or ungated activations beside predictions: train on predictions of models "
        "that saw neither fold; auto: below 10,000 rows.",
    )
    seeds: int = Field(1, ge=1, le=100, description="Fits per fold; their predictions are averaged.")
    read_as: ReadAs = Field("auto", alias="as", description="How predictions of earlier levels are read.")
    early_stopping_fraction: float = Field(
        0.15, gt=0, lt=0.9, description="Inner rows for early_stopping_rounds."
    )

    @field_validator("inputs", mode="before")
    @classmethod
    def one_item_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class VoteOptions(Options):
    """A member that combines predictions."""

    vote: VoteName
    inputs: tuple[str, ...]
    weights: tuple[float, ...] | None = Field(
        None, description="soft, hard: one weight for each input, in order."
    )
    tie: Literal["soft", "prior", "lowest"] = "soft"
    picks: int = Field(50, ge=1, le=100, description="greedy: models picked at most, with replacement.")
    bags: int = Field(5, ge=1, le=50, description="greedy: bags of inputs.")
    start: int = Field(3, ge=1, description="greedy: starts from this many of the best inputs.")

    @field_validator("inputs", mode="before")
    @classmethod
    def one_item_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def kind(self) -> type[Vote]:
        """The vote of this name."""
        return VOTES[self.vote]

    def taken(self) -> dict[str, Any]:
        """Return the values of the options that this vote takes."""
        return {name: getattr(self, name) for name in self.kind.options}

    def weights_problem(self, inputs: Sequence[str]) -> str | None:
        """Say what is wrong with the number of weights for inputs of these names, if anything."""
        if self.weights is None or len(self.weights) == len(inputs):
            return None
        return (
            f"must have one weight for each input; got {len(self.weights)} weights for "
            f"{len(inputs)} inputs: {', '.join(inputs)}"
        )


class PredictionFiles(Options):
    """Files of somebody else's predictions."""

    oof: str = Field(description="Out-of-fold rows: csv, parquet or npy, aligned by id.")
    test: str | None = Field(None, description="Test rows; {fold} in the name: a file of each fold's model.")
    folds: str | None = Field(None, description="csv of id and fold: the folds of these rows.")
    oof_ids: str | None = Field(None, description="npy: a file with an id for each row of oof.")
    test_ids: str | None = Field(None, description="npy: a file with an id for each row of test.")
    classes: tuple[str | int | float | bool, ...] | None = Field(
        None, description="npy: the order of its columns; the sorted order without it."
    )
    score: float | None = Field(None, description="What the sender says it scores by the metric of the run.")


class PredictionsOptions(Options):
    """A member read from files."""

    predictions: PredictionFiles
    allow_early: bool = Field(
        False, description="Let trees read it though one test file stands for all fold models."
    )


class StackOptions(Options):
    """How the K fold pipelines are run and averaged."""

    averaging: Literal["late", "early", "refit"] = Field(
        "late",
        description="late: pipelines stay apart to the end; early: means of fold models; refit: models of all rows.",
    )
    average: Literal["mean", "logit", "rank"] = Field(
        "mean", description="How pipelines are averaged at the end."
    )
    meta_fit: Literal["fold", "all"] = Field(
        "all",
        description="averaging late: test view k goes through the fit on all out-of-fold rows, or through fit k.",
    )
    views: Literal["auto", "all", "last"] = Field(
        "auto", description="Pipelines used for test rows; auto: last for time folds."
    )
    gate_se: float = Field(0.5, ge=0, description="Standard errors a feature block must gain.")
    holdout: float | Literal["column"] = Field(
        0.0,
        description="Share of the training rows kept out of all levels to score them; column: given folds of -1.",
    )

    @field_validator("holdout")
    @classmethod
    def at_most_half(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and not 0 <= value <= LARGEST_HOLDOUT:
            raise ValueError(f"must be a share from 0 to {LARGEST_HOLDOUT}, or column; got {value:g}")
        return value
