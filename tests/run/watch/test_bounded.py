"""What is kept of very many commits: bounded, and whatever the order, the same."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.run.watch.series import Series
from cah_dask.run.watch.worst import WorstHosts

TIMES = st.floats(min_value=1.7e9, max_value=1.9e9)


@given(st.lists(st.tuples(TIMES, st.integers(1, 50)), min_size=1, max_size=60), st.randoms())
def test_a_series_is_bounded_and_loses_nothing_in_any_order(added, chance: random.Random):
    series, other = Series(spans=8), Series(spans=8)
    for at, number in added:
        series.add(at, {"x": number})
    for at, number in chance.sample(added, len(added)):
        other.add(at, {"x": number})
    found = list(series)
    assert found == list(other)
    assert series.seconds == other.seconds
    assert len(found) <= 8
    assert sum(counts["x"] for _, counts in found) == sum(number for _, number in added)
    assert series.since(min(at for at, _ in added) - series.seconds)["x"] == sum(
        number for _, number in added
    )


def test_a_sum_since_a_time_takes_a_share_of_the_span_that_holds_it():
    series = Series(spans=8, seconds=10)
    series.add(1000.0, {"x": 10})
    series.add(1015.0, {"x": 3, "y": 1})
    assert series.since(1005.0) == {"x": 8.0, "y": 1.0}
    assert series.since(1020.0) == {}


def test_no_host_is_missed_that_has_more_trouble_than_the_mean_of_the_places():
    chance = random.Random(5)
    truth: Counter[str] = Counter({f"bad-{n}.test": 400 + n for n in range(4)})
    truth.update({f"h{n}.test": chance.randrange(1, 5) for n in range(3000)})
    urls = [host for host, n in truth.items() for _ in range(n)]
    chance.shuffle(urls)
    hosts = WorstHosts(places=64)
    for name in urls:
        hosts.add(name, 1, {"timeout": 1})
    top = {host.host: host for host in hosts.top(4)}
    assert set(top) == {f"bad-{n}.test" for n in range(4)}
    for name, host in top.items():
        assert truth[name] - len(urls) / 64 <= host.trouble <= truth[name]
        assert host.trouble == sum(host.outcomes.values())
    assert len(hosts.top(10_000)) == 64


def test_with_room_for_all_hosts_their_numbers_are_exact():
    hosts = WorstHosts(places=3)
    for host, outcomes in (
        ("a", {"ok": 3, "timeout": 2}),
        ("b", {"http_403": 9}),
        ("a", {"ok": 1}),
    ):
        hosts.add(host, sum(n for status, n in outcomes.items() if status != "ok"), outcomes)
    first, second = hosts.top(5)
    assert (first.host, first.trouble) == ("b", 9)
    assert (second.host, second.outcomes) == ("a", {"ok": 4, "timeout": 2})


@pytest.mark.parametrize("n_hosts", [100, 300, 20_000])
def test_of_more_hosts_than_there_are_places_nothing_is_told_that_was_not_counted(n_hosts: int):
    hosts = WorstHosts()
    for n in range(40_000):
        hosts.add(f"h{n % n_hosts}.test", 3, {"timeout": 3, "http_404": 1})
    told = hosts.top(12)
    assert [host.trouble for host in told] == sorted((host.trouble for host in told), reverse=True)
    for host in told:
        assert host.trouble == host.outcomes["timeout"] <= 3 * -(-40_000 // n_hosts)
