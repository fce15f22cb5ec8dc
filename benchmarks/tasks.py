"""Stacks of every kind of task beside what else there is for it, in the folds of the run and on rows no run saw.

In:  folders of finished runs, and the data sets that they were made from.
Out: a markdown table: out-of-fold and test scores of the submission, of the best single model out of fold, and of
     scikit-learn's and LightGBM's own ways; how far the submission is ahead in both, with paired standard errors over
     rows, queries or groups. A rival's trees are chosen out of fold among a few numbers, which favours it a little;
     the penalty of words is chosen on inner folds.

    python benchmarks/tasks.py --data ../shared/data configs/runs/yeast configs/runs/lightgbm_rank ...
    python benchmarks/tasks.py --data ../shared/data --set taxi_fares work/quantiles/taxi_fares/runs/run
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import lightgbm  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from ruamel.yaml import YAML  # noqa: E402
from sklearn.compose import make_column_transformer  # noqa: E402
from sklearn.ensemble import GradientBoostingRegressor  # noqa: E402
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, StratifiedKFold  # noqa: E402
from sklearn.multioutput import (  # noqa: E402
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from stackfeat.metrics.registry import get_metric  # noqa: E402
from stackfeat.tasks.quantile import of_quantiles  # noqa: E402
from stackfeat.tasks.task import Task  # noqa: E402

N_DRAWS = 1000
QUIET = {"n_jobs": 1, "verbosity": -1, "random_state": 0}
PENALTIES = (0.5, 2.0, 8.0, 32.0)
"""Of the words of texts: values of ``C``."""

Array = np.ndarray


@dataclass(frozen=True)
class Rows:
    """Rows of one kind: what models may read of them, and what else is known."""

    frame: pd.DataFrame
    y: Array
    lists: Array | None
    clusters: Array | None

    def take(self, rows: Array) -> Rows:
        parts = (None if one is None else one[rows] for one in (self.y, self.lists, self.clusters))
        return Rows(self.frame.iloc[rows], *parts)  # type: ignore[arg-type]

    @cached_property
    def wide(self) -> Array:
        """Numbers and one-hot categories, missing numbers as they are."""
        return self.frame.drop(columns=[one for one in self.frame if one in TEXTS]).to_numpy(dtype=float)


TEXTS = ("title", "review_text")

Fitted = Callable[[Rows], Array]
Fit = Callable[[Rows], Fitted]
"""Training rows to a function that predicts other rows."""


@dataclass(frozen=True)
class Run:
    """A finished run, and the rows that it was made of."""

    folder: Path
    config: dict[str, Any]
    task: Task
    train: Rows
    test: Rows
    fold_of: Array
    ids: tuple[pd.Index, pd.Index]

    @property
    def is_time(self) -> bool:
        return bool(self.config["data"].get("time"))

    @cached_property
    def judged(self) -> Array:
        """Rows that the submission predicts out of fold."""
        return np.isfinite(self.said(self.scores["submitted"], "oof")).all(axis=1)

    @cached_property
    def scores(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "scores.json").read_text())
        return found

    def said(self, member: str, part: str) -> Array:
        """Return what a member says of the training or the test rows, out of their files."""
        table = pd.read_csv(self.folder / part / self.scores["members"][member]["file"], dtype={"id": str})
        return table.set_index("id").loc[self.ids[part == "test"]].to_numpy(dtype=float)

    def params(self, kind: str) -> dict[str, Any]:
        """Return the params of the first LightGBM member of a kind."""
        members = self.config["levels"]["base"].values()
        named = [one for one in members if str(one.get("estimator", "")).endswith(kind)]
        return dict(named[0].get("params", {})) if named else {}

    def by_folds(self, fit: Fit) -> tuple[Array, Array]:
        """Return predictions out of fold, and of test rows: the mean of folds' models, in time one of all rows."""
        oof, views = np.full((len(self.train.y), self.task.n_outputs), np.nan), []
        for fold in range(self.fold_of.max() + 1):
            held = np.flatnonzero(self.fold_of == fold)
            known = np.flatnonzero(self.fold_of < fold if self.is_time else self.fold_of != fold)
            said = fit(self.train.take(known))
            oof[held] = said(self.train.take(held))
            views.append(said(self.test))
        return oof, fit(self.train)(self.test) if self.is_time else np.mean(views, axis=0)


def read_run(folder: Path, source: Path) -> Run:
    """Return a run and its rows; `source` is the folder of the data set."""
    config = YAML(typ="safe", pure=True).load(folder / "config.yaml")
    data, frame = config["data"], pd.read_parquet(source / "data.parquet")
    targets = [data["target"]] if isinstance(data["target"], str) else list(data["target"])
    folds = pd.read_csv(folder / "folds.csv", dtype={"id": str}).query("repeat == 0").set_index("id")["fold"]
    frame.index = pd.Index(frame["id"].astype(str))
    labels = pd.read_parquet(source / "test_labels.parquet").astype({"id": str}).set_index("id")
    is_test = (frame["split"] == "test").to_numpy()
    y = frame[targets].copy()
    for target in [one for one in targets if one in labels]:
        y[target] = y[target].where(~is_test, labels[target].reindex(frame.index))
    kept = (frame.index.isin(folds.index) | is_test) & y.notna().all(axis=1).to_numpy()
    frame, y, is_test = frame[kept], y[kept], is_test[kept]
    task = task_of(config, y)
    codes = np.searchsorted(task.classes, y.iloc[:, 0]) if task.classes else y.to_numpy(dtype=task.dtype)
    codes = codes if len(targets) > 1 else codes.reshape(-1)
    query, group = data.get("query"), data.get("group") or data.get("query")
    lists = None if not query else frame[query].to_numpy()
    clusters = None if not group else frame[group].to_numpy()
    unread = {"id", "split", *targets, *data.get("drop", ()), data.get("time"), query, group}
    hidden = set(frame.columns[frame[is_test].isna().all().to_numpy()])
    columns = frame.drop(columns=[one for one in frame if one in unread | hidden])
    texts = [one for one in columns if one in TEXTS]
    coded = pd.get_dummies(columns.drop(columns=texts), dtype=float)
    wide = pd.concat([coded, columns[texts].fillna("").astype(str)], axis=1)
    train = np.flatnonzero(~is_test)[folds.index.get_indexer(frame.index[~is_test]).argsort()]
    everything = Rows(wide, codes, lists, clusters)
    parts = (everything.take(train), everything.take(np.flatnonzero(is_test)))
    return Run(folder, config, task, *parts, folds.to_numpy(), (parts[0].frame.index, parts[1].frame.index))


def task_of(config: dict[str, Any], y: pd.DataFrame) -> Task:
    """Return the task of a config."""
    kind = config["task"]
    if kind == "quantile":
        return of_quantiles(config.get("quantiles"))
    if kind in ("binary", "multiclass"):
        return Task(kind, tuple(config["data"].get("class_order") or sorted(y.iloc[:, 0].unique())))
    return Task(kind, n_targets=y.shape[1], targets=tuple(y) if y.shape[1] > 1 else ())


# Rivals: what each is called, and the fits of which the best out of fold counts


def rivals(run: Run) -> Iterator[tuple[str, dict[str, Fit]]]:
    """Yield what else there is for the task of a run."""
    yield from {"quantile": of_levels, "ranking": of_queries}.get(run.task.kind, of_columns)(run)


def of_columns(run: Run) -> Iterator[tuple[str, dict[str, Fit]]]:
    """Yield several targets fitted one by one and in a chain; of texts their words."""
    if run.task.n_targets > 1:
        is_classes = run.task.family == "classification"
        made = lightgbm.LGBMClassifier if is_classes else lightgbm.LGBMRegressor
        several = (
            (MultiOutputClassifier, ClassifierChain) if is_classes else (MultiOutputRegressor, RegressorChain)
        )
        for multi in several:
            models = {
                f"{n} trees": multi(made(**{**run.params(made.__name__), "n_estimators": n}, **QUIET))
                for n in (50, 100) + (() if is_classes else (200,))
            }
            yield multi.__name__, {how: partial(wide_fit, model) for how, model in models.items()}
    if any(one in TEXTS for one in run.train.frame):
        yield "TF-IDF, logistic regression, `C` of 1", {"words": partial(words_fit, (1.0,), False)}
        yield "the same, `C` by inner folds", {"words": partial(words_fit, PENALTIES, False)}
        yield "the same, and the other columns", {"words": partial(words_fit, PENALTIES, True)}


def wide_fit(model: Any, rows: Rows) -> Fitted:
    fitted = model.fit(rows.wide, rows.y)

    def said(others: Rows) -> Array:
        if not hasattr(fitted, "predict_proba"):
            return np.asarray(fitted.predict(others.wide), dtype=float).reshape(len(others.y), -1)
        found = fitted.predict_proba(others.wide)
        return found if isinstance(found, np.ndarray) else np.column_stack([one[:, 1] for one in found])

    return said


def words_fit(penalties: tuple[float, ...], with_others: bool, rows: Rows) -> Fitted:
    """Fit logistic regression to words and pairs of each text, with the penalty that inner folds choose."""
    texts = [one for one in rows.frame if one in TEXTS]
    others = [one for one in rows.frame if one not in TEXTS] if with_others else []
    words = [(TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), one) for one in texts]
    columns = make_column_transformer(*words, (StandardScaler(), others))
    model = make_pipeline(columns, LogisticRegression(max_iter=300))
    grid = {"logisticregression__C": list(penalties)}
    inner = StratifiedKFold(3, shuffle=True, random_state=0)
    if len(penalties) > 1:
        model = GridSearchCV(model, grid, scoring="neg_log_loss", cv=inner)
    fitted = model.fit(rows.frame.fillna(0.0), rows.y)
    return lambda others_: np.asarray(fitted.predict_proba(others_.frame.fillna(0.0)))


def of_levels(run: Run) -> Iterator[tuple[str, dict[str, Fit]]]:
    """Yield what is fitted once for each quantile; QuantileRegressor and histogram boosting are members already."""
    params = run.params("LGBMRegressor")

    def boosted(n: int, given: dict[str, Any], level: float) -> Any:
        loss = {"objective": "quantile", "alpha": level}
        return lightgbm.LGBMRegressor(**loss, **{**given, "n_estimators": n}, **QUIET)

    def gradient(n: int, level: float) -> Any:
        # Half of the columns a split: all of them take minutes.
        sampled = {"max_depth": 4, "subsample": 0.8, "max_features": 0.5, "min_samples_leaf": 10}
        loss = {"loss": "quantile", "alpha": level}
        return GradientBoostingRegressor(**loss, n_estimators=n, random_state=0, **sampled)

    ways: dict[str, dict[int, Callable[[float], Any]]] = {
        "LightGBM `objective=quantile`, params of `gbm`": {
            n: partial(boosted, n, params) for n in (200, 400)
        },
        "the same, default params": {n: partial(boosted, n, {}) for n in (100, 200)},
        "GradientBoostingRegressor": {n: partial(gradient, n) for n in (150,)},
    }
    for title, makes in ways.items():
        yield title, {f"{n} trees": partial(levels_fit, make) for n, make in makes.items()}


def levels_fit(
    make: Callable[[float], Any], rows: Rows, levels: tuple[float, ...] = (0.1, 0.5, 0.9)
) -> Fitted:
    """Fit a model for each level; what crosses is sorted."""
    middles = np.nan_to_num(np.nanmedian(rows.wide, axis=0))

    def filled(wide: Array) -> Array:
        return np.where(np.isnan(wide), middles, wide)

    fitted = [make(level).fit(filled(rows.wide), rows.y) for level in levels]
    return lambda others: np.sort(np.column_stack([one.predict(filled(others.wide)) for one in fitted]))


def of_queries(run: Run) -> Iterator[tuple[str, dict[str, Fit]]]:
    """Yield LightGBM's losses of lists, and relevance as a value."""
    params = run.params("LGBMRanker")
    for objective in ("lambdarank", "rank_xendcg"):
        for title, given in (
            (f"LightGBM `{objective}`, params of the member", params),
            ("default params", {}),
        ):
            if given or objective == "lambdarank":
                named = title if given else f"LightGBM `{objective}`, {title}"
                fits: dict[str, Fit] = {
                    f"{n} trees": partial(lists_fit, {**given, "n_estimators": n, "objective": objective})
                    for n in (100, 200, 300)
                }
                yield named, fits
    values = {
        f"{n} trees": partial(wide_fit, lightgbm.LGBMRegressor(n_estimators=n, **QUIET))
        for n in (50, 100, 200)
    }
    yield "LGBMRegressor on relevance, default params", values


def lists_fit(params: dict[str, Any], rows: Rows) -> Fitted:
    assert rows.lists is not None
    order = np.argsort(rows.lists, kind="stable")
    sizes = np.unique(rows.lists, return_counts=True)[1]
    model = lightgbm.LGBMRanker(**params, **QUIET).fit(rows.wide[order], rows.y[order], group=sizes)
    return lambda others: np.asarray(model.predict(others.wide)).reshape(-1, 1)


# The table


def table(run: Run) -> Iterator[str]:
    """Yield the lines of a run: the submission first."""
    submitted = run.scores["submitted"]
    board = pd.read_csv(run.folder / "leaderboard.csv")
    first = board[board["level"] == board["level"].iloc[-1]].iloc[0]
    best = f"{first['level']}/{first['member']}"
    found = {
        name: (run.said(one, "oof"), run.said(one, "test"))
        for name, one in (
            (f"submission, {submitted}", submitted),
            (f"best single out of fold, {best}", best),
        )
    }
    metric = get_metric(run.config["metric"], run.task.kind)
    for title, fits in rivals(run):
        tried = {how: run.by_folds(fit) for how, fit in fits.items()}
        chosen = min(tried, key=lambda how: metric.loss(known(run), tried[how][0][run.judged], run.task))
        found[f"{title}, {chosen}" if "trees" in chosen else title] = tried[chosen]
    yield from lines(run, metric, found)


def known(run: Run) -> Array:
    """Return the targets of the rows that are judged out of fold."""
    return targets(run, run.train.take(np.flatnonzero(run.judged)))


def targets(run: Run, rows: Rows) -> Array:
    return rows.y if rows.lists is None else run.task.in_lists(rows.y, rows.lists)


def lines(run: Run, metric: Any, found: dict[str, tuple[Array, Array]]) -> Iterator[str]:
    parts = []
    for rows, place in ((run.train.take(np.flatnonzero(run.judged)), 0), (run.test, 1)):
        y = targets(run, rows)
        said = [pair[place][run.judged] if place == 0 else pair[place] for pair in found.values()]
        clusters = None if rows.clusters is None else np.unique(rows.clusters, return_inverse=True)[1]
        drawn = metric.bootstrap(y, said, run.task, n_resamples=N_DRAWS, clusters=clusters)
        parts.append(([metric.score(y, one, run.task) for one in said], drawn))
    for number, name in enumerate(found):
        cells = []
        for scores, drawn in parts:
            ahead = metric.signed(scores[number] - scores[0])
            error = np.nanstd(drawn[:, number] - drawn[:, 0], ddof=1)
            cells += [f"{scores[number]:.4f}", "" if number == 0 else f"{ahead:+.4f} ({error:.4f})"]
        yield " | ".join([name, *cells])


def main() -> None:
    """Print the lines of every run."""
    parser = argparse.ArgumentParser(description="Stacks of every kind of task beside what else there is.")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--set", help="the data set, where the run is not called like it")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| set | metric | model | OOF | submission ahead by (se) | test | ahead by (se) |")
    print("|---" * 7 + "|")
    for folder in arguments.runs:
        name = arguments.set or folder.name
        run = read_run(folder, arguments.data / name)
        for line in table(run):
            print(f"| {name} | {run.config['metric']} | {line} |", flush=True)


if __name__ == "__main__":
    main()
