"""Name the options that a config may already hold but that nothing acts on yet.

In:  a RunConfig.
Out: findings "X is not built yet; remove it ...": an option is never silently ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stackfeat.config.problems import Finding
from stackfeat.config.run_config import RunConfig
from stackfeat.nets.options import NetOptions, TapOptions


def unbuilt_findings(config: RunConfig) -> list[Finding]:
    """Return a finding for each option in use that is not built yet."""
    return [
        *_general(config),
        *_types(config),
        *(
            finding
            for level, members in config.levels.items()
            for finding in _members(f"levels.{level}", members)
        ),
    ]


def _unbuilt(path: str, what: str, remedy: str = "remove it") -> Finding:
    return Finding(path, f"{what} is not built yet; {remedy}")


def _general(config: RunConfig) -> Iterator[Finding]:
    if config.executor.kind not in ("inline", "loky"):
        yield _unbuilt("executor.kind", config.executor.kind, "use loky or inline")
    for name in ("memory", "disk"):
        if getattr(config.limits, name) is not None:
            yield _unbuilt(f"limits.{name}", f"limits.{name}")


def _types(config: RunConfig) -> Iterator[Finding]:
    for column, kind in config.data.types.items():
        if kind == "text":
            yield _unbuilt(
                f"data.types.{column}", "type text", "use categorical, or add the column to data.drop"
            )


def _members(path: str, members: Mapping[str, object]) -> Iterator[Finding]:
    for name, options in members.items():
        if isinstance(options, NetOptions):
            yield from _emitted(f"{path}.{name}.emit", options)


def _emitted(path: str, options: NetOptions) -> Iterator[Finding]:
    for place, item in enumerate(options.emit if options.emit != "auto" else ()):
        tap = item if isinstance(item, TapOptions) else TapOptions(tap=item)
        tap_path = f"{path}.{place}.tap" if isinstance(item, TapOptions) else f"{path}.{place}"
        if ":grad" in tap.tap:
            yield _unbuilt(tap_path, f"a tap of gradients ({tap.tap!r})")
        if tap.tap.endswith("#all"):
            yield _unbuilt(tap_path, f"a tap of all calls ({tap.tap!r})", "name one call, such as #0 or #-1")
