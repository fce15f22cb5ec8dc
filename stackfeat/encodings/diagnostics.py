"""What a feature block gives away: are folds, and OOF and test rows, comparable?

In:  a block's OOF rows, its test views, and what the alignment and the meta-learner measured.
Out: `BlockDiagnostics`: numbers, and what is past its threshold; one warning an encoding, with the remedy.
     Measured by a two-sample test and by a probe for the advantage of rows of the same fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stackfeat.encodings import ENCODINGS
from stackfeat.encodings.alignment import AlignmentReport
from stackfeat.encodings.encoding import Encoding
from stackfeat.tasks.task import Task

MOST_TEST_ROWS = 2000

FEWEST_TEST_ROWS = 10


def domain_auc(a: np.ndarray, b: np.ndarray, seed: int) -> float:
    """Tell rows of `a` from rows of `b` by logistic regression on the columns and their squares.

    Squares are there because means of several models have less spread, not another centre.

    Parameters
    ----------
    a, b : float arrays of shape (n_a, d), (n_b, d)
        At most 2,000 rows of each are used.
    seed : int

    Returns
    -------
    float
        Mean of the AUC over five folds; NaN where either side has fewer than ten rows.
    """
    if min(len(a), len(b)) < FEWEST_TEST_ROWS:
        return float("nan")
    rng = np.random.default_rng(seed)
    first, second = (sample_rows(np.asarray(rows), MOST_TEST_ROWS, rng) for rows in (a, b))
    rows = StandardScaler().fit_transform(np.vstack([first, second]).astype(np.float64))
    rows = np.hstack([rows, np.minimum(rows**2, 25.0)])
    origin = np.r_[np.zeros(len(first), dtype=int), np.ones(len(second), dtype=int)]
    splits = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(rows, origin))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    score = cross_val_predict(model, rows, origin, cv=splits, method="decision_function")
    return float(np.mean([roc_auc_score(origin[held_out], score[held_out]) for _, held_out in splits]))


def sample_rows(rows: np.ndarray, n_most: int, rng: np.random.Generator) -> np.ndarray:
    """At most `n_most` rows, drawn without replacement."""
    return rows if len(rows) <= n_most else rows[np.sort(rng.permutation(len(rows))[:n_most])]


MOST_ROWS = 4000

FOLD_ID_TIMES_CHANCE = 2.0

LOWEST_COSINE = 0.5

COSINE_GAP = 0.1

HIGHEST_AUC = 0.6

RANDOM_CV_SE = 2.0

LEAST_CV_GAIN = 0.02
"""Share of the target's variance: a smaller gain of random over grouped folds is not worth a warning."""

ANCHORS_PER_COLUMN = 2

_SHIFTED = (
    "Where test rows look unlike in every block of a tap, the data have shifted: drop the columns that shift"
)


UNLIKE = "test rows look unlike"
"""How the warning begins that the data may have shifted, which no gate helps against."""


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
    n_anchors, width : int or None
        Anchor rows, and aligned columns that are kept (`reduce`).
    random_cv_gain, random_cv_se : float or None
        How much lower the loss of a probe is in random than in fold-grouped cross-validation, as a
        share of the target's variance, and its standard error over rows.
    """

    name: str
    n_folds: int
    fold_id: float | None = None
    auc: float | None = None
    anchor_cosine: float | None = None
    held_out_cosine: float | None = None
    n_anchors: int | None = None
    width: int | None = None
    random_cv_gain: float | None = None
    random_cv_se: float | None = None

    def to_json(self) -> dict[str, str | int | float | None]:
        """Plain values; NaN becomes None."""
        values = asdict(self)
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}

    def warnings(self) -> tuple[str, ...]:
        """What is past its threshold, a phrase each; `block_warnings` says what to do about it."""
        found = []
        limit = fold_id_limit(self.n_folds)
        if self.fold_id is not None and self.fold_id > limit:
            found.append(
                f"rows give away their fold (accuracy {self.fold_id:.2f}, chance {1 / self.n_folds:.2f}, "
                f"limit {limit:.2f})"
            )
        if self.auc is not None and self.auc > HIGHEST_AUC:
            found.append(f"{UNLIKE} OOF rows (AUC {self.auc:.2f}, limit {HIGHEST_AUC})")
        if self.n_anchors is not None and self.width is not None:
            least = ANCHORS_PER_COLUMN * self.width
            if self.n_anchors < least:
                found.append(
                    f"{self.n_anchors} anchors for {self.width} columns (at least {least} are needed)"
                )
        held_out, anchor = self.held_out_cosine, self.anchor_cosine
        if held_out is not None and anchor is not None:
            if held_out < LOWEST_COSINE:
                found.append(
                    f"folds agree little on rows outside the anchors (cosine {held_out:.2f}, limit {LOWEST_COSINE})"
                )
            elif anchor - held_out > COSINE_GAP:
                found.append(
                    f"folds agree better on anchors (cosine {anchor:.2f}) than on other rows ({held_out:.2f})"
                )
        gain, error = self.random_cv_gain, self.random_cv_se
        if gain is not None and error is not None and gain > max(RANDOM_CV_SE * error, LEAST_CV_GAIN):
            found.append(
                f"rows of the same fold help each other (random CV better by {gain:.3f} ± {error:.3f})"
            )
        return tuple(found)


def diagnose(
    name: str,
    values: np.ndarray,
    y: np.ndarray,
    fold_of: np.ndarray,
    *,
    n_folds: int,
    is_time: bool,
    task: Task,
    group: np.ndarray | None,
    alignment: AlignmentReport | None,
    seed: int,
    views: Sequence[np.ndarray] = (),
    averaging: Literal["late", "early"] = "late",
) -> dict[str, Any]:
    """Measure whether a feature block's folds, and its OOF and test rows, can be told apart.

    Parameters
    ----------
    values : float array of shape (n, c)
        OOF rows.
    y : array of shape (n,)
    fold_of : int array of shape (n,)
        The fold that each row is of, -1 for rows that are left out.
    n_folds : int
    is_time : bool
        Whether folds follow time.
    task : Task
    group : array of shape (n,) or None
    alignment : AlignmentReport or None
        Where the block is aligned.
    views : sequence of float arrays of shape (m, c)
        Test rows as each fold model gives them; may be empty.
    averaging
        As in `two_sample_auc`.

    Returns
    -------
    dict
        As `BlockDiagnostics.to_json`, and ``warnings``: what is past its threshold.
    """
    rows = np.flatnonzero(fold_of >= 0)
    oof, own = values[rows], fold_of[rows]
    # Time folds have no random counterpart.
    losses = None
    if not is_time:
        grouped = None if group is None else group[rows]
        losses = probe_losses(oof, y[rows], own, task=task, group=grouped, seed=seed)
    gain, error = (None, None) if losses is None else compare_random_cv(*losses)
    found = BlockDiagnostics(
        name=name,
        n_folds=n_folds,
        fold_id=fold_id_accuracy(oof, own, seed),
        auc=two_sample_auc(oof, views, seed, averaging) if views else None,
        anchor_cosine=None if alignment is None else alignment.anchor_cosine,
        held_out_cosine=None if alignment is None else alignment.held_out_cosine,
        n_anchors=None if alignment is None else alignment.n_anchors,
        width=None if alignment is None else values.shape[1],
        random_cv_gain=gain,
        random_cv_se=error,
    )
    return {**found.to_json(), "warnings": list(found.warnings())}


def block_warnings(found: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one warning for each encoding with blocks past a threshold, with the one remedy of that encoding.

    Parameters
    ----------
    found : mapping of str to sequence of str
        Blocks and their `BlockDiagnostics.warnings`. A remedy never names another encoding that could be
        past its threshold itself, so no two warnings contradict each other.
    """
    by_encoding: dict[str, list[str]] = {}
    for name, phrases in found.items():
        if phrases:
            by_encoding.setdefault(name.rpartition("@")[2], []).append(f"{name}: {', '.join(phrases)}")
    warnings = []
    for encoding, lines in by_encoding.items():
        shifted = f". {_SHIFTED}" if any("unlike OOF" in line for line in lines) else ""
        warnings.append(f"{'; '.join(lines)}. {ENCODINGS.get(encoding, Encoding).remedy}{shifted}")
    return warnings


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
    if len(known) > MOST_ROWS:
        known = np.sort(rng.permutation(known)[:MOST_ROWS])
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


MOST_PROBE_ROWS = 2000

FEWEST_PROBE_ROWS = 60

PENALTY = 0.03
"""Of the ridge, for each row; columns have variance one."""


def probe_losses(
    values: np.ndarray,
    y: np.ndarray,
    fold_of: np.ndarray,
    *,
    task: Task,
    group: np.ndarray | None,
    seed: int,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Cross-validate a ridge model on a block twice.

    Parameters
    ----------
    values : float array of shape (n, c)
    y : array of shape (n,)
        Class codes (the model learns their indicators) or values.
    fold_of : int array of shape (n,)
    group : int array of shape (n,) or None
        Groups stay whole in the random folds too, else these would be better for another reason.

    Returns
    -------
    tuple of two float64 arrays of shape (n_used,), or None
        Squared error of each row, as a share of the target's variance: grouped on folds, random.
        None with fewer than 60 rows, two folds, or a constant target.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(values))[:MOST_PROBE_ROWS])
    folds = np.unique(fold_of[rows], return_inverse=True)[1]
    targets = task.indicators(y[rows])
    targets = targets - targets.mean(axis=0)
    variance = float(np.mean(np.sum(targets**2, axis=1)))
    if len(rows) < FEWEST_PROBE_ROWS or folds.max() < 1 or variance == 0:
        return None
    X = StandardScaler().fit_transform(np.asarray(values[rows], dtype=np.float64))
    units = np.arange(len(rows)) if group is None else np.unique(group[rows], return_inverse=True)[1]
    dealt = rng.permutation(units.max() + 1) % (folds.max() + 1)
    losses = [_cross_validated(X, targets, split) / variance for split in (folds, dealt[units])]
    return losses[0], losses[1]


def _cross_validated(X: np.ndarray, targets: np.ndarray, split: np.ndarray) -> np.ndarray:
    loss = np.empty(len(X))
    for fold in np.unique(split):
        inside = split == fold
        model = Ridge(alpha=PENALTY * np.count_nonzero(~inside)).fit(X[~inside], targets[~inside])
        error = model.predict(X[inside]).reshape(targets[inside].shape) - targets[inside]
        loss[inside] = np.sum(error**2, axis=1)
    return loss
