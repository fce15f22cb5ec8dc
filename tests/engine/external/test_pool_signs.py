"""Each sign finds its fault in a pool, and sound pools are left in peace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stackfeat.engine.external.pool_signs import (
    FALSE_ALARMS,
    N_BLOCKS,
    N_SIGNS,
    SHIFTS,
    PoolRows,
    block_sums,
    copied_test_rows,
    exchanged_test_rows,
    jackknife,
    lost_test_rows,
    memorised_labels,
    middle,
    near_twins,
    shifted_rows,
    surest_by_chance,
)
from stackfeat.tasks.task import Task

TASK = Task("binary", ("no", "yes"))
N, N_TEST = 2000, 1000


def log_odds(seed: int, n_members: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and log-odds of sound members of three families; test rows are smoother, as means of models are."""
    rng = np.random.default_rng(seed)
    truth = 1.2 * rng.normal(size=N + N_TEST)
    family = rng.normal(size=(3, N + N_TEST))
    y = (rng.random(N + N_TEST) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    noise = rng.normal(size=(n_members, N + N_TEST)) * rng.uniform(0.1, 0.6, size=(n_members, 1))
    noise[:, N:] *= 0.5
    members = [
        (0.8 * truth + rng.uniform(0.2, 0.5) * family[member % 3]) * rng.uniform(0.6, 1.4)
        for member in range(n_members)
    ]
    return y[:N], np.stack(members) + noise


def proba(values: np.ndarray) -> np.ndarray:
    yes = 1 / (1 + np.exp(-values))
    return np.stack([1 - yes, yes], axis=-1)


def pool_of(y: np.ndarray, values: np.ndarray) -> PoolRows:
    given = proba(values)
    return PoolRows(given[:, :N], given[:, N:], TASK.indicators(y))


def opened(values: np.ndarray) -> PoolRows:
    rows = np.stack([-values, values], axis=-1)
    return PoolRows(rows[:, :N], rows[:, N:], np.empty((N, 2)))


def test_a_model_that_saw_the_labels_is_found_and_a_better_one_is_not() -> None:
    y, values = log_odds(0)
    values[3, :N] += 1.5 * (2 * y - 1)
    # Knows what no other member does, on training and test rows alike.
    rng = np.random.default_rng(9)
    secret = rng.normal(size=N + N_TEST) * 1.5
    known = (rng.random(N + N_TEST) < 1 / (1 + np.exp(-values[0] - secret))).astype(np.int64)[:N]
    found = memorised_labels(pool_of(y, values))
    limit = surest_by_chance(16 * N_SIGNS)
    assert np.flatnonzero(found > limit).tolist() == [3]
    values[5] = values[0] + secret
    found = memorised_labels(pool_of(known, values[[0, 1, 2, 4, 5, 6, 7, 8]]))
    assert found.max() < limit
    task_gain = TASK.row_loss(known, proba(values[1, :N])) - TASK.row_loss(known, proba(values[5, :N]))
    assert task_gain.mean() > 0.1


def test_rows_that_are_moved_are_found_with_the_shift() -> None:
    y, values = log_odds(1)
    limit = surest_by_chance(16 * N_SIGNS * len(SHIFTS))
    for by in (1, -3):
        shift, sure = shifted_rows(y, proba(np.roll(values[0, :N], by)), TASK)
        assert shift == by and sure > limit
    assert shifted_rows(y, proba(values[0, :N]), TASK)[1] < 0
    # Sorted labels are alike from row to row: nothing is gained by moving.
    order = np.argsort(y, kind="stable")
    assert shifted_rows(y[order], proba(values[0, :N][order]), TASK)[1] < limit


def test_values_of_any_scale_are_judged_as_probabilities_are() -> None:
    values_task, rng = Task("regression"), np.random.default_rng(5)
    truth = rng.normal(size=N + N_TEST)
    members = truth + 0.5 * rng.normal(size=(10, N + N_TEST))
    y = truth[:N] + rng.normal(size=N)
    members[2, :N] = 0.2 * members[2, :N] + 0.8 * y
    limit = surest_by_chance(10 * N_SIGNS * len(SHIFTS))
    for scale in (1e-3, 1e5):
        rows = scale * members[:, :, None]
        given = PoolRows(rows[:, :N], rows[:, N:], values_task.indicators(scale * y))
        assert np.flatnonzero(memorised_labels(given) > limit).tolist() == [2]
        moved = shifted_rows(scale * y, np.roll(rows[0, :N], 1, axis=0), values_task)
        assert moved[0] == 1 and moved[1] > limit
        assert shifted_rows(scale * y, rows[0, :N], values_task)[1] < limit


def test_test_rows_of_nobody_are_found() -> None:
    y, values = log_odds(2)
    values[4, N:] = np.random.default_rng(0).permutation(values[4, N:])
    found = lost_test_rows(pool_of(y, values))
    assert np.flatnonzero(found > surest_by_chance(16 * N_SIGNS)).tolist() == [4]


def test_exchanged_and_copied_test_files_are_found() -> None:
    _, values = log_odds(3)
    assert exchanged_test_rows(opened(values)) == [] and copied_test_rows(opened(values)) == []
    exchanged = values.copy()
    exchanged[[4, 5], N:] = values[[5, 4], N:]
    assert exchanged_test_rows(opened(exchanged)) == [(4, 5), (5, 4)]
    values[7, N:] = values[6, N:]
    assert copied_test_rows(opened(values)) == [(7, 6)]
    twins = replace(opened(values), oof=opened(values).oof[[6] * 16])
    assert copied_test_rows(twins) == []


def test_near_twins_follow_the_first_of_them() -> None:
    _, values = log_odds(4, 8)
    rng = np.random.default_rng(0)
    values[[2, 6]] = 1.3 * values[0] + 0.01 * rng.normal(size=(2, N + N_TEST))
    values[5, :N] = values[0, :N]
    given = opened(values)
    assert given.test is not None
    # The fifth is the same on training rows alone, so it is another model.
    assert near_twins([given.oof, given.test]).tolist() == [0, 1, 0, 3, 4, 5, 0, 7]


def test_the_middle_and_the_blocks_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=(5, 4500, 2))
    assert np.allclose(middle(values), np.median(values, axis=0))
    wanted = [values[0][int(a) : int(b)].sum(axis=0) for a, b in zip(*_edges(4500), strict=True)]
    assert np.allclose(block_sums(values[0]), wanted)


def _edges(n: int) -> tuple[np.ndarray, np.ndarray]:
    edges = np.linspace(0, n, N_BLOCKS + 1).astype(np.int64)
    return edges[:-1], edges[1:]


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=N_BLOCKS)
    without = (values.sum() - values) / (N_BLOCKS - 1)
    wanted = values.mean() / (values.std(ddof=1) / np.sqrt(N_BLOCKS))
    assert jackknife(np.asarray(values.mean()), without) == pytest.approx(wanted)


def test_sound_pools_raise_no_more_alarms_than_they_may() -> None:
    assert FALSE_ALARMS == 0.01
    alarms = 0
    for seed in range(40):
        y, values = log_odds(100 + seed, 10)
        given, limit = pool_of(y, values), surest_by_chance(10 * N_SIGNS)
        shifts = [shifted_rows(y, rows, TASK)[1] for rows in given.oof]
        alarms += bool(
            (memorised_labels(given) > limit).any()
            or (lost_test_rows(given) > limit).any()
            or max(shifts) > surest_by_chance(10 * N_SIGNS * len(SHIFTS))
            or exchanged_test_rows(opened(values))
            or copied_test_rows(opened(values))
        )
    # 0.4 are to be expected at most; three or more of 40 have a probability below 0.01.
    assert alarms < 3
