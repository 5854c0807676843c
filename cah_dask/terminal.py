"""Lines on the terminal: news and errors beside the answers."""

import sys
from typing import NoReturn

from rich.console import Console

from cah_dask.words import printable

console = Console(stderr=True)
"""Progress and news; it is silent with `--quiet`."""

_errors = Console(stderr=True)

answer = Console()
"""What a command was asked for."""


def say(line: str) -> None:
    """Show a line of news."""
    console.print(printable(line), soft_wrap=True, markup=False, highlight=False)


def tell(line: str) -> None:
    """Print a line of an answer."""
    answer.print(printable(line), soft_wrap=True, markup=False, highlight=False)


def fail(message: str, code: int) -> NoReturn:
    """Say in a line what went wrong, however quiet it is to be, and end with an exit code."""
    _errors.print(printable(message), soft_wrap=True, markup=False, highlight=False)
    sys.exit(code)


def be_quiet() -> None:
    """Show nothing from now on but answers and errors."""
    console.quiet = True


is_verbose = False
"""Whether the log of a job is shown while it is written."""


def be_verbose() -> None:
    """Show the log of a job while it is written."""
    global is_verbose  # noqa: PLW0603  # a choice of the command line, made once
    is_verbose = True
