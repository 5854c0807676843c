"""A fetch list -> an image shard and the outcome of every url, out of archives.

No request is made. Records are read archive by archive in the order in which they lie there, while
decoders work on those before; redirects and revisits are looked up together, and read in the next
round. The images lie in the order of the list, and an outcome tells the time of its capture: so the
same archives give the same bytes.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from cah_dask.archives.block import LostRecordError
from cah_dask.archives.responses import Archive, Response, opened
from cah_dask.blocklists.exclusion import Exclusion
from cah_dask.blocklists.hashlists import HashLists, load_hash_lists
from cah_dask.counts import Status
from cah_dask.errors import RecordError, RetryableError, ShardError
from cah_dask.images.archived.index import ArchiveIndex, Found
from cah_dask.images.archived.visits import Answers, Body, Visit, begun, missing
from cah_dask.images.download import Downloaded, decoders_of
from cah_dask.images.list_progress import progress_written
from cah_dask.images.options import DownloadOptions
from cah_dask.images.outcomes import Ledger, Outcome, judged
from cah_dask.images.picture.decode import DecodeOptions
from cah_dask.images.picture.decoders import Decoders
from cah_dask.images.picture_rules import PictureRules
from cah_dask.images.published import Expectations
from cah_dask.images.shards import ShardWriter
from cah_dask.images.web.clock import run
from cah_dask.words import counted, few

_AHEAD = 2
"""Bodies for each decoder that are in memory at most."""


def download_archived(  # noqa: PLR0913  # who else is at work belongs to the run, not to its options
    urls: Sequence[str],
    shard: Path,
    options: DownloadOptions,
    decode: DecodeOptions,
    *,
    index: ArchiveIndex,
    place_of: Callable[[str], str],
    exclusion: Exclusion | None = None,
    hash_lists: HashLists | None = None,
    published: Expectations | None = None,
    progress_file: Path | None = None,
) -> Downloaded:
    """Take one fetch list out of archives, write its image shard, and say what became of each url.

    Parameters
    ----------
    urls
        Distinct urls.
    shard
        Where to write the image shard: a temporary name, published by the caller.
    index, place_of
        Which record answers a url; where an archive lies that it names.
    exclusion, hash_lists, published, progress_file
        As for `images.download.download_list`.

    Returns
    -------
    Downloaded
        Notes count records and bytes of bodies; errors name an archive that could not be read.
    """
    listed = hash_lists or load_hash_lists(options.hash_lists)
    rules = PictureRules(exclusion or Exclusion(), listed, options.phash_distance, published or {})
    with ShardWriter(shard) as writer, _Records(place_of, options.max_bytes) as records:
        ledger = Ledger(urls)
        reading = _Reading(urls, ledger, writer, rules, records, index, options)
        with progress_written(progress_file, ledger, lambda: records.notes["bytes"]):
            run(reading.carry_out(decode))
        writer.arrange(ledger.arrivals)
    return Downloaded(ledger.table(), ledger.counts(records.notes), records.errors)


class _Records:
    """Reads records, one archive open at a time; a context manager.

    An archive that turns out to be out of reach is not opened again.
    """

    def __init__(self, place_of: Callable[[str], str], max_bytes: int) -> None:
        self._place_of = place_of
        self._max_bytes = max_bytes
        self._opened = contextlib.ExitStack()
        self._archive: Archive | None = None
        self._name = ""
        self._lost: dict[str, str] = {}
        self._unreachable: set[str] = set()
        self._n_records = self._n_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.close()

    @property
    def notes(self) -> dict[str, int]:
        """What was read."""
        return {"records": self._n_records, "bytes": self._n_bytes}

    @property
    def errors(self) -> tuple[str, ...]:
        """What could not be read, in one line that names the archives."""
        if not self._lost:
            return ()
        reasons = "; ".join(few([reason for _, reason in sorted(self._lost.items())]))
        return (f"{counted(len(self._lost), 'archive')} out of reach or damaged: {reasons}",)

    def read(self, where: Found) -> Response | Status:
        """Return a record, or why there is none."""
        if where.archive in self._unreachable:
            return Status.ARCHIVE_LOST
        try:
            archive = self._open(where.archive)
            response = archive.read_response(where.offset, max_bytes=self._max_bytes)
        except LostRecordError as error:
            return self._lose(where.archive, error)
        except RecordError:
            return Status.NOT_ARCHIVED
        except (RetryableError, ShardError, OSError) as error:
            self._unreachable.add(where.archive)
            return self._lose(where.archive, error)
        self._n_records += 1
        self._n_bytes += len(response.body)
        return response

    def _lose(self, archive: str, error: Exception) -> Status:
        """Note what of an archive could not be read first."""
        reason = str(error)
        with contextlib.suppress(ShardError):
            reason = reason.replace(self._place_of(archive), PurePosixPath(archive).name)
        self._lost.setdefault(archive, reason)
        return Status.ARCHIVE_LOST

    def _open(self, name: str) -> Archive:
        if self._archive is None or self._name != name:
            self._opened.close()
            self._archive = None
            self._archive = self._opened.enter_context(opened(self._place_of(name)))
            self._name = name
        return self._archive


class _Reading:
    """Carries the urls of one list to their outcomes."""

    def __init__(  # noqa: PLR0913, PLR0917  # each is a fact of the list
        self,
        urls: Sequence[str],
        ledger: Ledger,
        writer: ShardWriter,
        rules: PictureRules,
        records: _Records,
        index: ArchiveIndex,
        options: DownloadOptions,
    ) -> None:
        self._urls = urls
        self._ledger = ledger
        self._writer = writer
        self._rules = rules
        self._records = records
        self._index = index
        self._options = options
        self._answers = Answers(options, rules.exclusion)
        self._slots = asyncio.Semaphore(_AHEAD * options.decoders)

    async def carry_out(self, decode: DecodeOptions) -> None:
        """Go on until every url has its outcome."""
        visits = [
            visit
            for index, url in enumerate(self._urls)
            if (visit := self._begun(index, url)) is not None
        ]
        async with decoders_of(self._options, decode, self._rules.listed) as decoders:
            try:
                while visits:
                    visits = await self._round(visits, decoders)
            except ExceptionGroup as error:
                raise error.exceptions[0] from error

    def _begun(self, index: int, url: str) -> Visit | None:
        found = begun(index, url, self._rules.exclusion)
        if isinstance(found, Visit):
            return found
        self._ledger.record(index, found)
        return None

    async def _round(self, visits: Sequence[Visit], decoders: Decoders) -> list[Visit]:
        """Read what the index has of some urls; return where that sends on to."""
        places = await asyncio.to_thread(found_by, self._index, visits)
        for visit in visits:
            if visit not in places:
                self._ledger.record(visit.index, missing(Status.NOT_ARCHIVED))
        following = []
        async with asyncio.TaskGroup() as group:
            in_turn = sorted(places, key=lambda visit: (places[visit], visit.index))
            for where, each in groupby(in_turn, key=places.__getitem__):
                response = await self._read(where)
                for visit in each:
                    next_ = self._judged(visit, response)
                    if isinstance(next_, Visit):
                        following.append(next_)
                    elif next_ is not None:
                        await self._slots.acquire()
                        group.create_task(self._keep(visit, next_, decoders))
        return following

    async def _read(self, where: Found) -> Response | Status:
        async with self._slots:  # a body less is decoded meanwhile
            return await asyncio.to_thread(self._records.read, where)

    def _judged(self, visit: Visit, response: Response | Status) -> Visit | Body | None:
        """Return what is left to be done of a visit; None once it has its outcome."""
        if isinstance(response, Status):
            self._ledger.record(visit.index, missing(response))
            return None
        result = self._answers.of(visit, response)
        if not isinstance(result, Outcome):
            return result
        self._ledger.record(visit.index, result)
        return None

    async def _keep(self, visit: Visit, body: Body, decoders: Decoders) -> None:
        """Decode a body, and store the picture if it is one and no list names it."""
        try:
            verdict = await decoders.judge(body.data)
            verdict = self._rules.applied(self._urls[visit.index], verdict)
            picture = verdict.picture
            row = None if picture is None else self._writer.add(picture.data)
            self._ledger.record(visit.index, judged(body.before, verdict, len(body.data)), row)
        finally:
            self._slots.release()


def found_by(index: ArchiveIndex, visits: Sequence[Visit]) -> dict[Visit, Found]:
    """Look up where visits go on, of those whose record is archived."""
    plain = [visit for visit in visits if visit.referral is None]
    referred = [(visit, visit.referral) for visit in visits if visit.referral is not None]
    best = index.best({visit.url for visit in plain})
    originals = index.originals({referral for _, referral in referred})
    places = {visit: best[visit.url] for visit in plain if visit.url in best}
    return places | {visit: originals[r] for visit, r in referred if r in originals}
