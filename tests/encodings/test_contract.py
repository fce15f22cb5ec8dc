"""What every encoding promises, on the same awkward data for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from stackfeat.encodings import CROSS_FOLD, ENCODINGS, PER_FOLD, align, default_width
from stackfeat.encodings.options import TapOptions
from stackfeat.errors import MemberError, UsageError
from stackfeat.tasks.task import Task

N_FOLDS = 3


@dataclass(frozen=True)
class Row:
    """What is special about an encoding.

    Attributes
    ----------
    comparable : callable
        What is the same of its columns whatever the order of rows it is fitted to.
    """

    comparable: Callable[[np.ndarray], np.ndarray] = np.asarray


ROWS = {
    "geometry": Row(),
    # A principal direction has no sign.
    "aligned": Row(comparable=np.abs),
    "reference": Row(comparable=np.abs),
    # Its columns are the anchors, in the order in which they were given.
    "relative": Row(comparable=lambda columns: np.sort(columns, axis=1)),
    "raw": Row(),
}


def make_task(n_classes: int) -> Task:
    if not n_classes:
        return Task("regression")
    return Task("binary" if n_classes == 2 else "multiclass", tuple(range(n_classes)))


def spaces_of(rows: np.ndarray, seed: int) -> list[np.ndarray]:
    """The same rows as three nets see them: turned, noisy, cut off at zero, on scales of their own."""
    rng = np.random.default_rng(seed)
    d = rows.shape[1]
    spaces = []
    for fold in range(N_FOLDS):
        turn = ortho_group.rvs(d, random_state=seed + fold) if d > 1 else np.ones((1, 1))
        noisy = rows @ turn + 0.1 * rng.normal(size=rows.shape)
        spaces.append((3.0**fold * np.maximum(noisy, 0)).astype(np.float32))
    return spaces


def encode_folds(
    name: str,
    spaces: list[np.ndarray],
    y: np.ndarray,
    fold_of: np.ndarray,
    task: Task,
    dtype: Any = np.float32,
) -> np.ndarray:
    """OOF rows of an encoding, made as a run makes them; rows with fold -1 stay out of every fit."""
    spaces = [space.astype(dtype) for space in spaces]
    known = np.flatnonzero(fold_of >= 0)
    anchors = known[: min(32, len(known))]
    parts: dict[int, np.ndarray] = {}
    if name in CROSS_FOLD:
        usable = [fold_of[known] != fold for fold in range(N_FOLDS)]
        target = np.maximum(
            spaces[0][known] @ np.random.default_rng(7).normal(size=(spaces[0].shape[1], 9)), 0
        )
        alignment = align(
            [space[known] for space in spaces],
            reduce=default_width(int(min(mask.sum() for mask in usable))),
            usable=usable,
            target=target if ENCODINGS[name].needs_untrained else None,
        )
        parts = {fold: alignment.transform(fold, space) for fold, space in enumerate(spaces)}
    else:
        for fold, space in enumerate(spaces):
            train = known[fold_of[known] != fold]
            fitted = PER_FOLD[name].fit(space[train], y[train], task, seed=0, anchors=space[anchors])
            again = PER_FOLD[name].from_arrays(fitted.arrays(), task)
            parts[fold] = fitted.transform(space)
            assert again.transform(space).tobytes() == parts[fold].tobytes()
    out = np.empty((len(y), parts[0].shape[1]), dtype=np.float32)
    for fold, values in parts.items():
        assert values.dtype == np.float32
        out[fold_of == fold] = values[fold_of == fold]
    out[fold_of < 0] = parts[0][fold_of < 0]
    return out


def case(kind: str, n_classes: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, Task]:
    """Spaces, labels, folds and task of one awkward kind of data."""
    rng = np.random.default_rng(seed)
    n, d = (24, 40) if kind == "wide" else (150, 12)
    y = rng.integers(max(n_classes, 1), size=n) if n_classes else rng.normal(size=n)
    rows = rng.normal(size=(n, d)) + (rng.normal(size=(max(n_classes, 1), d))[y] if n_classes else 0)
    fold_of = np.arange(n) % N_FOLDS
    if kind == "rare" and n_classes:
        y = np.where(np.arange(n) == 4, n_classes - 1, y % (n_classes - 1))
    if kind == "missing" and n_classes:
        y = np.where(fold_of == 1, n_classes - 1, y % (n_classes - 1))
    spaces = spaces_of(rows, seed)
    for space in spaces:
        if kind == "dead":
            space[:, :5] = 0.0
        if kind == "constant":
            space[:, :5] = 4.0
        if kind == "duplicates":
            space[50:100] = space[:50]
        if kind == "lifeless":
            space[:] = 0.0
    return spaces, y, fold_of, make_task(n_classes)


KINDS = ("plain", "rare", "missing", "wide", "dead", "constant", "duplicates", "lifeless")


def test_every_encoding_has_a_row() -> None:
    assert list(ROWS) == list(ENCODINGS)
    assert {*PER_FOLD, *CROSS_FOLD} == set(ENCODINGS)


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_tap_takes_every_encoding(name: str) -> None:
    assert TapOptions(tap="fc1", encode=name).encode == (name,)


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_table_of_the_docs_says_what_an_encoding_is(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs/semantics.md").read_text("utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` | "))
    fitted, target, columns, scaling = (cell.strip() for cell in row.split("|")[2:6])
    encoding = ENCODINGS[name]
    assert fitted == ("over all folds" if name in CROSS_FOLD else "in each fold")
    assert target == ("yes" if encoding.learns_from_target else "no")
    assert columns == ("yes" if encoding.has_common_columns else "no")
    assert scaling == {"scalar": "one factor for all", "zscore": "each by its own"}[encoding.scaling]


@pytest.mark.parametrize("n_classes", [0, 3])
@pytest.mark.parametrize("name", PER_FOLD)
def test_readouts_are_finite_scores_of_every_row(name: str, n_classes: int) -> None:
    (rows, *_), y, _, task = case("plain", n_classes)
    fitted = PER_FOLD[name].fit(rows[:100], y[:100], task, seed=0, anchors=rows[:20])
    for scores in fitted.readouts(fitted.transform(rows), task).values():
        assert scores.shape == (len(rows), task.n_outputs) and scores.dtype == np.float32
        assert np.isfinite(scores).all()


@pytest.mark.parametrize("n_classes", [0, 2, 3, 26])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ENCODINGS)
def test_columns_are_finite_float32_and_repeat_to_the_byte(name: str, kind: str, n_classes: int) -> None:
    spaces, y, fold_of, task = case(kind, n_classes)
    first = encode_folds(name, spaces, y, fold_of, task)
    assert first.shape[0] == len(y)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert first.tobytes() == encode_folds(name, spaces, y, fold_of, task).tobytes()


@pytest.mark.parametrize("n_classes", [0, 3])
@pytest.mark.parametrize("name", ENCODINGS)
def test_activations_of_double_precision_change_nothing_that_counts(name: str, n_classes: int) -> None:
    spaces, y, fold_of, task = case("plain", n_classes)
    wide = [space.astype(np.float64) * (1 + 1e-7) for space in spaces]
    short = encode_folds(name, spaces, y, fold_of, task)
    exact = encode_folds(name, wide, y, fold_of, task, np.float64)
    np.testing.assert_allclose(short, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("n_classes", [0, 3])
@pytest.mark.parametrize("kind", ["plain", "duplicates"])
@pytest.mark.parametrize("name", ENCODINGS)
def test_the_order_of_rows_does_not_matter(name: str, kind: str, n_classes: int) -> None:
    spaces, y, fold_of, task = case(kind, n_classes)
    order = np.r_[
        np.random.default_rng(1).permutation(np.arange(32)), 32 + np.random.default_rng(2).permutation(118)
    ]
    plain = encode_folds(name, spaces, y, fold_of, task)
    mixed = encode_folds(name, [space[order] for space in spaces], y[order], fold_of[order], task)
    plain, mixed = (ROWS[name].comparable(columns) for columns in (plain, mixed))
    np.testing.assert_allclose(mixed, plain[order], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n_classes", [0, 2, 26])
@pytest.mark.parametrize("name", ENCODINGS)
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_the_label_of_a_held_out_row_leaves_its_encoding_as_it_is(
    name: str, n_classes: int, seed: int
) -> None:
    spaces, y, fold_of, task = case("plain", n_classes, seed)
    row = seed % len(y)
    flipped = y.copy()
    flipped[row] = (y[row] + 1) % n_classes if n_classes else y[row] + 5.0
    before, after = (encode_folds(name, spaces, labels, fold_of, task)[row] for labels in (y, flipped))
    assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize("name", ENCODINGS)
def test_new_rows_change_no_map_and_no_row_depends_on_its_company(name: str) -> None:
    spaces, y, fold_of, task = case("plain", 3)
    later = np.arange(len(y)) >= 120
    with_later = encode_folds(name, spaces, y, np.where(later, -1, fold_of), task)
    without = encode_folds(name, [s[~later] for s in spaces], y[~later], fold_of[~later], task)
    assert with_later[~later].tobytes() == without.tobytes()
    one = encode_folds(name, [s[:121] for s in spaces], y[:121], np.where(later, -1, fold_of)[:121], task)
    assert one[120].tobytes() == with_later[120].tobytes()


@pytest.mark.parametrize("d", [6, 14, 64, 100])
@pytest.mark.parametrize("name", ENCODINGS)
def test_the_place_of_a_row_among_others_does_not_matter(name: str, d: int) -> None:
    rng = np.random.default_rng(0)
    rows = np.maximum(rng.normal(size=(300, d)), 0).astype(np.float32)
    if name in CROSS_FOLD:
        target = rng.normal(size=(100, 5)) if ENCODINGS[name].needs_untrained else None
        alignment = align([rows[:100]], target=target)
        whole, few = (alignment.transform(0, some) for some in (rows, rows[[7, 3, 211]]))
    else:
        fitted = PER_FOLD[name].fit(rows[:100], np.arange(100) % 3, make_task(3), seed=0, anchors=rows[:60])
        whole, few = (fitted.transform(some) for some in (rows, rows[[7, 3, 211]]))
    assert few.tobytes() == whole[[7, 3, 211]].tobytes()


@pytest.mark.parametrize("name", PER_FOLD)
def test_activations_that_are_not_finite_are_refused(name: str) -> None:
    spaces, y, _, task = case("plain", 3)
    fitted = PER_FOLD[name].fit(spaces[0], y, task, seed=0, anchors=spaces[0][:8])
    with pytest.raises(UsageError, match=r"shape \(n, 12\)"):
        fitted.transform(spaces[0][:, :5])
    spaces[0][3, 2] = np.nan
    with pytest.raises(MemberError, match="in 1 of 150 rows"):
        fitted.transform(spaces[0])


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6), d=st.integers(2, 24), how=st.sampled_from(["turned", "permuted", "scaled"])
)
def test_copies_of_one_net_fall_together(seed: int, d: int, how: str) -> None:
    rng = np.random.default_rng(seed)
    rows, untrained = rng.normal(size=(80, d)) * np.linspace(2, 0.5, d), rng.normal(size=(80, 7))
    changed = {
        "turned": rows @ ortho_group.rvs(d, random_state=seed),
        "permuted": rows[:, rng.permutation(d)],
        "scaled": 40 * rows + 3,
    }[how]
    for target in (None, untrained[:60]):
        alignment = align([rows[:60], changed[:60]], target=target)
        np.testing.assert_allclose(alignment.transform(1, changed), alignment.transform(0, rows), atol=1e-5)
        for matrix in alignment.maps:
            values = np.linalg.svd(matrix, compute_uv=False)
            assert np.all((np.abs(values) < 1e-9) | (np.abs(values - 1) < 1e-9))


@pytest.mark.parametrize(("name", "tolerance"), [("geometry", 2e-3), ("relative", 1e-4)])
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), n_classes=st.sampled_from([0, 3]))
def test_turning_and_stretching_a_space_changes_nothing(
    name: str, tolerance: float, seed: int, n_classes: int
) -> None:
    (rows, *_), y, _, task = case("plain", n_classes, seed)
    turned = 5 * rows @ ortho_group.rvs(12, random_state=seed).astype(np.float32)
    plain, other = (
        PER_FOLD[name].fit(r[:100], y[:100], task, seed=0, anchors=r[:20]).transform(r[100:])
        for r in (rows, turned)
    )
    np.testing.assert_allclose(other, plain, atol=tolerance * np.abs(plain).max())


def test_relative_is_the_cosine_of_centred_rows() -> None:
    (rows, *_), _, _, _ = case("plain", 3)
    fitted = PER_FOLD["relative"].fit(rows[:100], np.zeros(100), make_task(3), seed=0, anchors=rows[90:110])
    x = rows.astype(float) - rows[:100].astype(float).mean(axis=0)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit[90:110].T
    among = cosine[90:110] - 2 * np.eye(20)
    cosine[90:110][np.eye(20, dtype=bool)] = among.max(axis=1)
    np.testing.assert_allclose(fitted.transform(rows), cosine - cosine[:100].mean(axis=0), atol=1e-5)


def test_a_target_is_not_moved_by_the_spaces_that_are_turned_to_it() -> None:
    spaces, *_ = case("plain", 3)
    alone = align(spaces[:2], target=spaces[0])
    with_later = align(spaces, target=spaces[0])
    for space in range(2):
        assert (
            alone.transform(space, spaces[space]).tobytes()
            == with_later.transform(space, spaces[space]).tobytes()
        )
    np.testing.assert_array_equal(alone.directions, with_later.directions)
