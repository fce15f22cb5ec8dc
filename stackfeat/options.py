"""The base of every options class: frozen, nothing extra, comparable, one JSON form.

Each stage keeps its own options in its folder (`data/options.py`, `nets/options.py`, ...);
`config` puts them together. None of these files imports torch.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Immutable settings of one stage; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with the names used in a config file."""
        return self.model_dump(mode="json", by_alias=True)

    def is_set(self, name: str) -> bool:
        """Whether an option differs from its default (a resolved config writes defaults out)."""
        default = type(self).model_fields[name].get_default(call_default_factory=True)
        return bool(getattr(self, name) != default)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names that a config may use for the options."""
        return [field.alias or name for name, field in cls.model_fields.items()]


def one_is_a_list(value: object) -> object:
    """Return a text alone as a list of it, where an option takes several."""
    return (value,) if isinstance(value, str) else value


FOLDERS = ("oof", "test", "holdout", "predictor", "pictures")
"""Folders of a run folder that hold files of runs alone."""
