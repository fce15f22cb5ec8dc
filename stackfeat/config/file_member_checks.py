"""Check members made elsewhere: nets with given weights, and prediction files.

In:  a RunConfig, what the user allows.
Out: findings: names of files, ids, folds, what goes together, what may read them. Files are looked for, not opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stackfeat.config.data_checks import Allowed, file_findings
from stackfeat.config.fields import is_set
from stackfeat.config.problems import Finding
from stackfeat.config.run_config import RunConfig
from stackfeat.data.files.tables import holds, suffixes_of
from stackfeat.engine.graph import Graph
from stackfeat.members.net_options import NetOptions
from stackfeat.members.options import PredictionFiles, PredictionsOptions
from stackfeat.registry.patterns import FOLD, fill, has_fold, placeholder_problem, placeholders
from stackfeat.tasks.task import task_class

_ROLES = ("oof", "test", "folds", "oof_ids", "test_ids")


def import_findings(config: RunConfig, allowed: Allowed) -> list[Finding]:
    """Return all findings about imported members, one by one."""
    findings: list[Finding] = []
    for level, members in config.levels.items():
        for name, options in members.items():
            if isinstance(options, PredictionsOptions):
                findings += _prediction_findings(
                    f"levels.{level}.{name}.predictions", options, config, allowed
                )
    return findings


def _prediction_findings(
    path: str, options: PredictionsOptions, config: RunConfig, allowed: Allowed
) -> Iterator[Finding]:
    files = options.predictions
    if config.data.id is None:
        message = (
            "rows of imported files are aligned by id, never by position; got no data.id. Name the column of the "
            "training file that identifies rows"
        )
        yield Finding(path, message)
    if config.data.test is not None and files.test is None:
        message = "data.test is given, so this member needs its test rows too; got no test. Add test"
        yield Finding(path, message)
    for role in _ROLES:
        name = getattr(files, role)
        if name is not None:
            yield from _prediction_file_findings(f"{path}.{role}", role, name, config, allowed)
    yield from _array_findings(path, files)


def _prediction_file_findings(
    place: str, role: str, name: str, config: RunConfig, allowed: Allowed
) -> Iterator[Finding]:
    problem = placeholder_problem(name, FOLD if role in ("test", "test_ids") else ())
    if role == "test_ids" and has_fold(name):
        problem = "one file of ids is for the test files of all folds; got {fold}. Name one file"
    if problem:
        yield Finding(place, problem if role == "test" or "names of files" not in problem else _plain(name))
        return
    legal = suffixes_of("table") if role == "folds" else suffixes_of("table", "array")
    if Path(name).suffix.lower() not in legal:
        yield Finding(place, f"must be a file of {', '.join(legal)}; got {name!r}. Convert it")
        return
    yield from pattern_findings(place, name, config, allowed)


def _plain(name: str) -> str:
    return f"must be the name of one file; got {name!r}. Only test may hold {{fold}} or {{fold1}}"


def pattern_findings(place: str, name: str, config: RunConfig, allowed: Allowed) -> list[Finding]:
    """Return findings about the files of all folds; of the first where rows decide how many there are."""
    rows_decide = config.folds.kind == "column" or config.data.fold is not None or ":" in config.folds.kind
    n_folds = 1 if rows_decide or not has_fold(name) else config.folds.n
    for fold in range(n_folds):
        findings = file_findings(place, fill(name, fold=fold), allowed)
        if findings:
            return findings
    return []


def _array_findings(path: str, files: PredictionFiles) -> Iterator[Finding]:
    """Check what goes with npy files, which have no ids and no names of columns."""
    is_array = {role: holds(getattr(files, role) or "", "array") for role in ("oof", "test")}
    for role in ("oof", "test"):
        if getattr(files, f"{role}_ids") is not None and not is_array[role]:
            message = f"{role}_ids belongs to an npy file; got {role}={getattr(files, role)!r}. Remove it"
            yield Finding(f"{path}.{role}_ids", message)
    if files.classes is not None and not any(is_array.values()):
        message = "classes names the columns of npy files; columns of other files have names. Remove it"
        yield Finding(f"{path}.classes", message)


def reader_findings(graph: Graph) -> list[Finding]:
    """Return a finding for each tree meta-learner that reads one test file made of all fold models."""
    findings = []
    for node in graph.nodes:
        if not graph.options[node.full_name].is_tree_learner:
            continue
        for block in node.blocks:
            options = graph.options["/".join(block.split("/")[:2])]
            test = None if options.files is None or options.allows_early else options.files.test
            if test is not None and not has_fold(test):
                message = (
                    f"{node.full_name} is made of trees and reads {block!r}, whose one test file ({test!r}) stands "
                    "for all fold models: its rows are smoother than out-of-fold rows, which misleads trees. Give a "
                    "test file of each fold's model ({fold} in the name), leave the block out, or accept it with "
                    "allow_early: true on the imported member"
                )
                findings.append(Finding(f"{node.path}.inputs", message))
    return findings


WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")

NEED_WEIGHTS = ("folds", "frozen", "state_key", "head", "freeze", "lr_decay", "lrs", "classes")

NEED_TRAIN = ("freeze", "lr_decay", "lrs")

_LEAK = (
    "without it features of row i may come from a net that was trained on label i, and every score that follows "
    "is too good"
)


def weights_findings(config: RunConfig, allowed: Allowed) -> list[Finding]:
    """Return all findings about members with weights, and about options that need them."""
    findings: list[Finding] = []
    for level, members in config.levels.items():
        for name, options in members.items():
            if isinstance(options, NetOptions):
                path = f"levels.{level}.{name}"
                findings += _member_findings(path, options, config, allowed)
    return findings


def _member_findings(
    path: str, options: NetOptions, config: RunConfig, allowed: Allowed
) -> Iterator[Finding]:
    if options.weights is None:
        for name in NEED_WEIGHTS:
            if is_set(options, name):
                yield Finding(
                    f"{path}.{name}",
                    f"{name} is about given weights; got no weights. Name the file, or remove it",
                )
        return
    problem = placeholder_problem(options.weights)
    if problem:
        yield Finding(f"{path}.weights", problem)
        return
    yield from _file_findings(path, options.weights, options, config, allowed)
    yield from _fold_findings(path, options.weights, options, config)
    yield from _kind_findings(path, options, config)
    yield from _image_findings(path, options, config)


def _file_findings(
    path: str, pattern: str, options: NetOptions, config: RunConfig, allowed: Allowed
) -> Iterator[Finding]:
    if not pattern.lower().endswith(WEIGHT_SUFFIXES):
        yield Finding(
            f"{path}.weights",
            f"must be a file of {', '.join(WEIGHT_SUFFIXES)}; got {pattern!r}. Save the state dict",
        )
        return
    first = fill_others(pattern)
    if options.folds is not None and not options.taps():
        # The folds file decides how many there are, which is not opened here.
        first = fill(first)
    yield from pattern_findings(f"{path}.weights", first, config, allowed)
    if options.folds is not None:
        yield from file_findings(f"{path}.folds", options.folds, allowed)


def fill_others(pattern: str) -> str:
    """Return the pattern with the first repeat and seed put in; folds stay."""
    for name in ("repeat", "seed"):
        pattern = pattern.replace(f"{{{name}}}", "0")
    return pattern


def _fold_findings(path: str, pattern: str, options: NetOptions, config: RunConfig) -> Iterator[Finding]:
    given_folds = config.folds.kind == "column" or (
        config.folds.kind == "auto" and config.data.fold is not None
    )
    if options.frozen:
        if has_fold(pattern):
            yield Finding(
                f"{path}.weights",
                f"frozen is one net for all folds; got {pattern!r}. Remove frozen, or name one file",
            )
        if options.folds is not None:
            yield Finding(
                f"{path}.folds",
                "a frozen net never saw these rows, so it has no folds. Remove folds, or frozen",
            )
        return
    if not has_fold(pattern):
        if options.folds is not None:
            yield Finding(
                f"{path}.folds",
                f"folds say which rows each checkpoint did not see; got {pattern!r}. Use {{fold}} in weights",
            )
        if not options.is_tuned:
            message = (
                f"one net for all folds has seen the labels it would be asked to predict; got {pattern!r}. Name a "
                "checkpoint of each fold ({fold} in the name, and folds); if it was trained on other data, "
                "set frozen: true for its features, or give train to start from it"
            )
            yield Finding(f"{path}.weights", message)
        return
    if options.folds is None and not given_folds:
        message = (
            "checkpoints of folds need to say which rows each of them did not see: "
            + _LEAK
            + ". Add folds: FILE.csv "
            "with the columns id and fold, or put the fold into the training file (data.fold, folds.kind: column)"
        )
        yield Finding(f"{path}.weights", message)
    if options.folds is not None and config.data.id is None:
        yield Finding(f"{path}.folds", "folds files are aligned by id; got no data.id. Name the id column")
    has_repeats = config.folds.repeats > 1 and config.folds.repeats_as == "stacks"
    if has_repeats and not given_folds and "repeat" not in placeholders(pattern):
        message = f"each of {config.folds.repeats} repeats has its own folds; got {pattern!r}. Use {{repeat}}"
        yield Finding(f"{path}.weights", message)


def _kind_findings(path: str, options: NetOptions, config: RunConfig) -> Iterator[Finding]:
    pattern = options.weights or ""
    if options.frozen and options.is_tuned:
        yield Finding(f"{path}.frozen", "a frozen net is not trained; got train too. Remove one of them")
    if not options.is_tuned:
        for name in NEED_TRAIN:
            if is_set(options, name):
                yield Finding(
                    f"{path}.{name}", f"{name} is about fine-tuning; got no train. Add train, or remove it"
                )
        output = task_class(config.task).output
        if options.head == "reset" and options.emits(output):
            message = f"a head that starts anew has learnt nothing; got no train. Add it, or emit no {output}"
            yield Finding(f"{path}.head", message)
        if options.seeds > 1 and "seed" not in placeholders(pattern):
            message = f"{options.seeds} seeds need a checkpoint each; got {pattern!r}. Use {{seed}}, or remove seeds"
            yield Finding(f"{path}.seeds", message)
        if config.folds.repeats_as == "blocks" and config.folds.repeats > 1:
            yield Finding(
                f"{path}.weights",
                "repeats_as: blocks trains nets again, and checkpoints are not trained. Use seeds and {seed}",
            )
    if options.head == "reset" and options.classes is not None:
        yield Finding(
            f"{path}.classes",
            "classes is the order of a head that is kept; got head: reset. Remove one of them",
        )
    if options.classes is not None and not task_class(config.task).most_classes:
        yield Finding(f"{path}.classes", f"values have no classes; got task={config.task}. Remove it")
    if config.stack.averaging == "refit" and has_fold(pattern):
        yield Finding(
            f"{path}.weights",
            "averaging: refit needs a model of all rows; got checkpoints of folds only. Use averaging: late",
        )


def _image_findings(path: str, options: NetOptions, config: RunConfig) -> Iterator[Finding]:
    """A net that was trained on pictures is wrong on pictures of another size or scale, without a word."""
    inputs = config.data.inputs or {}
    for name in options.inputs if options.inputs is not None else tuple(inputs):
        given = inputs.get(name)
        if given is None:
            continue
        if given.column is not None and (given.size is None or given.normalize == "auto"):
            message = (
                f"a net with given weights needs its pictures as in its training; {name!r} says no "
                f"{'size' if given.size is None else 'normalize'}. State data.inputs.{name}.size and normalize"
            )
            yield Finding(f"{path}.weights", message)
        elif given.normalize == "standard" and options.chosen_scaling == "none":
            message = (
                f"a net with given weights does not know the mean and spread of this run's folds; got {name!r} "
                f"with normalize: standard. Use imagenet, unit or none, as in its training"
            )
            yield Finding(f"data.inputs.{name}.normalize", message)
