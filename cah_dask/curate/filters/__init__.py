"""Filters: trees of predicates over columns and vectors of a pool, read from YAML.

`file` reads them, `node` says what a predicate is and how `all`, `any` and `not` join them, the
other modules hold the predicates by what they look at, and `rules` applies a filter to batches.
"""
