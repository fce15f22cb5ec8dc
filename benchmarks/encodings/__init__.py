"""What hidden features add to a stack of probabilities, on six real data sets.

The flow, a module each: `rows` draws training and test rows, `stack` has `stackfeat.pipeline.run` compute every
stack that a config can say, `stored` reads the blocks of that run, `by_hand` makes the stacks a config
cannot say of the same blocks, `peers` asks scikit-learn, `compare` pairs the losses row by row,
`tables` says what came out.

    python -m benchmarks.encodings --data letter --seeds 0 1
    python -m benchmarks.encodings --seeds 0 1 2 3 4 --write
"""
