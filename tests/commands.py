"""Commands as a user types them, in processes of their own or, where no worker starts, in this."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cah_dask.cli import main


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


def refused(
    capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, list[str], str]:
    """Return the same as `cah` of a command that ends before any work begins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cah", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    answered, said = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int)
    return code, answered.splitlines(), said
