"""What `benchmarks/replay.py` records, by section.

Belongs here: tiny inputs, and the public calls whose results must not change while code is moved: runs of
configs, estimators, readings of layers, commands. Not here: anything private of the package. Each module has
`UNITS`, a dict of name to a function that is given an empty folder and yields names and entries.
"""
