"""The saved predictor of a run as an object: warm, and the same in several threads as in one.

In:  a run folder with its ``predictor/``; rows as a DataFrame, a path or a dict of arrays.
Out: labels, probabilities, what each member says, and what is unlike the training data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackfeat.config.data_checks import ROOTS_VARIABLE, Allowed, data_roots_from
from stackfeat.data.files.parsing import parsing
from stackfeat.data.options import DataOptions
from stackfeat.data.samples import Samples
from stackfeat.data.schema.columns import Schema
from stackfeat.data.schema.drift import ColumnDrift, TrainingSummary
from stackfeat.data.schema.given_rows import GivenRows
from stackfeat.data.schema.inputs import paths_named
from stackfeat.data.schema.json_schema import input_schema
from stackfeat.data.schema.load import compare_given
from stackfeat.engine.fitted import fit_recipe
from stackfeat.engine.predictor import REMEDY, Predictor, load_predictor
from stackfeat.errors import DataError, MissingColumnsError, TrustError, UsageError, as_written
from stackfeat.meta.intervals import checked_level
from stackfeat.meta.votes.averaging import of_single_rows
from stackfeat.metrics.decision_rule import Decision
from stackfeat.output.row_contributions import explain_rows
from stackfeat.output.run_file import runs_near, whole_run
from stackfeat.output.submission import Form
from stackfeat.registry.resolve import quoted, source_hash
from stackfeat.registry.trust import code_of_run, explaining_refusals
from stackfeat.registry.user_code import Code, importing

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "predictor"


@dataclass(frozen=True)
class FileForm:
    """How a predictor reads a file and what it writes.

    Attributes
    ----------
    metric : str
        What the run was judged by.
    code : str
        The folder of the user's own code, from the run folder on.
    """

    schema: Schema
    summary: TrainingSummary | None
    data: DataOptions
    form: Form
    decision: Decision | None
    metric: str
    code: str

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> FileForm:
        """Return what the description of a predictor says of files.

        Raises
        ------
        StructureError
            If it is not made as a run makes it.
        """
        with as_written(where, REMEDY):
            decision, summary = values["decision"], values.get("summary")
            return cls(
                Schema.from_json(values["schema"]),
                None if summary is None else TrainingSummary.from_json(summary),
                DataOptions(**values["data"]),
                Form.from_json(values["form"]),
                None if decision is None else Decision.from_json(decision),
                str(values["metric"]),
                str(values["code"]),
            )


def refuse_paths_outside(options: DataOptions, data: Path, data_roots: Sequence[Path], where: str) -> None:
    """Raise DataError where a predictor would read files that neither lie beside the data nor were allowed.

    A run keeps paths inside the folders of its user; those in a received predictor were kept by nobody.
    """
    allowed = Allowed(data.absolute().parent, data_roots_from(data_roots))
    for place, path in paths_named(options, data.absolute()):
        with parsing(f"{where}: {place}", "must be a path", REMEDY):
            is_inside = allowed.resolve(str(path)) is not None
        if not is_inside:
            raise DataError(
                f"{where}: {place}: what a predictor reads stays inside the folder of DATA ({allowed.folder}), links "
                f"followed; got {quoted(str(path))}; move it there, or allow its folder with --data-root DIR or "
                f"{ROOTS_VARIABLE}"
            )


def refuse_changed_code(predictor: Predictor, folder: Path) -> None:
    """Raise TrustError unless the user's own code in a folder is that of the run.

    Code that was agreed to and remembered is compared where it is imported.
    """
    for key in dict.fromkeys(predictor.plan.fits.values()):
        fit = fit_recipe(predictor.store, key)
        name = fit.member.get("net") or fit.member.get("estimator")
        if fit.code is not None and isinstance(name, str) and source_hash(name, folder) != fit.code:
            raise TrustError(
                f"the code of a model must be as it was in the run; got {name!r} in {folder}, which is not; "
                "put it back, or run the config again"
            )


@dataclass(frozen=True)
class SavedPredictor:
    """The models of a run, asked for new rows.

    Its models are read when the first row is predicted, and stay in memory. Threads may share it.

    Attributes
    ----------
    predictor : Predictor
        The models up to the submitted member.
    way : FileForm
        How rows are read, and what is written of them.
    code : Code
        Which code of the user's own the models may import.
    data_roots : tuple of Path
        Folders that paths in the predictor's options may lead to besides that of the rows.
    allow_missing : bool
        Whether a column that is not there counts as one without values; else it is an error.
    held : object
        What keeps the files of the models where they are, for as long as this object is there; its `path` is the file
        that they were packed in.
    again : callable
        Loads it once more: in another process, where a copy reads the models itself.
    """

    predictor: Predictor
    way: FileForm
    code: Code
    data_roots: tuple[Path, ...] = ()
    allow_missing: bool = False
    held: Any = field(default=None, repr=False)
    again: Callable[[], SavedPredictor] | None = field(default=None, repr=False)

    @property
    def classes_(self) -> np.ndarray:
        """Labels in the order of `predict_proba`'s columns; empty for values."""
        task = self.way.schema.task
        return np.asarray(task.names if task.has_label_sets else task.classes)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """The columns and arrays that it reads."""
        arrays = [given.array or given.column for given in self.way.data.array_inputs.values()]
        return np.array([*(column.name for column in self.way.schema.columns), *arrays], dtype=object)

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema (draft 2020-12) of a row; the file ``predictor/input.schema.json`` holds the same."""
        return input_schema(self.way.schema, self.way.data)

    @property
    def members(self) -> tuple[str, ...]:
        """The members that predict: the submitted one, and those that it is made of."""
        return tuple(node.full_name for node in self.predictor.plan.graph.nodes if node.prediction)

    @property
    def submitted(self) -> str:
        """The member whose predictions these are."""
        return self.predictor.block.rpartition("/")[0]

    def __reduce__(self) -> Any:
        assert self.again is not None
        return self.again, ()

    def __repr__(self) -> str:
        place = self.folder if self.held is None else self.held.path
        return f"SavedPredictor({str(place)!r}, {self.submitted}, {len(self.feature_names_in_)} features)"

    @property
    def folder(self) -> Path:
        """The run folder, or what it was packed into."""
        assert self.predictor.folder is not None
        return self.predictor.folder.parent

    def predict(self, X: Any) -> np.ndarray:
        """Return labels, or values on the scale of the target, (n_rows,); of several targets or quantiles columns.

        Parameters
        ----------
        X : DataFrame, path, or dict of str to array
            With the columns of the training file; others are not read.

        Raises
        ------
        MissingColumnsError
            If columns are missing.
        DataError
            If cells are none that training had.
        """
        return self.labels(self.outputs(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, float64 (n_rows, n_classes), whatever metric the run had."""
        if not len(self.classes_):
            kind = self.way.schema.task.kind
            raise UsageError(f"predict_proba needs classes; got a run of a {kind}; call predict")
        return self.outputs(X)

    def predict_members(self, X: Any) -> pd.DataFrame:
        """Return what each of `members` says: ``MEMBER:CLASS`` (or ``MEMBER:TARGET``) for each, ``MEMBER`` for one.

        Of quantiles the columns are ``MEMBER:q0.1`` and so on.
        """
        import pandas as pd

        rows, samples = self._read(X)
        return pd.DataFrame(self.member_columns(self.member_outputs(samples)), index=self._index(rows))

    def interval(self, X: Any, level: float = 0.9) -> np.ndarray:
        """Return the interval, or the set of classes, that each row's target is in at a level.

        Returns
        -------
        float64 array of shape (n_rows, 2), or (n_rows, n_targets, 2), or bool array of shape (n_rows, n_classes)
            Lower and upper bound on the scale of the target, infinite where there were too few rows for the level; or
            which classes are likely enough: none, one, or several.

        Raises
        ------
        UsageError
            Unless the level lies between 0.5 and 1.
        DataError
            If the predictor holds no intervals.
        """
        level, samples = checked_level(level), self._read(X)[1]
        return self.region(samples, self.views(samples), level)

    def spread(self, X: Any) -> pd.DataFrame:
        """Return how far the pipelines of the folds are apart: the standard deviation of what they predict.

        A column ``spread`` on the scale of the target (``spread:TARGET`` of several), or ``spread:CLASS`` of the
        probability of each class.
        """
        import pandas as pd

        rows, samples = self._read(X)
        return pd.DataFrame(self.spread_columns(self.views(samples)), index=self._index(rows))

    def drift(self, X: Any) -> pd.DataFrame:
        """Compare rows with the training data, column by column.

        Returns
        -------
        DataFrame
            ``column``, ``kind``, ``train`` and ``now`` (what it held, and holds, in words) and ``flag``: what is off;
            empty where nothing is.
        """
        import pandas as pd

        self.summary()
        found = self.compare(self.rows(X), needs_ids=False)[1]
        names = ("column", "kind", "train", "now", "flag")
        return pd.DataFrame([[getattr(one, name) for name in names] for one in found], columns=names)

    def explain(self, X: Any, *, n_permutations: int = 8, seed: int = 0) -> pd.DataFrame:
        """Say what each column contributes to the prediction of each row.

        A contribution is a Shapley value: the change of the prediction when the column takes the row's value in
        place of a typical one, averaged over orders in which columns do so. Typical are the median of numbers, the
        most frequent category, and in an array the median of its values everywhere; no training rows are needed.
        Those of a row add up to ``prediction - base``. Of classes all this is on the scale of log-odds: of the
        positive class, or with more than two classes of the most probable one. A probability counts as at least
        1e-6, and where ``stack.average`` is ``rank`` the mean is taken: a row alone has no rank.

        Parameters
        ----------
        X : DataFrame, path, or dict of str to array
        n_permutations : int
            Orders of columns that are drawn, even, the same for all rows; each is also taken backwards. A row costs
            about as many predictions as orders times columns.
        seed : int
            Of the orders.

        Returns
        -------
        DataFrame
            A row for each row and column: ``row`` (the index of a DataFrame, else a number from 0), ``column``,
            ``outcome`` (the class, or ``prediction``), ``contribution`` and ``se``, its standard error over orders;
            ``base``, the prediction of the typical row, and ``prediction``, that of the row.
        """
        predictor, summary = self.predictor, self.summary()
        average = of_single_rows(predictor.averaging.average)
        if average != predictor.averaging.average:
            predictor = replace(predictor, averaging=replace(predictor.averaging, average=average))
        model, (rows, samples) = replace(self, predictor=predictor), self._read(X)
        with as_written(self._where, REMEDY):
            return explain_rows(
                model.predicted, samples, self.way.schema, summary, self._index(rows), n_permutations, seed
            )

    def outputs(self, X: Any) -> np.ndarray:
        """Return probabilities, or values on the scale of the target, float64 (n_rows, n_outputs)."""
        return self.predicted(self._read(X)[1])

    def labels(self, prediction: np.ndarray) -> np.ndarray:
        """Return what is decided of predictions, as it stands in a file."""
        task = self.predictor.task
        decided = (
            task.decided(prediction) if self.way.decision is None else self.way.decision.apply(prediction)
        )
        labels = task.labels_of(decided)
        return labels if labels.ndim > 1 else labels.reshape(len(prediction))

    def rows(self, X: Any) -> GivenRows:
        """Return rows of any form, not read yet."""
        data = Path(X) if isinstance(X, str | Path) else Path("X")
        refuse_paths_outside(self.way.data, data, self.data_roots, self._where)
        return GivenRows.of(X, self.way.data)

    def rows_of(self, path: Path) -> Samples:
        """Return the rows of a file as models read them, without labels; the user names it, wherever it is."""
        return self._read_rows(GivenRows.of_file(path, self.way.data), None, self.way.schema.id is not None)[
            0
        ]

    def compare(self, rows: GivenRows, *, needs_ids: bool = True) -> tuple[Samples, list[ColumnDrift]]:
        """Return rows as models read them, and each column beside that of training."""
        return self._read_rows(rows, self.way.summary, needs_ids)

    def predicted(self, samples: Samples) -> np.ndarray:
        """Return probabilities, or values on the scale of the target, float64 (n_rows, n_outputs)."""
        with self.importing():
            return np.asarray(self.predictor.task.to_target_scale(self.predictor.predict(samples)))

    def member_outputs(self, samples: Samples) -> dict[str, np.ndarray]:
        """Return what each of `members` says, as `predicted`; the submitted one is the last."""
        task = self.predictor.task
        with self.importing():
            said = self.predictor.predict_members(samples)
        return {member: np.asarray(task.to_target_scale(values)) for member, values in said.items()}

    def member_views(self, samples: Samples) -> dict[str, np.ndarray]:
        """Return what each pipeline predicts by each of `members`, each as `views`."""
        with self.importing():
            return self.predictor.member_views(samples)

    def averaged(self, views: np.ndarray, member: str | None = None) -> np.ndarray:
        """Return what `views` of a member, or of the submitted one, make together, as `predicted`."""
        return np.asarray(self.predictor.task.to_target_scale(self.predictor.averages(views, member)))

    def views(self, samples: Samples) -> np.ndarray:
        """Return what each pipeline predicts on the members' scale, as `Predictor.views`."""
        with self.importing():
            return self.predictor.views(samples)

    def region(self, samples: Samples, views: np.ndarray, level: float) -> np.ndarray:
        """Return the region of each row, as `interval`."""
        return self.predictor.region(samples, views, level)

    def spread_columns(self, views: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of `spread`."""
        task = self.predictor.task
        each = task.to_target_scale(views.reshape(-1, *views.shape[2:]))
        return dict(zip(task.columns_of("spread"), each.std(axis=0).T, strict=True))

    def member_columns(self, said: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the columns of `predict_members`."""
        task, found = self.predictor.task, dict[str, np.ndarray]()
        for member, values in said.items():
            found |= dict(zip(task.columns_of(member), values.T, strict=True))
        return found

    def summary(self) -> TrainingSummary:
        """Return what is remembered of the training data; DataError where an earlier version wrote the predictor."""
        if self.way.summary is None:
            raise DataError(f"{self._where} holds no summary of the training data; {REMEDY} to have it")
        return self.way.summary

    def _index(self, rows: GivenRows) -> pd.Index | None:
        """Return the index of a DataFrame; None of rows in another form."""
        return rows.frame.index if rows.arrays is None and isinstance(rows.path, str) else None

    def _read(self, X: Any) -> tuple[GivenRows, Samples]:
        rows = self.rows(X)
        return rows, self._read_rows(rows, None, self.predictor.looks_up)[0]

    def _read_rows(
        self, rows: GivenRows, summary: TrainingSummary | None, needs_ids: bool
    ) -> tuple[Samples, list[ColumnDrift]]:
        schema, options, fills = self.way.schema, self.way.data, self.allow_missing
        try:
            return compare_given(rows, schema, options, summary, needs_ids=needs_ids, fills=fills)
        except MissingColumnsError as error:
            if not error.columns or fills:
                raise
            how = "--allow-missing (in Python load(..., allow_missing=True)) takes them for columns without values"
            raise MissingColumnsError(f"{str(error).rstrip('.')}. {how}", error.columns) from error

    @property
    def _where(self) -> str:
        return f"{self.predictor.folder}"

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Let the models import the code of the user's own that was agreed to."""
        if not self.code.is_trusted:
            with explaining_refusals(self.code):
                yield
            return
        with explaining_refusals(self.code), importing(self.code):
            yield


def load_run(
    run_folder: Path,
    *,
    trust_code: bool | None = None,
    data_roots: Sequence[Path] = (),
    without: Sequence[str] = (),
    allow_missing: bool = False,
    keeps: bool = True,
    code_folder: Path | None = None,
) -> SavedPredictor:
    """Return the predictor of a finished run.

    Parameters
    ----------
    without : sequence of str
        Members that votes shall do without, such as imported ones that do not know the rows.
    keeps : bool
        Whether models stay in memory once they were read.
    code_folder : Path, optional
        Where code of the user's own lies; by default where the run says.

    Raises
    ------
    DataError
        If there is no predictor, it is damaged, or it was written by another version.
    TrustError
        If its models need code of the user's own.
    StackfeatError
        If a model could not be saved.
    """
    if not run_folder.exists():
        near = runs_near(run_folder) or "; name a run folder"
        raise DataError(f"{run_folder} must hold a predictor; got no such folder or file{near}")
    code = code_of_run(run_folder, trust_code)
    with whole_run(run_folder), explaining_refusals(code):
        predictor, values = load_predictor(run_folder / FOLDER, trust_code=code.is_trusted, keeps=keeps)
    predictor = predictor.leave_out(without) if without else predictor
    predictor.refuse_unsaved()
    way = FileForm.from_json(values, f"{predictor.folder}")
    code = code.beside(run_folder / way.code if code_folder is None else code_folder)
    if code.folder is not None and not code.is_remembered:
        refuse_changed_code(predictor, code.folder)
    options: dict[str, Any] = {
        "trust_code": trust_code,
        "data_roots": data_roots,
        "without": without,
        "keeps": keeps,
    }
    options |= {"allow_missing": allow_missing, "code_folder": code_folder}
    again = partial(load_run, run_folder, **options)
    return SavedPredictor(predictor, way, code, tuple(map(Path, data_roots)), allow_missing, again=again)
