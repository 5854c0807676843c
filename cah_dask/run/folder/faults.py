"""What could not be read of the inputs of a run, and why, as its commits tell."""

from pathlib import Path

from cah_dask.run.folder.journal import Commit, LastLines


class Faults:
    """Learns of commits."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str, str]] = []

    def add(self, commit: Commit) -> None:
        """Learn of a commit."""
        receipt = commit.receipt
        self._found += [
            (commit.stage, commit.unit, f"{receipt.inputs[0]}: {error}") for error in receipt.errors
        ]

    def lines(self, index: Path) -> list[str]:
        """Return a line for each, by stage and unit.

        Parameters
        ----------
        index
            Journal of the index of the run, which has faults of its own; it need not exist.
        """
        of_index = [
            ("index", commit.unit, error)
            for commit in LastLines(index).commits()
            for error in commit.receipt.errors
        ]
        every = sorted([*self._found, *of_index], key=lambda each: each[:2])
        return [line for _, _, line in every]
