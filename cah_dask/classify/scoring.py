"""Items -> scores and vectors by the model, and what of them is kept."""

import contextlib
import faulthandler
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.classify.arrays import unpacked
from cah_dask.classify.histogram import bins_of
from cah_dask.classify.hooks import Arrays, Keep, Model, Scored
from cah_dask.classify.loading import told
from cah_dask.classify.options import ClassifyOptions
from cah_dask.classify.outcomes import STOPS_AT, Outcome
from cah_dask.classify.proof import Proof
from cah_dask.classify.rows import KEPT, VECTOR, scored
from cah_dask.errors import AlarmError, ConfigError, RetryableError, RunError
from cah_dask.pairs.vectors import packed as packed_vectors
from cah_dask.schema import score_of

ROWS = "rows"
"""A note of counts: rows that have scores."""
HISTOGRAM = "score"
"""A note of counts: `score/<bin>/<name>` scores lie in a bin of `histogram`."""
OF_MODEL = "model"
"""A note of counts: `model/<name>` is one of `Scored.notes`."""

EXIT_CODE = 70
_LATER = 1.5
_MESSAGES = 5
_MOST = (1 << 63) - 1


class BrokenModelError(RetryableError):
    """A model fails for what it scored before: another process may have one that works."""


class Scoring:
    """What a model says of the items of one archive; numbers are known once all groups are taken.

    Parameters
    ----------
    use
        What the model is called in messages, and `name` the archive.
    at_work
        Gives a context for each batch: the turn at the model, and what ends it if it hangs.
    proof
        Arrays of an item that the model scored.
    """

    def __init__(
        self,
        model: Model,
        keep: Keep,
        options: ClassifyOptions,
        name: str,
        at_work: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        proof: Proof | None = None,
    ) -> None:
        self._model = model
        self._keep = keep
        self._options = options
        self._use = options.hooks["model"].use
        self._name = name
        self._at_work = at_work
        self._proof = proof or Proof()
        self._names = list(model.names)
        self._dim = model.dim if options.vectors else 0
        self.schema = scored(self._names, self._dim)
        self.rejected: Counter[str] = Counter()
        self.notes: Counter[str] = Counter({ROWS: 0})
        self.messages: list[str] = []
        self._n_items = 0

    def groups(self, ready: Iterable[tuple[pa.Table, list[Arrays]]]) -> Iterator[pa.Table]:
        """Yield tables like `rows.scored` of those that have scores.

        Parameters
        ----------
        ready
            Tables like `rows.READ`, and the arrays of their rows.

        Raises
        ------
        BrokenModelError
            If the model fails for an item that it scored before.
        AlarmError
            If it fails for each of the first items, and never scored one.
        RunError
            If the model or `keep` gives what it must not.
        """
        size = self._options.batch_size
        for table, arrays in ready:
            made = _Made(table, len(self._names), self._dim)
            for start in range(0, len(arrays), size):
                self._fill(made, start, arrays[start : start + size])
            self._n_items += len(arrays)
            found = self._table(table, made)
            self._require_some()
            yield found

    def _require_some(self) -> None:
        n_failed = sum(self.rejected[fault] for fault in _FAULTS)
        is_so_for_all = n_failed >= STOPS_AT and n_failed == self._n_items
        if is_so_for_all and self._proof.known() is None:
            raise AlarmError(
                f"each of the first {n_failed} items of {self._name} fails: {self.messages[0]}"
            )

    def _require_whole(self, made: "_Made") -> None:
        """Raise BrokenModelError if an item that was scored before cannot be scored any more."""
        known = self._proof.known()
        if known is None:
            return
        other = Scoring(self._model, self._keep, self._options, self._name, self._at_work)
        one = _Made.of_one(known, len(self._names), self._dim)
        failed = other._scored(one, 0, [one.arrays(0)])
        if failed is not None or one.outcomes[0] in _FAULTS:
            raise BrokenModelError(
                f"{self._use} fails for what it scored before, since this of {self._name}: "
                f"{made.fault}"
            )

    def _fill(self, made: "_Made", start: int, batch: Sequence[Arrays]) -> None:
        """Score a batch; its items one by one, of new arrays, if the model fails for it."""
        numbers = range(start, start + len(batch))
        failed = self._scored(made, start, batch)
        for number in numbers if failed is not None else ():
            if len(batch) > 1:
                failed = self._scored(made, number, [made.arrays(number)])
            if failed is not None:
                message = f"{self._use}: {told(failed)}"
                made.outcomes[number] = self._fault(Outcome.MODEL_ERROR, message, made, number)
        if made.outcomes[numbers[-1]] in _FAULTS:  # it may be so for all from now on
            self._require_whole(made)

    def _scored(self, made: "_Made", start: int, batch: Sequence[Arrays]) -> BaseException | None:
        """Add what the model says of some items; return what it raised instead."""
        numbers = range(start, start + len(batch))
        with self._at_work():
            try:
                scored = self._checked(self._model(batch), len(batch))
            except (RunError, ConfigError):
                raise
            except BaseException as error:  # noqa: BLE001  # whatever the model does
                _require_no_interrupt(error)
                return error
            made.add(start, scored)
            for number in numbers:
                made.outcomes[number] = self._outcome(made, number)
        self.notes.update({f"{OF_MODEL}/{k}": int(n) for k, n in scored.notes.items()})
        if not self._proof.is_mine:
            for number in numbers:
                if made.outcomes[number] not in _FAULTS:
                    self._proof.add(made.packed[number].as_py())
                    break
        return None

    def _checked(self, given: Any, n_items: int) -> Scored:
        if not isinstance(given, Scored):
            raise RunError(f"{self._use} gives {type(given).__name__}; Scored is needed")
        scores = self._array("scores", given.scores, (n_items, len(self._names)))
        vectors = None
        if self._dim:
            vectors = self._array("vectors", given.vectors, (n_items, self._dim))
        return Scored(scores, vectors, self._checked_notes(given.notes))

    def _checked_notes(self, given: Any) -> Mapping[str, int]:
        """Return notes that a receipt can hold."""
        if not isinstance(given, Mapping):
            raise RunError(
                f"{self._use} gives notes of type {type(given).__name__}; a dict is needed"
            )
        for name, count in given.items():
            is_name = isinstance(name, str) and name.isprintable() and name
            if not is_name or not isinstance(count, int | np.integer) or not 0 <= count <= _MOST:
                raise RunError(
                    f"{self._use} gives {count!a} as the note {name!a}; notes are whole numbers "
                    "from 0 on by names of printable characters"
                )
        return given

    def _array(self, what: str, given: Any, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        found = np.asarray(given)
        if found.dtype.kind != "f" or found.shape != shape:
            raise RunError(
                f"{self._use} gives {what} of type {found.dtype} and shape {found.shape} for "
                f"{shape[0]} items; float32 of shape {shape} is needed"
            )
        return found.astype(np.float32)

    def _outcome(self, made: "_Made", number: int) -> str:
        """Return why an item is not kept, or nothing if it is."""
        if not made.is_finite(number):
            message = f"{self._use} gives what is not finite"
            return self._fault(Outcome.BAD_SCORE, message, made, number)
        scores = dict(zip(self._names, made.scores[number].tolist(), strict=True))
        try:
            is_kept = self._keep(scores)
        except BaseException as error:  # noqa: BLE001  # whatever the hook does
            _require_no_interrupt(error)
            return self._fault(Outcome.KEEP_ERROR, f"keep: {told(error)}", made, number)
        if not isinstance(is_kept, bool | np.bool_):
            raise RunError(f"keep gives {type(is_kept).__name__} for {scores}; a bool is needed")
        return "" if is_kept else Outcome.BELOW

    def _fault(self, outcome: Outcome, message: str, made: "_Made", number: int) -> str:
        made.fault = f"record at {made.offsets[number]}: {message}"
        if len(self.messages) < _MESSAGES:
            self.messages.append(made.fault)
        return outcome

    def _table(self, table: pa.Table, made: "_Made") -> pa.Table:
        """Count the rows of a group, and return those that have scores."""
        for outcome in filter(None, made.outcomes):
            self.rejected[str(outcome)] += 1
        is_kept = np.array([not outcome for outcome in made.outcomes], bool)
        is_below = np.array([outcome == Outcome.BELOW for outcome in made.outcomes], bool)
        has_scores = is_kept | is_below
        is_put_out = is_kept | (is_below & self._options.rejected)
        self.notes[ROWS] += int(is_put_out.sum())
        columns = {KEPT: pa.array(is_kept[has_scores])}
        for place, name in enumerate(self._names):
            column = made.scores[has_scores, place]
            columns[score_of(name)] = pa.array(column)
            for number, count in zip(*np.unique(bins_of(column), return_counts=True), strict=True):
                self.notes[f"{HISTOGRAM}/{number}/{name}"] += int(count)
        if self._dim:
            vectors = packed_vectors(made.vectors[has_scores])
            columns[VECTOR] = pc.if_else(pa.array(is_put_out[has_scores]), vectors, None)
        rows = table.filter(pa.array(has_scores))
        with_payload = is_put_out if self._options.payload == "all" else is_kept
        columns["payload"] = pc.if_else(
            pa.array(with_payload[has_scores]), rows["payload"], pa.scalar(None, pa.binary())
        )
        made_of = [columns[n] if n in columns else rows[n] for n in self.schema.names]
        return pa.table(made_of, schema=self.schema)


_FAULTS = (Outcome.MODEL_ERROR, Outcome.BAD_SCORE, Outcome.KEEP_ERROR)


class _Made:
    """What is made of the items of one group, a table like `rows.READ`."""

    def __init__(self, items: pa.Table, n_scores: int, dim: int) -> None:
        n_items = len(items)
        self.offsets: list[int] = items["offset"].to_pylist()
        self.packed = items["arrays"]
        self.scores = np.full((n_items, n_scores), np.nan, np.float32)
        self.vectors = np.zeros((n_items, dim), np.float16)
        self.outcomes: list[str] = [""] * n_items
        self.fault = ""

    @classmethod
    def of_one(cls, packed: bytes, n_scores: int, dim: int) -> "_Made":
        """Return that of one item, of which only the arrays are known."""
        return cls(pa.table({"offset": [0], "arrays": [packed]}), n_scores, dim)

    def arrays(self, number: int) -> Arrays:
        """Return new arrays of an item."""
        return unpacked(self.packed[number].as_py())

    def add(self, start: int, scored: Scored) -> None:
        """Add what the model gave of some items."""
        stop = start + len(scored.scores)
        self.scores[start:stop] = scored.scores
        if scored.vectors is not None:
            with np.errstate(over="ignore"):  # what is too large for float16 is not finite then
                self.vectors[start:stop] = scored.vectors

    def is_finite(self, number: int) -> bool:
        """Tell whether all numbers of an item can be stored."""
        return bool(
            np.isfinite(self.scores[number]).all() and np.isfinite(self.vectors[number]).all()
        )


def _require_no_interrupt(error: BaseException) -> None:
    """Raise what Ctrl-C raised, not a hook: only the main thread is interrupted."""
    if (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
    ):
        raise error


def with_arrays(
    groups: Iterable[pa.Table], batch_size: int
) -> Iterator[tuple[pa.Table, list[Arrays]]]:
    """Yield tables like `rows.READ` with the arrays of their rows.

    However long those that come are, each that goes holds whole batches but for the last, so that
    the batches of an archive are the same whatever its groups are.
    """
    for table in _of_whole_batches(groups, batch_size):
        yield table, [unpacked(data) for data in table["arrays"].to_pylist()]


def _of_whole_batches(groups: Iterable[pa.Table], batch_size: int) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for table in groups:
        waiting.append(table)
        n_rows = sum(map(len, waiting))
        if n_whole := n_rows - n_rows % batch_size:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, n_whole)
            waiting = [joined.slice(n_whole)] if n_whole < n_rows else []
    if waiting:
        yield pa.concat_tables(waiting)


@contextlib.contextmanager
def limited(seconds: float, before: Callable[[], None]) -> Iterator[None]:
    """End this process if the block takes too long: nothing else ends a model that hangs.

    Only one block at a time may be within.

    Parameters
    ----------
    before
        Called before it ends.
    """

    def end() -> None:
        try:
            before()
        finally:
            os._exit(EXIT_CODE)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    # for native code that lets no other thread run
    faulthandler.dump_traceback_later(_LATER * seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        timer.cancel()
