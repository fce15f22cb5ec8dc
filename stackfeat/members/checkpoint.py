"""Nets that were trained elsewhere, as members: taken as they are, or as a start.

In:  checkpoints of fold models (or one, pre-trained on other data), raw inputs.
Out: what a trained net hands on. Encodings are fitted here, on each fold's training rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stackfeat.data.schema.prediction_file import class_order
from stackfeat.errors import MemberError
from stackfeat.members.imported_rows import FOLDS, FoldFile, file_of, weights_role
from stackfeat.members.net import Arrays, FittedNets, NetContext, NetMember
from stackfeat.meta.columns import Rows
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.training.fit import TrainingSet, fit_net, load_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.weights import Checkpoint
from stackfeat.store import EntryWriter


@dataclass(frozen=True)
class CheckpointMember(NetMember):
    """A net with given weights, before it is known for which fold."""

    def fit(self, rows: Rows, context: NetContext) -> Any:
        if FOLDS not in context.sources:
            return super().fit(rows, context)
        file = FoldFile.load(context.sources[FOLDS])
        fold_of = file.fold_of[context.repeat]
        if np.array_equal(fold_of, file.run[context.repeat]):
            return super().fit(rows, _of_fold(context, int(context.fold)))
        nets = {
            fold: super(CheckpointMember, self).fit(rows, _of_fold(context, fold))
            for fold in range(file.n_folds)
        }
        return OtherFoldNets(nets, fold_of, int(context.fold) % file.n_folds)

    def make_nets(
        self, spec: NetSpec, arrays: Arrays, context: NetContext, training: Training
    ) -> tuple[FittedNet, ...]:
        """Return the net of each seed's checkpoint, as it is or trained on."""
        nets = []
        for number, seed in enumerate(context.settings.seeds_from(context.seed)):
            checkpoint = self.checkpoint(context, number)
            if self.options.is_tuned:
                data = TrainingSet(arrays, context.y, seed, context.weight)
                nets.append(fit_net(spec, data, replace(training.part(str(number)), checkpoint=checkpoint)))
            else:
                predicts = bool(context.settings.predicts)
                nets.append(load_net(spec, arrays, checkpoint, training, predicts=predicts, seed=seed))
        return tuple(nets)

    def checkpoint(self, context: NetContext, number: int) -> Checkpoint:
        """Return the checkpoint of one seed; where there is one for all seeds, that."""
        entry = context.sources.get(weights_role(number)) or context.sources[weights_role(0)]
        name, options = file_of(entry), self.options
        resets = options.head == "reset"
        is_head_kept = not resets and bool(context.settings.predicts)
        order = class_order(options.classes, context.task, "classes") if is_head_kept else []
        return Checkpoint(
            data=entry.bytes(name),
            name=name,
            state_key=options.state_key,
            resets_head=resets,
            order=[] if order == list(range(len(order))) else order,
            freeze=options.freeze,
            lrs=options.lrs,
            lr_decay=options.lr_decay,
        )


@dataclass(frozen=True)
class OtherFoldNets:
    """Checkpoints of other folds than the run's: each training row goes to the net that did not see it.

    Attributes
    ----------
    nets : dict of int to FittedNets
        By fold of the file.
    fold_of : ndarray of shape (n_train,)
        Fold of every training row in the file.
    view : int
        Whose net speaks of rows that are no training rows, in this pipeline.
    """

    nets: dict[int, FittedNets]
    fold_of: np.ndarray
    view: int

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        if rows.numbers is None:
            return self.nets[self.view].emit(rows)
        folds = self.fold_of[rows.numbers]
        if (folds < 0).any():
            raise MemberError(
                f"every row must be in a fold of the folds file; got {int((folds < 0).sum())} rows with fold -1, "
                "which every checkpoint may have seen; give them a fold, or leave them out of the training file"
            )
        name = next(iter(self.nets.values())).task.output
        values: np.ndarray | None = None
        for fold in np.unique(folds):
            inside = np.flatnonzero(folds == fold)
            part = self.nets[int(fold)].emit(_take(rows, inside))[name]
            values = np.empty((rows.n_rows, part.shape[1])) if values is None else values
            values[inside] = part
        assert values is not None
        return {name: values}

    def save(self, writer: EntryWriter) -> None:
        """Write the net that later rows go through."""
        self.nets[self.view].save(writer)

    def report(self) -> dict[str, Any]:
        return {**self.nets[self.view].report(), "folds": "other than the run's"}


def _take(rows: Rows, places: np.ndarray) -> Rows:
    inputs = {
        name: values[places] if isinstance(values, np.ndarray) else values.take(places)
        for name, values in rows.inputs.items()
    }
    return Rows(len(places), inputs)


def _of_fold(context: NetContext, fold: int) -> NetContext:
    """Return the context in which the checkpoints of one fold are the only ones."""
    prefix = weights_role(0, fold).rpartition("/")[0]
    chosen = {
        weights_role(int(role.rpartition("/")[2])): entry
        for role, entry in context.sources.items()
        if role.rpartition("/")[0] == prefix
    }
    return replace(context, sources=chosen)
