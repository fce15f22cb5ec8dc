"""What members that read nets, other members or pseudo-labels add to a vote.

    python -m benchmarks.upper_members FILE [--data DIR] [--sets adult,taxi_fares] [--rows 5000]
    python -m benchmarks.upper_members FILE --show

Training parts alone. Three fifths of the rows are labelled, in five folds by class, by group or by time; the others
(of other groups) stand for rows to predict. On the first level there are LightGBM, the net `mlp` and a linear model,
on the second `gated_linear` over them. The control is the greedy vote of these four and another seed of LightGBM, or
of the net where the kind is a net; in the trial the kind takes that seed's place. Fit k of a second level reads
out-of-fold rows outside fold k and predicts fold k. A set's results are a line of JSON in FILE.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.members import (
    gain,
    held_back,
    linear,
    load,
    main,
    vote_loss,
)  # first: it sets the number of threads

# isort: split
import numpy as np
import pandas as pd
import torch
from torch import nn

import stackfeat as sf
from benchmarks.derived_columns import (
    Data,
    Split,
    booster,
    numeric_matrix,
    predicted,
    rounds_of,
    row_loss,
    with_columns,
)
from stackfeat.sklearn.final_estimator import GATED_FINALS
from stackfeat.tasks.classification import of_labels
from stackfeat.tasks.regression import of_values
from stackfeat.tasks.task import Task

MEMBERS = ("plain0", "net0", "linear")
"""What members of the second level read."""

CONTROLS = {"net_above": ("net1",), "mixture": ("net1",)}
"""Seeds whose place a kind takes; those of LightGBM for others."""

EPOCHS = (4, 12)
"""Tried by nets above the first level; on the first, training stops on an inner split."""

DROPPED = 0.25
"""How often a net above the first level does not get a member."""


@dataclass(frozen=True)
class Stack:
    """Labelled rows, rows held back, and what the first level says of both, by member.

    Attributes
    ----------
    oof : dict
        Of labelled rows; NaN where no fold predicts them.
    views : list of dict
        Of the rows held back, by the models of each fold.
    layers : ndarray
        Penultimate layer of `net0`, geometry and aligned, out of fold.
    rounds : list of int
        Of LightGBM, by fold.
    """

    data: Data
    back: Data
    folds: list[Split]
    oof: dict[str, np.ndarray]
    views: list[dict[str, np.ndarray]]
    rounds: list[int]
    layers: np.ndarray
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def fold_of(self) -> np.ndarray:
        fold = np.full(len(self.data.y), -1)
        for k, (_, outside) in enumerate(self.folds):
            fold[outside] = k
        return fold

    @property
    def task(self) -> Task:
        n_classes = self.data.n_classes
        return of_labels(list(range(n_classes))) if n_classes else of_values(self.data.y)

    def rows(self, k: int) -> Split:
        """Rows that fit k of a second level learns from, and those that it predicts."""
        inside, outside = self.folds[k]
        return inside[~np.isnan(self.oof["net0"][inside, 0])], outside

    def columns(self, said: dict[str, np.ndarray], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Predictions of members, without the first of two classes."""
        return np.hstack([said[name][rows, -self.data.n_outputs :] for name in MEMBERS])


def make_net(data: Data, seed: int, **training: Any) -> Any:
    return (sf.NetClassifier if data.n_classes else sf.NetRegressor)("mlp", random_state=seed, **training)


def first_level(data: Data, back: Data) -> Stack:
    """Fit LightGBM (seeds 0 to 3), the net (0, 1) and the linear model in every fold."""
    folds, shape = list(data.splits(0)), (len(data.y), max(data.n_classes, 1))
    stack = Stack(data, back, folds, {}, [{} for _ in folds], [], np.empty((0, 0)))
    names = [*(f"plain{seed}" for seed in range(4)), "net0", "net1", "linear"]
    stack.oof.update({name: np.full(shape, np.nan) for name in names})
    output = "proba" if data.n_classes else "prediction"
    for seed in (0, 1):
        started = time.process_time()
        net = make_net(data, seed, epochs=30, patience=5, early_stopping="inner")
        emit = [output, "penultimate"] if seed == 0 else [output]
        reader = sf.OutOfFoldFeatures(net, emit=emit, cv=folds)
        features = reader.fit_transform(data.X, data.y)
        for k, (_, outside) in enumerate(folds):
            # Fold models know classes by their codes, all of which every fold has.
            stack.oof[f"net{seed}"][outside] = predicted(reader.estimators_[k], data.X.iloc[outside], data)
            stack.views[k][f"net{seed}"] = predicted(reader.estimators_[k], back.X, data)
        if seed == 0:
            stack = replace(stack, layers=features[:, data.n_outputs :])
        stack.seconds[f"net{seed}"] = time.process_time() - started
    for k, (inside, outside) in enumerate(folds):
        train, held = data.take(inside), data.take(outside)
        stack.rounds.append(rounds_of(train, train.X))
        for seed in range(4):
            model = booster(train, seed, stack.rounds[k]).fit(train.X, train.y)
            stack.oof[f"plain{seed}"][outside] = predicted(model, held.X, data)
            if seed == 0:
                stack.views[k]["plain0"] = predicted(model, back.X, data)
        of_train, others = numeric_matrix(train, replace(held, X=pd.concat([held.X, back.X])))
        said = predicted(linear(train).fit(of_train, train.y), others, data)
        stack.oof["linear"][outside] = said[: len(outside)]
        stack.views[k]["linear"] = said[len(outside) :]
    return stack


# Members of the second level: fit k, predictions of fold k.


def gated(stack: Stack, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of fold k and of the rows held back, by `gated_linear` over the first level."""
    data, (inside, outside) = stack.data, stack.rows(k)
    width = data.n_outputs
    ranges = [(start, start + width) for start in range(0, width * len(MEMBERS), width)]
    kind = GATED_FINALS["classification" if data.n_classes else "regression"]
    model = kind(stack.task, ranges, width * len(MEMBERS))
    clusters = pd.factorize(data.cluster[inside])[0]
    model.fit(
        stack.columns(stack.oof, inside), data.y[inside], fold_of=stack.fold_of[inside], clusters=clusters
    )
    said = [stack.columns(stack.oof, outside), stack.columns(stack.views[k])]
    of_fold, of_back = (predicted(model, columns, data) for columns in said)
    return of_fold, of_back


def boosted(stack: Stack, k: int, columns: np.ndarray) -> np.ndarray:
    """LightGBM over the raw columns and others of the second level."""
    inside, outside = stack.rows(k)
    train, held = stack.data.take(inside), stack.data.take(outside)
    X = with_columns(train.X, columns[inside])
    model = booster(train, 4, rounds_of(train, X)).fit(X, train.y)
    return predicted(model, with_columns(held.X, columns[outside]), train)


def net_outputs(stack: Stack, k: int) -> np.ndarray:
    return boosted(stack, k, stack.oof["net0"][:, -stack.data.n_outputs :])


def net_layers(stack: Stack, k: int) -> np.ndarray:
    return boosted(stack, k, np.hstack([stack.oof["net0"][:, -stack.data.n_outputs :], stack.layers]))


def net_above(stack: Stack, k: int) -> np.ndarray:
    """The net over the raw columns and the members, each of which some copies of rows do not get.

    Its epochs are those that are best on the last of the other folds.
    """
    data, (inside, outside) = stack.data, stack.rows(k)
    parts = [stack.task.unbounded(stack.oof[name], 1e-6) for name in MEMBERS]
    rng = np.random.default_rng(k)

    def columns(rows: np.ndarray, dropped: float) -> pd.DataFrame:
        kept = rng.random((len(rows), len(MEMBERS))) >= dropped
        said = np.hstack([part[rows] * kept[:, [j]] for j, part in enumerate(parts)])
        return with_columns(data.X.iloc[rows].reset_index(drop=True), said)

    def said_by_fit(rows: np.ndarray, epochs: int, others: np.ndarray) -> np.ndarray:
        rows = np.tile(rows, 2)
        net = make_net(data, 4, epochs=epochs).fit(columns(rows, DROPPED), data.y[rows])
        return predicted(net, columns(others, 0.0), data)

    fold, epochs = stack.fold_of[inside], EPOCHS[1]
    if fold.min() < fold.max():
        rows, judged = inside[fold < fold.max()], inside[fold == fold.max()]
        losses = [row_loss(data.take(judged), said_by_fit(rows, n, judged)).mean() for n in EPOCHS]
        epochs = EPOCHS[int(np.argmin(losses))]
    return said_by_fit(inside, epochs, outside)


def mixture(stack: Stack, k: int) -> np.ndarray:
    """Shares of members that a small net gives each row; its steps are counted on a whole fold left out."""
    data, (inside, outside) = stack.data, stack.rows(k)
    X, X_held = (
        torch.as_tensor(each, dtype=torch.float32)
        for each in numeric_matrix(data.take(inside), data.take(outside))
    )
    said = np.stack([stack.oof[name] for name in MEMBERS], axis=1)
    P, P_held = (torch.as_tensor(said[rows], dtype=torch.float32) for rows in (inside, outside))
    y = torch.as_tensor(data.y[inside])

    def mixed(gate: nn.Module, X: torch.Tensor, P: torch.Tensor) -> torch.Tensor:
        return (torch.softmax(gate(X), dim=1)[:, :, None] * P).sum(dim=1)

    def loss(gate: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        found = mixed(gate, X[rows], P[rows])
        if not data.n_classes:
            return ((found[:, 0] - y[rows].float()) ** 2).mean()
        return -torch.log(found.gather(1, y[rows, None]).clamp_min(1e-6)).mean()

    def fit(rows: torch.Tensor, n_steps: int, judged: torch.Tensor | None) -> tuple[nn.Module, list[float]]:
        torch.manual_seed(k)
        gate = nn.Sequential(nn.Linear(X.shape[1], 16), nn.ReLU(), nn.Linear(16, len(MEMBERS)))
        nn.init.zeros_(gate[2].weight)
        nn.init.zeros_(gate[2].bias)
        optimizer = torch.optim.AdamW(gate.parameters(), lr=0.01, weight_decay=0.1)
        losses = []
        for _ in range(n_steps):
            if judged is not None:
                with torch.no_grad():
                    losses.append(float(loss(gate, judged)))
            optimizer.zero_grad()
            loss(gate, rows).backward()
            optimizer.step()
        return gate, losses

    fold = stack.fold_of[inside]
    last = torch.as_tensor(fold == fold.max())
    n_steps = 0
    if not last.all():
        n_steps = int(np.argmin(fit(torch.where(~last)[0], 200, torch.where(last)[0])[1]))
    gate, _ = fit(torch.arange(len(inside)), n_steps, None)
    with torch.no_grad():
        return mixed(gate, X_held, P_held).double().numpy()


def pseudo(stack: Stack, k: int, teacher: tuple[np.ndarray, np.ndarray], *, soft: bool) -> np.ndarray:
    """LightGBM on the fold's rows, and on held-out rows and those held back as pipeline k labels them."""
    inside, outside = stack.folds[k]
    train, held, said = stack.data.take(inside), stack.data.take(outside), np.vstack(teacher)
    X = pd.concat([held.X, stack.back.X], ignore_index=True)
    if not train.n_classes:
        rows, labels, weights = np.arange(len(X)), said[:, 0], np.ones(len(X))
    else:
        rows, labels = np.nonzero(said >= (0.02 if soft else 0.95))
        weights = said[rows, labels] if soft else np.ones(len(rows))
    model = booster(train, 4, stack.rounds[k]).fit(
        pd.concat([train.X, X.iloc[rows]], ignore_index=True),
        np.concatenate([train.y, labels]),
        sample_weight=np.concatenate([np.ones(len(inside)), weights]),
    )
    return predicted(model, held.X, train)


SECOND: dict[str, Callable[[Stack, int], np.ndarray]] = {
    "net_outputs": net_outputs,
    "net_layers": net_layers,
    "net_above": net_above,
    "mixture": mixture,
}
PSEUDO = {"pseudo": False, "pseudo_soft": True}
KINDS = [*SECOND, *PSEUDO]


def judge(name: str, folder: Path, n_rows: int, kinds: Collection[str]) -> dict[str, Any]:
    """Return gains and standard errors of each kind: in a greedy vote, in an equal one, alone."""
    stack = first_level(*held_back(load(name, folder, n_rows)))
    shape = stack.oof["net0"].shape
    oof, seconds = dict(stack.oof), dict(stack.seconds)

    def store(kind: str, rows: np.ndarray, make: Callable[..., Any], *given: Any, **options: Any) -> Any:
        started = time.process_time()
        made = make(*given, **options)
        prediction, more = made if isinstance(made, tuple) else (made, None)
        oof.setdefault(kind, np.full(shape, np.nan))[rows] = prediction
        seconds[kind] = seconds.get(kind, 0.0) + time.process_time() - started
        return more

    for k in range(len(stack.folds)):
        inside, outside = stack.rows(k)
        if not len(inside):
            continue
        of_back = store("gated", outside, gated, stack, k)
        teacher = oof["gated"][outside], of_back
        for kind, predict in SECOND.items():
            if kind in kinds:
                store(kind, outside, predict, stack, k)
        for kind, soft in PSEUDO.items():
            if kind in kinds:
                store(kind, outside, pseudo, stack, k, teacher, soft=soft)
    return {**compared(name, stack, oof), "seconds": seconds}


def compared(name: str, stack: Stack, oof: dict[str, np.ndarray]) -> dict[str, Any]:
    done = np.flatnonzero(~np.isnan(oof["gated"][:, 0]))
    data, fold = stack.data.take(done), stack.fold_of[done]
    oof = {member: prediction[done] for member, prediction in oof.items()}
    base = [oof[member] for member in (*MEMBERS, "gated")]
    votes: dict[str, dict[str, np.ndarray]] = {}

    def vote(member: str) -> dict[str, np.ndarray]:
        if member not in votes:
            votes[member] = vote_loss([*base, oof[member]], data, fold)
        return votes[member]

    kinds: dict[str, Any] = {}
    for kind in [each for each in oof if each not in {*MEMBERS, "plain1", "plain2", "net1", "gated"}]:
        seeds = CONTROLS.get(kind, ("plain1", "plain2"))
        found = {
            way: gain(np.mean([vote(seed)[way] for seed in seeds], axis=0), vote(kind)[way], data.cluster)
            for way in ("greedy", "soft")
        }
        plain = np.mean([row_loss(data, oof[seed]) for seed in seeds], axis=0)
        found["alone"] = gain(plain, row_loss(data, oof[kind]), data.cluster)
        kinds["placebo" if kind == "plain3" else kind] = found
    losses = {member: float(row_loss(data, prediction).mean()) for member, prediction in oof.items()}
    losses["control"] = float(vote("plain1")["greedy"].mean())
    return {"set": name, "rows": len(data.y), "kinds": kinds, "losses": losses}


if __name__ == "__main__":
    main(judge, KINDS, ("greedy", "soft", "alone"), __doc__)
