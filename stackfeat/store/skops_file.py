"""Fitted estimators as bytes, by skops; of bytes that come back every node is judged before one is built.

In:  estimators, or bytes whose SHA-256 has been checked, which says that they are whole and not who made them.
Out: bytes, or estimators made of known types alone. No pickle, no method, no function but those that
     score columns, no import of a module that the file names: a type is listed in `registry/classes.toml` or refused.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import sys
import zipfile
from collections.abc import Collection, Iterator
from typing import Any

from stackfeat.errors import MemberError, StructureError, TrustError, described
from stackfeat.registry.allowed import (
    SAVED_NODES,
    allowed_class,
    is_allowed_class,
    is_allowed_path,
    public_path,
)
from stackfeat.registry.parameter_kinds import SCORE_FUNCTIONS
from stackfeat.store.native_parts import check_native_parts
from stackfeat.store.npy import check_header
from stackfeat.structure import parse_json

BIT_GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})
"""What of numpy.random a saved generator may be built from."""

SCHEMA = "schema.json"
MOST_MEMBERS = 200_000
MOST_LEVELS = 300
MOST_BYTES = 16 << 30
FREE_BYTES = 256 << 20
"""Up to so many unpacked bytes any ratio will do."""

MOST_RATIO = 200

_CHECK_ARRAY = {
    "__class__": "check_array",
    "__module__": "sklearn.utils.validation",
    "__loader__": "FunctionNode",
}

_SCORER = ("sklearn.metrics._scorer", "_Scorer")

_NOTHING = {
    "__class__": "str",
    "__module__": "builtins",
    "__loader__": "JsonNode",
    "content": "null",
    "is_json": True,
}

_IMPORTS_TORCH = "sklearn.externals.array_api_compat.torch"


def save_object(value: Any) -> bytes:
    """Return a value's skops file.

    Raises
    ------
    MemberError
        If skops cannot write a type in it.
    """
    try:
        # Forests shrink tenfold at the fastest level, and load faster.
        skops = _skops_io()
        _ask_once(skops)
        data = bytes(skops.dumps(value, compression=zipfile.ZIP_DEFLATED, compresslevel=1))
    except Exception as error:
        raise MemberError(f"{type(value).__name__} cannot be saved by skops: {error}") from error
    schema = _read_schema(data)
    if b"<lambda>" in schema or b"<locals>" in schema:
        raise MemberError(
            f"{type(value).__name__} cannot be saved by skops: it holds a lambda or a local function or class, "
            "which no import can find again. Define it at the top of a module"
        )
    return _without_functions(data, schema)


def load_object(data: bytes, extra: Collection[str] = ()) -> Any:
    """Build what `save_object` wrote, after every node was judged.

    Parameters
    ----------
    extra : collection of str
        Types of user code, given only under ``--trust-code``.

    Raises
    ------
    TrustError
        If the file holds another type.
    StructureError
        If it is no skops file, or asks for more than there is in it.
    """
    refused, accepted = _judge(data)
    unknown = sorted(refused - set(extra))
    if unknown:
        raise TrustError(
            f"a saved estimator must hold known types only; got {', '.join(unknown)[:300]}. "
            "If the class is your own code, give --trust-code"
        )
    try:
        loaded = _skops_io().loads(data, trusted=sorted(accepted | refused))
    except Exception as error:
        raise StructureError(
            f"a saved estimator must be one that this version reads; got {described(error)}"
        ) from error
    check_native_parts(loaded)
    return loaded


def unknown_types(data: bytes) -> list[str]:
    """Return the types in a skops file that need the user's trust, sorted."""
    return sorted(_judge(data)[0])


def unsaveable(estimator: Any) -> str | None:
    """Say why an unfitted estimator cannot be saved, or None; tried before a run starts."""
    try:
        save_object(estimator)
    except MemberError as error:
        return str(error)
    return None


def _skops_io() -> Any:
    """Import skops.io, without torch.

    It lists all estimators, for which scikit-learn imports every package it has. One of them, which no estimator
    stands in, imports torch: a second and 180 MB in every worker of a stack that has no net.
    """
    if "skops.io" in sys.modules or _IMPORTS_TORCH in sys.modules:
        return importlib.import_module("skops.io")
    sys.modules[_IMPORTS_TORCH] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("skops.io")
    finally:
        sys.modules.pop(_IMPORTS_TORCH, None)


def _ask_once(skops: Any) -> None:
    """Let skops ask boosters for their state once, for which they write out all trees.

    It asks every object how it is built anew, too, which plain Python answers with the state. A version of skops that
    has no such place does it twice.
    """
    writers: Any = getattr(getattr(skops, "_persist", None), "_get_state", None)
    if not hasattr(writers, "registry"):
        return
    for library in ("lightgbm", "xgboost"):
        kind = getattr(sys.modules.get(library), "Booster", None)
        if kind is not None and kind not in writers.registry:
            writers.register(kind)(_state_node)


def _state_node(value: Any, context: Any) -> dict[str, Any]:
    kind = type(value)
    return {
        "__class__": kind.__name__,
        "__module__": kind.__module__,
        "__loader__": "ObjectNode",
        "content": _skops_io()._persist.get_state(value.__getstate__(), context),
    }


def _judge(data: bytes) -> tuple[set[str], set[str]]:
    """Return the types of a file that are refused, and those that are known."""
    protocol = _skops_io()._protocol.PROTOCOL
    schema = parse_json(_read_schema(data), SCHEMA, levels=MOST_LEVELS)
    found = schema.get("protocol") if isinstance(schema, dict) else None
    if type(found) is not int or found != protocol:
        # Nodes of older protocols are built by older code.
        raise StructureError(
            f"a saved estimator must have protocol {protocol} of skops; got {str(found)[:40]}"
        )
    refused, accepted = set[str](), set[str]()
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        for node in _nodes(schema):
            kind, name = _kind_of(node)
            if kind in ("NdArrayNode", "SparseMatrixNode") and "file" in node:
                _check_arrays(file, node["file"], kind)
            if kind == "RandomGeneratorNode" and _bit_generator(node) not in BIT_GENERATORS:
                # Older versions of skops call whatever of numpy.random stands there.
                refused.add(f"numpy.random.{_bit_generator(node)}")
            if kind != "CachedNode":
                (accepted if _is_known(kind, name) else refused).add(name)
    return refused, accepted


def _bit_generator(node: dict[str, Any]) -> str:
    """Return the name of the bit generator in a node, where skops looks for it."""
    found: Any = node
    for key in ("content", "bit_generator", "content", "bit_generator", "content"):
        found = found.get(key) if isinstance(found, dict) else None
    return found.strip('"')[:60] if isinstance(found, str) else "unknown"


def _check_arrays(file: zipfile.ZipFile, name: Any, kind: str) -> None:
    """Raise StructureError unless a part holds the array, or sparse matrix, that its header says."""
    if not isinstance(name, str) or name not in file.NameToInfo:
        raise StructureError(f"a saved estimator must hold its arrays; got none called {str(name)[:60]!r}")
    size = file.getinfo(name).file_size
    if kind == "NdArrayNode":
        with file.open(name) as part:
            check_header(part, size, name[:60])
        return
    try:
        with zipfile.ZipFile(io.BytesIO(file.read(name))) as inner:
            _check_members(inner, size)
            for item in inner.namelist():
                _check_arrays(inner, item, "NdArrayNode")
    except zipfile.BadZipFile as error:
        raise StructureError(f"a sparse matrix must be a npz file; got {described(error)}") from error


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield everything in a schema that skops may take for a node, wherever it stands."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "__loader__" in value:
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _kind_of(node: dict[str, Any]) -> tuple[str, str]:
    words = [node.get(key) for key in ("__loader__", "__module__", "__class__")]
    if not all(isinstance(word, str) for word in words):
        raise StructureError(f"a node of a saved estimator must name its type; got {str(words)[:100]}")
    kind, module, name = (str(word) for word in words)
    return kind, f"{module}.{name}"


def _is_known(kind: str, name: str) -> bool:
    if kind == "FunctionNode":
        return is_known_function(name)
    if kind not in SAVED_NODES:
        return False
    if kind in ("LossNode", "ObjectNode"):
        name = _full_name(name)
    return name in SAVED_NODES[kind] or (kind == "ObjectNode" and is_known_estimator(name))


def _full_name(loss: str) -> str:
    """Return where scikit-learn has a loss; in its older versions compiled losses know their module as ``_loss``."""
    module, _, name = loss.rpartition(".")
    if module != "_loss":
        return loss
    # Loading it takes what stands under that name, so this must be scikit-learn's, and no file called so.
    importlib.import_module("sklearn.linear_model")
    losses = sys.modules.get("sklearn._loss._loss")
    return f"{losses.__name__}.{name}" if losses and sys.modules.get("_loss") is losses else loss


def is_known_estimator(name: str) -> bool:
    """Whether a type is an estimator of the allow-list, under the name of the module that defines it.

    The class is looked up where the list has it: the module that the file names is not imported.
    """
    path = public_path(name)
    if not is_allowed_path(path, nested=True):
        return False
    try:
        found = allowed_class(path, nested=True)
    except (TrustError, ImportError):
        return False
    return f"{found.__module__}.{found.__qualname__}" == name and is_allowed_class(found, nested=True)


def is_known_function(name: str) -> bool:
    """Whether a function is one that scores columns, under the name of the module that defines it."""
    module, _, attribute = public_path(name).rpartition(".")
    if module != "sklearn.feature_selection" or attribute not in SCORE_FUNCTIONS:
        return False
    found = getattr(importlib.import_module(module), attribute, None)
    return inspect.isfunction(found) and f"{found.__module__}.{found.__qualname__}" == name


def _read_schema(data: bytes) -> bytes:
    """Return the schema of a file whose members are what they say, and no more than a file of its size holds."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            _check_members(file, len(data))
            return file.read(SCHEMA)
    except StructureError:
        raise
    except Exception as error:
        raise StructureError(f"a saved estimator must be a skops file; got {described(error)}") from error


def _check_members(file: zipfile.ZipFile, size: int) -> None:
    members = file.infolist()
    if len(members) > MOST_MEMBERS:
        raise StructureError(f"a saved estimator must have at most {MOST_MEMBERS} parts; got {len(members)}")
    total = sum(member.file_size for member in members)
    if total > MOST_BYTES or total > max(FREE_BYTES, MOST_RATIO * size):
        raise StructureError(f"a saved estimator of {size} bytes must not unpack to {total}")
    for member in members:
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise StructureError(
                f"a part of a saved estimator must be deflated; got {member.filename[:60]!r}"
            )


def _without_functions(data: bytes, schema: bytes) -> bytes:
    """Return a file without functions that no prediction needs.

    Histogram trees check numbers beside categories by ``functools.partial(check_array, ...)``, which changes no
    value that we pass on, and a `FunctionTransformer` without a function passes its input on as it is. Searches
    keep the scorers they chose by, which only their `score` calls.
    """
    if b"PartialNode" not in schema and b"_Scorer" not in schema:
        return data
    values = json.loads(schema)
    for node in _nodes(values):
        if (node.get("__module__"), node.get("__class__")) == _SCORER:
            node.clear()
            node.update(_NOTHING)
    dropped = {node["__id__"] for node in _nodes(values) if _is_input_check(node)}
    for node in _nodes(values):
        if node.get("__class__") == "FunctionTransformer":
            content = node["content"]["content"]
            if content["func"].get("__id__") in dropped:
                content["func"] = _NOTHING
    rewritten = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(rewritten, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for member in old.infolist():
            text = json.dumps(values, indent=2).encode() if member.filename == SCHEMA else old.read(member)
            new.writestr(member.filename, text)
    return rewritten.getvalue()


def _is_input_check(node: dict[str, Any]) -> bool:
    func = node["content"].get("func") if node["__loader__"] == "PartialNode" else None
    return isinstance(func, dict) and all(func.get(key) == value for key, value in _CHECK_ARRAY.items())
