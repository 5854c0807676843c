"""The jobs of `cah cluster` and `cah near-duplicates`, which look at the vectors of a pool.

`rows` is how vectors go through files. `centroid_tasks` and `duplicate_tasks` run on workers,
`jobs` in the driver, `outputs` writes what a person asked for.
"""
