"""`python -m cah_dask` is `cah`."""

from cah_dask.cli import main

if __name__ == "__main__":
    main()
