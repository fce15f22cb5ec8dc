"""What a class takes, read from its source: names of its constructor, required ones, legal values; names of `fit`.

In:  the path of a class or function (``sklearn.svm.SVC``, ``pkg.mod:Net``).
Out: a Signature, or None where the text does not tell; nothing is imported or run.

scikit-learn's classes list their legal values in ``_parameter_constraints``, of which the forms that a config can
break are understood here; nets of the registry say them in the types of their arguments. What is not understood
lets everything pass, so that nothing is refused that would have worked.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from stackfeat.registry.legal_values import Rule, rules_of_annotation, rules_of_constraint
from stackfeat.registry.source import ModuleFile, find_module

CONSTRAINTS = "_parameter_constraints"
_DEEPEST = 12
_IMPORT = re.compile(r"^[ \t]*from[ \t]+([.\w]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)", re.MULTILINE)
_NEXT = re.compile(r"^[^\s#)\]}\"']", re.MULTILINE)
_LARGEST = 2_000_000

Constraints = dict[str, tuple[Rule, ...]]


@dataclass(frozen=True)
class Signature:
    """What a constructor or factory takes.

    Attributes
    ----------
    names : tuple of str
        Arguments, without ``self``.
    required : tuple of str
        Those without a default.
    is_open : bool
        Whether it takes any further name (``**kwargs``).
    rules : mapping of str to tuple of Rule
        Legal values where they are known: one of the rules must hold.
    """

    names: tuple[str, ...]
    required: tuple[str, ...] = ()
    is_open: bool = False
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Found:
    """A class or function in the text of a module."""

    node: ast.ClassDef | ast.FunctionDef
    module: ModuleFile
    search_path: Path | None


def signature_of(path: str, search_path: Path | None = None) -> Signature | None:
    """Return what a class or factory takes, or None where its text does not tell.

    Parameters
    ----------
    path : str
        ``package.module.Name`` or ``pkg.mod:Name``.
    search_path : Path, optional
        The config's folder, which goes before the installed packages.

    Examples
    --------
    >>> signature_of("sklearn.linear_model.Ridge").names[:2]
    ('alpha', 'fit_intercept')
    """
    # Text of the user's own may change while we run; that of an installed package does not.
    return _known(path) if search_path is None else _read(path, search_path)


@lru_cache(maxsize=256)
def _known(path: str) -> Signature | None:
    return _read(path, None)


def _read(path: str, search_path: Path | None) -> Signature | None:
    module, _, name = path.rpartition(":" if ":" in path else ".")
    found = _find(module, name, search_path, 0)
    if found is None:
        return None
    if isinstance(found.node, ast.FunctionDef):
        return None if found.node.decorator_list else _of_arguments(found.node, is_method=False)
    is_known = search_path is None
    if not is_known and (found.node.decorator_list or found.node.keywords):
        return None
    constructor = _method(found, "__init__", 0)
    if constructor is None or (not is_known and constructor.decorator_list):
        return None
    signature = _of_arguments(constructor, is_method=True)
    constraints = _constraints(found, 0)
    known = {name: rules for name, rules in constraints.items() if name in signature.names and rules}
    return Signature(signature.names, signature.required, signature.is_open, {**signature.rules, **known})


@lru_cache(maxsize=256)
def fit_takes(path: str, argument: str) -> bool | None:
    """Return whether `fit` of an installed class takes an argument of this name; None where its text does not tell.

    Examples
    --------
    >>> fit_takes("sklearn.neighbors.KNeighborsClassifier", "sample_weight")
    False
    """
    module, _, name = path.rpartition(":" if ":" in path else ".")
    found = _find(module, name, None, 0)
    method = None if found is None else _method(found, "fit", 0)
    return None if method is None else argument in _of_arguments(method, is_method=True).names


def _of_arguments(function: ast.FunctionDef, *, is_method: bool) -> Signature:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    with_default = {argument.arg for argument in positional[len(positional) - len(given.defaults) :]}
    pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    with_default |= {argument.arg for argument, default in pairs if default is not None}
    arguments = [*positional[1 if is_method else 0 :], *given.kwonlyargs]
    names = tuple(argument.arg for argument in arguments)
    rules = {argument.arg: rules_of_annotation(argument.annotation) for argument in arguments}
    return Signature(
        names,
        tuple(name for name in names if name not in with_default),
        given.kwarg is not None,
        {name: found for name, found in rules.items() if found},
    )


def _text(path: Path) -> str:
    """Return the text of a module; empty where it cannot be read, or is none."""
    try:
        if path.suffix != ".py" or path.stat().st_size > _LARGEST:
            return ""
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _find(module: str, name: str, search_path: Path | None, depth: int) -> _Found | None:
    """Return a class or function by where it can be imported from, through imports of imports."""
    if depth > _DEEPEST or not module or not name.isidentifier():
        return None
    found = find_module(module, search_path)
    if found is None:
        return None
    node = _definition(found.path, name)
    if node is not None:
        return _Found(node, found, search_path)
    origin = _imports(found.path, _package(found)).get(name)
    return None if origin is None else _find(*origin, search_path, depth + 1)


def _package(module: ModuleFile) -> str:
    return module.name if module.locations else module.name.rpartition(".")[0]


def _definition(path: Path, name: str) -> ast.ClassDef | ast.FunctionDef | None:
    """Return the last class or function of a name at the top of a module.

    Only its own lines are parsed: whole modules of scikit-learn take tens of milliseconds.
    """
    text = _text(path)
    starts = list(re.finditer(rf"^(?:class|def)[ \t]+{name}\b", text, re.MULTILINE))
    if not starts:
        return None
    after = _NEXT.search(text, starts[-1].end())
    lines = text[starts[-1].start() : after.start() if after else len(text)]
    decorated = text[: starts[-1].start()].rstrip("\n").rpartition("\n")[2].startswith(("@", ")"))
    try:
        # A text in several lines may have one at the margin, which looks like the next statement.
        body = ast.parse(text if decorated else lines).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        try:
            body = ast.parse(text).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    nodes = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name]
    return nodes[-1] if nodes else None


def _imports(path: Path, package: str) -> dict[str, tuple[str, str]]:
    """Return where the names that a module imports come from: (module, name)."""
    origins = {}
    for match in _IMPORT.finditer(_text(path)):
        base = match[1]
        n_dots = len(base) - len(base.lstrip("."))
        if n_dots:
            parents = package.split(".")
            kept = parents[: len(parents) - n_dots + 1]
            base = ".".join([*kept, *([base.lstrip(".")] if base.lstrip(".") else [])])
        for item in re.sub(r"#[^\n]*", "", match[2]).strip("() \t\n").split(","):
            words = item.split()
            if words:
                origins[words[-1]] = (base, words[0])
    return origins


def _base(expression: ast.expr, inside: _Found, depth: int) -> _Found | None:
    """Return a base class that an expression names."""
    if isinstance(expression, ast.Name):
        return _find(inside.module.name, expression.id, inside.search_path, depth + 1)
    if isinstance(expression, ast.Attribute) and isinstance(expression.value, ast.Name):
        # nn.Module: the name before the point is a module that was imported.
        module = expression.value.id
        base, name = _imports(inside.module.path, _package(inside.module)).get(module, (module, ""))
        dotted = f"{base}.{name}" if name else base
        return _find(dotted, expression.attr, inside.search_path, depth + 1)
    return None


def _method(found: _Found, name: str, depth: int) -> ast.FunctionDef | None:
    """Return a method of a class, its own or the first inherited one; None where it cannot be told."""
    if depth > _DEEPEST or not isinstance(found.node, ast.ClassDef):
        return None
    functions = {node.name: node for node in found.node.body if isinstance(node, ast.FunctionDef)}
    if name == "__init__" and "__new__" in functions:
        return None
    if name in functions:
        return functions[name]
    for expression in found.node.bases:
        base = _base(expression, found, depth)
        if base is None:
            # Of a class that is not found nothing can be said, and so of what follows it.
            return None
        inherited = _method(base, name, depth + 1)
        if inherited is not None:
            return inherited
    return None


def layers_of(path: str, search_path: Path | None = None) -> set[str] | None:
    """Return the names that a net gives its own layers, or None where its text does not tell.

    Attributes that are no layers, and names of ``mark``, are among them.

    Examples
    --------
    >>> sorted(layers_of("stackfeat.nets.zoo.mlp:MLP"))
    ['blocks', 'embedding', 'head']
    """
    module, _, name = path.rpartition(":" if ":" in path else ".")
    found = _find(module, name, search_path, 0)
    return None if found is None else _layers(found, 0)


def _layers(found: _Found, depth: int) -> set[str] | None:
    node = found.node
    if depth > _DEEPEST or not isinstance(node, ast.ClassDef) or node.decorator_list or not node.bases:
        return None
    names: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and _last(part.func) in _NAMING:
            literal = [one.value for one in part.args[:1] if isinstance(one, ast.Constant)]
            is_told = literal and _last(part.func) not in ("setattr", "__setattr__")
            if not is_told:
                return None
            names.update(map(str, literal))
        elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            names.add(part.attr)
    for expression in node.bases:
        if _last(expression) == "Module":
            continue
        base = _base(expression, found, depth)
        inherited = None if base is None else _layers(base, depth + 1)
        if inherited is None:
            return None
        names |= inherited
    return names


_NAMING = ("add_module", "register_module", "mark", "setattr", "__setattr__")
"""Calls that give a layer a name."""


def _last(expression: ast.expr) -> str:
    return expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")


def _constraints(found: _Found, depth: int) -> Constraints:
    """Return the legal values that a class of scikit-learn lists, by parameter."""
    if depth > _DEEPEST or not isinstance(found.node, ast.ClassDef):
        return {}
    constraints: Constraints | None = None
    for line in found.node.body:
        changed = _stated(line, found, constraints, depth)
        constraints = constraints if changed is None else changed
    if constraints is not None:
        return constraints
    for expression in found.node.bases:
        base = _base(expression, found, depth)
        inherited = {} if base is None else _constraints(base, depth + 1)
        if inherited:
            return inherited
    return {}


def _stated(line: ast.stmt, found: _Found, so_far: Constraints | None, depth: int) -> Constraints | None:
    """Return the constraints after a statement in a class; None where it does not touch them."""
    if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
        targets = line.targets if isinstance(line, ast.Assign) else [line.target]
        if any(isinstance(target, ast.Name) and target.id == CONSTRAINTS for target in targets):
            return _of_mapping(line.value, found, depth)
        for target in targets:
            if isinstance(target, ast.Subscript) and _is_constraints(target.value):
                # An item that is set anew: what stood there counts no longer.
                name = target.slice.value if isinstance(target.slice, ast.Constant) else ""
                return {**(so_far or {}), str(name): rules_of_constraint(line.value)}
    elif isinstance(line, ast.For | ast.Expr) and CONSTRAINTS in ast.unparse(line):
        return _without(line, so_far or {})
    return None


def _without(line: ast.For | ast.Expr, so_far: Constraints) -> Constraints:
    """Drop what ``pop`` or ``update`` names: an argument without a rule takes anything."""
    named = {node.value for node in ast.walk(line) if isinstance(node, ast.Constant)}
    return {name: rules for name, rules in so_far.items() if name not in named}


def _is_constraints(expression: ast.expr) -> bool:
    return isinstance(expression, ast.Name) and expression.id == CONSTRAINTS


def _of_mapping(expression: ast.expr, found: _Found, depth: int) -> Constraints:
    if not isinstance(expression, ast.Dict):
        return {}
    constraints: Constraints = {}
    for key, value in zip(expression.keys, expression.values, strict=True):
        if key is None:
            constraints |= _of_base(value, found, depth)
        elif isinstance(key, ast.Constant):
            constraints[str(key.value)] = rules_of_constraint(value)
    return constraints


def _of_base(expression: ast.expr, found: _Found, depth: int) -> Constraints:
    """Return the constraints that ``**Base._parameter_constraints`` brings."""
    if isinstance(expression, ast.Attribute) and expression.attr == CONSTRAINTS:
        base = _base(expression.value, found, depth)
        return {} if base is None else _constraints(base, depth + 1)
    return {}
