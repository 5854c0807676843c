"""Archives that their server did not give: they are asked for again when the run is taken up.

A lost archive leaves an empty part that says why, so its wave goes on without it. The next start
asks for it again: in its own wave as long as that is not deduplicated, else in a wave of its own
behind all others. Which archives came late is part of the run (`LATE_FILE`), and of its order.
"""

from collections import Counter

import msgspec

from cah_dask.counts import Counts
from cah_dask.errors import DamageError
from cah_dask.run.folder.faults import LOST_FOR_NOW
from cah_dask.run.folder.run_folder import LOST, RunFolder
from cah_dask.run.stages import DEDUP, EXTRACT
from cah_dask.run.unit import Unit
from cah_dask.schema import CANDIDATES
from cah_dask.storage import Receipt, write_atomic, write_part

LATE_FILE = "late.json"


def write_lost(folder: RunFolder, unit: Unit, config_hash: str, reason: str) -> Receipt:
    """Leave an empty part in the place of an archive; return its receipt."""
    receipt = Receipt(
        stage=unit.stage.name,
        unit=unit.name,
        config=config_hash,
        counts=Counts(notes={LOST: 1}),
        inputs=(unit.archive,),
        errors=(f"{LOST_FOR_NOW}{reason}",),
    )
    return write_part(folder.path / unit.part, CANDIDATES, [], receipt)


def late_waves(folder: RunFolder) -> list[list[str]]:
    """Have all lost archives asked for again; return the waves behind those of the inputs.

    Only the driver of the folder may, before it makes its plan.

    Raises
    ------
    DamageError
        If what is known of earlier such waves is damaged.
    """
    path = folder.path / LATE_FILE
    waves = read_late_waves(folder)
    times_lost: Counter[str] = Counter()
    for name, archive in folder.lost().items():
        wave = name.partition("/")[0]
        if any((folder.path / DEDUP.folder / wave).glob("*.parquet")):
            times_lost[archive] += 1
        else:
            folder.void(EXTRACT.name, name)
            (folder.path / EXTRACT.folder / f"{name}.parquet").unlink(missing_ok=True)
    times_asked_again = Counter(archive for wave in waves for archive in wave)
    later = sorted(times_lost - times_asked_again)
    if later:
        waves.append(later)
        write_atomic(path, msgspec.json.encode(waves))
    return waves


def read_late_waves(folder: RunFolder) -> list[list[str]]:
    """Return the waves behind those of the inputs, as they were when the last driver started."""
    path = folder.path / LATE_FILE
    if not path.exists():
        return []
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[list[str]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamageError(path, f"{error}; restore it or set run_dir to a new folder") from error
