"""A host that lists of several buckets lead to is asked by one of them at a time."""

import random

import pytest

from cah_dask.candidates.dedup import host_bucket
from cah_dask.images.manners.turns import SILENCE_S, Notice, Turns

BUCKETS = 4
HOSTS = [f"h{number}.test" for number in range(6)]
HOME = host_bucket("x.test", BUCKETS)
AWAY = (HOME + 1) % BUCKETS


def say(turns: Turns, now: float, name: str, bucket: int = AWAY, **news):
    return turns.exchange(
        Notice(name, bucket, news.pop("wants", []), news.pop("returns", {}), **news), now
    )


def test_a_host_that_nobody_has_is_granted_at_once():
    assert say(Turns(BUCKETS), 0, "a", wants=["x.test"]).granted == ["x.test"]


def test_a_second_list_waits_and_the_first_one_hears_of_it():
    turns = Turns(BUCKETS)
    say(turns, 0, "a", wants=["x.test"])
    assert say(turns, 1, "b", wants=["x.test"]).granted == []
    assert say(turns, 2, "a").wanted == ["x.test"]
    say(turns, 3, "a", returns={"x.test": 1.0})
    assert say(turns, 3.5, "b", wants=["x.test"]).granted == []  # its distance
    assert say(turns, 4.1, "b", wants=["x.test"]).granted == ["x.test"]


def test_the_list_of_its_own_bucket_has_a_host_until_it_gives_it_back():
    turns = Turns(BUCKETS)
    assert say(turns, 0, "home", HOME).taken == []
    assert say(turns, 1, "a", wants=["x.test"]).granted == []
    assert say(turns, 2, "home", HOME).wanted == ["x.test"]
    say(turns, 3, "home", HOME, returns={"x.test": 0.0})
    assert say(turns, 3, "a", wants=["x.test"]).granted == ["x.test"]
    assert say(turns, 4, "home", HOME, wants=["x.test"]).taken == ["x.test"]


def test_a_list_that_begins_learns_which_of_its_hosts_others_have_or_rest():
    turns = Turns(BUCKETS)
    say(turns, 0, "a", wants=["x.test"])
    assert say(turns, 1, "home", HOME).taken == ["x.test"]
    say(turns, 2, "a", returns={"x.test": 60.0})
    assert say(turns, 3, "next", HOME).taken == ["x.test"]
    assert say(turns, 63, "next", HOME).taken == []


def test_hosts_of_a_list_that_ends_or_is_silent_for_long_are_free():
    turns = Turns(BUCKETS)
    say(turns, 0, "a", wants=["x.test"])
    say(turns, 1, "a", is_last=True)
    assert say(turns, 2, "b", wants=["x.test"]).granted == ["x.test"]
    assert say(turns, 2 + SILENCE_S, "c", wants=["x.test"]).granted == []
    assert say(turns, 4 + SILENCE_S, "c", wants=["x.test"]).granted == ["x.test"]


def test_a_grant_that_was_never_heard_of_is_given_again():
    turns = Turns(BUCKETS)
    say(turns, 0, "a", wants=["x.test"])
    assert say(turns, 1, "a", wants=["x.test"]).granted == ["x.test"]


def test_who_no_longer_wants_a_host_holds_nobody_up():
    turns = Turns(BUCKETS)
    say(turns, 0, "a", wants=["x.test"])
    say(turns, 1, "b", wants=["x.test"])
    say(turns, 2, "c", wants=["x.test"])
    say(turns, 3, "b")
    say(turns, 4, "a", returns={"x.test": 0.0})
    assert say(turns, 5, "c", wants=["x.test"]).granted == ["x.test"]


@pytest.mark.parametrize("seed", range(30))
def test_one_list_at_a_time_has_a_host_and_each_gets_it_in_the_end(seed: int):
    """Lists of all buckets want hosts, have them for a while, and sometimes a reply is lost."""
    rng = random.Random(seed)
    turns = Turns(BUCKETS)
    names = [str(bucket) for bucket in range(BUCKETS)]
    home = {host: str(host_bucket(host, BUCKETS)) for host in HOSTS}
    wants = {name: set(rng.sample(HOSTS, 3)) for name in names}
    has = {name: {host for host in wants[name] if home[host] == name} for name in names}
    free_at = dict.fromkeys(HOSTS, 0.0)
    shared: set[str] = set()  # hosts of which their own list has heard that others want them
    now = 0.0
    for name in names:
        say(turns, now, name, int(name))
    for _ in range(6000):
        now += rng.random()
        name = rng.choice(names)
        done = {host for host in has[name] & shared if rng.random() < 0.3}
        back = {host: rng.choice([0.0, 1.0]) for host in sorted(done)}
        has[name] -= done
        wants[name] -= done
        free_at |= {host: now + seconds for host, seconds in back.items()}
        asked = sorted(wants[name] - has[name])
        reply = say(turns, now, name, int(name), wants=asked, returns=back)
        if rng.random() < 0.1:
            continue  # the reply is lost
        for host in reply.granted:
            assert now >= free_at[host]
            assert not any(host in has[other] for other in names)
        has[name].update(reply.granted)
        shared.update(reply.granted, reply.wanted)
        has[name].update(reply.wanted)
    assert not any(wants[name] - has[name] for name in names)
    assert sum(map(len, wants.values())) < 3 * BUCKETS
