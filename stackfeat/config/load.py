"""Turn a config file, or a dict, into a RunConfig that can run; or say everything that is wrong.

In:  a YAML file, `--set` arguments, and what the user allows (code, data folders).
Out: LoadedConfig, or one ConfigError with every problem, its file and its line.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stackfeat.config.checks import config_findings, needs_of, with_remedy
from stackfeat.config.data_checks import Allowed, data_roots_from
from stackfeat.config.guessed import completed
from stackfeat.config.overrides import apply_overrides
from stackfeat.config.problems import NOWHERE, Finding, Places, findings_of, show
from stackfeat.config.run_config import Key, RunConfig, value_at
from stackfeat.config.yaml_file import MAX_PROBLEMS, join_path, path_of, read_yaml
from stackfeat.device import device_kind
from stackfeat.errors import ConfigError, Problem, TrustError
from stackfeat.members.settings import RunSettings
from stackfeat.metrics.built_in import METRICS
from stackfeat.metrics.registry import declared
from stackfeat.registry.resolve import code_hash
from stackfeat.registry.trust import ConfigFile, Need, recall_config
from stackfeat.registry.user_code import NO_CODE, Code
from stackfeat.tasks.task import task_class

# What lets the other checks go on where a required option is missing or wrong.
_STAND_INS: dict[tuple[Key, ...], Any] = {
    ("task",): "multiclass",
    ("metric",): "log_loss",
    ("data",): {"train": "sklearn:iris"},
    ("data", "train"): "sklearn:iris",
    ("levels",): {"base": {"gbm": {"estimator": "lightgbm.LGBMClassifier"}}},
}
_N_REPAIRS = 4


@dataclass(frozen=True)
class LoadedConfig:
    """A config without problems, and where it came from.

    Attributes
    ----------
    config : RunConfig
    path : Path or None
        The file; None for a dict.
    folder : Path
        Absolute; all paths in the config are relative to it.
    lines : mapping of str to int
        Path such as ``levels.base.mlp.train.lr`` to its line in the file.
    code : Code
        Which code of the user's own it may import.
    places : Places
        Where its values came from, for problems that are found later.
    guesses : tuple of str
        What was left out and guessed of the files, a line for each.
    origin : Path or None
        Whose results a run folder holds: the config's file, or the training file that was run without one.
    """

    config: RunConfig
    path: Path | None
    folder: Path
    lines: Mapping[str, int]
    code: Code = NO_CODE
    places: Places = NOWHERE
    guesses: tuple[str, ...] = ()
    origin: Path | None = None

    def source_hash(self, name: str) -> str | None:
        """Return the hash of the user's own source behind a name; None where it is of a known package."""
        return code_hash(name, self.folder)

    def code_under(self, trust_code: bool | None) -> Code:
        """Return the code that a call may import which was given `trust_code`; None: as the config was loaded."""
        if trust_code is None:
            return self.code
        return Code(self.folder) if trust_code else NO_CODE


@dataclass(frozen=True)
class Checked:
    """What checking a config gave: the config, or problems and what is right; and what it needs trust for."""

    config: RunConfig | None
    problems: list[Problem]
    needs: list[Need]
    only_needs: bool
    folder: Path
    places: Places
    rest: RunConfig | None = None
    guesses: tuple[str, ...] = ()

    def raised(self) -> RunConfig:
        """Return the config, or raise all that is wrong with it."""
        if self.problems or self.config is None:
            error = (TrustError if self.only_needs else ConfigError)(_in_order(self.problems))
            if self.rest is not None:
                error.rest = LoadedConfig(self.rest, None, self.folder, {}, places=self.places)
            raise error
        return self.config


def load_config(
    path: Path | str,
    *,
    overrides: Sequence[str] = (),
    trust_code: bool | None = None,
    data_roots: Sequence[Path] = (),
) -> LoadedConfig:
    """Read and check a config file.

    Parameters
    ----------
    path : path
        A YAML file.
    overrides : sequence of str
        ``a.b.c=value`` each; values are read as YAML.
    trust_code : bool, optional
        Whether the config may name code outside the tables and trusted packages. None: where
        `stackfeat trust` remembers it for these very files; False: not even then.
    data_roots : sequence of Path
        Folders outside the config's that its paths may lead to, besides those of STACKFEAT_DATA_ROOTS.

    Raises
    ------
    ConfigError
        With all problems found, in `problems`.
    TrustError
        If the only problems are code that was not agreed to.
    """
    path = Path(path)
    document = read_yaml(path)
    allowed = Allowed(path.absolute().parent, data_roots_from(data_roots), bool(trust_code))
    places = Places(str(path), document.lines)
    code = Code(allowed.folder) if trust_code else NO_CODE
    checked = _checked(document.values, overrides, places, allowed)
    if checked.needs and not trust_code:
        if trust_code is None:
            code = recall_config(ConfigFile(path, document.sha256), checked.needs)
        if code.is_trusted:
            checked = _checked(document.values, overrides, places, replace(allowed, trust_code=True))
        else:
            problems = with_remedy(checked.problems, checked.needs, path, code.why_not)
            checked = replace(checked, problems=problems)
    return LoadedConfig(
        checked.raised(), path, allowed.folder, document.lines, code, checked.places, checked.guesses, path
    )


def examine_config(
    path: Path, data_roots: Sequence[Path] = ()
) -> tuple[ConfigFile, LoadedConfig, list[Need]]:
    """Return a config as it would load under trust, and what it needs that trust for; for `stackfeat trust`."""
    document = read_yaml(path)
    allowed = Allowed(path.absolute().parent, data_roots_from(data_roots))
    places = Places(str(path), document.lines)
    needs = _checked(document.values, (), places, allowed).needs
    config = _checked(document.values, (), places, replace(allowed, trust_code=True)).raised()
    loaded = LoadedConfig(config, path, allowed.folder, document.lines)
    return ConfigFile(path, document.sha256), loaded, needs


def config_from_dict(
    values: Mapping[str, Any],
    folder: Path | str,
    *,
    overrides: Sequence[str] = (),
    trust_code: bool = False,
    data_roots: Sequence[Path] = (),
) -> LoadedConfig:
    """Check a config given as a dict; as `load_config`, with paths relative to `folder`."""
    allowed = Allowed(Path(folder).absolute(), data_roots_from(data_roots), trust_code)
    checked = _checked(dict(values), overrides, Places(), allowed)
    code = Code(allowed.folder) if trust_code else NO_CODE
    return LoadedConfig(checked.raised(), None, allowed.folder, {}, code, checked.places, checked.guesses)


def _checked(values: Any, overrides: Sequence[str], places: Places, allowed: Allowed) -> Checked:
    if not isinstance(values, dict):
        got = "an empty file" if values is None else show(values)
        required = ", ".join(name for name in RunConfig.names() if RunConfig.model_fields[name].is_required())
        message = f"a config must be a mapping with {required}; got {got}"
        raise ConfigError([Problem("", message, places.file, 1 if places.file else None)])
    overridden = apply_overrides(values, overrides)
    places = replace(places, overrides=overridden.arguments)
    allowed = replace(allowed, overridden=tuple(overridden.arguments))
    whole = completed(overridden.values, allowed)
    config, findings, rest = _validated(whole.values, allowed)
    problems = overridden.problems + [places.problem(finding) for finding in findings]
    only_needs = not overridden.problems and all(finding.trust for finding in findings)
    needs = needs_of(findings, whole.values)
    return Checked(config, problems, needs, only_needs, allowed.folder, places, rest, whole.guesses)


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Sort by line; what has none comes first. Nobody repairs hundreds at once."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    n_more = len(ordered) - MAX_PROBLEMS
    if n_more > 0:
        more = f"and {n_more} more problems; repair these first"
        ordered[MAX_PROBLEMS:] = [Problem("", more, ordered[0].file)]
    return ordered


def _validated(
    values: dict[str, Any], allowed: Allowed
) -> tuple[RunConfig | None, list[Finding], RunConfig | None]:
    """Return the config and all findings; where values are wrong, the rest, which is checked without them.

    The rest is None where nothing can be said of the data files by it.
    """
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        findings = findings_of(error, values)
    else:
        numbers = list(_truth_as_number(values, config.to_json(), ""))
        config, declared = _with_declared(config, allowed)
        findings = numbers + declared + config_findings(config, allowed)
        return config, findings, config if _has_files(findings) else None
    repaired, removed = _repaired(values, [finding.keys for finding in findings])
    if repaired is None:
        return None, findings, None
    roots = {keys[0] for keys in removed}
    repaired, _ = _with_declared(repaired, allowed)
    further = config_findings(repaired, allowed, with_graph=not roots & {"levels", "data", "folds", "task"})
    paths = [path_of(keys) for keys in removed]
    for finding in further:
        is_known = any(finding.path == path or finding.path.startswith(f"{path}.") for path in paths)
        if not is_known and not ("task" in roots and "task" in finding.message):
            findings.append(finding)
    is_replaced = bool({("data",), ("data", "train"), ("task",)} & set(removed))
    return None, findings, repaired if _has_files(findings) and not is_replaced else None


def _has_files(findings: Sequence[Finding]) -> bool:
    """Whether nothing was found wrong with the paths of data files."""
    return not any(
        finding.path in ("data.train", "data.test", "data.sample_submission") for finding in findings
    )


def _with_declared(config: RunConfig, allowed: Allowed) -> tuple[RunConfig, list[Finding]]:
    """Fill in what learners declare, such as training options of nets, and look up the files of pools.

    A resolved config has no options left to fill.
    """
    levels: dict[str, dict[str, Any]] = {}
    findings = []
    for level, members in config.levels.items():
        levels[level] = dict(members)
        for name, options in members.items():
            try:
                levels[level][name] = options.resolved(config.task, allowed.folder).found_in(allowed)
            except ConfigError as error:
                findings.append(Finding(f"levels.{level}.{name}.net", str(error)))
    return config.model_copy(update={"levels": levels}), findings


def _repaired(
    values: dict[str, Any], wrong: Sequence[tuple[Key, ...]]
) -> tuple[RunConfig | None, list[tuple[Key, ...]]]:
    """Return a config without what is wrong, and the paths removed; None where nothing sensible is left."""
    values, removed = copy.deepcopy(values), []
    for _ in range(_N_REPAIRS):
        for keys in wrong:
            place = _to_remove(keys, values)
            if place in _STAND_INS:
                value_at(values, place[:-1])[place[-1]] = copy.deepcopy(_STAND_INS[place])
            elif place and isinstance(value_at(values, place[:-1]), dict):
                value_at(values, place[:-1]).pop(place[-1], None)
            removed.append(place or keys)
        _drop_empty_levels(values)
        try:
            return RunConfig.model_validate(values), removed
        except ValidationError as error:
            wrong = [finding.keys for finding in findings_of(error, values)]
    return None, removed


def _drop_empty_levels(values: dict[str, Any]) -> None:
    """Take out levels whose members were all taken out."""
    levels = values.get("levels")
    if isinstance(levels, dict):
        kept = {name: members for name, members in levels.items() if members != {}}
        values["levels"] = kept or copy.deepcopy(_STAND_INS[("levels",)])


def _to_remove(keys: tuple[Key, ...], values: dict[str, Any]) -> tuple[Key, ...]:
    """Return what to take out: the option itself, the list around an item, the owner of a missing option."""
    first_index = next((place for place, key in enumerate(keys) if isinstance(key, int)), len(keys))
    keys = keys[:first_index]
    parent = value_at(values, keys[:-1])
    is_missing = not isinstance(parent, dict) or keys[-1] not in parent
    return keys[:-1] if is_missing and keys not in _STAND_INS else keys


def _truth_as_number(given: Any, read: Any, path: str) -> Iterator[Finding]:
    """Find true and false where a number was read: pydantic takes true for 1."""
    if isinstance(given, bool) and not isinstance(read, bool) and isinstance(read, int | float):
        yield Finding(path, f"must be a number; got {show(given)}")
    elif isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from _truth_as_number(value, read.get(key), join_path(path, key))
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for place, (value, found) in enumerate(zip(given, read, strict=True)):
            yield from _truth_as_number(value, found, join_path(path, place))


def run_settings(loaded: LoadedConfig) -> RunSettings:
    """Return what results depend on besides data, folds and member options."""
    config = loaded.config
    return RunSettings(
        threads=config.executor.threads_per_job,
        device=device_kind(config.executor.device),
        loss=declared(config.metric).training_loss or task_class(config.task).losses[0],
        gate_se=config.stack.gate_se,
        metric=config.metric,
        metric_code=None if config.metric in METRICS else code_hash(config.metric, loaded.folder),
        seed_copies=config.folds.repeats if config.folds.repeats_as == "blocks" else 1,
    )
