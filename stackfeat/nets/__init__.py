"""Samples in, trained module out, rows read from it: the only folder that imports torch.

``build`` makes a module, ``fit`` trains one on the rows of a fold (``training``, ``schedule``,
``optimizer``), ``inference`` reads its output and its ``taps`` row by row, ``runtime`` holds
threads, seeds and the device. Nothing here knows folds, levels or the store. ``options`` is free
of torch, and so is this file, so that checking a config stays fast.
"""
