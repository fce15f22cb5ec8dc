"""What a feature block gives away: are folds, and OOF and test rows, comparable?

In:  a block's OOF rows, its test views, and what the alignment and the meta-learner measured.
Out: `BlockDiagnostics`: numbers, and for each past its threshold a sentence with the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stackfeat.features.two_sample import domain_auc

MAX_ROWS = 4000
FOLD_ID_TIMES_CHANCE = 2.0
LOWEST_COSINE = 0.5
COSINE_GAP = 0.1
HIGHEST_AUC = 0.6
RANDOM_CV_SE = 2.0


@dataclass(frozen=True)
class BlockDiagnostics:
    """Measurements of one block; None where something was not measured.

    Attributes
    ----------
    name : str
    n_folds : int
    fold_id : float or None
        Balanced accuracy of guessing the fold from a row; chance is 1 / n_folds.
    auc : float or None
        Two-sample AUC of OOF rows against test rows, in the averaging in use.
    anchor_cosine, held_out_cosine : float or None
        Agreement of aligned folds on the anchors they were fitted on, and on others.
    """

    name: str
    n_folds: int
    fold_id: float | None = None
    auc: float | None = None
    anchor_cosine: float | None = None
    held_out_cosine: float | None = None

    def to_json(self) -> dict[str, str | int | float | None]:
        """Plain values; NaN becomes None."""
        values = asdict(self)
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}

    def warnings(self) -> tuple[str, ...]:
        """What is past its threshold, and what to do about it."""
        found = []
        limit = fold_id_limit(self.n_folds)
        if self.fold_id is not None and self.fold_id > limit:
            found.append(
                f"{self.name}: a row gives away its fold (balanced accuracy {self.fold_id:.2f}, chance "
                f"{1 / self.n_folds:.2f}, limit {limit:.2f}), so columns of different folds are not "
                f"comparable. Use {self._remedy()}."
            )
        if self.auc is not None and self.auc > HIGHEST_AUC:
            found.append(
                f"{self.name}: test rows look unlike out-of-fold rows (two-sample AUC {self.auc:.2f}, limit "
                f"{HIGHEST_AUC}). Use averaging: late; if it is in use, the data themselves have shifted: "
                "drop the columns that shift, or make folds that shift alike."
            )
        found += self._cosine_warnings()
        return tuple(found)

    def _remedy(self) -> str:
        """Name an encoding other than the one that the block has."""
        if self.name.endswith("@geometry"):
            return "encode: aligned, or leave it to a gated member"
        if self.name.endswith(("@aligned", "@reference")):
            return "a smaller reduce, or encode: geometry"
        return "encode: geometry or aligned"

    def _cosine_warnings(self) -> list[str]:
        held_out, anchor = self.held_out_cosine, self.anchor_cosine
        if held_out is None or anchor is None:
            return []
        if held_out < LOWEST_COSINE:
            return [
                f"{self.name}: aligned folds agree little on rows they were not aligned on "
                f"(cosine {held_out:.2f}, limit {LOWEST_COSINE}). "
                "Use encode: geometry, or a smaller reduce."
            ]
        if anchor - held_out > COSINE_GAP:
            return [
                f"{self.name}: aligned folds agree better on their anchors (cosine {anchor:.2f}) than on "
                f"other rows ({held_out:.2f}): too few anchors for the width. "
                "Set a smaller reduce."
            ]
        return []


def fold_id_limit(n_folds: int) -> float:
    """Balanced accuracy above which folds are not comparable: twice chance, at most 0.9."""
    return min(FOLD_ID_TIMES_CHANCE / n_folds, 0.9)


def fold_id_accuracy(oof: np.ndarray, fold_of: np.ndarray, seed: int) -> float:
    """Guess each row's fold from its features, cross-validated.

    Parameters
    ----------
    oof : float array of shape (n, c)
    fold_of : int array of shape (n,)
        Rows with -1 were never predicted and are left out.
    seed : int

    Returns
    -------
    float
        Balanced accuracy, 1 / n_folds at chance; NaN with fewer than two folds of ten rows.
    """
    known = np.flatnonzero(np.asarray(fold_of) >= 0)
    rng = np.random.default_rng(seed)
    if len(known) > MAX_ROWS:
        known = np.sort(rng.permutation(known)[:MAX_ROWS])
    folds, rows = np.asarray(fold_of)[known], np.asarray(oof, dtype=np.float64)[known]
    sizes = np.unique(folds, return_counts=True)[1]
    if len(sizes) < 2 or sizes.min() < 10:
        return float("nan")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
    splits = StratifiedKFold(3, shuffle=True, random_state=seed)
    return float(balanced_accuracy_score(folds, cross_val_predict(model, rows, folds, cv=splits)))


def two_sample_auc(
    oof: np.ndarray, views: Sequence[np.ndarray], seed: int, averaging: Literal["late", "early"] = "late"
) -> float:
    """Tell OOF rows from test rows, as the meta-learner will see them.

    Parameters
    ----------
    oof : float array of shape (n, c)
    views : list of float arrays of shape (m, c)
        Test rows as each fold model gives them.
    seed : int
    averaging : {"late", "early"}
        late: each test row in one view drawn at random; early: the mean of the views.

    Returns
    -------
    float
        0.5 where they look alike; NaN where there are fewer than ten rows.
    """
    stack = np.stack([np.asarray(view) for view in views])
    if averaging == "early":
        return domain_auc(oof, stack.mean(axis=0), seed)
    drawn = np.random.default_rng(seed).integers(len(stack), size=stack.shape[1])
    return domain_auc(oof, stack[drawn, np.arange(stack.shape[1])], seed)


def compare_random_cv(grouped: np.ndarray, random: np.ndarray) -> tuple[float, float]:
    """Gain in mean loss of random over fold-grouped CV, and its standard error over rows.

    Parameters
    ----------
    grouped, random : float arrays of shape (n,)
        Loss of each row under the two ways of splitting.
    """
    gain = np.asarray(grouped, dtype=np.float64) - np.asarray(random, dtype=np.float64)
    return float(gain.mean()), float(gain.std() / np.sqrt(len(gain)))


def random_cv_warning(name: str, gain: float, standard_error: float) -> str | None:
    """A sentence where random CV is better than fold-grouped CV past two standard errors."""
    if not gain > RANDOM_CV_SE * standard_error:
        return None
    return (
        f"{name}: rows of the same fold help each other (random CV is better than fold-grouped CV by "
        f"{gain:.4f}, {standard_error:.4f} standard error): its features are not comparable between folds. "
        "Use encode: geometry instead of raw."
    )
