"""Language of a text by CLD3, and the split that follows from it.

CLD3's "reliable" is often wrong on short captions ("A photo of a cat" is Corsican at 0.94), so its
label and probability are kept beside the split, and the thresholds are options.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec

from cah_dask.schema import Split

UNKNOWN = "und"
"""The label of a text without letters, or too short for the detector (BCP 47: undetermined)."""

_LETTER = re.compile(r"[^\W\d_]")

Confidence = Annotated[float, msgspec.Meta(ge=0, le=1)]


class LanguageOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When to believe CLD3. A text it is not sure of is `nolang`."""

    min_bytes: Annotated[int, msgspec.Meta(ge=1, le=2000)] = 5
    """Shortest text in UTF-8 bytes that CLD3 looks at, as crawling@home. With 0 it finds "1234" to
    be Japanese."""
    max_bytes: Annotated[int, msgspec.Meta(ge=5, le=100_000)] = 2000
    """Bytes of a text that CLD3 looks at, as crawling@home; it samples a longer text."""
    min_confidence: Confidence = 0.7
    """Lowest probability of a label that counts; 0.7 is CLD3's own bound for "reliable"."""
    min_confidence_of: dict[str, Confidence] = {}
    """The same for single labels, such as {co: 0.99, ny: 0.99}: rare languages that CLD3 sees in
    short English texts."""


class Language(NamedTuple):
    """Split of a text and the evidence: CLD3's label, its probability in [0, 1], its own flag."""

    split: Split
    lang: str
    confidence: float
    is_reliable: bool


NO_LANGUAGE = Language("nolang", UNKNOWN, 0.0, is_reliable=False)
"""What is known of a text that says nothing."""


class Detector:
    """CLD3 with fixed limits. One per thread."""

    def __init__(self, options: LanguageOptions | None = None) -> None:
        options = options or LanguageOptions()
        self._floor = options.min_confidence
        self._floors = options.min_confidence_of
        self._find = identifier(options.min_bytes, options.max_bytes)

    def classify(self, text: str) -> Language:
        """Return the language of a clean text.

        `en` and `multi` need CLD3's flag and the probability that the options ask for.
        """
        if not (text[:1].isalpha() or _LETTER.search(text)):
            return NO_LANGUAGE
        found = self._find(text)
        lang = found.language
        if lang == UNKNOWN:
            return NO_LANGUAGE
        confidence, is_reliable = found.probability, found.is_reliable
        if not is_reliable or confidence < self._floors.get(lang, self._floor):
            return Language("nolang", lang, confidence, is_reliable)
        return Language("en" if lang == "en" else "multi", lang, confidence, is_reliable)


def identifier(min_bytes: int, max_bytes: int) -> Callable[[str], Any]:
    """Return the detecting function of the CLD3 build that is installed; limits in UTF-8 bytes."""
    try:
        import gcld3  # noqa: PLC0415
    except ImportError:  # pycld3, the older build of the same model
        import cld3  # noqa: PLC0415

        return cld3.LanguageIdentifier(min_bytes, max_bytes).get_language  # type: ignore[no-any-return]
    return gcld3.NNetLanguageIdentifier(min_bytes, max_bytes).FindLanguage  # type: ignore[no-any-return]
