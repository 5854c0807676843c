"""Whose turn it is at hosts that several fetch lists lead to: one list at a time has a host.

A host lives in one bucket, and one list of a bucket is downloaded at a time, so the limits of a
host hold for the run without a word between lists. Redirects break that: lists of any bucket may
lead to one host. Such hosts are lent: whoever wants to ask one waits until the list that has it
gives it back. The list of the host's own bucket has it from the beginning, and learns from its next
exchange that others want it, too.

`Turns` is the one place that knows of all lists; it holds no machine, and is told what time it is.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from cah_dask.candidates.dedup import host_bucket

SILENCE_S = 120.0
"""Seconds after which a list that says nothing is taken for dead, and loses what it has."""


class Notice(msgspec.Struct, frozen=True):
    """What a list has to say, every second or few."""

    name: str
    """Of this attempt at the list."""
    bucket: int
    wants: list[str]
    """All hosts that it would ask now and does not have."""
    returns: dict[str, float]
    """Hosts that it gives back, with the seconds for which nobody may ask them: their distance, or
    a pause that they asked for."""
    is_last: bool = False
    """Whether the list ends, and gives back all it has."""


class Reply(msgspec.Struct, frozen=True):
    """What it is told."""

    granted: list[str]
    """Hosts that it has from now on."""
    wanted: list[str]
    """Hosts that it has and others wait for."""
    taken: list[str]
    """Hosts of its own bucket that others have, or wait for."""


@dataclass(slots=True)
class _Host:
    bucket: int
    holder: str | None
    free_at: float = 0.0
    waiting: deque[str] = field(default_factory=deque)


class Turns:
    """Lends hosts to the lists of one run."""

    def __init__(self, buckets: int) -> None:
        self._buckets = buckets
        self._hosts: dict[str, _Host] = {}
        self._of_bucket: dict[int, set[str]] = {}
        self._heard_at: dict[str, float] = {}
        self._homes: dict[int, str] = {}
        self._wants: dict[str, set[str]] = {}
        self._held: dict[str, set[str]] = {}
        self._n_notices = 0

    def exchange(self, notice: Notice, now: float) -> Reply:
        """Take note of what a list says, and answer it."""
        name = notice.name
        self._bury([other for other, at in self._heard_at.items() if now - at > SILENCE_S], now)
        self._heard_at[name] = now
        self._homes[notice.bucket] = name
        self._take_back(name, notice.returns, now)
        self._note_wants(name, set(notice.wants))
        if notice.is_last:
            self._bury([name], now)
            return Reply([], [], [])
        granted = [host for host in notice.wants if self._grant(host, name, now)]
        held = self._held.get(name, set())
        self._n_notices += 1
        for bucket in (notice.bucket, self._n_notices % self._buckets):
            self._forget_idle(self._of_bucket.get(bucket, set()), now)
        return Reply(
            granted=granted,
            wanted=sorted(host for host in held if self._hosts[host].waiting),
            taken=sorted(self._of_bucket.get(notice.bucket, set()) - held),
        )

    def _take_back(self, name: str, returns: Mapping[str, float], now: float) -> None:
        for host, seconds in returns.items():
            lent = self._hosts.get(host)
            if lent is not None and lent.holder == name:
                lent.free_at = max(lent.free_at, now + seconds)
                lent.holder = None
                self._held[name].discard(host)

    def _note_wants(self, name: str, wants: set[str]) -> None:
        before = self._wants.get(name, set())
        for host in before - wants:
            if host in self._hosts and name in self._hosts[host].waiting:
                self._hosts[host].waiting.remove(name)
        for host in sorted(wants - before):
            lent = self._hosts.get(host) or self._begin(host, name)
            if lent.holder == name:  # the reply that granted it was lost
                self._take_back(name, {host: 0.0}, 0.0)
            lent.waiting.append(name)
        self._wants[name] = wants

    def _begin(self, host: str, name: str) -> _Host:
        """Begin to lend a host; the list of its own bucket, if one is at work, has it already."""
        bucket = host_bucket(host, self._buckets)
        home = self._homes.get(bucket)
        holder = home if home != name else None
        self._hosts[host] = _Host(bucket, holder)
        self._of_bucket.setdefault(bucket, set()).add(host)
        if holder is not None:
            self._held.setdefault(holder, set()).add(host)
        return self._hosts[host]

    def _grant(self, host: str, name: str, now: float) -> bool:
        lent = self._hosts[host]
        if lent.holder is not None or lent.free_at > now or lent.waiting[0] != name:
            return False
        lent.waiting.popleft()
        lent.holder = name
        self._wants[name].discard(host)
        self._held.setdefault(name, set()).add(host)
        return True

    def _bury(self, names: Iterable[str], now: float) -> None:
        """Take from lists that have ended what they have and wait for."""
        for name in names:
            self._note_wants(name, set())
            self._take_back(name, dict.fromkeys(self._held.get(name, ()), 0.0), now)
            for known in (self._heard_at, self._wants, self._held):
                known.pop(name, None)
            self._homes = {bucket: home for bucket, home in self._homes.items() if home != name}

    def _forget_idle(self, hosts: set[str], now: float) -> None:
        for host in [host for host in hosts if self._is_idle(self._hosts[host], now)]:
            del self._hosts[host]
            hosts.discard(host)

    def _is_idle(self, lent: _Host, now: float) -> bool:
        return lent.holder is None and not lent.waiting and lent.free_at <= now
