"""``python -m cah_dask.demo [--folder FOLDER] [--warcs]``: see all of it at work in minutes.

Exit codes: 0 all is as planted; 1 counts differ, the release is not good enough, or the job failed.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cah_dask.demo.demo import run_demo
from cah_dask.demo.verdict import LEAST, Verdict
from cah_dask.errors import CahError


def main() -> int:
    """Run the demo and show the verdict; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cah_dask.demo", description="A small web, and one run of the job over it."
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/demo"), help="where all of it goes"
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="how much of its pages and images there is"
    )
    parser.add_argument(
        "--warcs",
        action="store_true",
        help="start from the pages, not from the WATs that tell of them",
    )
    options = parser.parse_args()
    folder: Path = options.folder
    console = Console()
    part = "" if options.share == 1 else f", {options.share:.0%} of it"
    console.print(f"A web of 40 hosts, 300 pages and 3,000 images{part}, served on loopback.")
    try:
        verdict = run_demo(folder, options.share, warcs=options.warcs)
    except CahError as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    show(verdict, folder, console)
    return 0 if verdict.is_good else 1


def show(verdict: Verdict, folder: Path, console: Console) -> None:
    """Print what was planted beside what was found, how good the release is, and where it lies."""
    table = Table("stage", "what", "planted", "found", "", box=None, padding=(0, 2, 0, 0))
    for row in verdict.rows:
        mark = "" if row.is_right else "[red]differs"
        table.add_row(row.stage, row.what, f"{row.planted:,}", f"{row.found:,}", mark)
    console.print(table)
    n_right = sum(row.is_right for row in verdict.rows)
    console.print(
        f"{n_right} of {len(verdict.rows)} counts are as planted; "
        f"precision {verdict.precision:.4f}, recall {verdict.recall:.4f} (at least {LEAST})"
    )
    release = folder / "run" / "release"
    for name in ("pairs", "embeddings.zarr", "report.html"):
        console.print(f"{release / name}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
