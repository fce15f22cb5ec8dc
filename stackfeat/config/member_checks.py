"""Check members one by one: names of nets and estimators, options against task and kind.

In:  a RunConfig, the config's folder, whether code may be named.
Out: findings. Names are looked up without importing what they name; patterns between members
     are the graph's to check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stackfeat.config.data_checks import Allowed
from stackfeat.config.fields import is_set
from stackfeat.config.problems import Finding
from stackfeat.config.run_config import RunConfig
from stackfeat.config.yaml_file import join_path
from stackfeat.errors import StackfeatError, TrustError
from stackfeat.members.net_options import NetOptions
from stackfeat.members.options import EstimatorOptions, VoteOptions
from stackfeat.meta.votes import vote_problems
from stackfeat.nets.options import JOINT, TapOptions
from stackfeat.registry.names import ESTIMATORS, NET_PACKAGES, NETS, TRUSTED_PACKAGES
from stackfeat.registry.parameter_kinds import nested_estimator
from stackfeat.registry.parameters import (
    ParameterProblem,
    estimator_problems,
    net_problems,
)
from stackfeat.registry.resolve import check_name
from stackfeat.registry.source import find_module
from stackfeat.tasks.task import task_class


def member_findings(config: RunConfig, allowed: Allowed) -> list[Finding]:
    """Return all findings about single members, and about code the folds name."""
    findings = []
    if ":" in config.folds.kind:
        findings += _name_findings("folds.kind", config.folds.kind, {}, "splitter", (), allowed)
    for position, (level, members) in enumerate(config.levels.items()):
        for name, options in members.items():
            path = f"levels.{level}.{name}"
            if isinstance(options, NetOptions):
                findings += _net_findings(path, options, config.task, allowed)
            elif isinstance(options, EstimatorOptions):
                findings += _estimator_findings(path, options, config.task, allowed)
            elif isinstance(options, VoteOptions):
                findings += _vote_findings(path, options, config, is_first=position == 0)
    return findings


def trust_findings(config: RunConfig, folder: Path) -> list[Finding]:
    """Return what members name, and give as parameters, that needs ``--trust-code``; nothing else."""
    allowed = Allowed(folder)
    findings: list[Finding] = []
    for level, members in config.levels.items():
        for name, options in members.items():
            path = f"levels.{level}.{name}"
            if isinstance(options, NetOptions):
                findings += _name_findings(f"{path}.net", options.net, NETS, "net", (), allowed)
                findings += _parameter_findings(path, net_problems(options.net, options.params))
            elif isinstance(options, EstimatorOptions):
                findings += _estimator_findings(path, options, config.task, allowed)
    return [finding for finding in findings if finding.trust]


def _parameter_findings(path: str, found: Iterable[ParameterProblem]) -> list[Finding]:
    findings = []
    for problem in found:
        place = f"{path}.params"
        for key in problem.place:
            place = join_path(place, key)
        findings.append(Finding(place, problem.message, trust=True))
    return findings


def _name_findings(
    path: str,
    name: str,
    table: Mapping[str, str],
    what: str,
    packages: tuple[str, ...],
    allowed: Allowed,
    *,
    nested: bool = False,
) -> list[Finding]:
    try:
        check_name(
            name,
            table,
            what,
            packages=packages,
            trust_code=allowed.trust_code,
            search_path=allowed.folder,
            nested=nested,
        )
    except StackfeatError as error:
        return [Finding(path, str(error), trust=isinstance(error, TrustError))]
    return []


def _net_findings(path: str, options: NetOptions, task: str, allowed: Allowed) -> list[Finding]:
    findings = _name_findings(f"{path}.net", options.net, NETS, "net", (), allowed)
    findings += _package_findings(f"{path}.net", options.net)
    if not allowed.trust_code and not any(finding.trust for finding in findings):
        findings += _parameter_findings(path, net_problems(options.net, options.params))
    if options.emit == ():
        message = f"must name at least one output; got none. Name {task_class(task).output}, or a layer"
        findings.append(Finding(f"{path}.emit", message))
    for place, item in enumerate(options.emit if options.emit != "auto" else ()):
        if isinstance(item, TapOptions):
            findings += _tap_findings(f"{path}.emit.{place}", item)
    *legal, last = ("auto", *task_class(task).head_outputs)
    if options.output not in (*legal, last):
        message = f"must be {', '.join(legal)} or {last} for task {task}; got {options.output}"
        findings.append(Finding(f"{path}.output", message))
    return findings + _train_findings(f"{path}.train", options, task)


def _package_findings(path: str, net: str) -> Iterator[Finding]:
    """Find packages that a net of the table needs and that are not installed."""
    extra, packages = NET_PACKAGES.get(net, ("", ()))
    missing = [package for package in packages if find_module(package, None) is None]
    if missing:
        message = (
            f"net {net!r} needs {' and '.join(missing)}, not installed here. "
            f'Install: pip install "stackfeat[{extra}]"'
        )
        yield Finding(path, message)


def _tap_findings(path: str, tap: TapOptions) -> list[Finding]:
    if not tap.encode:
        return [
            Finding(f"{path}.encode", "must name at least one encoding; got none. Remove it for the default")
        ]
    findings = []
    if tap.reduce is not None and not any(name in JOINT for name in tap.encode):
        message = f"only {' and '.join(JOINT)} are reduced; got encode={list(tap.encode)}. Remove reduce, or name one"
        findings.append(Finding(f"{path}.reduce", message))
    if tap.last is not None and not tap.is_pattern:
        message = (
            f"takes the last matches of a pattern; got tap={tap.tap!r}. Remove last, or write * in the tap"
        )
        findings.append(Finding(f"{path}.last", message))
    elif tap.last is not None and tap.name is None:
        message = f"a block of several layers needs a name; got tap={tap.tap!r}, last={tap.last}. Add name"
        findings.append(Finding(f"{path}.last", message))
    elif tap.is_open and tap.name is not None:
        message = (
            f"a pattern without last gives a block for every layer, named after it; got name={tap.name!r} for "
            f"tap={tap.tap!r}. Remove name, or add last"
        )
        findings.append(Finding(f"{path}.name", message))
    if is_set(tap, "combine") and tap.last is None:
        message = (
            f"says how several layers become one block; got combine={tap.combine} without last. Remove it"
        )
        findings.append(Finding(f"{path}.combine", message))
    return findings


def _train_findings(path: str, options: NetOptions, task: str) -> list[Finding]:
    train, findings, losses = options.train, [], task_class(task).losses
    if train.loss not in ("auto", *losses):
        message = f"must be auto or {' or '.join(losses)} for task {task}; got {train.loss}"
        findings.append(Finding(f"{path}.loss", message))
    for name in task_class(task).unusable_training:
        if is_set(train, name):
            message = f"needs classes; got task={task}, {name}={getattr(train, name)}. Remove it"
            findings.append(Finding(f"{path}.{name}", message))
    return findings


def _estimator_findings(path: str, options: EstimatorOptions, task: str, allowed: Allowed) -> list[Finding]:
    findings = []
    for place, name in _estimator_names(path, options):
        nested = place != f"{path}.estimator"
        found = _name_findings(place, name, ESTIMATORS, "estimator", TRUSTED_PACKAGES, allowed, nested=nested)
        findings += found or _kind_findings(place, name, task)
    is_refused = any(finding.trust and finding.path == f"{path}.estimator" for finding in findings)
    if not allowed.trust_code and not is_refused:
        known = {finding.path for finding in findings}
        further = _parameter_findings(path, estimator_problems(options.estimator, options.params))
        findings += [finding for finding in further if finding.path not in known]
    return findings


def _estimator_names(path: str, options: EstimatorOptions) -> Iterator[tuple[str, str]]:
    yield f"{path}.estimator", options.estimator
    yield from _names_inside(f"{path}.params", options.params)


def _names_inside(path: str, values: Any) -> Iterator[tuple[str, str]]:
    """Yield the estimators inside arguments, written {estimator: ..., params: ...} at any depth."""
    # What is no mapping where params should stand is refused with the parameters.
    is_list = isinstance(values, list | tuple)
    items = values.items() if isinstance(values, dict) else enumerate(values if is_list else ())
    for key, value in items:
        place = join_path(path, key)
        if nested_estimator(value):
            yield join_path(place, "estimator"), value["estimator"]
            yield from _names_inside(join_path(place, "params"), value.get("params") or {})
        elif isinstance(value, dict | list | tuple):
            yield from _names_inside(place, value)


def _kind_findings(path: str, name: str, task: str) -> list[Finding]:
    """Find a regressor in a classification task, or the reverse, by the names these packages use."""
    right = task_class(task).estimator_suffix
    (wrong,) = {"Classifier", "Regressor"} - {right}
    if path.count(".") > 3 or not name.endswith(wrong) or name.split(".")[0] not in TRUSTED_PACKAGES:
        return []
    message = f"must be a {right.lower()} for task {task}; got {name}. Try {name.removesuffix(wrong)}{right}"
    return [Finding(path, message)]


def _vote_findings(path: str, options: VoteOptions, config: RunConfig, *, is_first: bool) -> list[Finding]:
    findings = []
    if is_first:
        findings.append(
            Finding(f"{path}.vote", "the first level has nothing to vote on. Move the vote to a later level")
        )
    given = {name: getattr(options, name) for name in type(options).model_fields if is_set(options, name)}
    problems = vote_problems(options.vote, config.task, given)
    return [*findings, *(Finding(f"{path}.{name}", message) for name, message in problems)]
