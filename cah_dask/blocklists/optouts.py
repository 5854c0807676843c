"""Hosts that opt out while a run is at work: one a line, in a file that anybody may be writing."""

from pathlib import Path

from cah_dask.blocklists.lines import host_named, read_lines
from cah_dask.errors import InputError
from cah_dask.keys import Keys, of_texts, unique


def load_optouts(path: Path) -> tuple[Keys, list[str]]:
    """Read a list of hosts that somebody may be writing at this moment.

    Returns
    -------
    tuple
        Keys as in `Exclusion.hosts`, and what is wrong with each line that means no host.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    hosts, faults = [], []
    try:
        for line in read_lines(path, errors="replace"):
            try:
                hosts.append(line.read_by(host_named))
            except ValueError as error:
                faults.append(f"{path}, {error}")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return unique(of_texts(hosts)), faults
