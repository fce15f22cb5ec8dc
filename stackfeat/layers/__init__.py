"""Read any net: taps name places, activations tell what passes there, extraction collects it for all rows.

Works on any `torch.nn.Module`; needs nothing of training, members or files of data.
"""
