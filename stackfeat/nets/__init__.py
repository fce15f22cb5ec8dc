"""Samples in, a trained module out, predictions and features read from it.

``build`` makes a module, ``training`` trains one on the rows of a fold, ``fitted`` reads it and makes bytes of
it, ``outputs`` says what its output means, ``zoo`` holds the built-in nets. Imports go one way: ``training``
builds on this folder and on ``zoo``, neither of them on ``training``. Nothing here knows folds, levels or the
store's entries. ``options`` is free of torch, and so is this file, so that checking a config stays fast.
"""
