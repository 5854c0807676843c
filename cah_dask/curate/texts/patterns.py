r"""Texts that match a regular expression or hold a listed phrase.

Expressions are RE2's, whose time grows with the text and with nothing else: no expression can make
a filter slow, and it has no backreferences and no look-around. They are searched anywhere in a
text; ``.`` matches no newline, ``^`` and ``$`` are the ends of the text, ``\b``, ``\d``, ``\w``
and ``\s`` know ASCII only (``\p{L}`` is any letter), and ``(?i)`` ignores case.
"""

import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.blocklists.phrases import Phrases
from cah_dask.curate.texts.arrays import Mask, answers, mask_of, strings
from cah_dask.errors import ConfigError

SYNTAX = "https://github.com/google/re2/wiki/Syntax"


class Pattern:
    """A regular expression in RE2's syntax.

    Raises
    ------
    ConfigError
        If it is none.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        try:
            self.matches(pa.array([""]))
        except pa.ArrowInvalid as error:
            reason = str(error).removeprefix("Invalid regular expression: ")
            raise ConfigError(
                f"regular expression {expression!r}: {reason} (RE2's syntax: {SYNTAX})"
            ) from error

    def matches(self, texts: pa.Array) -> Mask:
        """Return in which of ``(n,)`` texts it is found; in no null."""
        return mask_of(pc.match_substring_regex(strings(texts), self.expression))


def hold_phrase(texts: pa.Array, phrases: Phrases) -> Mask:
    """Return which of ``(n,)`` texts hold a listed phrase as whole words; no null does.

    Case and compatibility forms count for nothing, see `blocklists.phrases.words`.
    """
    return mask_of(answers(texts, phrases.occur_in, pa.bool_()))
