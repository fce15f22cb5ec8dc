"""Text encoders from a local folder of Hugging Face, as members: trained on in every fold, or read as they are.

In:  raw inputs with columns of text; the configuration, the tokenizer and the weights of the folder.
Out: what a trained net hands on. What was fitted holds all that it needs: the folder may be gone then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.data.prepare.net_texts import NetFolderPrepare
from stackfeat.data.samples import Table
from stackfeat.errors import MemberError
from stackfeat.members.checkpoint import CheckpointMember
from stackfeat.members.imported_rows import beside_role, file_of
from stackfeat.members.net import Arrays, NetContext, Prepared
from stackfeat.members.net_options import BESIDE
from stackfeat.meta.columns import Rows
from stackfeat.nets.build import NetSpec
from stackfeat.nets.weights import Checkpoint
from stackfeat.nets.zoo.hugging_face import FolderWeights, read_config
from stackfeat.store import Entry
from stackfeat.tasks.task import Task


@dataclass(frozen=True)
class ModelFiles:
    """What an encoder is built of, and what cuts texts into its tokens."""

    config: dict[str, Any]
    tokenizer: bytes

    @classmethod
    def of(cls, contents: Mapping[str, bytes], where: str) -> ModelFiles:
        """Return them from the bytes of the files of a folder, by name."""
        return cls(read_config(contents[BESIDE[0]], f"{where}/{BESIDE[0]}"), contents[BESIDE[1]])

    @classmethod
    def of_folder(cls, folder: Path) -> ModelFiles:
        return cls.of({name: (folder / name).read_bytes() for name in BESIDE}, str(folder))

    @classmethod
    def of_entries(cls, entries: Mapping[str, Entry]) -> ModelFiles:
        parts = {name: entries[beside_role(place)] for place, name in enumerate(BESIDE)}
        return cls.of(
            {name: entry.bytes(file_of(entry)) for name, entry in parts.items()}, "the model's folder"
        )


@dataclass(frozen=True)
class HuggingFaceMember(CheckpointMember):
    """A folder's encoder with a new head, before `fit`.

    Attributes
    ----------
    folder : Path or None
        Where it is; a fit reads the copy in the store.
    model : ModelFiles or None
        What was read.
    """

    folder: Path | None = None
    model: ModelFiles | None = None

    def fit(self, rows: Rows, context: NetContext) -> Any:
        if self.model is None:
            return replace(self, model=ModelFiles.of_entries(context.sources)).fit(rows, context)
        return super().fit(rows, context)

    def checkpoint(self, context: NetContext, number: int) -> Checkpoint:
        given = super().checkpoint(context, number)
        return FolderWeights(**{name: getattr(given, name) for name in vars(given)})

    def _unfitted(self, rows: Rows, task: Task, seed: int) -> tuple[NetSpec, Arrays, Prepared]:
        if self.model is None:
            if self.folder is None:
                raise MemberError("a model's folder must be known; got none; name it as net: 'hf:FOLDER'")
            return replace(self, model=ModelFiles.of_folder(self.folder))._unfitted(rows, task, seed)
        spec, arrays, prepare = super()._unfitted(rows, task, seed)
        return replace(spec, prepared={"config": self.model.config}), arrays, prepare

    def _prepare(self, rows: Rows, seed: int) -> Prepared:
        assert self.model is not None
        prepare = super()._prepare(rows, seed)
        for name, values in rows.inputs.items():
            if isinstance(values, Table) and values.text_names:
                own = NetFolderPrepare()
                own.tokenizer = np.frombuffer(self.model.tokenizer, dtype=np.uint8)
                own.most_steps = int(self.model.config.get("max_position_embeddings", own.most_steps + 2)) - 2
                prepare[name] = own.fit(values, scaling=self.options.chosen_scaling, seed=seed)
        return prepare
