"""What may run when: the plan alone, without files or machines."""

import random

from hypothesis import example, given
from hypothesis import strategies as st

from cah_dask.counts import Counts
from cah_dask.groups import BUCKETS_PER_GROUP
from cah_dask.run.plan import Plan
from cah_dask.run.stages import (
    COMPACT,
    DEDUP,
    DOWNLOAD,
    EMBED,
    EXTRACT,
    PACK,
    RUN,
    SELECT,
    Kind,
    Stage,
)
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt, SideFile

ORDER = [EMBED, PACK, COMPACT, SELECT, DOWNLOAD, DEDUP, EXTRACT]


def receipt(unit: Unit, *, lists: int = 2, image_bytes: int = 10) -> Receipt:
    """A plausible receipt: every bucket has `lists` lists a wave, and one of late texts."""
    side = (SideFile("x.h5", image_bytes, ""),) if unit.stage == DOWNLOAD else ()
    notes = {"lists": lists, "late_lists": min(1, unit.wave)} if unit.stage == DEDUP else {}
    return Receipt(
        stage=unit.stage.name, unit=unit.name, config="", counts=Counts(5, 5, {}, notes), side=side
    )


def plan(archives: int = 4, *, committed=lambda _: None, **options) -> Plan:
    names = [f"a/{number}.warc.wat.gz" for number in range(archives)]
    return Plan(names, **{"archives_per_wave": 2, "buckets": 2, "committed": committed, **options})


def carry_out(plan: Plan, stages=ORDER, limit: int = 10_000) -> list[Unit]:
    """Do every unit that the plan offers, one by one."""
    done: list[Unit] = []
    while len(done) < limit and (unit := plan.take(stages)) is not None:
        plan.complete(unit, receipt(unit))
        done.append(unit)
    return done


def test_every_unit_is_offered_once_and_in_the_order_of_the_data():
    whole = plan()
    done = carry_out(whole)
    assert whole.is_selected
    assert len(done) == len(set(done)) == 4 + 2 * 2 + 2 * (2 * 2 * 2) + 2 + 2 * 2  # a group a wave
    for wave in range(2):
        stages = [RUN.index(unit.stage) for unit in done if unit.wave == wave]
        assert stages.index(1) == 2, "dedup waits for all archives of its wave"


def test_at_most_one_list_of_a_bucket_is_in_flight():
    one = plan(2)
    carry_out(one, [EXTRACT, DEDUP])
    first = one.take([DOWNLOAD])
    second = one.take([DOWNLOAD])
    assert first is not None
    assert second is not None
    assert {first.bucket, second.bucket} == {0, 1}
    assert one.take([DOWNLOAD]) is None
    one.complete(first, receipt(first))
    third = one.take([DOWNLOAD])
    assert third is not None
    assert third.bucket == first.bucket


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 3))
def test_one_list_of_a_bucket_is_in_flight_across_all_waves(seed: int, waves: int, buckets: int):
    rng = random.Random(seed)
    busy = plan(2 * waves, buckets=buckets)
    in_flight: list[Unit] = []
    n_done = 0
    while True:
        while rng.random() < 0.8 and (unit := busy.take(ORDER)) is not None:
            in_flight.append(unit)
        downloads = [unit.bucket for unit in in_flight if unit.stage == DOWNLOAD]
        assert len(downloads) == len(set(downloads))
        if not in_flight:
            unit = busy.take(ORDER)
            if unit is None:
                break
            in_flight.append(unit)
        unit = in_flight.pop(rng.randrange(len(in_flight)))
        busy.complete(unit, receipt(unit))
        n_done += unit.stage == DOWNLOAD
    assert busy.is_selected
    assert n_done == 2 * waves * buckets


def test_a_wave_is_extracted_while_the_one_before_downloads_but_no_further():
    far = plan(20)
    extracted = carry_out(far, [EXTRACT, DEDUP])
    waves = {unit.wave for unit in extracted if unit.stage == EXTRACT}
    assert waves == {0, 1}


def test_the_next_wave_opens_when_half_of_the_buckets_have_come_to_the_newest():
    half = plan(20, buckets=4)
    carry_out(half, [EXTRACT, DEDUP])
    opened = []
    for bucket in range(4):
        for _ in range(2):  # both lists of the first wave
            unit = take_of(half, DOWNLOAD, bucket)
            half.complete(unit, receipt(unit))
        opened.append(half.waiting([EXTRACT]) > 0)
    assert opened == [False, True, True, True]


def take_of(plan: Plan, stage: Stage, bucket: int) -> Unit:
    """Take the unit of one bucket that may start now; put the others back."""
    others = []
    while (unit := plan.take([stage])) is not None and unit.bucket != bucket:
        others.append(unit)
    for other in others:
        plan.put_back(other)
    assert unit is not None
    return unit


def test_a_bucket_that_is_given_up_holds_up_no_other():
    hurt = plan(20)
    while (unit := hurt.take([DEDUP])) is None:
        carry_out(hurt, [EXTRACT], limit=1)
    hurt.fail(unit, "poison")
    done = carry_out(hurt)
    assert {unit.wave for unit in done if unit.stage == DOWNLOAD} == set(range(10))
    assert not hurt.is_selected


@given(st.integers(1, 3 * BUCKETS_PER_GROUP), st.integers(0, 10**6))
def test_a_group_is_offered_once_all_its_lists_are_done_and_no_bucket_can_bring_more(
    buckets: int, seed: int
):
    rng = random.Random(seed)
    n_lists = {bucket: rng.randrange(3) for bucket in range(buckets)}
    order = ORDER.copy()
    rng.shuffle(order)
    grouped, left = plan(2, buckets=buckets), dict(n_lists)
    selected = []
    to_dedup = set(range(buckets))
    while (unit := grouped.take(order)) is not None:
        group = {bucket for bucket in n_lists if bucket // BUCKETS_PER_GROUP == unit.number}
        if unit.stage.kind is Kind.GROUP:
            assert not group & to_dedup
            assert not sum(left[bucket] for bucket in group)
            selected += [unit.number] if unit.stage == SELECT else []
        to_dedup -= {unit.bucket} if unit.stage == DEDUP else set()
        left[unit.bucket] -= unit.stage == EMBED
        grouped.complete(unit, receipt(unit, lists=n_lists[unit.bucket]))
    assert grouped.is_selected
    filled = {bucket // BUCKETS_PER_GROUP for bucket, lists in n_lists.items() if lists}
    assert sorted(selected) == sorted(filled)


def test_downloads_pause_while_too_many_images_wait_for_the_model():
    full = plan(2, staged_limit=15)
    done = carry_out(full, [DOWNLOAD, DEDUP, EXTRACT])
    assert sum(unit.stage == DOWNLOAD for unit in done) == 2
    embed = full.take([EMBED])
    assert embed is not None
    full.complete(embed, receipt(embed))
    assert full.take([DOWNLOAD]) is not None


def test_late_texts_wait_for_the_images_of_earlier_waves_and_download_nothing():
    late = plan()
    done = carry_out(late, [DOWNLOAD, DEDUP, EXTRACT])
    assert sum(unit.stage == DOWNLOAD for unit in done) == 8
    embeds = []
    while (unit := late.take([EMBED])) is not None:
        embeds.append(unit)
    assert {unit.number for unit in embeds} == {0, 1}, "the late lists (number 2) are not offered"
    for unit in embeds:
        late.complete(unit, receipt(unit))
    assert {unit.number for unit in carry_out(late, [EMBED])} == {2}
    carry_out(late)
    assert late.is_selected


def test_late_texts_become_lists_in_the_last_wave_and_those_behind_it_have_their_own():
    """What an attempt at the run has lost comes in waves of its own behind all others."""
    for late in ((), (["a/0"],), (["a/0"], ["a/0", "a/1"])):
        waves = plan(6, late=late).late_waves
        assert [list(waves(wave)) for wave in range(3)] == [[], [], [0, 1, 2]]
        assert [list(waves(3 + wave)) for wave in range(len(late))] == [[3], [4]][: len(late)]


def test_a_download_that_is_given_up_holds_back_only_itself():
    hurt = plan(2)
    carry_out(hurt, [EXTRACT, DEDUP])
    lost = hurt.take([DOWNLOAD])
    assert lost is not None
    hurt.fail(lost, "poison")
    done = carry_out(hurt)
    assert sum(unit.stage == EMBED for unit in done) == 3
    assert not hurt.is_selected
    assert hurt.failed == {lost: "poison"}


def test_an_embed_that_is_given_up_no_longer_holds_back_downloads():
    stuck = plan(2, staged_limit=15)
    carry_out(stuck, [DOWNLOAD, DEDUP, EXTRACT])
    while (unit := stuck.take([EMBED])) is not None:
        stuck.fail(unit, "out of memory")
    assert stuck.take([DOWNLOAD]) is not None


def test_a_run_without_candidates_is_selected_at_once():
    empty = plan(1)
    while (unit := empty.take(ORDER)) is not None:
        empty.complete(unit, receipt(unit, lists=0))
    assert empty.is_selected
    assert empty.selected_parts() == []


@given(st.integers(0, 200), st.integers(0, 10**6))
def test_a_run_resumed_after_any_cut_does_exactly_the_rest(cut: int, seed: int):
    whole = plan()
    everything = carry_out(whole)
    before = plan()
    order = ORDER.copy()
    random.Random(seed).shuffle(order)
    done = {unit: receipt(unit) for unit in carry_out(before, order, limit=cut)}
    after = plan(committed=done.get)
    rest = carry_out(after)
    assert {*done, *rest} == set(everything)
    assert not {*done} & {*rest}
    assert after.counts == whole.counts
    assert after.selected_parts() == whole.selected_parts()


def test_units_of_equal_names_in_different_folders_have_different_parts():
    a, b = (Unit(EXTRACT, archive=f"{folder}/x.warc.wat.gz") for folder in "ab")
    assert a.part != b.part
    assert a.part.startswith("candidates/w00000/x-")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
@example("漢" * 72 + ".warc.wat.gz")
@example("a\nb\u0085c.warc.wat.gz")
def test_an_archive_of_any_name_gives_a_unit_that_any_file_system_takes(archive: str):
    name = Unit(EXTRACT, archive=archive).name.partition("/")[2]
    assert len(name.encode()) <= 255 - len(".tmp--.parquet") - 32
    assert name.isprintable()
    assert "/" not in name
    assert name != Unit(EXTRACT, archive=f"x/{archive}").name.partition("/")[2]


@given(st.randoms(), st.integers(1, 3))
def test_what_is_blocked_is_all_that_remains_when_nothing_can_start(chance, n_failed):
    made, seen = plan(6, buckets=3), 0
    begun = sorted(chance.sample(range(60), n_failed))
    while (unit := made.take(ORDER)) is not None:
        if seen in begun:
            made.fail(unit, "broken")
        else:
            made.complete(unit, receipt(unit))
        seen += 1
    for stage in (EXTRACT, DEDUP, DOWNLOAD, EMBED):
        assert made.known[stage] - made.done[stage] == made.blocked()[stage], stage
