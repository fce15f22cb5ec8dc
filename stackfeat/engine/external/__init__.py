"""What somebody else made, as members: prediction files and checkpoints.

Belongs here: reading such files once, checking them (`gate`), storing them by the hash of their
bytes, and saying after a run what looks wrong (`suspicion`). Not here: how a member uses them
(`members`), how a file is parsed (`data.schema.prediction_file`, `nets.weights`).
"""
