import pytest

from cah_dask.counts import Status
from cah_dask.errors import RunError
from cah_dask.images.alarm import Alarm


def alarm(max_dns_share: float = 0.1) -> Alarm:
    return Alarm(10, min_share=0, max_dns_share=max_dns_share)


def note(alarm: Alarm, hosts: int, status: Status, *, is_last: bool = True) -> None:
    for n in range(hosts):
        alarm.note(f"{status}{n}.test", status, is_last=is_last)


def test_names_that_could_not_be_had_ring_the_alarm_when_they_are_more_than_a_share():
    bell = alarm()
    note(bell, 18, Status.HTTP_404)
    note(bell, 2, Status.DNS_ERROR)
    with pytest.raises(RunError, match="3 of the first 21 hosts ended in dns_error") as caught:
        note(bell, 3, Status.DNS_ERROR)
    assert "(of this system)" in str(caught.value)


def test_there_is_no_alarm_before_enough_hosts_were_tried():
    bell = alarm()
    note(bell, 9, Status.DNS_ERROR)
    with pytest.raises(RunError, match="9 of the first 10 hosts"):
        bell.note("a.test", Status.OK)


def test_a_name_that_is_asked_for_again_has_not_ended():
    bell = alarm()
    note(bell, 20, Status.DNS_ERROR, is_last=False)
    for n in range(20):
        bell.note(f"dns_error{n}.test", Status.OK)


def test_a_host_that_was_reached_later_does_not_count():
    bell = alarm(max_dns_share=0.2)
    note(bell, 9, Status.OK)
    note(bell, 2, Status.DNS_ERROR)
    bell.note("dns_error0.test", Status.OK)
    bell.note("other.test", Status.DNS_ERROR)


def test_images_that_are_all_others_than_published_speak_of_their_table():
    bell = Alarm(10, min_share=0.1, max_dns_share=1)
    with pytest.raises(RunError, match=r"\(10 changed\): check that the table gives the SHA-256"):
        note(bell, 10, Status.CHANGED)


def test_one_switches_it_off():
    note(alarm(max_dns_share=1), 50, Status.DNS_ERROR)


def test_a_host_counts_once_whatever_the_number_of_its_urls():
    bell = alarm()
    note(bell, 19, Status.HTTP_404)
    for _ in range(50):
        bell.note("a.test", Status.DNS_ERROR)
