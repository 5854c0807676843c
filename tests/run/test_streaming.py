"""The plan of a stream: what lies between two stages is bounded, and nothing waits for ever."""

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.counts import STAGED, Counts
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.stagewise import numbered
from cah_dask.run.streaming import Streaming
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt

FILL = Stage(name="fill", kind=Kind.ARCHIVE, folder="fills", pool="cpu", task="")
DRAIN = Stage(name="drain", kind=Kind.ARCHIVE, folder="drains", pool="gpu", task="")
END = Stage(name="end", kind=Kind.SHARD, folder="ends", pool="cpu", task="")


def receipt(unit: Unit, staged: int = 0) -> Receipt:
    notes = {STAGED: staged} if unit.stage is FILL else {"seen": 7}
    return Receipt(
        stage=unit.stage.name, unit=unit.name, config="", counts=Counts(5, 5, {}, notes),
        errors=(unit.name,),
    )  # fmt: skip


def plan(n_units: int, *, room: float = 10, done: Collection[tuple[Stage, str]] = ()) -> Streaming:
    return Streaming(
        FILL, DRAIN, [f"{number}" for number in range(n_units)],
        [(END, lambda: [numbered(END, 0)])],
        lambda unit: receipt(unit, 4) if (unit.stage, unit.name) in done else None,
        room=room, left_by=lambda found: Counts(found.counts.notes["seen"], 7),
    )  # fmt: skip


def first_of(units: Streaming, stage: Stage) -> Unit:
    unit = units.take([stage])
    assert unit is not None
    return unit


def take(units: Streaming, *stages: Stage) -> list[Unit]:
    return list(iter(lambda: units.take(stages or (DRAIN, FILL)), None))


def test_units_go_from_one_stage_to_the_next_and_then_the_steps_follow():
    units = plan(2)
    fills = take(units)
    assert [unit.stage for unit in fills] == [FILL, FILL]
    units.complete(fills[1], receipt(fills[1], 1))
    assert units.waiting([DRAIN]) == 1
    (drain,) = take(units)
    assert (drain.stage, drain.name) == (DRAIN, fills[1].name)
    units.complete(drain, receipt(drain))
    assert not units.begin()
    units.complete(fills[0], receipt(fills[0], 1))
    (drain,) = take(units)
    units.complete(drain, receipt(drain))
    assert units.begin()
    (end,) = take(units, END)
    assert end == numbered(END, 0)
    assert units.known == units.done | {END: 1}
    assert units.errors == [fills[0].name, fills[1].name], "once each"


def test_no_more_is_begun_than_there_is_room_for():
    units = plan(9, room=10)
    first = first_of(units, FILL)
    units.complete(first, receipt(first, 4))
    assert units.waiting([FILL, DRAIN]) == 1 + 1
    second = take(units, FILL)
    assert len(second) == 1, "4 bytes wait, 4 may come, 4 more are too many"
    units.complete(second[0], receipt(second[0], 5))
    assert (take(units, FILL), units.staged) == ([], 9)
    units.complete(drain := first_of(units, DRAIN), receipt(drain))
    assert (len(take(units, FILL)), units.staged) == (1, 5)


def test_one_that_is_larger_than_the_room_goes_on_alone():
    units = plan(3, room=10)
    first = first_of(units, FILL)
    units.complete(first, receipt(first, 400))
    assert take(units, FILL) == []
    units.complete(drain := first_of(units, DRAIN), receipt(drain))
    assert len(take(units, FILL)) == 1


@pytest.mark.parametrize("stage", [FILL, DRAIN])
def test_what_is_given_up_leaves_its_room_and_ends_the_job_before_its_steps(stage: Stage):
    units = plan(3, room=4)
    for unit in iter(lambda: units.take([DRAIN, FILL]), None):
        if unit.name == "w00000/1-6b86b273" and unit.stage is stage:
            units.fail(unit, "no way")
        else:
            units.complete(unit, receipt(unit, 4))
    assert len(units.failed) == 1
    assert units.done == {FILL: 3 - (stage is FILL), DRAIN: 2, END: 0}
    assert not units.begin()


def test_what_is_put_back_is_offered_again_and_takes_no_room():
    units = plan(2, room=4)
    first = first_of(units, FILL)
    units.complete(first, receipt(first, 4))
    units.complete(drain := first_of(units, DRAIN), receipt(drain))
    second = first_of(units, FILL)
    assert units.waiting([FILL]) == 0
    units.put_back(second)
    assert units.waiting([FILL]) == 1
    assert units.take([FILL]) == second


def test_a_resumed_job_knows_what_was_read_from_what_was_scored():
    names = [Unit(FILL, archive=f"{number}").name for number in range(3)]
    units = plan(3, room=4, done={(DRAIN, names[0]), (FILL, names[1])})
    assert units.done == {FILL: 2, DRAIN: 1, END: 0}
    assert units.counts[FILL] == Counts(12, 12, {}, {STAGED: 4})
    assert units.staged == 4
    assert take(units, FILL) == [], "the room is taken"
    assert [unit.name for unit in take(units, DRAIN)] == [names[1]]


@given(st.data(), st.integers(1, 20), st.integers(1, 30), st.integers(1, 9))
def test_whatever_the_order_all_is_done_and_the_room_kept(
    data: st.DataObject, n_units: int, room: int, size: int
):
    units = plan(n_units, room=room)
    running = [first_of(units, FILL)]
    while running:
        unit = running.pop(data.draw(st.integers(0, len(running) - 1)))
        units.complete(unit, receipt(unit, size))
        assert units.staged <= max(room, size)
        running += take(units)
    assert units.done == {FILL: n_units, DRAIN: n_units, END: 0}
    assert units.begin()
