"""How docs/explanation/alignment.md's pictures are drawn.

In:  fold spaces of one seed, or numbers by block and measure with a value for each seed.
Out: png files. Colours are those of Okabe and Ito, which colour-blind readers tell apart.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from alignment_spaces import ENCODINGS, GATE_SE, N_FOLDS, Encoded, FoldSpaces
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Spread = dict[str, dict[str, list[float]]]

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666"
DRAWN = {0: BLUE, 1: ORANGE, 4: GREEN, 6: RED, 7: PURPLE}
"""Digits that are drawn, of ten: more colours could not be told apart."""
MARKERS = "osD^v"
N_DRAWN = 450
SMALL = 8


def draw_spaces(spaces: FoldSpaces, aligned: Encoded, path: Path) -> None:
    """Test rows in the same plane of five fold spaces, as they are and aligned; at the right on each other."""
    figure = Figure(figsize=(11, 4.3), layout="constrained")
    axes = figure.subplots(2, N_FOLDS + 1, sharex="row", sharey="row")
    drawn = slice(N_DRAWN)
    first = spaces.train[0] - spaces.train[0].mean(axis=0)
    plane = np.linalg.svd(first, full_matrices=False)[2][:2].T
    before = [(rows[drawn] - spaces.train[0].mean(axis=0)) @ plane for rows in spaces.test]
    after = [view[drawn, :2] for view in aligned.views]
    for line, (views, title) in enumerate(((before, "raw"), (after, "aligned"))):
        for fold, view in enumerate(views):
            _scatter(axes[line, fold], view, spaces.y_test[drawn], f"{title}, fold net {fold + 1}", size=6)
            _scatter(axes[line, N_FOLDS], view, spaces.y_test[drawn], f"{title}, all five nets", size=2)
        axes[line, 0].set_ylabel("coordinate 2", fontsize=SMALL)
    for axis in axes[1]:
        axis.set_xlabel("coordinate 1", fontsize=SMALL)
    figure.suptitle(
        f"The same {N_DRAWN} test rows in five fold nets, two coordinates of 128 "
        f"(digits {', '.join(map(str, DRAWN))} of ten are drawn)",
        fontsize=10,
    )
    _save(figure, path)


def _scatter(axis: Axes, plane: np.ndarray, y: np.ndarray, title: str, size: float) -> None:
    for (digit, colour), marker in zip(DRAWN.items(), MARKERS, strict=True):
        rows = plane[y == digit]
        axis.scatter(rows[:, 0], rows[:, 1], s=size, c=colour, marker=marker, linewidths=0, alpha=0.75)
        if size > 3:
            axis.annotate(
                str(digit), np.median(rows, axis=0), fontsize=10, fontweight="bold", ha="center", va="center",
                bbox={"boxstyle": "circle,pad=0.15", "fc": "white", "ec": colour, "lw": 1.2},
            )  # fmt: skip
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=6)


def draw_geometry(spaces: FoldSpaces, path: Path) -> None:
    """One held-out row among the training rows of its own fold net: what `geometry` measures."""
    inside = spaces.fold_of != 0
    held_out = np.flatnonzero(~inside & np.isin(spaces.y, list(DRAWN)))
    row = held_out[np.argmin(spaces.proba[0][held_out].max(axis=1))]
    train, y = spaces.train[0][inside], spaces.y[inside]
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    cosine = unit @ (spaces.train[0][row] / np.linalg.norm(spaces.train[0][row]))
    near = np.argsort(-cosine)[:10]
    centroids = np.stack([train[y == digit].mean(axis=0) for digit in range(10)])
    shown = np.argsort(np.linalg.norm(centroids - spaces.train[0][row], axis=1))[:4]
    # The plane in which the row and the centroids near it are best seen.
    basis = np.linalg.svd(centroids[shown] - centroids[shown].mean(axis=0), full_matrices=False)[2][:2].T
    colours = dict(zip(shown.tolist(), (BLUE, ORANGE, GREEN, PURPLE), strict=True))
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axis = figure.subplots()
    star = spaces.train[0][row] @ basis
    for digit, colour in colours.items():
        rows, centre = train[y == digit] @ basis, centroids[digit] @ basis
        axis.scatter(rows[:, 0], rows[:, 1], s=8, c=colour, alpha=0.45, linewidths=0, label=f"digit {digit}")
        axis.plot(*zip(star, centre, strict=True), c=colour, lw=1.4, ls="--")
        axis.scatter(*centre, s=120, marker="X", c=colour, edgecolors="black", zorder=3)
    rings = train[near] @ basis
    axis.scatter(
        rings[:, 0],
        rings[:, 1],
        s=60,
        facecolors="none",
        edgecolors="black",
        label="10 nearest rows (cosine)",
    )
    axis.scatter(*star, s=160, marker="*", c="black", zorder=4, label=f"held-out row (a {spaces.y[row]})")
    axis.set_xlabel("coordinate 1 of a plane through centroids", fontsize=SMALL)
    axis.set_ylabel("coordinate 2", fontsize=SMALL)
    axis.set_title("geometry: a held-out row among the training rows of its own fold net", fontsize=10)
    axis.legend(fontsize=7, loc="best")
    axis.tick_params(labelsize=7)
    _save(figure, path)


def draw_late(spaces: FoldSpaces, aligned: Encoded, compared: Spread, path: Path) -> None:
    """Why means over fold nets are other rows than a meta-learner was trained on."""
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    centroids = np.stack([aligned.oof[spaces.y == digit].mean(axis=0) for digit in range(10)])

    def nearest(rows: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.norm(rows[:, None] - centroids, axis=2).min(axis=1))

    kinds = {
        "out-of-fold rows: one net": (nearest(aligned.oof), GREY, "-"),
        "test rows, one view": (np.concatenate([nearest(view) for view in aligned.views]), BLUE, "-"),
        "test rows, mean of five views": (nearest(np.mean(aligned.views, axis=0)), RED, "--"),
    }
    bins = np.linspace(0, 1.2, 40).tolist()
    for label, (values, colour, line) in kinds.items():
        left.hist(
            values, bins=bins, density=True, histtype="step", color=colour, ls=line, lw=1.6, label=label
        )
    left.set_xlabel("distance to the nearest class centroid, aligned columns", fontsize=SMALL)
    left.set_ylabel("density", fontsize=SMALL)
    left.set_title("A mean over nets is another kind of row", fontsize=10)
    left.legend(fontsize=7)
    names = list(compared)
    _pairs(
        right, names, [compared[name]["late"] for name in names], [compared[name]["early"] for name in names],
        ("late: each view apart", "early: mean of views"),
    )  # fmt: skip
    right.axvline(0.5, color="black", lw=1, ls=":")
    right.set_xlim(0.35, 1.02)
    right.set_xlabel("AUC of telling out-of-fold rows from test rows (0.5: cannot be told)", fontsize=SMALL)
    right.set_title("Averaged first, test rows give themselves away", fontsize=10)
    for axis in (left, right):
        axis.tick_params(labelsize=SMALL)
    _save(figure, path)


def draw_comparable(compared: Spread, path: Path) -> None:
    """Guessing the fold, and losses of a probe in fold-grouped and in random cross-validation."""
    figure = Figure(figsize=(9.5, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(compared)
    _pairs(
        left, names, [compared[name]["fold_linear"] for name in names],
        [compared[name]["fold_near"] for name in names], ("by a linear model", "by ten nearest rows"),
    )  # fmt: skip
    left.axvline(1 / N_FOLDS, color="black", lw=1, ls=":")
    left.annotate("chance", (1 / N_FOLDS, -0.45), fontsize=7, xytext=(3, 0), textcoords="offset points")
    left.set_xlim(0, 1.03)
    left.set_xlabel("accuracy of guessing which fold net made a row", fontsize=SMALL)
    left.set_title("Does a row give away its fold?", fontsize=10)
    _pairs(
        right, names, [compared[name]["random"] for name in names],
        [compared[name]["grouped"] for name in names], ("random folds", "whole folds left out"),
    )  # fmt: skip
    right.axvline(1, color="black", lw=1, ls=":")
    right.annotate("knows nothing", (1, -0.45), fontsize=7, xytext=(3, 0), textcoords="offset points")
    right.set_xlabel("loss of a linear probe, share of the target's variance", fontsize=SMALL)
    right.set_title("Does what is learnt on four folds hold on the fifth?", fontsize=10)
    for axis in (left, right):
        axis.tick_params(labelsize=SMALL)
    _save(figure, path)


def _pairs(
    axis: Axes, names: list[str], first: list[list[float]], second: list[list[float]], labels: tuple[str, str]
) -> None:
    """Two horizontal bars for each block: means over seeds, each seed a tick."""
    places = np.arange(len(names))
    for values, shift, colour, label in ((first, -0.2, BLUE, labels[0]), (second, 0.2, ORANGE, labels[1])):
        axis.barh(places + shift, np.mean(values, axis=1), height=0.38, color=colour, label=label)
        for place, seeds in zip(places, values, strict=True):
            axis.scatter(seeds, [place + shift] * len(seeds), s=10, c="black", marker="|", linewidths=0.8)
    axis.set_yticks(places, names)
    axis.invert_yaxis()
    axis.legend(fontsize=7, loc="lower right")


def draw_leak(leaked: Spread, path: Path) -> None:
    """Accuracy above chance on labels that mean nothing, by map."""
    figure = Figure(figsize=(7.5, 3.0), layout="constrained")
    axis = figure.subplots()
    names = [name for name in leaked if name != "nets"]
    for measure, shift, colour, label in (
        ("oof", -0.2, RED, "out-of-fold rows"), ("test", 0.2, GREY, "test rows"),
    ):  # fmt: skip
        values = np.asarray([leaked[name][measure] for name in names])
        error = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
        axis.barh(
            np.arange(len(names)) + shift, values.mean(axis=1), xerr=2 * error, height=0.38, color=colour,
            label=label, error_kw={"lw": 1, "capsize": 2},
        )  # fmt: skip
    axis.axvline(0, color="black", lw=1)
    axis.set_yticks(np.arange(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel("points of accuracy above chance (bars: two standard errors)", fontsize=SMALL)
    axis.set_title("Random labels: what is above chance has copied them", fontsize=10)
    axis.legend(fontsize=7)
    axis.tick_params(labelsize=SMALL)
    _save(figure, path)


def draw_gate(stacked: Spread, path: Path) -> None:
    """What the gate saw of each block, and what it did to test rows."""
    figure = Figure(figsize=(9.5, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = ["noise", *ENCODINGS]
    places = np.arange(len(names))
    for place, name in zip(places, names, strict=True):
        ratios = np.asarray(stacked[name]["gain"]) / np.asarray(stacked[name]["se"])
        for let_in, colour, marker in ((True, BLUE, "o"), (False, RED, "x")):
            chosen = ratios[(np.asarray(stacked[name]["scale"]) > 0) == let_in]
            left.scatter(chosen, [place] * len(chosen), c=colour, marker=marker, s=26, linewidths=1.4)
    left.scatter([], [], c=BLUE, marker="o", label="let in")
    left.scatter([], [], c=RED, marker="x", label="kept out")
    left.axvline(GATE_SE, color="black", lw=1, ls=":")
    left.annotate(f"{GATE_SE} se", (GATE_SE, -0.4), fontsize=7, xytext=(3, 0), textcoords="offset points")
    left.set_yticks(places, names)
    left.invert_yaxis()
    left.set_xlabel("gain out of fold, in standard errors (one mark a seed)", fontsize=SMALL)
    left.set_title("The gate", fontsize=10)
    left.legend(fontsize=7, loc="lower left")
    base = np.asarray(stacked["proba"]["loss"])
    changes = {
        how: [(np.asarray(stacked[n][how]) - base).tolist() for n in names] for how in ("gated", "ungated")
    }
    _pairs(right, names, changes["gated"], changes["ungated"], ("gated", "ungated"))
    right.axvline(0, color="black", lw=1)
    right.set_xlabel("test log-loss less that of predictions alone (below 0 is better)", fontsize=SMALL)
    right.locator_params(axis="x", nbins=6)
    right.set_title("What it is worth on test rows", fontsize=10)
    for axis in (left, right):
        axis.tick_params(labelsize=SMALL)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    # Without the version of matplotlib, so that the same picture has the same bytes.
    figure.savefig(path, dpi=105, metadata={"Software": None})
