"""Workers, local and by Slurm, under one Dask scheduler: the only place that imports dask."""
