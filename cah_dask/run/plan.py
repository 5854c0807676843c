"""What a crawl is to do, in which order: its units and their dependencies, without any machine.

::

    extract (per archive) -> dedup (per wave and bucket) -> download -> embed (per fetch list)
            -> select -> compact (per wave and group of buckets) -> pack (per Zarr shard)

The plan learns of finished units by `complete` and offers what became possible by `take`; a resumed
run tells it of the parts that already exist.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from cah_dask.counts import Counts, CountsSum
from cah_dask.groups import group_of
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT, PACK, RUN, Kind, Stage
from cah_dask.run.unit import Unit
from cah_dask.run.waves import Bucket, Wave
from cah_dask.storage import Receipt


class Plan:
    """The state of a run as the driver sees it; it holds no machine and reads no file.

    Parameters
    ----------
    archives
        Names of all archives of the run, in canonical order.
    committed
        Gives the receipt of a unit whose part already exists, else None.
    staged_limit
        Bytes of images that may wait for the embed stage before downloads pause.
    late
        Waves behind all others, of archives that were lost in earlier attempts at the run.
    stages
        Those of the crawl, and others that come after them.
    variants
        For stages whose parts depend on more than the run's own settings: the hash of those.
    """

    def __init__(  # noqa: PLR0913  # each is a fact of the run
        self,
        archives: Sequence[str],
        *,
        archives_per_wave: int,
        buckets: int,
        committed: Callable[[Unit], Receipt | None],
        staged_limit: float = float("inf"),
        late: Sequence[Sequence[str]] = (),
        stages: tuple[Stage, ...] = RUN,
        variants: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        starts = range(0, len(archives), archives_per_wave)
        waves = [archives[start : start + archives_per_wave] for start in starts]
        self._waves = [Wave(wave, buckets) for wave in (*waves, *late)]
        self._last_wave = len(waves) - 1  # of those that are there from the start
        self.stages = stages
        self._followers = {
            stage.name: [later for later in stages if later.after == stage.name] for stage in stages
        }
        self._variants = variants
        self._committed = committed
        self._staged_limit = staged_limit
        self._offered_waves = 0
        self._buckets = [Bucket(number) for number in range(buckets)]
        self._ready: dict[Stage, list[tuple[str, Unit]]] = {stage: [] for stage in stages}
        self._staged: dict[tuple[int, int, int], int] = {}  # bytes of images, by place of the list
        self._to_gather: dict[Unit, int] = {}  # lists that a unit which gathers still waits for
        lists = {stage.name for stage in stages if stage.kind is Kind.LIST}
        self._gatherers = [
            stage for stage in stages if stage.after in lists and stage.kind is Kind.GROUP
        ]
        self._settled: deque[tuple[Unit, Receipt]] = deque()
        self.known = dict.fromkeys(stages, 0)
        self.done = dict.fromkeys(stages, 0)
        self._counts = {stage: CountsSum() for stage in stages}
        self.kept: dict[Unit, int] = {}
        self.lost: list[str] = []
        self.failed: dict[Unit, str] = {}
        self.n_late = sum(map(len, late))
        self._foresee(EXTRACT, len(archives) + self.n_late)
        self._foresee(DEDUP, len(self._waves) * buckets)
        self._open_waves()
        self._settle()

    def take(self, stages: Sequence[Stage]) -> Unit | None:
        """Return the first unit that may start now, trying `stages` in order, or None."""
        for stage in stages:
            if self._ready[stage] and not self._is_held_back(stage):
                return heapq.heappop(self._ready[stage])[1]
        return None

    def waiting(self, stages: Sequence[Stage]) -> int:
        """Return how many units of `stages` may start now."""
        return sum(len(self._ready[stage]) for stage in stages if not self._is_held_back(stage))

    def _is_held_back(self, stage: Stage) -> bool:
        """Whether a stage must wait for the next one to catch up."""
        return stage == DOWNLOAD and self.staged > self._staged_limit

    def complete(self, unit: Unit, receipt: Receipt) -> None:
        """Learn that a unit is done, and offer what that makes possible."""
        self._settled.append((unit, receipt))
        self._settle()

    def fail(self, unit: Unit, reason: str) -> None:
        """Learn that a unit is given up; what needs it is never offered, all else goes on."""
        self.failed[unit] = reason
        self._staged.pop(_place(unit), None)
        if unit.stage == DOWNLOAD:
            self._release(unit)
        elif unit.stage == DEDUP:  # the bucket stops here, the others go on
            for wave in self._waves[unit.wave :]:
                wave.to_dedup -= 1
            self._open_waves()
        self._settle()

    def blocked(self) -> Counter[Stage]:
        """Return how many units are given up, or are never offered as they need such a one."""
        if not self.failed:
            return Counter()
        found = Counter(unit.stage for unit in self.failed)
        n_waves = len(self._waves)
        of_all = min((unit.wave for unit in self.failed if unit.stage == EXTRACT), default=n_waves)
        stops = [of_all] * len(self._buckets)
        lost = [n_waves] * len(self._buckets)  # the first wave of each with a list that is
        for unit in self.failed:
            bucket = self._buckets[unit.bucket]
            if unit.stage == DEDUP:
                stops[unit.bucket] = min(stops[unit.bucket], unit.wave)
            if unit.stage == DOWNLOAD or (unit.stage == EMBED and not bucket.is_late(unit)):
                lost[unit.bucket] = min(lost[unit.bucket], unit.wave)
        if found[EXTRACT]:
            found[EXTRACT] += sum(len(each.archives) for each in self._waves[self._offered_waves :])
        found[DEDUP] = sum(n_waves - stop for stop in stops)
        late = (bucket.n_late_after(wave) for bucket, wave in zip(self._buckets, lost, strict=True))
        found[EMBED] += found[DOWNLOAD] + sum(late)
        return found

    def put_back(self, unit: Unit) -> None:
        """Return a taken unit that was not done, such as one to be tried again."""
        heapq.heappush(self._ready[unit.stage], (unit.name, unit))

    def add_pack(self, shards: int) -> None:
        """Add the units of the release, known only when everything else is done."""
        self.known[PACK] = shards
        for number in range(shards):
            self._offer(self._unit(PACK, number=number))
        self._settle()

    def is_done(self, stages: Iterable[Stage]) -> bool:
        """Tell whether all that is known of some stages is done."""
        return all(self.done[stage] == self.known[stage] for stage in stages)

    def left(self) -> tuple[Stage, ...]:
        """Return the stages that still may have work: the first that is not done, and those after.

        The release may always be made again.
        """
        n_done = next(
            (n for n, stage in enumerate(self.stages) if self.done[stage] < self.known[stage]), -1
        )
        return self.stages[n_done:]

    @property
    def counts(self) -> dict[Stage, Counts]:
        """What became of the rows of each stage so far."""
        return {stage: counts.total for stage, counts in self._counts.items()}

    @property
    def staged(self) -> int:
        """Bytes of images that wait to be embedded."""
        return sum(self._staged.values())

    @property
    def is_selected(self) -> bool:
        """Whether every stage before the release is done."""
        return self.is_done(stage for stage in self.stages if stage != PACK)

    def wave(self, number: int) -> list[Unit]:
        """Return the extract units of one wave, in canonical order."""
        return [
            Unit(EXTRACT, wave=number, archive=archive) for archive in self._waves[number].archives
        ]

    def late_waves(self, wave: int) -> range:
        """Return the waves whose late texts become lists when a bucket of `wave` is deduplicated.

        All of them in the last one (see `candidates.late_texts`); a wave behind it has its own. So
        a part of dedup does not depend on what an earlier attempt at the run has lost.
        """
        first = 0 if wave == self._last_wave else wave
        return range(first, wave + 1) if wave >= self._last_wave else range(0)

    def selected_parts(self) -> list[tuple[str, int]]:
        """Return path and number of rows of the parts that pack reads, in canonical order."""
        units = sorted(self.kept, key=lambda unit: unit.name)
        return [(unit.part, self.kept[unit]) for unit in units]

    def _unit(self, stage: Stage, wave: int = 0, bucket: int = 0, number: int = 0) -> Unit:
        return Unit(stage, wave, bucket, number, variant=self._variants.get(stage.name, ""))

    def _foresee(self, stage: Stage, n_units: int) -> None:
        """Count units of a stage, and those like them of the stages after it."""
        self.known[stage] += n_units
        for later in self._followers[stage.name]:
            if later.kind is stage.kind:
                self._foresee(later, n_units)

    def _offer(self, unit: Unit) -> None:
        receipt = self._committed(unit)
        if receipt is None:
            self.put_back(unit)
        else:
            self._settled.append((unit, receipt))

    def _settle(self) -> None:
        while self._settled:
            unit, receipt = self._settled.popleft()
            stage = unit.stage
            self.done[stage] += 1
            self._counts[stage].add(receipt.counts)
            self.lost += [f"{unit.name}: {error}" for error in receipt.errors]
            if stage.name == PACK.after:
                self.kept[unit] = receipt.counts.kept
            if stage == EXTRACT:
                self._extracted(unit)
            elif stage == DEDUP:
                self._deduplicated(unit, receipt)
            elif stage == DOWNLOAD:
                self._downloaded(unit, receipt)
            self._follow(unit)
            if stage == EMBED:
                self._embedded(unit)

    def _follow(self, unit: Unit) -> None:
        """Offer what reads the part of a unit: units like it, and those that gather lists."""
        for stage in self._followers[unit.stage.name]:
            if stage.kind is unit.stage.kind:
                archive = unit.archive
                later = self._unit(stage, unit.wave, unit.bucket, unit.number)
                self._offer(msgspec.structs.replace(later, archive=archive) if archive else later)
            elif unit.stage.kind is Kind.LIST:
                later = self._gatherer(stage, unit)
                self._to_gather[later] -= 1
                self._offer_gatherer(later)

    def _extracted(self, unit: Unit) -> None:
        wave = self._waves[unit.wave]
        wave.to_extract -= 1
        if wave.to_extract == 0:
            for bucket in self._buckets:
                self._offer_dedup(bucket)

    def _offer_dedup(self, bucket: Bucket) -> None:
        """Offer a bucket's next wave once that wave is extracted and the one before is deduped."""
        if bucket.is_deduping or bucket.next_wave == len(self._waves):
            return
        if self._waves[bucket.next_wave].to_extract == 0:
            bucket.is_deduping = True
            self._offer(Unit(DEDUP, wave=bucket.next_wave, bucket=bucket.number))

    def _deduplicated(self, unit: Unit, receipt: Receipt) -> None:
        lists, late = (receipt.counts.notes.get(key, 0) for key in ("lists", "late_lists"))
        self._foresee(DOWNLOAD, lists)
        self._foresee(EMBED, late)
        self._gather(DOWNLOAD, unit, lists)
        self._gather(EMBED, unit, late)
        wave, bucket = self._waves[unit.wave], self._buckets[unit.bucket]
        wave.deduplicated(unit.bucket, lists)
        for stage in self._gatherers:
            self._offer_gatherer(self._gatherer(stage, unit))
        bucket.deduplicated(lists, late)
        self._offer_late(bucket)
        self._offer_dedup(bucket)
        self._offer_download(bucket)
        self._open_waves()

    def _gather(self, stage: Stage, bucket: Unit, n_lists: int) -> None:
        """Have the units that gather lists wait for so many more of a bucket."""
        for later in self._followers[stage.name] if n_lists else ():
            if later.kind is stage.kind:
                self._gather(later, bucket, n_lists)
                continue
            unit = self._gatherer(later, bucket)
            if unit not in self._to_gather:
                self._to_gather[unit] = 0
                self._foresee(later, 1)
            self._to_gather[unit] += n_lists

    def _gatherer(self, stage: Stage, part: Unit) -> Unit:
        """Return the unit of a stage that gathers the lists of a bucket, or of its group."""
        if stage.kind is Kind.GROUP:
            return self._unit(stage, part.wave, number=group_of(part.bucket))
        return self._unit(stage, part.wave, part.bucket)

    def _offer_gatherer(self, unit: Unit) -> None:
        """Offer a unit that gathers lists once all are done and no bucket can bring more."""
        is_group, wave = unit.stage.kind is Kind.GROUP, self._waves[unit.wave]
        can_grow = is_group and not wave.is_deduplicated(unit.number)
        if self._to_gather.get(unit) == 0 and not can_grow:
            del self._to_gather[unit]
            self._offer(unit)

    def _offer_download(self, bucket: Bucket) -> None:
        unit = bucket.next_list()
        if unit is not None:
            self._waves[unit.wave].to_begin -= unit.number == 0
            self._offer(unit)

    def _offer_late(self, bucket: Bucket) -> None:
        for unit in bucket.ready_late():
            self._offer(unit)

    def _embedded(self, unit: Unit) -> None:
        if self._staged.pop(_place(unit), None) is not None:
            bucket = self._buckets[unit.bucket]
            bucket.embedded(unit.wave)
            self._offer_late(bucket)

    def _downloaded(self, unit: Unit, receipt: Receipt) -> None:
        self._staged[_place(unit)] = sum(side.n_bytes for side in receipt.side)
        self._release(unit)

    def _release(self, unit: Unit) -> None:
        bucket = self._buckets[unit.bucket]
        bucket.is_downloading = False
        self._offer_download(bucket)
        self._open_waves()

    def _open_waves(self) -> None:
        """Let the next wave be extracted once half of the buckets have come to the newest one.

        So there are lists for all others while some buckets have hosts that take long.
        """
        while self._offered_waves < len(self._waves) and (
            self._offered_waves == 0 or self._waves[self._offered_waves - 1].is_half_begun
        ):
            number = self._offered_waves
            self._offered_waves += 1
            for unit in self.wave(number):
                self._offer(unit)


def _place(unit: Unit) -> tuple[int, int, int]:
    """Return what the units of a list have in common."""
    return unit.wave, unit.bucket, unit.number
