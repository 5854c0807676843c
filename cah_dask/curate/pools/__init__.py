"""Pools: whatever holds pairs with uid, url, text and scores, read in batches by common names.

A pool is a run folder (what is scored), a release, a folder of DataComp's metadata, or parquet
files. `opening.open_pool` finds out which.
"""
