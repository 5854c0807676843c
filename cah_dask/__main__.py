"""`python -m cah_dask`, and `cah`: minds signals from its first line to its last."""

from cah_dask.run.signals import end_at_once, ignore


def main() -> None:
    """Run the command line; nothing is begun while its modules are loaded."""
    end_at_once()
    try:
        from cah_dask.cli import main as run

        run()
    finally:
        ignore()  # how this process ends is settled


if __name__ == "__main__":
    main()
