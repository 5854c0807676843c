"""How far waves of archives and host buckets are; `run.plan` offers what becomes possible by it."""

from collections import deque
from collections.abc import Iterator, Sequence

from cah_dask.groups import buckets_of, group_of, n_groups
from cah_dask.run.stages import DOWNLOAD, EMBED
from cah_dask.run.unit import Unit


class Wave:
    """How much of one wave is still to do."""

    __slots__ = ("_to_dedup_of", "archives", "n_supplied", "to_begin", "to_dedup", "to_extract")

    def __init__(self, archives: Sequence[str], buckets: int) -> None:
        self.archives = archives
        self.to_extract = len(archives)
        self.to_dedup = buckets
        self._to_dedup_of = [len(buckets_of(n, buckets)) for n in range(n_groups(buckets))]
        self.n_supplied = 0  # buckets that got lists from it
        self.to_begin = 0  # those of them that still have lists of earlier waves

    def deduplicated(self, bucket: int, n_lists: int) -> None:
        """Learn that a bucket of this wave is deduplicated, and has so many lists to fetch."""
        self.to_dedup -= 1
        self._to_dedup_of[group_of(bucket)] -= 1
        if n_lists:
            self.to_begin += 1
            self.n_supplied += 1

    def is_deduplicated(self, group: int) -> bool:
        """Tell whether all buckets of a group are."""
        return not self._to_dedup_of[group]

    @property
    def is_half_begun(self) -> bool:
        """Whether half of the buckets that got lists from this wave have begun with them."""
        return not self.to_dedup and 2 * self.to_begin <= self.n_supplied


class Bucket:
    """Where one host bucket stands: its next wave, lists to download, late texts to embed."""

    __slots__ = (
        "_late",
        "_lists",
        "_n_lists",
        "_to_embed",
        "is_deduping",
        "is_downloading",
        "next_wave",
        "number",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.next_wave = 0
        self.is_deduping = False
        self.is_downloading = False
        self._lists: deque[Unit] = deque()
        self._late: deque[Unit] = deque()
        self._n_lists: list[int] = []  # lists of each wave
        self._to_embed: list[int] = []  # lists of each wave that are not embedded yet

    def deduplicated(self, n_lists: int, n_late: int) -> None:
        """Learn that the next wave is deduplicated, and how many lists that made of each kind.

        Lists of late texts are numbered behind those to download.
        """
        lists = [Unit(DOWNLOAD, self.next_wave, self.number, n) for n in range(n_lists)]
        late = [Unit(EMBED, self.next_wave, self.number, n_lists + n) for n in range(n_late)]
        self._lists += lists
        self._late += late
        self._n_lists.append(n_lists)
        self._to_embed.append(n_lists)
        self.next_wave += 1
        self.is_deduping = False

    def embedded(self, wave: int) -> None:
        """Learn that a downloaded list of a wave is embedded."""
        self._to_embed[wave] -= 1

    def next_list(self) -> Unit | None:
        """Take the next list to download; one at a time, so no host is asked from two places."""
        if self.is_downloading or not self._lists:
            return None
        self.is_downloading = True
        return self._lists.popleft()

    def ready_late(self) -> Iterator[Unit]:
        """Take lists of late texts while all lists are embedded that may hold their images."""
        while self._late and not any(self._to_embed[: self._late[0].wave]):
            yield self._late.popleft()

    def is_late(self, unit: Unit) -> bool:
        """Tell whether a list of this bucket is one of late texts."""
        return unit.number >= self._n_lists[unit.wave]

    def n_late_after(self, wave: int) -> int:
        """Return how many lists of late texts wait that are of later waves."""
        return sum(unit.wave > wave for unit in self._late)
