"""What a config needs the user's trust for: names of code, and parameters that reach outside.

In:  the findings of a check that was made without trust, and the config's values.
Out: needs, each with its place and value, so that remembered trust covers these and nothing else.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stackfeat.config.problems import Finding
from stackfeat.config.yaml_file import join_path
from stackfeat.errors import Problem
from stackfeat.registry.trust import Need, agree_once

_KINDS = {"net": "net", "estimator": "estimator", "metric": "metric", "kind": "splitter"}
"""What the last word of a path says of the name that stands there."""


def needs_of(findings: Sequence[Finding], values: dict[str, Any]) -> list[Need]:
    """Return what was refused for want of trust alone."""
    by_path = dict(_flat("", values))
    return [
        Need(
            finding.path, _what(finding.path), json.loads(json.dumps(by_path.get(finding.path), default=str))
        )
        for finding in findings
        if finding.trust
    ]


def with_remedy(
    problems: Sequence[Problem], needs: Sequence[Need], config: Path, why_not: str
) -> list[Problem]:
    """Add to each refusal how to agree once, and why an earlier agreement does not hold (`why_not`)."""
    command = f"stackfeat trust {shlex.quote(str(config))}"
    places = {need.path for need in needs}
    return [
        replace(problem, message=problem.message.rstrip(".") + "." + agree_once(why_not, command))
        if problem.where in places
        else problem
        for problem in problems
    ]


def _what(path: str) -> str:
    parts = path.split(".")
    is_parameter = "params" in parts and parts[-1] != "estimator"
    return "parameter" if is_parameter else _KINDS.get(parts[-1], "parameter")


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value of a config with its path."""
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _flat(join_path(path, key), item)
