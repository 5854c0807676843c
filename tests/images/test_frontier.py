import heapq
import itertools
from collections import Counter, defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cah_dask.counts import Status
from cah_dask.errors import ConfigError
from cah_dask.images.manners.frontier import Agenda, Frontier
from cah_dask.images.manners.hosts import HostOptions, Manners, Visit, check_patterns
from cah_dask.images.web.request_url import Target

POLITE = HostOptions()
QUICK = HostOptions(spacing_s=0)


def target_at(host: str) -> Target:
    return Target(f"http://{host}/", f"http://{host}", host)


def visits(*hosts: str) -> list[Visit]:
    return [Visit(i, target_at(host), target_at(host)) for i, host in enumerate(hosts)]


def take_all(frontier: Frontier, now: float) -> list[Visit]:
    taken = []
    while (visit := frontier.take(now)) is not None:
        taken.append(visit)
    return taken


def take(frontier: Frontier, now: float) -> Visit:
    visit = frontier.take(now)
    assert visit is not None
    return visit


def fail(frontier: Frontier, now: float, status: Status = Status.CONNECT_TIMEOUT) -> list[Visit]:
    return frontier.release(take(frontier, now), now, status=status)


def test_hosts_take_turns_and_keep_their_distance():
    frontier = Frontier(visits("a", "a", "a", "b"), POLITE)
    assert [visit.host for visit in take_all(frontier, 0)] == ["a", "b"]
    assert frontier.wakes_at == 1
    assert take_all(frontier, 0.99) == []
    assert [visit.host for visit in take_all(frontier, 1)] == ["a"]
    assert take_all(frontier, 100) == [], "two requests are in flight at a"


def test_the_host_with_most_urls_begins_first():
    frontier = Frontier(visits("a", "b", "b", "b", "c", "c"), QUICK)
    assert take(frontier, 0).host == "b"


def test_hosts_that_have_begun_go_before_others():
    frontier = Frontier(visits("a", "a", "b", "b"), HostOptions(concurrency=1))
    frontier.release(take(frontier, 0), 0, status=Status.OK)
    assert take(frontier, 1).host == "a"
    assert take(frontier, 1).host == "b"


def test_a_host_rests_after_a_streak_and_is_given_up_after_one_failure_more():
    options = HostOptions(spacing_s=0, max_failures=3, rest_s=60, concurrency=1)
    frontier = Frontier(visits(*"aaaaaa"), options)
    for now in range(3):
        assert fail(frontier, now) == []
    assert frontier.take(61) is None
    assert [visit.index for visit in fail(frontier, 62)] == [4, 5]
    assert frontier.verdict("a") is Status.HOST_SUSPENDED
    assert frontier.is_done


def test_what_was_in_flight_when_the_rest_began_does_not_end_it():
    options = HostOptions(spacing_s=0, max_failures=2, rest_s=60, concurrency=4)
    frontier = Frontier(visits(*"aaaaaa"), options)
    flight = take_all(frontier, 0)
    assert [frontier.release(v, 1, status=Status.TIMEOUT) for v in flight] == [[], [], [], []]
    assert frontier.verdict("a") is None
    assert frontier.take(60) is None
    assert frontier.take(61) is not None


def test_a_success_ends_a_streak():
    options = HostOptions(spacing_s=0, max_failures=2)
    frontier = Frontier(visits(*"aaaaaaaaa"), options)
    for status in [Status.TIMEOUT, Status.HTTP_404] * 4:
        assert fail(frontier, 0, status) == []


def test_a_host_that_refuses_everything_is_left_alone():
    frontier = Frontier(visits(*"aaaa"), HostOptions(spacing_s=0, max_refusals=3))
    assert fail(frontier, 0, Status.HTTP_403) == []
    assert fail(frontier, 0, Status.HTTP_403) == []
    assert len(fail(frontier, 0, Status.HTTP_403)) == 1


@pytest.mark.parametrize("status", [Status.DNS_NOT_FOUND, Status.BLOCKED_ADDRESS])
def test_a_host_that_is_nowhere_ends_all_its_urls_at_once(status):
    frontier = Frontier(visits(*"aaa"), POLITE)
    assert len(fail(frontier, 0, status)) == 2
    assert frontier.verdict("a") is status


def test_retry_after_is_kept_to():
    frontier = Frontier(visits(*"aaa"), QUICK)
    frontier.release(take(frontier, 0), 0, status=Status.HTTP_429, pause_s=42)
    assert frontier.take(41) is None
    assert frontier.take(42) is not None


def test_retry_after_is_kept_to_when_another_visit_needed_no_request():
    frontier = Frontier(visits(*"aaa"), QUICK)
    first, second = take_all(frontier, 0)
    frontier.release(first, 0, status=Status.HTTP_429, pause_s=42)
    frontier.skip(second, 0)
    assert frontier.take(41) is None
    assert frontier.take(42) is not None


def test_a_host_that_rests_does_so_when_another_visit_needed_no_request():
    frontier = Frontier(visits(*"aaa"), HostOptions(spacing_s=0, max_failures=1, rest_s=60))
    first, second = take_all(frontier, 0)
    frontier.release(first, 0, status=Status.TIMEOUT)
    frontier.skip(second, 0)
    assert frontier.take(59) is None
    assert frontier.take(60) is not None


def test_pauses_without_a_time_double():
    frontier = Frontier(visits(*"aaaa"), HostOptions(spacing_s=0, backoff_s=10, concurrency=1))
    now = 0
    for pause_s in (10, 20, 40):
        frontier.release(take(frontier, now), now, status=Status.HTTP_429, pause_s=0)
        assert frontier.take(now + pause_s - 1) is None
        now += pause_s


def test_a_host_that_asks_for_too_long_a_pause_is_given_up():
    frontier = Frontier(visits(*"aa"), HostOptions(max_backoff_s=300))
    assert len(frontier.release(take(frontier, 0), 0, status=Status.HTTP_429, pause_s=301)) == 1


def test_slow_answers_use_up_the_patience():
    options = HostOptions(spacing_s=0, prompt_s=2, patience_s=100)
    frontier = Frontier(visits(*"aaaa"), options)
    assert frontier.release(take(frontier, 0), 52, status=Status.OK, seconds=52) == []
    assert frontier.release(take(frontier, 52), 104, status=Status.OK, seconds=52) == []
    assert len(frontier.release(take(frontier, 104), 107, status=Status.OK, seconds=3)) == 1


def test_a_host_may_not_hold_up_a_list_for_ever():
    frontier = Frontier(visits(*"aaa"), HostOptions(max_time_s=1000, spacing_s=30))
    assert frontier.release(take(frontier, 0), 1, status=Status.OK) == []
    assert len(frontier.release(take(frontier, 1000), 1001, status=Status.OK)) == 1


def test_a_crawl_delay_widens_the_spacing_up_to_its_limit():
    frontier = Frontier(visits(*"aaa"), HostOptions(max_crawl_delay_s=30, concurrency=9))
    frontier.slow_down("a", 5)
    frontier.slow_down("a", 0.1)
    frontier.take(0)
    assert frontier.wakes_at == 5
    frontier.slow_down("a", 86_400)
    frontier.take(5)
    assert frontier.wakes_at == 35


def test_hosts_at_one_address_share_its_limit():
    frontier = Frontier(visits("a", "b", "c", "d"), HostOptions(address_concurrency=2))
    flight = take_all(frontier, 0)
    assert [frontier.bind(visit, "203.0.113.7", 0) for visit in flight] == [
        True,
        True,
        False,
        False,
    ]
    assert frontier.take(9) is None
    frontier.release(flight[0], 9, status=Status.OK)
    assert frontier.take(9) is not None
    assert frontier.take(9) is None


@pytest.mark.parametrize(
    ("limit", "lists", "share"),
    [(64, 1, 64), (64, 2, 32), (64, 5, 12), (64, 64, 1), (64, 1000, 1), (1, 1, 1), (7, 2, 3)],
)
def test_lists_share_the_limit_of_an_address_and_each_has_one(limit, lists, share):
    options = HostOptions(address_concurrency=limit, spacing_s=3).share(lists)
    assert options == HostOptions(address_concurrency=share, spacing_s=3)
    assert share == 1 or share * lists <= limit


def test_an_address_is_not_lost_when_a_host_there_is_given_up():
    options = HostOptions(address_concurrency=1, spacing_s=0, concurrency=1)
    frontier = Frontier(visits(*"aabbc"), options)
    flight = take_all(frontier, 0)
    assert [frontier.bind(visit, "203.0.113.7", 0) for visit in flight] == [True, False, False]
    ended = 1 + len(frontier.release(flight[0], 0, status=Status.DNS_NOT_FOUND))
    while (visit := frontier.take(0)) is not None:
        assert frontier.bind(visit, "203.0.113.7", 0)
        ended += 1 + len(frontier.release(visit, 0, status=Status.OK))
    assert ended == 5
    assert frontier.is_done


def test_an_item_of_an_agenda_is_there_once_at_its_earliest():
    agenda: Agenda[str] = Agenda()
    for item, due in [("a", 5.0), ("b", 3.0), ("a", 1.0), ("b", 9.0), ("c", float("inf"))]:
        agenda.put(item, due)
    assert [agenda.due, agenda.pop(), agenda.due, agenda.pop(), agenda.due] == [
        1, "a", 3, "b", float("inf"),
    ]  # fmt: skip


def test_a_visit_put_back_is_the_next_one():
    frontier = Frontier(visits(*"aa"), POLITE)
    first = take(frontier, 0)
    frontier.put_back(first)
    assert frontier.take(0.5) is None, "its turn was used"
    assert frontier.take(1) is first


def test_a_visit_that_needed_no_request_costs_no_time():
    frontier = Frontier(visits(*"aaa"), POLITE)
    for now in (0, 0, 0):
        frontier.skip(take(frontier, now), now)
    assert frontier.is_done


def test_later_visits_wait_for_their_time():
    frontier = Frontier(visits("a"), QUICK)
    again = take(frontier, 0)
    frontier.release(again, 0, status=Status.TIMEOUT)
    assert frontier.add(again, due=10)
    assert not frontier.is_done
    assert [frontier.wakes_at, frontier.take(9), frontier.take(10)] == [10, None, again]


def test_a_redirect_may_lead_to_a_host_whose_turn_has_not_come():
    frontier = Frontier(visits("a", "a", "b"), POLITE)
    visit = take(frontier, 0)
    frontier.release(visit, 0, status=Status.OK)
    visit.target = target_at("b")
    assert frontier.add(visit)
    taken = [take(frontier, 0), take(frontier, 1), take(frontier, 1)]
    assert sorted(v.host for v in taken) == ["a", "b", "b"]


def test_connections_are_kept_only_for_hosts_that_will_be_asked_again():
    frontier = Frontier(visits("a", "a", "b"), POLITE)
    a, b = take_all(frontier, 0)
    assert frontier.keeps_connection(a, 10)
    assert not frontier.keeps_connection(b, 10)
    assert not frontier.keeps_connection(a, 0)


STATUSES = [Status.OK, Status.HTTP_404, Status.HTTP_403, Status.TIMEOUT, Status.DNS_NOT_FOUND]


@settings(max_examples=500)
@given(
    hosts=st.lists(st.sampled_from("abcdef"), max_size=60),
    seed=st.randoms(use_true_random=False),
    concurrency=st.integers(1, 3),
    address_concurrency=st.integers(1, 4),
    spacing_s=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_every_visit_ends_once_and_no_limit_is_ever_passed(
    hosts, seed, concurrency, address_concurrency, spacing_s
):
    """Play a whole list against hosts that answer at random, with time standing in for waiting."""
    options = HostOptions(
        concurrency=concurrency,
        address_concurrency=address_concurrency,
        spacing_s=spacing_s,
        max_failures=3,
        max_refusals=4,
        rest_s=5,
    )
    frontier = Frontier(visits(*hosts), options)
    address = {host: seed.choice("xy") for host in "abcdef"}
    flight: list[tuple[float, int, bool, Visit]] = []
    starts = defaultdict(list)
    ended: Counter[int] = Counter()
    now, turns = 0.0, 0
    while not frontier.is_done:
        turns += 1
        assert turns < 10_000, "it does not end"
        visit = frontier.take(now)
        if visit is None:
            arrival = flight[0][0] if flight else float("inf")
            assert min(arrival, frontier.wakes_at) < float("inf"), "it waits for nothing"
            now = max(now, min(arrival, frontier.wakes_at))
            while flight and flight[0][0] <= now:
                _, _, is_sent, visit = heapq.heappop(flight)
                if is_sent:
                    dropped = frontier.release(visit, now, status=seed.choice(STATUSES))
                    ended.update(other.index for other in [visit, *dropped])
                elif frontier.bind(visit, address[visit.host], now):
                    starts[visit.host].append(now)
                    heapq.heappush(flight, (now + seed.random(), visit.index, True, visit))
                    sent = [v for _, _, is_sent, v in flight if is_sent]
                    assert max(Counter(v.host for v in sent).values()) <= concurrency
                    at_address = Counter(address[v.host] for v in sent)
                    assert max(at_address.values()) <= address_concurrency
        else:
            name_s = seed.choice((0.0, 0.0, 3.0))  # the name may come late
            heapq.heappush(flight, (now + name_s, visit.index, False, visit))
    assert ended == Counter(range(len(hosts)))
    for times in starts.values():
        assert all(b - a > spacing_s - 1e-9 for a, b in itertools.pairwise(times))


def test_manners_out_of_range_are_refused():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"concurrency": 0}, HostOptions)


def test_a_host_that_allows_more_is_asked_more_often_and_no_other_one():
    options = HostOptions(
        spacing_s=10,
        concurrency=1,
        of={"*.fast.example": Manners(spacing_s=0.5), "slow.fast.example": Manners(concurrency=2)},
    )
    fast, slow, other = (
        options.towards(f"{name}.example") for name in ("a.fast", "slow.fast", "b")
    )
    assert (fast.spacing_s, fast.concurrency) == (0.5, 1)
    assert (slow.spacing_s, slow.concurrency) == (10, 2), "only the longest pattern counts"
    assert other == options
    assert options.towards("fast.example").spacing_s == 0.5
    assert HostOptions(of={"*.a": Manners(spacing_s=0)}).towards("b.a").spacing_s == 0
    hosts = ["x.fast.example", "y.example"] * 5
    frontier = Frontier(visits(*hosts), options)
    times: dict[str, list[float]] = {}
    now = 0.0
    while not frontier.is_done:
        visit = frontier.take(now)
        if visit is None:
            now = frontier.wakes_at
            continue
        times.setdefault(visit.host, []).append(now)
        frontier.bind(visit, "192.0.2.1", now)
        frontier.release(visit, now, status=Status.OK)
    assert times["x.fast.example"] == [0, 0.5, 1, 1.5, 2]
    assert times["y.example"] == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("pattern", ["*", "*.", "https://a.example", "A.example", "a.*", "a,b", ""])
@pytest.mark.parametrize("name", ["of", "quota_of"])
def test_a_pattern_that_no_host_matches_is_refused(name: str, pattern: str):
    value: Any = {pattern: Manners() if name == "of" else 5}
    with pytest.raises(ConfigError, match=rf"download\.hosts\.{name}: .* is no host"):
        check_patterns(HostOptions(**{name: value}))
