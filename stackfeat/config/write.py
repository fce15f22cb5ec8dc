"""Write a RunConfig as YAML, and the JSON schema that editors complete it with.

In:  a RunConfig; or nothing.
Out: text that `load_config` reads back to an equal config; a JSON schema of every option.
"""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML

from stackfeat.config.fields import Key
from stackfeat.config.run_config import RunConfig
from stackfeat.options import Options

_WIDTH = 110


def dump_config(config: RunConfig) -> str:
    """Return the config as YAML, with every option written out.

    Examples
    --------
    >>> from stackfeat.config import RunConfig
    >>> levels = {"base": {"gbm": {"estimator": "lightgbm.LGBMClassifier"}}}
    >>> values = {"task": "multiclass", "metric": "log_loss", "levels": levels}
    >>> values["data"] = {"train": "sklearn:iris"}
    >>> dump_config(RunConfig.model_validate(values)).splitlines()[1]
    'task: multiclass'
    """
    yaml = YAML()
    yaml.width = _WIDTH
    yaml.representer.ignore_aliases = lambda data: True
    stream = io.StringIO()
    yaml.dump(_plain(config.model_dump(by_alias=True)), stream)
    return stream.getvalue()


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a config file."""
    schema = RunConfig.model_json_schema(by_alias=True)
    _allow_single_values(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "stackfeat config",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _plain(value: Any) -> Any:
    """Return dicts, lists and scalars only; numpy numbers and tuples have no place in YAML."""
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _key(key: object) -> Key:
    return key if isinstance(key, str | int) else str(key)


def _allow_single_values(schema: dict[str, Any]) -> None:
    """Let lists that take a single value do so in the schema too (`inputs: table`)."""
    for name, definition in schema.get("$defs", {}).items():
        for field in _single_value_fields(name):
            given = definition["properties"][field]
            for part in [given, *given.get("anyOf", ())]:
                if part.get("type") == "array" and "items" in part:
                    outer = {
                        key: given.pop(key)
                        for key in list(given)
                        if key in ("default", "title", "description")
                    }
                    definition["properties"][field] = {"anyOf": [part["items"], given], **outer}
                    break


def _single_value_fields(name: str) -> list[str]:
    """Return the fields of the options class `name` whose validators turn one value into a list."""
    direct = Options.__subclasses__()
    below = [deeper for found in direct for deeper in found.__subclasses__()]
    model = next((found for found in [*direct, *below] if found.__name__ == name), None)
    if model is None:
        return []
    validators = model.__pydantic_decorators__.field_validators.values()
    return [field for item in validators if item.info.mode == "before" for field in item.info.fields]
