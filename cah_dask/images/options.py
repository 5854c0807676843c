"""How a fetch list is downloaded: the `download` section of a configuration."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from cah_dask.errors import ConfigError, InputError
from cah_dask.images.manners.hosts import HostOptions, check_patterns
from cah_dask.images.manners.robots import RobotsOptions
from cah_dask.images.web.network import check_network


class DownloadOptions(RobotsOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a fetch list is downloaded."""

    source: Literal["web", "archives"] = "web"
    """Where pictures come from: the web, or records of archives, of which no request is made."""
    archives: tuple[str, ...] = ()
    """WARC archives, lists of them, and CDX files that say what is in archives, for `source:
    archives`; default: the `inputs` of the run. They are indexed first, in `RUN/index/`."""
    index: str = ""
    """An index that `cah index` made, in the place of `archives`."""
    archives_root: str = ""
    """Where archives are looked for first that an index names: a folder, or its http or s3 url."""
    index_id: str = ""
    """What tells the index from those of other archives. Filled in at the start, so that a run
    cannot go on with another one."""
    crawl: Literal["forbidden", "ask", "allowed"] = "ask"
    """Whether the site lets you crawl the web from its machines. With `ask`, a run at a site (Slurm
    or a site file) does not start: ask, then say `allowed`. What a site forbids stays forbidden."""
    hosts: HostOptions = HostOptions()
    """Manners towards one host."""
    max_redirects: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Redirects followed for one url."""
    retries: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Further tries of a url where one can help (names, connections, timeouts, 429, 5xx)."""
    retry_delay_s: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    """Seconds before the first further try; four times as long before each one after it."""
    requests_per_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Requests a second of the whole run, robots.txt included; each download that may be in flight
    has an equal share. A host is given up after `hosts.max_time_s`, however small the share."""
    bytes_per_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Bytes a second that the whole run may receive, in bodies; shared likewise."""
    connections: Annotated[int, msgspec.Meta(ge=1)] = 256
    """Urls of one list in the works at the same time."""
    decoders: Annotated[int, msgspec.Meta(ge=1)] = 2
    """Processes that decode for one list."""
    decode_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    """Seconds to decode one image before its decoder is killed."""
    hash_lists: tuple[str, ...] = ()
    """Files of md5, sha1 or sha256 digests or perceptual hashes (hex, one a line, gzipped or not)
    of images that may never be stored, whoever serves them."""
    phash_distance: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    """Bits of 64 in which a perceptual hash may differ from a listed one and still match it."""
    alarm_hosts: Annotated[int, msgspec.Meta(ge=1)] = 200
    """Hosts of a list that must have been tried before the alarm may stop the run."""
    alarm_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    """The alarm stops the run when a smaller share of them gave any image; 0 switches it off."""
    alarm_dns_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    """It also stops the run when a larger share of them ended in dns_error, as the resolver cannot
    keep up then; 1 switches this off. Names that do not exist (dns_not_found) do not count. More
    than 10 % of a list are too many, and the first 200 hosts may by chance have twice the share."""


def check_options(options: DownloadOptions) -> None:
    """Raise ConfigError, in one clear line, for options no download may start with."""
    if options.source == "web":
        _require_no_archives(options)
        check_network(options)
        check_patterns(options.hosts)
    elif options.archives and options.index:
        raise ConfigError(
            "download.archives and download.index are both given; an index says itself which "
            "archives it is of: leave one out"
        )
    for path in options.hash_lists:
        if not Path(path).is_file():
            raise InputError(f"download.hash_lists: {path} does not exist")


def _require_no_archives(options: DownloadOptions) -> None:
    for name in ("archives", "index", "archives_root"):
        if getattr(options, name):
            raise ConfigError(
                f"download.{name} is for pictures out of archives, but download.source is 'web'; "
                "set download.source=archives, or leave it out"
            )
