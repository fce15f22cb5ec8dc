"""The table of pictures: each by its name, in the order of the page."""

from __future__ import annotations

from stackfeat.output.report.pictures.classes import ClassShares, Confusion, PrecisionRecall, Reliability, Roc
from stackfeat.output.report.pictures.importance import Importance
from stackfeat.output.report.pictures.lists import Positions
from stackfeat.output.report.pictures.members import Correlation, FoldScores, GreedyPath, HeldOut, StackGraph
from stackfeat.output.report.pictures.nets import Embeddings, LearningCurves
from stackfeat.output.report.pictures.picture import Picture
from stackfeat.output.report.pictures.quantiles import Coverage, Quantiles
from stackfeat.output.report.pictures.targets import Targets
from stackfeat.output.report.pictures.thresholds import CumulativeGains, ThresholdScores
from stackfeat.output.report.pictures.trust import Calibrations, Intervals
from stackfeat.output.report.pictures.values import Distribution, Predicted, Residuals

PICTURES: dict[str, Picture] = {
    picture.name: picture
    for picture in (
        FoldScores(),
        HeldOut(),
        StackGraph(),
        ClassShares(),
        Distribution(),
        Confusion(),
        Roc(),
        PrecisionRecall(),
        Reliability(),
        ThresholdScores(),
        CumulativeGains(),
        Predicted(),
        Residuals(),
        Targets(),
        Quantiles(),
        Coverage(),
        Positions(),
        Intervals(),
        Calibrations(),
        Importance(),
        Correlation(),
        GreedyPath(),
        LearningCurves(),
        Embeddings(),
    )
}
"""A new picture is a class in a file of this folder and a row here; kinds of tasks name those that judge them."""
