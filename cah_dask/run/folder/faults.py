"""What could not be read of the inputs of a run, and why, as its commits tell."""

from collections import defaultdict
from pathlib import Path

from cah_dask.run.folder.journal import Commit, LastLines

LOST_FOR_NOW = "lost for now: "
"""How the fault of an archive begins that its server did not give."""


class Faults:
    """Learns of commits."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str, str]] = []
        self._inputs: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, commit: Commit) -> None:
        """Learn of a commit."""
        receipt = commit.receipt
        self._found += [
            (commit.stage, commit.unit, f"{receipt.inputs[0]}: {error}") for error in receipt.errors
        ]
        if any(not error.startswith(LOST_FOR_NOW) for error in receipt.errors):
            self._inputs[commit.stage].add(receipt.inputs[0])

    @property
    def cut(self) -> dict[str, int]:
        """By stage, inputs that were to be had and could not be read whole."""
        return {stage: len(inputs) for stage, inputs in self._inputs.items()}

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
