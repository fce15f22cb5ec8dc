"""scikit-learn's face of the engine: nets, out-of-fold features, stacks and votes as estimators.

Belongs here: constructor parameters, validation, tags, metadata routing, names of columns, and the way
from whatever scikit-learn hands over to rows. Not here: how a net is trained (`nets`), the loop over
folds and encodings (`features`), members, gates and votes (`ensemble`); the classes call them. Without a
store everything stays in memory. Nothing in the pipeline imports this folder.
"""
