"""Rows and a module in, a trained module out: the loop, batches, optimizer, snapshots."""
