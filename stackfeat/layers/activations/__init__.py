"""What happens around a tap: the dry run that examines it, and its values turned into rows.

Belongs here: the hook doctor (`examine`, `silence`, `listing`), the layout of values and their masks,
pooling to rows and columns, the search for the penultimate layer, and leaving a module as it was
(`preserve_state`). Not here: hooks themselves (`layers.taps`), many rows and files (`layers.extraction`).
"""
