"""Commands as a user types them, in processes of their own."""

import subprocess
import sys
from pathlib import Path
from typing import Any


def start(*arguments: str | Path, **others: Any) -> subprocess.Popen[str]:
    """Start `cah` with some arguments; `others` go to Popen."""
    command = [sys.executable, "-m", "cah_dask", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **others,
    )


def cah(*arguments: str | Path, **others: Any) -> tuple[int, list[str], str]:
    """Run a command; return the exit code, the lines of its answer, and what else it said."""
    answered, said = (process := start(*arguments, **others)).communicate(timeout=180)
    return process.returncode, answered.splitlines(), said
