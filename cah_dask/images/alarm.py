"""An alarm that stops a run when all goes wrong."""

from collections import Counter
from collections.abc import Sequence

from cah_dask.counts import Status
from cah_dask.errors import AlarmError


class Alarm:
    """Stops a run in which so much fails that the fault is ours: nearly all hosts, or many names.

    Hosts are counted, not urls: a list may hold thousands of urls of one host that is gone.

    Parameters
    ----------
    min_hosts
        Hosts that must have been tried before.
    min_share
        The alarm rings when a smaller share of them gave any image, in [0, 1].
    max_dns_share
        It rings when a larger share of them ended in dns_error, in [0, 1].
    nameservers
        Who is asked for names, for the message; none are those of the system.
    """

    def __init__(
        self,
        min_hosts: int,
        *,
        min_share: float,
        max_dns_share: float,
        nameservers: Sequence[str] = (),
    ) -> None:
        self._min_hosts = min_hosts
        self._min_share = min_share
        self._max_dns_share = max_dns_share
        self._nameservers = nameservers
        self._tried: set[str] = set()
        self._useful: set[str] = set()
        self._nameless: set[str] = set()
        self._statuses: Counter[Status] = Counter()

    def note(self, host: str, status: Status, *, is_last: bool = True) -> None:
        """Count an outcome; `is_last` says that it is the last word on this host by this url.

        Raises
        ------
        AlarmError
            If this is one too many.
        """
        self._tried.add(host)
        self._statuses[status] += 1
        if status is Status.OK:
            self._useful.add(host)
        if status is Status.DNS_ERROR and is_last:
            self._nameless.add(host)
        else:
            self._nameless.discard(host)
        if len(self._tried) >= self._min_hosts:
            self._judge()

    def _judge(self) -> None:
        tried, useful, nameless = len(self._tried), len(self._useful), len(self._nameless)
        if nameless > self._max_dns_share * tried:
            raise AlarmError(
                f"{nameless} of the first {tried} hosts ended in dns_error: {self._dns_advice()}, "
                "or raise download.alarm_dns_share"
            )
        if useful < self._min_share * tried:
            ((most, _), *_) = common = self._statuses.most_common(3)
            advice = "check name resolution and outgoing connections here"
            if most is Status.DNS_ERROR:
                advice = self._dns_advice()
            elif most is Status.CHANGED:
                advice = (
                    "check that the table gives the SHA-256 of images as they are downloaded, or "
                    "set extract.table.verify to false"
                )
            worst = ", ".join(f"{count} {name}" for name, count in common)
            raise AlarmError(
                f"only {useful} of the first {tried} hosts gave an image ({worst}): {advice}, or "
                "set download.alarm_share to 0"
            )

    def _dns_advice(self) -> str:
        who = " ".join(self._nameservers) or "of this system"
        return (
            f"the name servers ({who}) cannot be reached or cannot keep up; ask them by hand "
            "(dig), let fewer downloads be in flight, name others in download.nameservers"
        )
