"""Which pictures may not be kept though they are sound, wherever they come from."""

from dataclasses import dataclass

import msgspec

from cah_dask.blocklists.exclusion import Exclusion
from cah_dask.blocklists.hashlists import HashLists
from cah_dask.counts import Status
from cah_dask.images.picture.decoders import Verdict
from cah_dask.images.published import Expectations


@dataclass(frozen=True, slots=True)
class PictureRules:
    """Lists of what may never be stored, and what was published of the urls of a list."""

    exclusion: Exclusion
    listed: HashLists
    phash_distance: int
    published: Expectations

    def applied(self, url: str, verdict: Verdict) -> Verdict:
        """Return a verdict on what a url gave, without its picture if that may not be kept."""
        if self._is_listed(verdict):
            return msgspec.structs.replace(verdict, status=Status.HASH_LISTED, picture=None)
        if self._is_changed(url, verdict):
            return msgspec.structs.replace(verdict, status=Status.CHANGED, picture=None)
        return verdict

    def _is_listed(self, verdict: Verdict) -> bool:
        phash = None if verdict.picture is None else verdict.picture.phash
        return (
            self.exclusion.excludes_image(bytes.fromhex(verdict.md5))
            or self.listed.match(md5=verdict.md5, sha1=verdict.sha1, sha256=verdict.sha256)
            or (phash is not None and self.listed.resembles(phash, self.phash_distance))
        )

    def _is_changed(self, url: str, verdict: Verdict) -> bool:
        """Tell whether a picture is another one than that which was published with its url."""
        wanted = self.published.get(url)
        return wanted is not None and verdict.picture is not None and verdict.sha256 not in wanted
