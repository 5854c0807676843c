"""Plans of steps: a stage may come again, and a step may be empty."""

from cah_dask.counts import Counts
from cah_dask.run.stages import Kind, Stage
from cah_dask.run.stagewise import Stepwise, numbered
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt

ADD = Stage(name="add", kind=Kind.BUCKET, folder="adds", pool="cpu", task="")
MOVE = Stage(name="move", kind=Kind.SHARD, folder="moves", pool="cpu", task="")
STEPS = [
    [numbered(ADD, 0), numbered(ADD, 1)],
    [],
    [numbered(MOVE, 0)],
    [numbered(ADD, 0, wave=1), numbered(ADD, 1, wave=1)],
]


def receipt(unit: Unit) -> Receipt:
    return Receipt(
        stage=unit.stage.name, unit=unit.name, config="", counts=Counts(2, 2), errors=(unit.name,)
    )


def test_a_stage_that_comes_again_waits_for_what_is_between():
    plan = Stepwise((ADD, MOVE), STEPS, lambda _: None)
    assert plan.known == {ADD: 4, MOVE: 1}
    order = []
    while (unit := plan.take([ADD, MOVE])) is not None:
        assert plan.take([MOVE if unit.stage is ADD else ADD]) is None
        order.append(unit.name)
        plan.complete(unit, receipt(unit))
    adds = [f"w0000{wave}/b0000{number}" for wave in (0, 1) for number in (0, 1)]
    assert order == [*adds[:2], "part-00000", *adds[2:]]
    assert plan.errors == [*adds, "part-00000"]
    assert (plan.done, plan.counts[ADD].seen) == ({ADD: 4, MOVE: 1}, 8)


def test_what_is_done_of_a_later_step_counts_when_its_time_comes():
    done = {numbered(ADD, 0), numbered(ADD, 1), numbered(ADD, 1, wave=1)}
    plan = Stepwise((ADD, MOVE), STEPS, lambda unit: receipt(unit) if unit in done else None)
    assert plan.done == {ADD: 2, MOVE: 0}
    move = plan.take([ADD, MOVE])
    assert move == numbered(MOVE, 0)
    plan.complete(move, receipt(move))
    assert plan.done == {ADD: 3, MOVE: 1}
    assert plan.take([ADD]) == numbered(ADD, 0, wave=1)
    assert plan.take([ADD]) is None


def test_after_a_unit_that_is_given_up_no_step_is_begun():
    plan = Stepwise((ADD, MOVE), STEPS, lambda _: None)
    one, other = plan.take([ADD]), plan.take([ADD])
    assert one is not None
    assert other is not None
    plan.fail(one, "no way")
    plan.complete(other, receipt(other))
    assert plan.take([ADD, MOVE]) is None
    assert plan.failed == {one: "no way"}
