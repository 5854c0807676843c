"""What became of rows: statuses of urls, reasons of rejects, and counts of both.

`Counts` is the only form in which a stage reports what became of its rows, and it always balances.
"""

from collections import defaultdict
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from cah_dask.errors import RunError


class Reject(StrEnum):
    """Why a row went no further: the keys of `Counts.rejected`, beside `Status`."""

    # extract: one row is one image link
    NOT_IN_SUBSET = "not_in_subset"
    PAGE_DIRECTIVE = "page_directive"
    NO_TEXT = "no_text"
    SHORT_TEXT = "short_text"
    LONG_TEXT = "long_text"
    NO_URL = "no_url"
    LONG_URL = "long_url"
    SCHEME = "scheme"
    BAD_URL = "bad_url"
    PRIVATE_HOST = "private_host"
    FORMAT = "format"
    DUPLICATE = "duplicate"
    PAGE_SIZE = "page_size"
    SPLIT = "split"
    # dedup: one row is one candidate (and DUPLICATE again, across archives of a wave)
    SEEN_EARLIER = "seen_earlier"
    EXCLUDED = "excluded"
    HOST_QUOTA = "host_quota"
    # embed: one row is one sample; a sample without an image is counted under its status
    NO_VECTOR = "no_vector"
    # select: one row is one scored sample
    BELOW_THRESHOLD = "below_threshold"


class Status(StrEnum):
    """What became of one url. Every url of a fetch list ends in exactly one of these."""

    OK = "ok"
    # the name
    DNS_NOT_FOUND = "dns_not_found"
    DNS_ERROR = "dns_error"
    # the connection
    CONNECT_REFUSED = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECT_ERROR = "connect_error"
    TLS_CERTIFICATE = "tls_certificate"
    TLS_ERROR = "tls_error"
    DISCONNECTED = "disconnected"
    # the answer
    HTTP_403 = "http_403"
    HTTP_404 = "http_404"
    HTTP_410 = "http_410"
    HTTP_429 = "http_429"
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    HTTP_OTHER = "http_other"
    REDIRECT_LIMIT = "redirect_limit"
    REDIRECT_INVALID = "redirect_invalid"
    # the archives, where they stand for the web
    NOT_ARCHIVED = "not_archived"
    ARCHIVE_LOST = "archive_lost"
    # the body
    TIMEOUT = "timeout"
    TOO_SLOW = "too_slow"
    TOO_BIG = "too_big"
    BAD_TYPE = "bad_type"
    EMPTY = "empty"
    # our own rules
    BAD_URL = "bad_url"
    BLOCKED_ADDRESS = "blocked_address"
    BLOCKED_PORT = "blocked_port"
    HOST_SUSPENDED = "host_suspended"
    ROBOTS = "robots"
    ROBOTS_UNREACHABLE = "robots_unreachable"
    OPTOUT = "optout"
    HASH_LISTED = "hash_listed"
    # the picture
    DECODE_FORMAT = "decode_format"
    DECODE_TRUNCATED = "decode_truncated"
    DECODE_ERROR = "decode_error"
    DECODE_CRASH = "decode_crash"
    TOO_MANY_PIXELS = "too_many_pixels"
    ANIMATED = "animated"
    TOO_SMALL = "too_small"
    ASPECT = "aspect"
    CHANGED = "changed"


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of one stage: ``seen = kept + sum(rejected.values())``, always.

    ``notes`` counts what is not a row of the stage (records, bytes, retries) and takes no part in
    the balance.
    """

    seen: int = 0
    kept: int = 0
    rejected: dict[str, int] = {}
    notes: dict[str, int] = {}

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.seen + other.seen,
            self.kept + other.kept,
            merge(self.rejected, other.rejected),
            merge(self.notes, other.notes),
        )

    @property
    def is_balanced(self) -> bool:
        """Whether every row is accounted for."""
        return self.seen == self.kept + sum(self.rejected.values())

    def require_balance(self, where: str) -> None:
        """Raise RunError when rows were lost or invented; `where` names the task in the message."""
        if not self.is_balanced:
            out = self.kept + sum(self.rejected.values())
            raise RunError(f"{where}: {self.seen} rows came in but {out} are accounted for: {self}")


STAGED = "staged_bytes"
"""A note of counts: bytes that wait for the next stage and are gone once that has read them."""


class CountsSum:
    """Counts that many others are added to; what each adds costs no more when there are many."""

    def __init__(self) -> None:
        self._seen = self._kept = 0
        self._rejected: defaultdict[str, int] = defaultdict(int)
        self._notes: defaultdict[str, int] = defaultdict(int)

    def add(self, counts: Counts) -> None:
        """Add the rows of one task."""
        self._seen += counts.seen
        self._kept += counts.kept
        for ours, added in ((self._rejected, counts.rejected), (self._notes, counts.notes)):
            for name, number in added.items():
                ours[name] += number

    @property
    def total(self) -> Counts:
        """All of them together; keys come out sorted, as by `merge`."""
        return Counts(self._seen, self._kept, merge(self._rejected, {}), merge(self._notes, {}))


def merge(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    """Add two mappings of counts; keys come out sorted, so equal counts serialise equally."""
    return {key: a.get(key, 0) + b.get(key, 0) for key in sorted({*a, *b})}
