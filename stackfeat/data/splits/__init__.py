"""Which rows train and which are held out: folds, splitters, holdout, inner validation rows."""
