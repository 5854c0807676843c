"""What an answer means, and that no fault of it is ours to die of."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from cah_dask.counts import Status
from cah_dask.images.web.budgets import Budget, Budgets
from cah_dask.images.web.fetch import Fetcher, FetchOptions, Incoming
from cah_dask.images.web.request_url import Target
from cah_dask.images.web.responses import Answer, without_body
from cah_dask.retry_after import retry_after_s
from tests.webserver import WebServer


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("1.5", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Thu, 99 Foo 2026 25:61:61 GMT", 0),
        ("9" * 400, float("inf")),
    ],
)
def test_a_wish_to_be_left_alone_is_read_in_seconds(value, seconds):
    assert retry_after_s(value) == seconds


def test_a_wish_may_be_a_date():
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 88 <= retry_after_s(then) <= 90
    assert 88 <= retry_after_s(then.replace("GMT", "-0000")) <= 90
    assert retry_after_s("Fri, 31 Dec 9999 23:59:59 -2300") > 1e11


@pytest.mark.parametrize("off_by", [timedelta(), timedelta(days=-9000), timedelta(hours=5)])
def test_a_date_is_one_of_the_clock_of_the_server(off_by):
    now = datetime.now(UTC) + off_by
    then = format_datetime(now + timedelta(seconds=90), usegmt=True)
    assert retry_after_s(then, format_datetime(now, usegmt=True)) == 90
    head = {"Retry-After": then, "Date": format_datetime(now, usegmt=True)}
    assert without_body(503, head).pause_s == 90


@pytest.mark.parametrize("date", ["", "soon", "Thu, 99 Foo 2026 25:61:61 GMT"])
def test_without_a_date_of_the_server_our_clock_counts(date):
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 88 <= retry_after_s(then, date) <= 90


@pytest.mark.parametrize("fault", [IndexError("odd"), RecursionError(), AssertionError("parser")])
def test_any_fault_that_an_answer_finds_in_the_client_costs_one_url_and_is_logged(fault, caplog):
    async def read(_: Incoming) -> Answer:
        raise fault

    async def ask(port: int) -> Answer:
        options = FetchOptions(
            contact="me@lab.example",
            resolve={"*.test": "127.0.0.1"},
            allow_addresses=("127.0.0.1/32",),
        )
        where = Target(f"http://a.test:{port}/ok.jpg", f"http://a.test:{port}", "a.test")
        async with Fetcher(options, Budgets(Budget(None), Budget(None))) as fetcher:
            return await fetcher._exchange(where, read, {})

    with WebServer() as web, caplog.at_level(logging.WARNING):
        answer = asyncio.run(ask(web.port))
    assert answer.status is Status.DISCONNECTED
    assert "too much for the HTTP client" in caplog.text
    assert repr(fault) in caplog.text
