"""What happens around a tap: the dry run that examines it, and its values turned into rows.

Belongs here: dry runs (`examine`), the trace that says why a layer was not called, the table of layers, the
layout of values and their masks, pooling to rows and columns, the search for the penultimate layer. Not here:
hooks themselves (`layers.taps`), many rows and files (`layers.extraction`).
"""
