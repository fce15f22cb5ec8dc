"""What can be said of a config once its data files have been looked at: columns, targets, ids, imported files.

In:  a config; of its files the headers and a sample of the rows are read.
Out: what the files hold, and every problem with its place in the config, those of the config itself included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stackfeat.config.load import LoadedConfig, load_config
from stackfeat.config.planner import Planner
from stackfeat.config.problems import Finding
from stackfeat.errors import ConfigError, DataError, Problem
from stackfeat.members.options import MemberOptions
from stackfeat.members.prediction_files import PredictionFiles
from stackfeat.registry.patterns import has_fold
from stackfeat.registry.resolve import quote_values, suggest

if TYPE_CHECKING:
    from stackfeat.data.schema.examine import Examination

MOST_BYTES = 2**23
"""Of imported files and sample submissions: larger ones are read when the config is run."""


@dataclass
class CheckedFiles:
    """What was found in the files of a config.

    Attributes
    ----------
    problems : list of Problem
        In the order of the config.
    warnings, notes : list of str
        What may be wrong; what the files hold, and what was guessed of them.
    """

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load_checked(
    config: Path | str,
    *,
    overrides: Sequence[str] = (),
    trust_code: bool | None = None,
    data_roots: Sequence[Path] = (),
) -> LoadedConfig:
    """Load a config; where something is wrong with it, look at its files too, so that all is said at once.

    Raises
    ------
    ConfigError
        As `load_config`, with what is wrong with the files behind what is wrong with the config.
    """
    try:
        return load_config(config, overrides=overrides, trust_code=trust_code, data_roots=data_roots)
    except ConfigError as error:
        if error.rest is None:
            raise
        problems = check_files(error.rest).problems
        known = {problem.where for problem in error.problems}
        further = [problem for problem in problems if problem.where not in known]
        if further:
            raise error.followed_by(further) from None
        raise


def look_at_files(planner: Planner) -> None:
    """Raise everything that is wrong with the files of a run before any is read as a whole.

    Files that are in the store have been read: nothing is looked at again.

    Raises
    ------
    DataError
    """
    if all(planner.store.has(recipe.key) for recipe in planner.recipes.files):
        return
    problems = check_files(planner.loaded).problems
    if problems:
        raise DataError(problems)


def check_files(loaded: LoadedConfig) -> CheckedFiles:
    """Look at the data files of a config and at what its members read from files."""
    from stackfeat.data.schema.examine import examine

    config = loaded.config
    holds_out = config.stack.holdout == "column"
    found = examine(config.data, config.folds, loaded.folder, config.task, config.metric, holds_out=holds_out)
    findings = [Finding(place, _relative(text, loaded.folder)) for place, text in found.problems]
    findings += _sample_findings(loaded, found)
    for path, member in _members(loaded):
        findings += _prediction_findings(path, member, loaded, found)
        findings += _class_findings(path, member, found)
    problems = [loaded.places.problem(finding) for finding in dict.fromkeys(findings)]
    doubtful = [str(guess) for guess in found.guesses if guess.is_doubtful]
    certain = [str(guess) for guess in found.guesses if not guess.is_doubtful]
    said = [_relative(text, loaded.folder) for text in (*found.warnings, *doubtful)]
    return CheckedFiles(
        sorted(problems, key=lambda problem: problem.line or 0),
        list(dict.fromkeys(said)),
        [", ".join(found.notes), *certain],
    )


def _relative(text: str, folder: Path) -> str:
    """Return a message in which files are named as in the config."""
    return text.replace(f"{folder}/", "")


def _members(loaded: LoadedConfig) -> Iterator[tuple[str, MemberOptions]]:
    for level, members in loaded.config.levels.items():
        for name, options in members.items():
            yield f"levels.{level}.{name}", options


def _sample_findings(loaded: LoadedConfig, found: Examination) -> Iterator[Finding]:
    """Yield what of the sample submission cannot be what the predictions of the test rows are written like."""
    from stackfeat.data.schema.load import read_sample
    from stackfeat.output.submission import Form, check_sample

    options = loaded.config.data
    if options.sample_submission is None or found.task is None or found.test is None:
        return
    is_large = (loaded.folder / options.sample_submission).stat().st_size > MOST_BYTES
    if found.is_part_of_test or is_large:
        return
    try:
        sample = read_sample(options, loaded.folder)
        if sample is not None:
            check_sample(sample, found.test, Form.of(options, sample))
    except DataError as error:
        yield Finding("data.sample_submission", _relative(str(error), loaded.folder))


def _prediction_findings(
    path: str, member: MemberOptions, loaded: LoadedConfig, found: Examination
) -> Iterator[Finding]:
    """Yield what is wrong with the files of an imported member: columns, ids, classes."""
    files = member.files
    if files is None or found.task is None or found.train is None:
        return
    of_train = None if found.is_part else found.train
    for role, rows in (("oof", of_train), ("test", None if found.is_part_of_test else found.test)):
        name = getattr(files, role)
        if name is None or has_fold(name) or rows is None:
            continue
        try:
            _check_predictions(role, files, rows.ids, loaded, found)
        except (DataError, OSError) as error:
            yield Finding(f"{path}.predictions.{role}", _relative(str(error), loaded.folder))


def _check_predictions(
    role: str, files: PredictionFiles, ids: np.ndarray, loaded: LoadedConfig, found: Examination
) -> None:
    from stackfeat.data.schema.prediction_file import read_predictions

    config, folder = loaded.config, loaded.folder
    file = folder / getattr(files, role)
    if file.stat().st_size > MOST_BYTES or found.task is None:
        return
    of_rows = getattr(files, f"{role}_ids")
    read = read_predictions(
        file,
        found.task,
        config.data.id or "id",
        target=config.data.target_name,
        ids=None if of_rows is None else folder / of_rows,
        classes=files.classes,
    )
    missing = np.setdiff1d(ids, read.ids)
    # No fold predicts the rows that a holdout takes, nor the earliest where folds follow time.
    may_lack = role == "oof" and bool(config.stack.holdout or config.data.time or ":" in config.folds.kind)
    if len(missing) and not may_lack:
        raise DataError(
            f"{file}: must have a row for every {'training' if role == 'oof' else 'test'} row; missing are "
            f"{len(missing)} ids, such as {quote_values(missing[:5].tolist())}; write them, or check data.id"
        )


def _class_findings(path: str, member: MemberOptions, found: Examination) -> Iterator[Finding]:
    """Yield classes that a member names and no row has."""
    if found.task is None or not found.task.most_classes or found.is_part:
        return
    known = [str(label) for label in found.task.classes]
    for place, labels in member.named_classes():
        for label in labels:
            if str(label) not in known:
                message = (
                    f"must name classes ({', '.join(known)}); got {str(label)!r}.{suggest(str(label), known)}"
                )
                yield Finding(f"{path}.{place}", message)
