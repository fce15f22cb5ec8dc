"""Check members that are read from prediction files: names of files, ids, what may read them.

In:  a RunConfig, what the user allows; for readers, the graph of its members.
Out: findings. Files are looked for, not opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stackfeat.config.path_checks import Allowed, file_findings
from stackfeat.config.problems import Finding
from stackfeat.config.run_config import RunConfig
from stackfeat.ensemble.forewarn import is_tree_learner
from stackfeat.ensemble.graph import Graph
from stackfeat.ensemble.options import EstimatorOptions, PredictionFiles, PredictionsOptions
from stackfeat.registry.file_template import FOLD, fill, has_fold, placeholder_problem

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".feather", ".npy")
FOLD_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".feather")
_ROLES = ("oof", "test", "folds", "oof_ids", "test_ids")


def import_findings(config: RunConfig, allowed: Allowed) -> list[Finding]:
    """Return all findings about imported members, one by one."""
    findings: list[Finding] = []
    for level, members in config.levels.items():
        for name, options in members.items():
            if isinstance(options, PredictionsOptions):
                findings += _member_findings(f"levels.{level}.{name}.predictions", options, config, allowed)
    return findings


def _member_findings(
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
            yield from _file_findings(f"{path}.{role}", role, name, config, allowed)
    yield from _array_findings(path, files)


def _file_findings(
    place: str, role: str, name: str, config: RunConfig, allowed: Allowed
) -> Iterator[Finding]:
    problem = placeholder_problem(name, FOLD if role in ("test", "test_ids") else ())
    if role == "test_ids" and has_fold(name):
        problem = "one file of ids is for the test files of all folds; got {fold}. Name one file"
    if problem:
        yield Finding(place, problem if role == "test" or "names of files" not in problem else _plain(name))
        return
    legal = FOLD_SUFFIXES if role == "folds" else SUFFIXES
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
    is_array = {role: (getattr(files, role) or "").lower().endswith(".npy") for role in ("oof", "test")}
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
    nodes = {node.full_name: node for node in graph.nodes}
    for node in graph.nodes:
        if not isinstance(node.options, EstimatorOptions) or not is_tree_learner(node.options.estimator):
            continue
        for block in node.blocks:
            options = nodes["/".join(block.split("/")[:2])].options
            if not isinstance(options, PredictionsOptions) or options.allow_early:
                continue
            test = options.predictions.test
            if test is not None and not has_fold(test):
                message = (
                    f"{node.full_name} is made of trees and reads {block!r}, whose one test file ({test!r}) stands "
                    "for all fold models: its rows are smoother than out-of-fold rows, which misleads trees. Give a "
                    "test file of each fold's model ({fold} in the name), leave the block out, or accept it with "
                    "allow_early: true on the imported member"
                )
                findings.append(Finding(f"{node.path}.inputs", message))
    return findings
