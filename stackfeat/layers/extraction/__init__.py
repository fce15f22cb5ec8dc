"""`extract`: layers of a trained net for any number of rows, in memory or streamed to files.

Belongs here: kinds of input, batch sizes, placement on a device, files that are filled chunk by
chunk and resumed. Not here: what a layer gives (`layers.activations`), the command line (`stackfeat.cli.extract`).
"""
