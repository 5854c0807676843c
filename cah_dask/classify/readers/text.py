"""Texts of archives: the main text of a page, without its menus and footers."""

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from resiliparse.extract.html2text import extract_plain_text

from cah_dask.candidates.html import is_html
from cah_dask.candidates.language import Detector, LanguageOptions
from cah_dask.classify.readers.charset import decoded
from cah_dask.errors import ConfigError

if TYPE_CHECKING:
    from cah_dask.archives.responses import Response

_PLAIN = "text/plain"
_NEVER_NESTED = (
    "area|base|br|col|dd|dt|embed|hr|img|input|li|link|meta|option|p|param|source|tbody|td|tfoot|th|"
    "thead|tr|track|wbr"
)
"""Elements that hold none of their kind but in one that is counted: most need no end tag."""
_TAG = re.compile(rf"</?(?!(?:{_NEVER_NESTED})\b)[a-z][a-z0-9]*")
_DEEP = 1000
"""Nested elements from which on all text of a page counts as its main text: what tells them apart
takes the square of the depth, 11 ms at 1,000, 1.3 s at 10,000."""


class Text(str):
    """The text of a page with single blanks only, as models take it."""

    rich: Callable[[], str]

    @property
    def payload(self) -> str:
        """The same with line breaks, paragraphs and lists."""
        return self.rich()


class MainTexts:
    """Read the main text of HTML, and plain text as it is.

    Parameters
    ----------
    min_chars, max_chars
        Length of a text that is wanted.
    languages
        Codes of CLD3, such as `en`: only texts of which it is sure that they are in one of them are
        wanted. Default: all, whatever their language.
    main_content
        Whether menus, sidebars and footers of a page are left out.
    max_bytes
        How much of a page is looked at.
    language
        When CLD3 is sure, as options of `candidates.language.LanguageOptions`.

    Raises
    ------
    ConfigError
        If an argument is out of range.
    """

    def __init__(
        self,
        *,
        min_chars: int = 1,
        max_chars: int | None = None,
        languages: Sequence[str] = (),
        main_content: bool = True,
        max_bytes: int = 4 << 20,
        language: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            self._detector = Detector(msgspec.convert(language or {}, LanguageOptions))
        except msgspec.ValidationError as error:
            raise ConfigError(f"MainTexts: language: {error}") from error
        self._languages = _as_codes(languages)
        self._min_chars, self._max_chars = min_chars, max_chars or sys.maxsize
        if not 1 <= min_chars <= self._max_chars:
            raise ConfigError(
                f"MainTexts has min_chars {min_chars} and max_chars {max_chars}; no text is so long"
            )
        self._main_content = main_content
        self._max_bytes = max_bytes

    def __call__(self, record: "Response") -> Text | None:
        """Return the text of a record; None if it holds none, or one that is not wanted."""
        is_page = is_html(record.mime, record.body)
        if not is_page and record.mime != _PLAIN:
            return None
        source = decoded(record.body[: self._max_bytes], record.content_type)
        main = self._main_content and not _is_deep(source)
        text = Text(_extracted(source, main) if is_page else " ".join(source.split()))
        if not self._min_chars <= len(text) <= self._max_chars or not self._is_of_language(text):
            return None
        text.rich = (
            partial(_extracted, source, main, rich=True) if is_page else partial(str, source)
        )
        return text

    def _is_of_language(self, text: str) -> bool:
        if not self._languages:
            return True
        found = self._detector.classify(text)
        return found.split != "nolang" and found.lang in self._languages


def _extracted(html: str, main_content: bool, *, rich: bool = False) -> str:  # noqa: FBT001
    text = extract_plain_text(
        html,
        preserve_formatting=rich,
        main_content=main_content,
        list_bullets=rich,
        alt_texts=False,
    )
    return str(text if rich else " ".join(text.split()))


def _is_deep(html: str) -> bool:
    """Tell whether elements are nested deeper than is good, as far as start and end tags say."""
    if html.count("<") < _DEEP:
        return False
    depth, is_open = 0, defaultdict[str, int](int)
    for tag in _TAG.findall(html.lower()):
        if tag[1] != "/":
            depth += 1
            is_open[tag[1:]] += 1
            if depth == _DEEP:
                return True
        elif is_open[tag[2:]]:
            depth -= 1
            is_open[tag[2:]] -= 1
    return False


def _as_codes(languages: Sequence[str]) -> frozenset[str]:
    """Check codes, of which YAML reads `no` as a truth value."""
    if isinstance(languages, str) or not all(isinstance(code, str) for code in languages):
        raise ConfigError(
            f"MainTexts has languages {languages!r}; it takes a list such as ['en', 'no']"
        )
    return frozenset(languages)
