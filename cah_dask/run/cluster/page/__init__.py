"""The page of a run in the Dask dashboard, and its figures for programs."""
