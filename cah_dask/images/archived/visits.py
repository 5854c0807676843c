"""What an archived record answers: a picture, another place to look, or why there is none.

The rules are those of the web download, so that an outcome means the same wherever it comes from.
"""

from dataclasses import dataclass
from http import HTTPStatus

import ada_url
from multidict import CIMultiDict

from cah_dask.archives.responses import Fault, Response
from cah_dask.blocklists.exclusion import Exclusion
from cah_dask.counts import Status
from cah_dask.images.archived.captures import NO_DATE, key_of, moment, seconds_of
from cah_dask.images.archived.index import Referral
from cah_dask.images.options import DownloadOptions
from cah_dask.images.outcomes import Outcome
from cah_dask.images.web.fetch import is_doubtful, is_reserved, looks_like_picture
from cah_dask.images.web.responses import has_body, without_body
from cah_dask.urls import absolute, normal

_NEVER = moment("")


@dataclass(frozen=True, slots=True)
class Visit:
    """One url of a list on its way through the archives."""

    index: int
    """Its row in the list."""
    url: str
    """What to look up next."""
    hops: int = 0
    """Redirects followed."""
    referral: Referral | None = None
    """What the revisit says that led here, if one did."""


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes that may be a picture, and their outcome but for what a decoder tells."""

    data: bytes
    before: Outcome


def missing(status: Status) -> Outcome:
    """Return the outcome of a url of which there is no record."""
    return Outcome(status, attempts=0, fetched_at=_NEVER)


def begun(index: int, url: str, exclusion: Exclusion) -> Visit | Outcome:
    """Begin with a url of a list, unless it leads nowhere or its host has opted out."""
    found = absolute(url)
    if found is None:
        return missing(Status.BAD_URL)
    if exclusion.excludes_host(found.host):
        return missing(Status.OPTOUT)
    return Visit(index, found.href)


class Answers:
    """Judges records that were found for visits."""

    def __init__(self, options: DownloadOptions, exclusion: Exclusion) -> None:
        self._options = options
        self._exclusion = exclusion

    def of(self, visit: Visit, response: Response) -> Body | Visit | Outcome:
        """Return what a record means for a visit."""
        if not _is_about(response, visit):
            return missing(Status.NOT_ARCHIVED)
        headers = CIMultiDict(response.headers)
        is_optout = is_reserved(headers, self._options)
        if _stands_for_another(response):
            return self._original(visit, response, is_optout=is_optout)
        if response.fault == Fault.BAD_HTTP:
            return self._outcome(Status.HTTP_OTHER, visit, response)
        if not has_body(HTTPStatus.OK if response.status is None else response.status):
            return self._without_body(visit, response, headers, is_optout=is_optout)
        if is_optout:
            return self._outcome(Status.OPTOUT, visit, response)
        return self._body(visit, response)

    def _without_body(
        self, visit: Visit, response: Response, headers: CIMultiDict[str], *, is_optout: bool
    ) -> Visit | Outcome:
        answer = without_body(response.status or 0, headers)
        if answer.location is None:
            return self._outcome(answer.status, visit, response)
        if is_optout:
            return self._outcome(Status.OPTOUT, visit, response)
        return self._followed(visit, response, answer.location)

    def _body(self, visit: Visit, response: Response) -> Body | Outcome:
        status = self._fault(response)
        before = self._outcome(status, visit, response)
        return Body(response.body, before) if status is Status.OK else before

    def _fault(self, response: Response) -> Status:
        """Judge a whole body by what can be seen from outside."""
        if response.fault == Fault.TOO_LARGE or len(response.body) > self._options.max_bytes:
            return Status.TOO_BIG
        if not response.body:
            return Status.EMPTY
        is_other = is_doubtful(response.mime) and not looks_like_picture(response.body)
        return Status.BAD_TYPE if is_other else Status.OK

    def _original(self, visit: Visit, response: Response, *, is_optout: bool) -> Visit | Outcome:
        """Go on to the record that a revisit refers to; what it reserves counts, too."""
        if is_optout:
            return self._outcome(Status.OPTOUT, visit, response)
        url, date = response.refers_to
        target = absolute(url) if url else None
        if target is None or visit.referral is not None:
            return missing(Status.NOT_ARCHIVED)
        referral = Referral(
            target.href, date=seconds_of(date) if date else NO_DATE, digest=response.digest
        )
        return Visit(visit.index, visit.url, visit.hops, referral)

    def _followed(self, visit: Visit, response: Response, location: str) -> Visit | Outcome:
        """Go on to where a redirect leads."""
        try:
            target = absolute(ada_url.join_url(visit.url, location)) if location else None
        except ValueError:
            target = None
        if target is None:
            return self._outcome(Status.REDIRECT_INVALID, visit, response)
        if target.href == visit.url != normal(response.url):  # it is of the other scheme
            return missing(Status.NOT_ARCHIVED)
        if self._exclusion.excludes_host(target.host):
            return self._outcome(Status.OPTOUT, visit, response)
        if visit.hops == self._options.max_redirects:
            return self._outcome(Status.REDIRECT_LIMIT, visit, response)
        return Visit(visit.index, target.href, visit.hops + 1)

    def _outcome(self, status: Status, visit: Visit, response: Response) -> Outcome:
        return Outcome(
            status,
            attempts=1,
            http_status=response.status,
            final_url=visit.url,
            fetched_at=moment(response.date),
        )


def _stands_for_another(response: Response) -> bool:
    """Tell whether a record is a revisit of something, not of a redirect or a refusal."""
    status = response.status
    is_content = status in (None, HTTPStatus.NOT_MODIFIED) or has_body(status)
    return response.kind == "revisit" and is_content


def _is_about(response: Response, visit: Visit) -> bool:
    """Tell whether a record is of the url that it was found for, as an index may be of old."""
    wanted = visit.url if visit.referral is None else visit.referral.url
    return key_of(response.url) == key_of(wanted)
