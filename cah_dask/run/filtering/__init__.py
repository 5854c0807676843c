"""The job of `cah filter`: which rows of a pool a filter keeps, on the workers of the cpu pool.

Whole-pool nodes are resolved first: `scan` counts the scores of each unit of the pool, `look` those
near a threshold where counting did not tell it. Then `keep` asks each row, and `sort` brings the
uids of a range together. `tasks` runs on workers, `job` in the driver, `outputs` writes what a
person asked for.
"""
