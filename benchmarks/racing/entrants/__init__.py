"""One script for each entrant of a race, run by the Python that has what it needs.

In:  a folder with train.csv, test.csv (without the target) and job.json: target, task, metric, time, seconds, cores,
     preset, seed.
Out: predictions.csv in it: id, then a column for each class, or `prediction` (a value, or the probability of the
     greater label); notes.json, where there is something to tell; all else in the folder `scratch`.
"""
