"""Lines on the terminal: news and errors beside the answers."""

import sys
from typing import NoReturn

from rich.console import Console

from cah_dask.words import printable

console = Console(stderr=True)
"""Progress and errors."""

answer = Console()
"""What a command was asked for."""


def say(line: str) -> None:
    """Show a line of news."""
    console.print(printable(line), soft_wrap=True, markup=False, highlight=False)


def tell(line: str) -> None:
    """Print a line of an answer."""
    answer.print(printable(line), soft_wrap=True, markup=False, highlight=False)


def fail(message: str, code: int) -> NoReturn:
    """Say in a line what went wrong, and end with an exit code."""
    say(message)
    sys.exit(code)
