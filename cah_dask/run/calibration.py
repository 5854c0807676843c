"""Thresholds from the scored samples of a run folder."""

import msgspec
import numpy as np

from cah_dask.errors import ConfigError
from cah_dask.pairs.calibrate import (
    Calibrated,
    by_false_accepts,
    by_keep_rate,
    columns_for,
    read_samples,
)
from cah_dask.pairs.catalogue import published_thresholds
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.settings.config import Config
from cah_dask.schema import SPLITS, Split


class Calibration(msgspec.Struct, frozen=True):
    """What was found for one encoder."""

    encoder: str
    rows: list[Calibrated]
    """By split, each followed by its languages."""
    left_out: list[str]
    """Splits and languages with too few samples."""

    @property
    def thresholds(self) -> dict[Split, float]:
        """The thresholds of the splits, in as few digits as tell them from other float32."""
        found = {each.group: float(str(np.float32(each.threshold))) for each in self.rows}
        return {split: found[split] for split in SPLITS if split in found}


def calibrated(
    folder: RunFolder,
    *,
    encoder: str | None,
    reference: str | None,
    false_accepts: float,
    limit: int,
) -> Calibration:
    """Find thresholds for an encoder of a run.

    Parameters
    ----------
    encoder
        Default: the one that decides.
    reference
        Another encoder of the run: as many pairs are to be kept as at its thresholds.
    false_accepts
        Without a reference: the share of mismatched pairs that may be kept.
    limit
        Samples of each split that are looked at: those with the lowest uids.

    Raises
    ------
    ConfigError
        If the run has no such encoder, nothing is scored yet, the reference has no thresholds, or
        the share is too small for so few samples.
    """
    config = folder.config()
    encoder = encoder or config.select.encoder or ""
    for name in filter(None, (encoder, reference)):
        if name not in config.embed.encoders:
            known = ", ".join(config.embed.encoders)
            raise ConfigError(f"{folder.path} has no encoder {name}; it has {known}")
    tables = folder.scored(columns_for(encoder, reference))
    samples = read_samples(tables, encoder, reference, limit)
    if not samples:
        raise ConfigError(f"no sample of {folder.path} is scored yet; run it first")
    if reference is None:
        rows = by_false_accepts(samples, false_accepts)
    else:
        rows = by_keep_rate(samples, _thresholds_of(config, reference))
    found = list(rows)
    left_out = sorted(samples.keys() - {each.group for each in found})
    if not found:
        raise ConfigError(
            f"{max(len(each.scores) for each in samples.values()):,} samples are too few for a "
            f"share of {false_accepts:g}: take a larger one"
            if reference is None
            else f"encoder {reference} has no threshold for any split of these samples"
        )
    return Calibration(encoder, found, left_out)


def _thresholds_of(config: Config, reference: str) -> dict[Split, float]:
    known = published_thresholds(config.embed.encoders[reference])
    if config.select.encoder == reference:
        known |= config.select.thresholds
    if not known:
        raise ConfigError(
            f"encoder {reference} has no thresholds: none is published, and it is not the one that "
            "decided (select.encoder)"
        )
    return known
