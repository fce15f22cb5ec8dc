"""Fold-local preprocessing: typed columns in, what a kind of learner wants out.

Belongs here: a class per kind of learner, fitted on the training rows of one fold alone and
written as bytes (`to_bytes`, `from_bytes`). Does not belong here: typing of columns, which looks
at the whole training file but never at labels.
"""

from stackfeat.data.prepare.estimator import NoPrepare as NoPrepare
from stackfeat.data.prepare.estimator import ScaledPrepare as ScaledPrepare
from stackfeat.data.prepare.estimator import TreePrepare as TreePrepare
from stackfeat.data.prepare.net import ArrayPrepare as ArrayPrepare
from stackfeat.data.prepare.net import NetPrepare as NetPrepare
