"""`cah calibrate`: thresholds for an encoder that has none, from a run's own samples."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cah_dask.terminal import answer
from cah_dask.words import printable


def calibrate(
    run_dir: Annotated[Path, typer.Argument(help="Run folder with scored samples.")],
    encoder: Annotated[
        str | None, typer.Option(help="Whose thresholds are wanted. Default: the one that decides.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Keep as many pairs as this encoder at its thresholds.")
    ] = None,
    false_accepts: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Without a reference: share of mismatched pairs to be kept."
        ),
    ] = 0.001,
    samples: Annotated[
        int, typer.Option(min=2, help="Samples of each split to look at.")
    ] = 100_000,
) -> None:
    """Find thresholds for an encoder that has none, from a run's own samples.

    Prints them by split and by language with the number of samples behind each.
    """
    from cah_dask.pairs import calibrate as method
    from cah_dask.run.calibration import calibrated
    from cah_dask.run.folder.run_folder import RunFolder

    found = calibrated(
        RunFolder(run_dir),
        encoder=encoder,
        reference=reference,
        false_accepts=false_accepts,
        limit=samples,
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("split/language", "samples", "threshold", "kept", "mismatched kept"):
        table.add_column(
            name, justify="left" if name == "split/language" else "right", no_wrap=True
        )
    for each in found.rows:
        note = "" if each.is_certain else " ?"
        table.add_row(
            printable(each.group), f"{each.samples:,}", f"{each.threshold:.4f}{note}",
            f"{each.kept:.1%}", f"{each.false_accepts:.3%}",
        )  # fmt: skip
    answer.print(table)
    if not all(each.is_certain for each in found.rows):
        answer.print(f"?  uncertain: fewer than {method.ENOUGH:,} samples", highlight=False)
    if found.left_out:
        answer.print(f"left out, too few samples: {', '.join(map(printable, found.left_out))}")
    thresholds = ", ".join(f"{split}: {value}" for split, value in found.thresholds.items())
    setting = f"select: {{encoder: {found.encoder}, thresholds: {{{thresholds}}}}}"
    answer.print(setting, soft_wrap=True, highlight=False, markup=False)
