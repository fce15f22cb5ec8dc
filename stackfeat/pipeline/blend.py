"""blend: out-of-fold predictions of several models, as arrays, become one: weights, what that is worth, test rows.

In:  arrays by name, the target, the same models' predictions of test rows.
Out: a `Blend`. It is the run of a pool of files, in a folder that is gone afterwards: the same checks, votes and
     cross-fitted score as of a config that names the files.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from stackfeat.config.load import config_from_dict
from stackfeat.errors import UsageError
from stackfeat.metrics.built_in import METRICS
from stackfeat.output.completed_run import prediction_file
from stackfeat.output.digits import with_error
from stackfeat.output.run_result import RunResult
from stackfeat.pipeline.run import run
from stackfeat.registry.resolve import name_values, suggest
from stackfeat.store.disk import safe_name
from stackfeat.structure import parse_json
from stackfeat.tasks.task import TASKS, task_class

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["auto", "greedy", "weighted", "gated_linear"]
METHODS: tuple[str, ...] = get_args(Method)
POOL, ID, TARGET, FOLD = "arrays", "row", "target", "fold"


@dataclass(frozen=True)
class Blend:
    """Several models' predictions, blended.

    Attributes
    ----------
    method : str
        What was taken: of ``auto`` the one that was chosen.
    weights : dict of str to float
        Of each array; 0 where it was left out, twins share the weight of their mean. Empty of ``gated_linear``, whose
        coefficients are no shares.
    score, se : float
        Cross-fitted: each fold's rows are blended by weights, and of ``auto`` by a method, that other folds chose.
    metric : str
    verdicts : DataFrame
        A row for each array: ``member``, ``verdict`` (ok, look, refuse), ``used``, ``score``, ``twin_of``, ``folds``,
        ``reasons``.
    oof : float64 array (n_rows,) or (n_rows, n_classes)
        The blended out-of-fold rows that the score is of; one column where all arrays have one.
    test : float64 array (n_test,) or (n_test, n_classes), or None
        The blended test rows.
    classes : tuple
        Labels in the order of columns; empty of values.
    """

    method: str
    weights: dict[str, float]
    score: float
    se: float
    metric: str
    verdicts: pd.DataFrame
    oof: np.ndarray
    test: np.ndarray | None
    classes: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        n_used = int(self.verdicts["used"].sum())
        said = f"{self.method}, {self.metric} {with_error(self.score, self.se)}"
        return f"Blend({said}, {n_used} of {len(self.verdicts)} arrays)"


def blend(
    oof: Mapping[str, Any],
    y: Any,
    test: Mapping[str, Any] | None = None,
    metric: str | None = None,
    folds: Any = None,
    method: Method = "auto",
) -> Blend:
    """Blend models whose out-of-fold predictions are there.

    Parameters
    ----------
    oof : mapping of str to array
        By model (n_rows,) or (n_rows, n_classes): a value, the probability of the last of two classes, or of each
        class in sorted order.
    y : array (n_rows,)
        Labels or values.
    test : mapping of str to array, optional
        The same models' predictions of other rows.
    metric : str, optional
        What decides; by default the usual one of the task.
    folds : array (n_rows,) or int, optional
        Number of each row's fold, such as the models were trained on; or how many folds. By default 5, stratified.
    method : {"auto", "greedy", "weighted", "gated_linear"}
        ``auto``: what is best out of fold; within one standard error of it greedy.

    Returns
    -------
    Blend

    Raises
    ------
    UsageError
        If arrays do not fit each other or the target.
    DataError
        If none of them can be used.

    Examples
    --------
    >>> found = blend({"a": a, "b": b}, y, test={"a": a_test, "b": b_test}, metric="roc_auc")  # doctest: +SKIP
    >>> found.weights, found.score, found.se, found.test                                     # doctest: +SKIP
    """
    given = _Given.of(oof, y, test, metric, folds, method)
    with tempfile.TemporaryDirectory(prefix="stackfeat-blend-") as name:
        folder = Path(name)
        given.write(folder)
        result = run(config_from_dict(given.config(), folder))
        return given.blend(result)


@dataclass(frozen=True)
class _Given:
    """Arrays that fit each other, and what is to be made of them."""

    oof: dict[str, np.ndarray]
    y: np.ndarray
    test: dict[str, np.ndarray]
    task: str
    metric: str
    folds: np.ndarray | None
    n_folds: int
    method: str

    @classmethod
    def of(cls, oof: Any, y: Any, test: Any, metric: str | None, folds: Any, method: str) -> _Given:
        import pandas as pd

        if method not in METHODS:
            raise UsageError(
                f"method must be one of {', '.join(METHODS)}; got {method!r}.{suggest(str(method), METHODS)}"
            )
        target = np.asarray(y)
        if target.ndim != 1 or not len(target):
            raise UsageError(
                f"y must have one label or value for each row; got shape {target.shape}; several targets and sets of "
                "labels are blended in a run: import their predictions"
            )
        if absent_rows := int(pd.isna(target).sum()):
            raise UsageError(
                f"y must have a label or value for each row; got none in {absent_rows} rows; leave these rows out"
            )
        arrays = _arrays(oof, "oof", len(target))
        others = {} if test is None else _arrays(test, "test", None)
        if test is not None and set(others) != set(arrays):
            absent, more = sorted(set(arrays) - set(others)), sorted(set(others) - set(arrays))
            raise UsageError(
                f"test must name the models that oof names; missing: {name_values(absent) or 'none'}; only there: "
                f"{name_values(more) or 'none'}"
            )
        widths = {values.shape[1] for values in arrays.values()} | {
            values.shape[1] for values in others.values()
        }
        task = _task(target, max(widths), metric)
        legal = _widths(task, len(np.unique(target)))
        for name, values in [*arrays.items(), *others.items()]:
            if values.shape[1] not in legal:
                raise UsageError(
                    f"predictions of a {task} target must have {legal[-1]} columns; got {values.shape[1]} of {name!r}"
                )
        fold_of, n_folds = _folds(folds, len(target))
        chosen = metric or task_class(task).default_metric
        return cls(arrays, target, others, task, chosen, fold_of, n_folds, method)

    @property
    def classes(self) -> tuple[Any, ...]:
        return tuple(np.unique(self.y).tolist()) if task_class(self.task).most_classes else ()

    def config(self) -> dict[str, Any]:
        """Return the config of the run over the same files."""
        output = task_class(self.task).output
        pool: dict[str, Any] = {"files": f"oof/*{_suffix()}"} | (
            {"test": f"test/*{_suffix()}"} if self.test else {}
        )
        reads = [f"base/{POOL}:*/{output}"]
        ways = {
            "greedy": {"vote": "greedy", "inputs": reads},
            "weighted": {"vote": "weighted", "inputs": reads},
            "gated_linear": {"estimator": "gated_linear", "inputs": reads},
        }
        data = {"train": f"train{_suffix()}", "id": ID, "target": TARGET}
        data |= {"test": f"test{_suffix()}"} if self.test else {}
        data |= {} if self.folds is None else {"fold": FOLD}
        return {
            "name": "blend",
            "task": self.task,
            "metric": self.metric,
            "data": data,
            "folds": {"kind": "auto" if self.folds is None else "column", "n": self.n_folds},
            "levels": {
                "base": {POOL: {"predictions": pool}},
                "blend": ways if self.method == "auto" else {self.method: ways[self.method]},
            },
            "submit": "auto" if self.method == "auto" else f"blend/{self.method}",
            "executor": {"kind": "inline"},
        }

    def write(self, folder: Path) -> None:
        """Write the files of the run."""
        import pandas as pd

        ids = [f"r{row}" for row in range(len(self.y))]
        # A column that says nothing, for a file of rows has one.
        train = {ID: ids, TARGET: self.y, "x": np.arange(len(ids)) % 7}
        _write(pd.DataFrame(train if self.folds is None else {**train, FOLD: self.folds}), folder / "train")
        columns = list(map(str, self.classes)) or ["prediction"]
        sets = {"oof": (self.oof, ids)}
        if self.test:
            n_test = len(next(iter(self.test.values())))
            rows = [f"t{row}" for row in range(n_test)]
            sets["test"] = self.test, rows
            _write(pd.DataFrame({ID: rows, "x": np.arange(n_test) % 7}), folder / "test")
        for kind, (arrays, names) in sets.items():
            (folder / kind).mkdir()
            for name, values in arrays.items():
                both = values if values.shape[1] == len(columns) else np.column_stack([1.0 - values, values])
                frame = pd.DataFrame(both, columns=columns)
                frame.insert(0, ID, names)
                _write(frame, folder / kind / _stem(name))

    def blend(self, result: RunResult) -> Blend:
        """Return what a finished run found."""
        import pandas as pd

        scores = parse_json((result.folder / "scores.json").read_bytes(), "scores.json")
        level, _, chosen = result.submitted.rpartition("/")
        path = prediction_file(level, chosen)
        read = {
            kind: pd.read_csv(result.folder / kind / path, float_precision="round_trip")
            .iloc[:, 1:]
            .to_numpy()
            for kind in ("oof", *(("test",) if self.test else ()))
        }
        verdicts = self._verdicts(pd.read_csv(result.folder / "pool.csv", keep_default_na=False))
        return Blend(
            method=chosen if level == "blend" else "single",
            weights=self._weights(scores["weights"].get(result.submitted, {}), verdicts, result.submitted),
            score=result.score,
            se=result.se,
            metric=self.metric,
            verdicts=verdicts,
            oof=self._narrow(read["oof"]),
            test=self._narrow(read["test"]) if self.test else None,
            classes=self.classes,
        )

    def _narrow(self, values: np.ndarray) -> np.ndarray:
        """Return values with as many columns as were given: of probabilities alone that of the last class."""
        given = [*self.oof.values(), *self.test.values()]
        return values[:, -1] if all(one.shape[1] == 1 for one in given) else values

    def _verdicts(self, table: pd.DataFrame) -> pd.DataFrame:
        names = {f"base/{POOL}:{_stem(name)}": name for name in self.oof}
        found = table.assign(
            member=table["member"].map(names), twin_of=table["twin_of"].map(lambda one: names.get(one, ""))
        )
        found["used"] = found["used"].astype(str).str.lower().isin(["true", "yes"])
        order = {name: place for place, name in enumerate(self.oof)}
        return found.sort_values("member", key=lambda one: one.map(order)).reset_index(drop=True)

    def _weights(
        self, of_vote: Mapping[str, Any], verdicts: pd.DataFrame, submitted: str
    ) -> dict[str, float]:
        """Return the weight of each array; twins share that of their mean."""
        if submitted.startswith("base/"):
            of_vote = {f"{submitted}/": {"whole": 1.0}}
        if not of_vote:
            return {}
        whole = {block.rpartition("/")[0]: float(one["whole"]) for block, one in of_vote.items()}
        leaders = dict(zip(verdicts["member"], verdicts["twin_of"], strict=True))
        leader = {name: leaders[name] or name for name in self.oof}
        used = set(verdicts.loc[verdicts["used"], "member"])
        n_alike = {
            one: sum(leader[name] == one and name in used for name in self.oof)
            for one in set(leader.values())
        }
        return {
            name: whole.get(f"base/{POOL}:{_stem(leader[name])}", 0.0) / n_alike[leader[name]]
            if name in used
            else 0.0
            for name in self.oof
        }


def _arrays(given: Any, what: str, n_rows: int | None) -> dict[str, np.ndarray]:
    """Return arrays of numbers with columns, all of one length."""
    if not isinstance(given, Mapping) or not given:
        got = "an empty one" if isinstance(given, Mapping) else type(given).__name__
        raise UsageError(f"{what} must be a dict of arrays by name; got {got}; name each model")
    found: dict[str, np.ndarray] = {}
    for name, values in given.items():
        array = np.asarray(values)
        if array.ndim not in (1, 2) or array.dtype.kind not in "fiub":
            raise UsageError(
                f"{what}[{name!r}] must be numbers of shape (n_rows,) or (n_rows, n_classes); got {array.dtype}, "
                f"shape {array.shape}"
            )
        n_rows = len(array) if n_rows is None else n_rows
        if len(array) != n_rows:
            raise UsageError(f"{what}[{name!r}] must have {n_rows} rows, as the others; got {len(array)}")
        found[str(name)] = array.reshape(len(array), -1).astype(np.float64)
    if "" in found:
        raise UsageError(f"names of {what} must have a character or more; got ''; name each model")
    stems = [_stem(name).lower() for name in found]
    if len(set(stems)) < len(stems):
        raise UsageError(
            f"names of {what} must differ in more than case; got {name_values(found)}; rename them"
        )
    return found


def _task(y: np.ndarray, n_columns: int, metric: str | None) -> str:
    """Return the first task that the metric serves, whose predictions have so many columns of such a target."""
    if metric is not None and metric not in METRICS:
        legal = ", ".join(METRICS)
        raise UsageError(f"metric must be one of {legal}; got {metric!r}.{suggest(str(metric), METRICS)}")
    n_values, is_number = len(np.unique(y)), y.dtype.kind in "fiu"
    kinds = [
        kind
        for kind in (TASKS if metric is None else METRICS[metric].tasks)
        if not task_class(kind).has_lists
    ]
    if not kinds:
        raise UsageError(
            f"a blend is of rows that stand for themselves; got metric={metric!r}, of lists; blend them in a run "
            "with data.query, or by VotingRanker"
        )
    for kind in kinds:
        most = task_class(kind).most_classes
        if n_columns in _widths(kind, n_values) and (n_values <= most if most else is_number):
            return kind
    raise UsageError(
        f"predictions, target and metric must fit each other; got {n_columns} columns, a target with {n_values} "
        f"values, metric={metric!r}; give a column for each class, or one of values"
    )


def _widths(kind: str, n_values: int) -> tuple[int, ...]:
    """Return how many columns a prediction of a target with so many values may have."""
    most = task_class(kind).most_classes
    if not most:
        return (1,)
    return (1, 2) if most == 2 else (n_values,)


def _folds(folds: Any, n_rows: int) -> tuple[np.ndarray | None, int]:
    if folds is None:
        return None, 5
    if isinstance(folds, int | np.integer):
        if not 2 <= folds <= n_rows:
            raise UsageError(f"folds must be 2 or more; got {folds}")
        return None, int(folds)
    numbers = np.asarray(folds)
    if numbers.shape != (n_rows,):
        raise UsageError(f"folds must have a number for each of {n_rows} rows; got shape {numbers.shape}")
    codes = np.unique(numbers, return_inverse=True)[1]
    if not codes.any():
        raise UsageError(f"folds must be of two numbers or more; got {numbers[0]} in every row")
    return codes, int(codes.max()) + 1


def _stem(name: str) -> str:
    return safe_name(name)


def _suffix() -> str:
    return ".parquet" if _has_parquet() else ".csv"


def _has_parquet() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


def _write(frame: pd.DataFrame, stem: Path) -> None:
    path = stem.with_name(stem.name + _suffix())
    if _has_parquet():
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)
