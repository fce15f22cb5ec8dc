"""distil: one small model in the place of a whole stack, shipped only where the stack's labels make it better.

In:  the folder of a finished run, and its store.
Out: a student in one file, or the numbers that say why not.

Student k learns the labels of pipeline k's training rows, and rows beside them that pipeline k alone labels:
perturbed training rows and, without time folds, the test rows. It is scored on fold k. The control is the same
learner, on the same labelled rows, without the others. How many rounds each takes is chosen by the folds that it is
not scored on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.config.run_config import RunConfig
from stackfeat.data.prepare.perturb import perturbed
from stackfeat.data.prepare.plain_columns import PlainColumns
from stackfeat.data.prepare.weights import mean_one
from stackfeat.data.samples import Samples, Table, load_samples
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.judged import Judged
from stackfeat.engine.predictor import load_predictor
from stackfeat.engine.scoring import decide
from stackfeat.errors import DataError, UsageError
from stackfeat.executors import pinned_threads
from stackfeat.log import VERSION
from stackfeat.metrics.decision_rule import Decision
from stackfeat.metrics.registry import declared
from stackfeat.output.digits import significant, with_error
from stackfeat.output.output_file import has_packed, refuse_foreign, refuse_place
from stackfeat.output.run_file import whole_run
from stackfeat.output.saved_predictor import FileForm
from stackfeat.output.stored_run import open_rows, read_run
from stackfeat.pipeline.learners import LEARNERS, Learner, Lesson, Rounds
from stackfeat.pipeline.students import HEAD, Made, Student, StudentModel
from stackfeat.pipeline.teacher import Teacher
from stackfeat.registry.resolve import name_values, suggest
from stackfeat.registry.trust import code_of_run, explaining_refusals
from stackfeat.registry.user_code import NO_CODE, importing
from stackfeat.seeds import derive_seed

logger = logging.getLogger(__name__)

FEWEST_SOFT, MOST_SOFT, TIMES_SOFT = 4_000, 30_000, 2
"""Rows that a pipeline labels: so many times its training rows, within bounds."""

SOFT_WEIGHT = 1.0
"""Of all rows with soft labels together, in units of the labelled ones together."""

Progress = Callable[[str], None]
Paths = tuple[Rounds, Rounds]
"""Of a student and of its control."""


@dataclass(frozen=True)
class Judgement:
    """What a student and a control are worth out of fold.

    Attributes
    ----------
    student, control : float
        Scores of the student, and of the same learner without rows that pipelines label.
    gap, se : float
        By how much the student is better, and the standard error, paired over rows (groups, blocks of time).
    n_rows : int
        Rows scored.
    rounds : tuple of int
        Of the student and of the control: the median over folds.
    decision : Decision or None
        How the student's predictions become labels, where the metric wants them.
    """

    learner: str
    metric: str
    student: float
    control: float
    gap: float
    se: float
    n_rows: int
    rounds: tuple[int, int]
    decision: Decision | None

    @property
    def is_ahead(self) -> bool:
        return self.gap > self.se

    def to_json(self) -> dict[str, Any]:
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "decision"}
        return {**values, "rounds": list(self.rounds)}


@dataclass(frozen=True)
class Distillation:
    """What a distillation came to.

    Attributes
    ----------
    judgement : Judgement
    path : Path or None
        The student's file; None where it is not shipped.
    teacher : float
        Score of the run's submission.
    n_soft : int
        Rows that all pipelines label for the student that is shipped, or would be.
    """

    judgement: Judgement
    path: Path | None
    teacher: float
    n_soft: int

    @property
    def exit_code(self) -> int:
        """0 where a student was written, else 1."""
        return 1 if self.path is None else 0

    def to_json(self) -> dict[str, Any]:
        path = None if self.path is None else str(self.path)
        own = {"shipped": self.path is not None, "path": path, "teacher": self.teacher, "n_soft": self.n_soft}
        return {**own, **self.judgement.to_json()}

    def __str__(self) -> str:
        found = self.judgement
        word = "better" if found.gap >= 0 else "worse"
        text = (
            f"{found.metric} out of fold: student {significant(found.student, 4)}, the same learner without the "
            f"stack's labels {significant(found.control, 4)} ({word} by {with_error(abs(found.gap), found.se)}), "
            f"the stack {significant(self.teacher, 4)}"
        )
        if self.path is not None:
            return f"shipped. {text}"
        return f"not shipped: the student is not ahead by one standard error. {text}"


def distil(
    run_folder: str | Path,
    student: str = "lightgbm",
    output: str | Path | None = None,
    *,
    store: str | Path | None = None,
    trust_code: bool | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> Distillation:
    """Fit a small model on a stack's labels, and write it if they make it better.

    Parameters
    ----------
    run_folder : path
        Folder of a finished run.
    student : {"lightgbm", "mlp"}
    output : path, optional
        The file to write; without it ``student.zip`` in the working folder.
    store : path, optional
        Where the run's store is now, if it was moved.
    trust_code : bool, optional
        As for `predict`.
    progress : callable, optional
        Told of every step, in words.
    force : bool
        Whether a file that holds no student may be replaced.

    Raises
    ------
    UsageError
        If the folder is no run's, there is no such student, its rows have no table, or the file holds something else.
    DataError
        If the run's rows or store are gone.
    """
    if student not in LEARNERS:
        raise UsageError(
            f"student must be one of {', '.join(LEARNERS)}; got {student!r}.{suggest(student, LEARNERS)}"
        )
    place = Path("student.zip" if output is None else output)
    if place.is_dir() or place.suffix != ".zip":
        raise UsageError(
            f"--output must be a file that ends in .zip; got {place}; name one such as student.zip"
        )
    refuse_place(place, run=Path(run_folder), is_text=False)
    refuse_foreign(place, has_packed(HEAD), force=force)
    with opened(run_folder, student, store=store, trust_code=trust_code, progress=progress) as school:
        found = school.judge()
        soft = school.soft(school.train, "all")
        if found.is_ahead:
            school.student(found, soft).save(place)
        return Distillation(found, place if found.is_ahead else None, school.teacher.score, soft.n_rows)


@contextmanager
def opened(
    run_folder: str | Path,
    student: str,
    *,
    store: str | Path | None = None,
    trust_code: bool | None = None,
    progress: Progress | None = None,
) -> Iterator[School]:
    """Give what students of a run are fitted and judged with, for as long as the block lasts; as `distil`."""
    folder = Path(run_folder)
    index, config = read_run(folder)
    entries, train, folds = open_rows(folder / index.store if store is None else Path(store), index)
    code = code_of_run(folder, trust_code).beside((folder / index.folder).resolve())
    own = code if code.is_trusted else NO_CODE
    with whole_run(folder) as marked, explaining_refusals(code), importing(own):
        whole, values = load_predictor(folder / "predictor", trust_code=code.is_trusted)
        whole.refuse_unsaved()
        teacher = Teacher.of(whole, index, folds.is_time, entries, folder)
        test = None if index.test is None or folds.is_time else load_samples(entries.read(index.test))
        form = FileForm.from_json(values, str(folder / "predictor"))
        run = "" if marked is None else marked.id
        school = School.of(config, (train, folds, test), teacher, student, form, run, progress or _log)
        with pinned_threads(config.executor.threads_per_job):
            yield school


def _log(text: str) -> None:
    logger.info("%s", text)


@dataclass(frozen=True)
class School:
    """All that students of a run are fitted and judged with."""

    config: RunConfig
    train: Samples
    folds: Folds
    test: Samples | None
    teacher: Teacher
    learner: Learner
    judged: Judged
    form: FileForm
    run: str
    say: Progress

    @classmethod
    def of(
        cls,
        config: RunConfig,
        rows: tuple[Samples, Folds, Samples | None],
        teacher: Teacher,
        student: str,
        form: FileForm,
        run: str,
        say: Progress,
    ) -> School:
        """Check that the rows can be learnt from, and return what it takes."""
        train, folds, test = rows
        task, fold_of = train.task, folds.fold_of(0)
        if not any(isinstance(values, Table) for values in train.inputs.values()):
            raise UsageError(
                "a student reads tables; got a run over arrays alone; distil a run whose data have columns"
            )
        if task.n_targets != 1 or len(task.quantiles) > 1:
            got = (
                f"{task.n_targets}; run"
                if task.n_targets != 1
                else f"{len(task.quantiles)} quantiles; distil a run of"
            )
            raise UsageError(f"a student predicts one target; got a run with {got} one of them")
        if task.has_lists:
            raise UsageError(
                f"a student learns rows one by one; got a run of task={task.kind}, whose scores are of whole lists; "
                "distil a run of task: regression on the same target"
            )
        loss = declared(config.metric).training_loss or task.losses[0]
        learner = LEARNERS[student](task, loss, config.executor.threads_per_job)
        judged = Judged.of(train, config.metric, teacher.whole.trust_code, fold_of, folds.is_time)
        if teacher.whole.averaging.ranks_within_folds(folds.is_time) and judged.metric.ranking:
            judged = replace(judged, within=fold_of)
        tables = [values for values in train.inputs.values() if isinstance(values, Table)]
        if texts := [name for table in tables for name in table.text_names]:
            say(f"a student reads no texts, which takes thousands of words; left out: {name_values(texts)}")
        return cls(config, train, folds, test, teacher, learner, judged, form, run, say)

    @property
    def tables(self) -> list[str]:
        return [name for name, values in self.train.inputs.items() if isinstance(values, Table)]

    def judge(self) -> Judgement:
        """Fit a student and a control for each fold, and score both.

        Raises
        ------
        DataError
            If fewer than two folds are predicted.
        """
        paths = self.paths()
        rows, *predictions = self.out_of_fold(paths)
        (student, one, decision), (control, other, _) = (self._scored(rows, one) for one in predictions)
        signed = self.judged.metric.signed
        return Judgement(
            learner=self.learner.name,
            metric=self.config.metric,
            student=student,
            control=control,
            gap=signed(control) - signed(student),
            se=float(np.nanstd(other - one, ddof=1)),
            n_rows=len(rows),
            rounds=(_median(paths, list(paths), 0), _median(paths, list(paths), 1)),
            decision=decision,
        )

    def out_of_fold(self, paths: Mapping[int, Paths]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which rows are judged, and what the students and the controls of their folds predict for them.

        Raises
        ------
        DataError
            If fewer than two folds are predicted.
        """
        others = {fold: self._others(fold, paths) for fold in paths}
        used = [fold for fold in paths if others[fold]]
        if not used:
            raise DataError(
                "a student is judged by two folds or more; got fewer that are predicted; use more folds"
            )
        sides = np.full((2, self.train.n_rows, self.train.task.n_outputs), np.nan)
        for fold in used:
            held_out = self.folds.splits[0][fold][1]
            for side in (0, 1):
                n_rounds = _median(paths, others[fold], side)
                sides[side, held_out] = paths[fold][side].predict(n_rounds)
        rows = np.sort(np.concatenate([self.folds.splits[0][fold][1] for fold in used]))
        return rows, *sides[:, rows]

    def student(self, found: Judgement, soft: Samples) -> Student:
        """Return a student of all rows, and of others that all pipelines label."""
        self.say("the student of all rows")
        model, columns = self.fit(found.rounds[0], soft)
        names = ("metric", "student", "control", "gap", "se", "n_rows")
        made = Made(
            run=self.run,
            teacher=self.teacher.submitted,
            version=VERSION,
            n_soft=soft.n_rows,
            n_rounds=found.rounds[0],
            **{name: getattr(found, name) for name in names},
        )
        form = self.form
        return Student(model, form.schema, form.data.to_json(), form.form, found.decision, columns, made)

    def fit(self, n_rounds: int, soft: Samples | None) -> tuple[StudentModel, dict[str, PlainColumns]]:
        """Fit on all rows, and on others that all pipelines label, where there are any."""
        columns = self._columns(self.train)
        lesson = self._lesson(self.train, columns)
        if soft is not None:
            lesson = self._taught(lesson, soft, self.teacher.everything(soft), columns)
        seed = self._seed("learner", "all")
        return self.learner.fit(lesson, n_rounds, self._categories(columns), seed), columns

    def paths(self) -> dict[int, Paths]:
        """Fit a student and a control for each fold."""
        found = {}
        for fold in self.teacher.folds():
            self.say(f"fold {fold}")
            train, held_out = self.folds.splits[0][fold]
            real, judged = self.train.take(train), self.train.take(held_out)
            soft = self.soft(real, fold)
            columns = self._columns(real)
            lesson = self._lesson(real, columns)
            labels = self.teacher.pipeline(fold).predict_pipeline(soft, fold)
            taught = self._taught(lesson, soft, labels, columns)
            valid, seed = self._lesson(judged, columns), self._seed("learner", fold)
            categories = self._categories(columns)
            found[fold] = (
                self.learner.path(taught, valid, categories, seed),
                self.learner.path(lesson, valid, categories, seed),
            )
        return found

    def _others(self, fold: int, paths: Mapping[int, Paths]) -> list[int]:
        """Return the folds that decide for one: all others; with time folds those before it."""
        return [other for other in paths if (other < fold if self.folds.is_time else other != fold)]

    def soft(self, real: Samples, fold: int | str) -> Samples:
        """Return rows to be labelled: perturbed ones, and the test rows."""
        n_rows = int(np.clip(TIMES_SOFT * real.n_rows, FEWEST_SOFT, MOST_SOFT))
        near = perturbed(real, n_rows, self._seed("perturbed", fold))
        if self.test is None:
            return near
        test = self.test
        if test.n_rows > n_rows:
            drawn = np.random.default_rng(self._seed("test rows", fold)).permutation(test.n_rows)[:n_rows]
            test = test.take(np.sort(drawn))
        return joined(near, test)

    def _columns(self, real: Samples) -> dict[str, PlainColumns]:
        return {name: self.learner.columns(_table(real, name)) for name in self.tables}

    def _categories(self, columns: Mapping[str, PlainColumns]) -> list[int]:
        """Return which columns hold numbers of categories."""
        found, n_before = [], 0
        for name, one in columns.items():
            n_numeric = _table(self.train, name).numeric.shape[1]
            found += list(range(n_before + n_numeric, n_before + one.n_columns(n_numeric)))
            n_before += one.n_columns(n_numeric)
        return found

    def _matrix(self, samples: Samples, columns: Mapping[str, PlainColumns]) -> np.ndarray:
        return np.hstack([one.transform(_table(samples, name)) for name, one in columns.items()])

    def _lesson(self, samples: Samples, columns: Mapping[str, PlainColumns]) -> Lesson:
        weight = np.ones(samples.n_rows) if samples.weight is None else mean_one(samples.weight)
        return Lesson(self._matrix(samples, columns), samples.labels, weight)

    def _taught(
        self, lesson: Lesson, soft: Samples, labels: np.ndarray, columns: Mapping[str, PlainColumns]
    ) -> Lesson:
        weight = SOFT_WEIGHT * lesson.weight.sum() / soft.n_rows
        return lesson.with_rows(self._matrix(soft, columns), labels, weight, self.train.task)

    def _scored(self, rows: np.ndarray, prediction: np.ndarray) -> tuple[float, np.ndarray, Decision | None]:
        """Return the score of one side, those of resampled rows, and its rule from predictions to labels."""
        judged = self.judged.take(rows)
        on_scale = self.train.task.to_target_scale(prediction)
        decided, _, decision = decide(judged, on_scale, rows, self.folds, self.config.decision_rule)
        score, bootstrap = judged.score(decided), judged.bootstrap(decided, self._seed("bootstrap"))
        judged.refuse_undefined(score, bootstrap)
        return score, bootstrap, decision

    def _seed(self, *parts: str | int) -> int:
        return derive_seed(self.config.seed, "distil", *parts)


def _median(paths: Mapping[int, Paths], folds: Sequence[int], side: int) -> int:
    return int(np.median([paths[fold][side].best for fold in folds]))


def _table(samples: Samples, name: str) -> Table:
    table = samples.inputs[name]
    assert isinstance(table, Table)
    return table


def joined(one: Samples, other: Samples) -> Samples:
    """Return the rows of both, without labels and roles; inputs that are no tables must be arrays in memory."""
    inputs: dict[str, Any] = {}
    for name, values in one.inputs.items():
        more = other.inputs[name]
        if isinstance(values, Table) and isinstance(more, Table):
            inputs[name] = values.with_rows(more)
        else:
            return one
    ids = np.concatenate([one.ids, other.ids])
    return Samples(ids=ids, inputs=inputs, y=None, task=one.task)
