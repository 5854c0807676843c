"""Retry-After: how long a server wants to be left alone (RFC 9110 10.2.3)."""

import email.utils
from datetime import UTC, datetime


def retry_after_s(value: str, date: str = "") -> float:
    """Return the seconds that a Retry-After header asks for, 0 if none.

    A point in time is one of the server's clock, which its Date header tells.
    """
    if value.strip().isdecimal():
        return float(value)
    then = _moment(value)
    if then is None:
        return 0.0
    now = _moment(date) or datetime.now(UTC)
    return max(0.0, (then - now).total_seconds())


def _moment(value: str) -> datetime | None:
    try:
        then = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return then if then.tzinfo else then.replace(tzinfo=UTC)  # "-0000" is UTC, of an unknown place
