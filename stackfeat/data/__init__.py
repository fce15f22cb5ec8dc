"""Files in, `Samples` and `Folds` out: everything between a path and an array.

`options` and `samples` are values that the folders share. Above them: `files/` (formats, parsing, fingerprints),
`schema/` (columns, roles, inputs: from a file to `Samples`), `splits/` (`Folds`, holdout) and `prepare/` (columns
for learners, fitted within a fold). Does not belong here: anything that learns to predict, and
anything that imports torch.
"""
