"""One archive: records -> items, by `read` and `prepare`, with an outcome for each record."""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence

import msgspec
import pyarrow as pa

from cah_dask.archives.responses import Response, Responses, Wanted
from cah_dask.classify.arrays import packed
from cah_dask.classify.hook_process import Answer
from cah_dask.classify.hook_runner import NOTHING, HookRunner
from cah_dask.classify.hooks import arrays_of
from cah_dask.classify.identity import Digests
from cah_dask.classify.options import ClassifyOptions
from cah_dask.classify.outcomes import FAULTS, STOPS_AT
from cah_dask.classify.proof import Proof
from cah_dask.classify.rows import READ
from cah_dask.counts import STAGED, Counts
from cah_dask.errors import AlarmError

MESSAGES = 5
"""What is told of faults of hooks, for each archive."""

BAD_RECORD = "bad_record"
"""Why a record went no further that is none although it is in the place of one."""

_BATCH_RECORDS = 64
_BATCH_BYTES = 4 << 20
_GROUP_ROWS = 256
_GROUP_BYTES = 64 << 20
_MIMES = 50
_MIME_CHARACTERS = 60


class Reading:
    """What is made of one archive; its numbers are known once all groups are taken.

    Parameters
    ----------
    archive
        Path or url.
    name
        What it is called in messages.
    expected
        What the files of the hooks hold; nothing if that does not matter.
    proof
        A record for which the hooks work.
    """

    def __init__(
        self,
        archive: str,
        name: str,
        options: ClassifyOptions,
        expected: Digests = NOTHING,
        proof: Proof | None = None,
    ) -> None:
        self._expected = expected
        self._proof = proof or Proof()
        self._archive = archive
        self._name = name
        self._options = options
        asked = options.records
        wanted = Wanted(
            kinds=asked.kinds,
            statuses=asked.statuses,
            mimes=asked.mime,
            min_bytes=asked.min_bytes,
            max_bytes=asked.max_bytes,
        )
        self._records = Responses(archive, wanted)
        self._rejected: Counter[str] = Counter()
        self._mimes: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._n_items = self._n_sound = self._n_bytes = 0
        self._messages: list[str] = []
        self._runner: HookRunner | None = None

    @property
    def counts(self) -> Counts:
        """What became of all records."""
        rejected = dict(self._rejected)
        rejected |= {str(reason): n for reason, n in self._records.left_out.items()}
        if n_bad := self._records.n_bad:
            rejected[BAD_RECORD] = n_bad
        mimes = dict(self._mimes.most_common(_MIMES))
        others = self._mimes.total() - sum(mimes.values())
        notes = {f"mime/{mime or 'none'}": n for mime, n in mimes.items()}
        notes |= {f"status/{status}": n for status, n in self._statuses.items()}
        notes |= {"mime/others": others} if others else {}
        notes[STAGED] = self._n_bytes
        seen = self._records.n_records + self._records.n_bad
        return Counts(seen, self._n_items, dict(sorted(rejected.items())), notes)

    @property
    def errors(self) -> tuple[str, ...]:
        """What could not be read of the archive, and what the first failing hooks said."""
        of_archive = (error.removeprefix(f"{self._archive}: ") for error in self._records.errors)
        return (*(f"{self._name}: {error}" for error in of_archive), *self._messages)

    @property
    def printed(self) -> Sequence[str]:
        """The last lines that the hooks printed; known once no more groups are taken."""
        return () if self._runner is None else self._runner.printed

    def groups(self) -> Generator[pa.Table, None, None]:
        """Yield the items as tables like `rows.READ`, none much larger than 64 MiB.

        Raises
        ------
        AlarmError
            If the hooks fail for each of the first records, and for one for which they worked.
        """
        rows: list[tuple[Response, Answer]] = []
        n_bytes = 0
        for record, answer in self._answered():
            if self._is_item(record, answer):
                rows.append((record._replace(body=b"", headers=()), answer))
                n_bytes += len(answer.arrays) + len(answer.payload)
            if len(rows) >= _GROUP_ROWS or n_bytes >= _GROUP_BYTES:
                self._n_bytes += n_bytes
                yield self._table(rows)
                rows, n_bytes = [], 0
        if rows:
            self._n_bytes += n_bytes
            yield self._table(rows)

    @property
    def _has_hooks(self) -> bool:
        return bool(self._options.read or self._options.prepare)

    def _answered(self) -> Iterator[tuple[Response, Answer]]:
        """Yield each record that is sound with what the hooks say of it, in their order."""
        if not self._has_hooks:
            yield from ((record, self._as_it_is(record)) for record in self._sound())
            return
        sent: Sequence[Response] = ()
        self._runner = HookRunner(self._options, self._expected)
        with self._runner as runner:
            for batch in _batches(self._sound()):
                answers = runner.receive() if sent else []
                runner.send(batch)
                yield from zip(sent, answers, strict=True)
                sent = batch
            if sent:
                yield from zip(sent, runner.receive(), strict=True)

    def _sound(self) -> Iterator[Response]:
        for record in self._records:
            self._mimes[record.mime[:_MIME_CHARACTERS]] += 1
            self._statuses[str(record.status or "none")] += 1
            if record.fault:
                self._rejected[str(record.fault)] += 1
            else:
                yield record

    def _as_it_is(self, record: Response) -> Answer:
        """Return what the default hooks say, which need no process of their own."""
        arrays = packed(arrays_of(record.body)) if self._options.model else b""
        return Answer("", arrays, record.body if self._options.payload != "none" else b"")

    def _is_item(self, record: Response, answer: Answer) -> bool:
        """Count a record; tell whether it goes on."""
        if answer.outcome not in FAULTS:
            self._n_sound += 1
            if self._has_hooks and not self._proof.is_mine:
                self._proof.add(msgspec.msgpack.encode([record]))
        if not answer.outcome:
            self._n_items += 1
            return True
        self._rejected[str(answer.outcome)] += 1
        if answer.message and len(self._messages) < MESSAGES:
            self._messages.append(f"{self._name}: record at {record.offset}: {answer.message}")
        n_faults = sum(self._rejected[fault] for fault in FAULTS)
        if n_faults == STOPS_AT and not self._n_sound:
            self._require_hooks(answer.message)
        return False

    def _require_hooks(self, message: str) -> None:
        """Raise AlarmError unless the hooks work here for a record for which they did before."""
        known = self._proof.known()
        if known is not None:
            with HookRunner(self._options, self._expected) as runner:
                runner.send(msgspec.msgpack.decode(known, type=list[Response]))
                if runner.receive()[0].outcome not in FAULTS:
                    return
        raise AlarmError(
            f"the hooks fail for each of the first {STOPS_AT} records of {self._name}; "
            f"the last one: {message}"
        )

    def _table(self, rows: Sequence[tuple[Response, Answer]]) -> pa.Table:
        with_payload = self._options.payload != "none"
        columns = {
            "url": [record.url for record, _ in rows],
            "date": [record.date for record, _ in rows],
            "offset": [record.offset for record, _ in rows],
            "digest": [record.digest for record, _ in rows],
            "mime": [record.mime for record, _ in rows],
            "status": [record.status for record, _ in rows],
            "arrays": [answer.arrays for _, answer in rows],
            "payload": [answer.payload if with_payload else None for _, answer in rows],
        }
        return pa.table(columns, schema=READ)


def _batches(records: Iterable[Response]) -> Iterator[list[Response]]:
    batch: list[Response] = []
    n_bytes = 0
    for record in records:
        batch.append(record)
        n_bytes += len(record.body)
        if len(batch) == _BATCH_RECORDS or n_bytes >= _BATCH_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch
