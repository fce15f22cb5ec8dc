"""Pictures of the report as figures, for notebooks: a method for each of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stackfeat.errors import UsageError
from stackfeat.output.report.drawing import figure_of
from stackfeat.output.report.pictures import PICTURES
from stackfeat.output.report.stored import read_content
from stackfeat.output.run_file import whole_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plots:
    """Draws what the report of a run folder shows, from ``report.json``: no store is needed.

    Every method returns a matplotlib figure in the colours of the caller's own style, and raises UsageError where the
    run has no such picture. What each one shows, and how to read it, is in docs/report.md.
    """

    folder: Path

    def plot_folds(self) -> Figure:
        """Draw the score of each member in each fold."""
        return self._plot("folds")

    def plot_holdout(self) -> Figure:
        """Draw the scores of members on held-out rows against those out of fold."""
        return self._plot("holdout")

    def plot_stack(self) -> Figure:
        """Draw which member reads which, and what is behind the submission."""
        return self._plot("stack")

    def plot_class_shares(self) -> Figure:
        """Draw how frequent classes are, and how probable they are called out of fold and in test rows."""
        return self._plot("class_shares")

    def plot_distribution(self) -> Figure:
        """Draw how targets are spread, and predictions out of fold and of test rows."""
        return self._plot("distribution")

    def plot_confusion(self) -> Figure:
        """Draw true classes against decided ones."""
        return self._plot("confusion")

    def plot_roc(self) -> Figure:
        """Draw the ROC curve of each fold and of all rows; of many classes one curve for each class."""
        return self._plot("roc")

    def plot_precision_recall(self) -> Figure:
        """Draw precision against recall, of each fold and of all rows; of many classes one curve for each class."""
        return self._plot("precision_recall")

    def plot_reliability(self) -> Figure:
        """Draw how often what was said with a probability came true."""
        return self._plot("reliability")

    def plot_threshold_scores(self) -> Figure:
        """Draw precision, recall, F1 and MCC of two classes by threshold."""
        return self._plot("threshold_scores")

    def plot_cumulative_gains(self) -> Figure:
        """Draw how many positives are among the likeliest rows, and how many times as many as in random order."""
        return self._plot("cumulative_gains")

    def plot_predicted(self) -> Figure:
        """Draw predicted values against true ones."""
        return self._plot("predicted")

    def plot_residuals(self) -> Figure:
        """Draw how errors are spread along what is predicted."""
        return self._plot("residuals")

    def plot_targets(self) -> Figure:
        """Draw what was predicted of each of several targets, or labels, against what came of it."""
        return self._plot("targets")

    def plot_quantiles(self) -> Figure:
        """Draw predicted quantiles beside those of the targets."""
        return self._plot("quantiles")

    def plot_coverage(self) -> Figure:
        """Draw what share of targets lies below each quantile, where it is sure and where it is not."""
        return self._plot("coverage")

    def plot_positions(self) -> Figure:
        """Draw how relevant the rows at each place of the lists are."""
        return self._plot("positions")

    def plot_intervals(self) -> Figure:
        """Draw how many targets intervals, or class sets, of several levels hold, and how wide they are."""
        return self._plot("intervals")

    def plot_calibrations(self) -> Figure:
        """Draw what predictions of calibrated members came to, before and after."""
        return self._plot("calibrations")

    def plot_importance(self) -> Figure:
        """Draw by how much predictions get worse when a column is shuffled, where `stackfeat explain` measured it."""
        return self._plot("importance")

    def plot_correlation(self) -> Figure:
        """Draw how alike the errors of members are."""
        return self._plot("correlation")

    def plot_greedy_path(self) -> Figure:
        """Draw what an average gains as it takes up one member after another."""
        return self._plot("greedy_path")

    def plot_learning_curves(self) -> Figure:
        """Draw the losses of all folds: of nets by epoch, of boosting that stopped early by round."""
        return self._plot("learning_curves")

    def plot_embeddings(self) -> Figure:
        """Draw where held-out rows lie in the layers of nets, before and after fold spaces are aligned."""
        return self._plot("embeddings")

    def _plot(self, name: str) -> Figure:
        with whole_run(self.folder) as marked:
            content = read_content(self.folder, marked)
        if name not in content["pictures"]:
            of_others = f"it has nothing to show of a {content['task']['kind']} run like this one"
            had = ", ".join(content["pictures"])
            raise UsageError(
                f"plot_{name} must be a picture of this run; got none: {content['missing'].get(name, of_others)}; "
                f"it has {had}"
            )
        return figure_of(PICTURES[name], content["pictures"][name])
