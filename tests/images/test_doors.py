import pytest

from cah_dask.images.doors import Doors
from cah_dask.images.targets import Target
from cah_dask.schema import Status


def at(host: str, port: int = 80) -> Target:
    return Target(f"http://{host}:{port}/x.jpg", f"http://{host}:{port}", host)


def test_a_door_is_shut_for_good_when_eight_hosts_in_a_row_are_shut_out():
    doors = Doors(8)
    hosts = [at(f"h{n}.test") for n in range(20)]
    for where in hosts[:7]:
        doors.note(where, "192.0.2.1", Status.CONNECT_TIMEOUT)
    doors.note(hosts[7], "192.0.2.1", Status.HTTP_404)
    for where in hosts[8:15]:
        doors.note(where, "192.0.2.1", Status.CONNECT_REFUSED)
    assert not doors.is_shut(hosts[0], "192.0.2.1")
    doors.note(hosts[15], "192.0.2.1", Status.CONNECT_TIMEOUT)
    assert doors.is_shut(hosts[0], "192.0.2.1")
    doors.note(hosts[16], "192.0.2.1", Status.OK)
    assert doors.is_shut(hosts[0], "192.0.2.1"), "what was in flight says nothing new"
    assert not doors.is_shut(hosts[0], "192.0.2.2")
    assert not doors.is_shut(at("h0.test", 8080), "192.0.2.1")


@pytest.mark.parametrize("status", [Status.CONNECT_ERROR, Status.TIMEOUT, Status.DNS_ERROR])
def test_other_faults_shut_no_door(status):
    doors = Doors(2)
    for n in range(9):
        doors.note(at(f"h{n}.test"), "192.0.2.1", status)
    assert not doors.is_shut(at("h0.test"), "192.0.2.1")


def test_one_host_alone_shuts_no_door():
    doors = Doors(2)
    for _ in range(9):
        doors.note(at("a.test"), "192.0.2.1", Status.CONNECT_TIMEOUT)
    assert not doors.is_shut(at("a.test"), "192.0.2.1")
