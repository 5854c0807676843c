"""Alt texts made clean: repaired where they are broken, never restyled.

ftfy repairs entities and mojibake but costs tens of microseconds a text, so it only sees texts in
which it could change something; `tests/candidates/test_text.py` holds both ways to equal answers.
"""

import re
import unicodedata

import ftfy
from ftfy.badness import MOJIBAKE_CATEGORIES

_REPAIR = ftfy.TextFixerConfig(
    unescape_html=True,
    fix_latin_ligatures=False,  # restyling: the page's own quotes, widths and ligatures stay
    fix_character_width=False,
    uncurl_quotes=False,
    explain=False,
)
_BLANK_CONTROLS = str.maketrans(dict.fromkeys("\t\n\v\f\r\x1c\x1d\x1e\x1f", " "))
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\xad\ud800-\udfff]")
# In upper case an a with a tilde and a hard blank are what they seem (MAÇÃ VERDE); ftfy would make
# an à of them, as it must in lower case (the two bytes of à, read as Latin-1).
_TILDE_AND_BLANK = re.compile("(?<=[A-ZÀ-ÖØ-Þ])Ã(?:\u00a0|&nbsp;|&#160;|&#[xX][aA]0;)")
_AMPERSANDS = re.compile("&(?:amp;)+")  # ftfy would take them off one by one
_ENTITY = 33  # characters of the longest entity of HTML
_MOJIBAKE = 4  # characters that one becomes, twice encoded
_FILLERS = frozenset(map(chr, (0x034F, 0x115F, 0x1160, 0x2800, 0x3164, 0xFFA0, 0xFFFC, 0xFFFD)))
_SEEN = re.compile("[ -~¡-¬®-ʯЀ-ҁぁ-ゖァ-ヺ一-龥가-힣]*")
"""How most texts begin: characters that stand for themselves."""
_VARIATION = re.compile("[\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")

# What ftfy drops or repairs by single characters: entities, controls, lone surrogates.
_BROKEN = "&\xad\x00-\x08\x0e-\x1b\x7f-\x9f\u206a-\u206f\ufeff\ufff9-\ufffc\ud800-\udfff"
_STRONG = "".join(
    MOJIBAKE_CATEGORIES[name]
    for name in (
        "bad",
        "law",
        "currency",
        "start_punctuation",
        "end_punctuation",
        "numeric",
        "upper_accented",
        "box",
    )
)
_LETTERS = MOJIBAKE_CATEGORIES["lower_common"] + MOJIBAKE_CATEGORIES["upper_common"]
# What its mojibake rule (ftfy.badness.BADNESS_RE, 40 alternatives) needs at the least, in its own
# classes of characters: at a glance one of these,
_NEEDED = re.compile(f"[{_BROKEN}{_STRONG}œŒÙ°Ђў]")
# and on a closer look two strong ones side by side, or a few words of its own.
_SUSPECT = re.compile(
    """
      [{broken}œŒ]
    | [{strong}{lower_accented}][{strong}]
    | [{bad}{box}{end_punctuation}{currency}{numeric}][{lower_accented}]
    | [{box}{upper_accented}Ù\u201a√≈][^\\x00-\\x7f]
    | [ÃÂ][ ]
    | [{letters}][{bad}{upper_accented}]
    | [ВГРСΒΓΞΟ][{strong}°][ВГРСΒΓΞΟ]
    | вЂ | ГўВ | β€
    """.format(**MOJIBAKE_CATEGORIES, broken=_BROKEN, letters=_LETTERS, strong=_STRONG),
    re.VERBOSE,
)

_DIGIT_OR_DOT = re.compile(r"[\d.]")  # in every name of a file
_EXTENSION = re.compile(r"\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|avif|heic|jfif)$", re.IGNORECASE)
_CAMERA = re.compile(
    r"(?:dsc[nf]?|img|image|p|pxl|mvimg|vid|wp|gopr|cimg|imgp|sam|screenshot|foto|photo|picture|scan)"
    r"[\W_]*\d[\d\W_]*$",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"(?=.*\d)(?:[\d\W_]+|[0-9a-f]{8,}(?:-[0-9a-f]+)*)$", re.IGNORECASE)


def clean(text: str) -> str:
    """Return a text with entities and mojibake repaired and every run of blanks as one space.

    Blanks are all that Unicode calls so (NBSP, tab, U+2028), so words stay apart; joiners (ZWJ,
    ZWNJ) stay, because Persian, Hindi and emoji need them; control characters and soft hyphens go.
    NFC.
    """
    if text.isascii():
        if "&" not in text and "  " not in text and text.isprintable():
            return text.strip()
        is_fine = "&" not in text and " ".join(text.split()).isprintable()
    else:
        is_suspect = _NEEDED.search(text) and _SUSPECT.search(text)
        is_fine = not is_suspect and unicodedata.is_normalized("NFC", text)
    return " ".join(text.split()) if is_fine else repair(text)


def repair(text: str) -> str:
    """Return what `clean` returns, by way of ftfy whatever the text."""
    text = _AMPERSANDS.sub("&amp;", text.translate(_BLANK_CONTROLS))
    text = _TILDE_AND_BLANK.sub("Ã ", text)
    fixed, _ = ftfy.fix_and_explain(text, _REPAIR)
    visible = _INVISIBLE.sub("", " ".join(fixed.split()))
    return " ".join(visible.split())  # what was between two blanks may be gone


def is_far_beyond(text: str, length: int) -> bool:
    """Tell at a glance whether a raw text is longer than `length` when it is clean.

    Cleaning takes long where there is much to clean, and all of it would be in vain.
    """
    if len(text) <= length:
        return False
    n_visible = len(" ".join(text.split())) - _ENTITY * text.count("&")
    return n_visible > _MOJIBAKE * length


def has_length(text: str, length: int) -> bool:
    """Tell whether a clean text has so many characters that can be seen, blanks between included.

    Not seen are format and control characters, fillers, private and unassigned characters, the
    replacement character, and marks without anything to stand on.
    """
    if text.isascii():
        return len(text) >= length
    beginning = _SEEN.match(text)
    n = beginning.end() if beginning else 0
    if n >= length:
        return True
    for character in text[n:]:
        kind = unicodedata.category(character)
        needs_base = kind[0] in "MZ"
        if kind[0] == "C" or character in _FILLERS or (needs_base and not n):
            continue
        if needs_base and _VARIATION.match(character):
            continue
        n += 1
        if n >= length:
            return True
    return False


def is_filename(text: str) -> bool:
    """Tell whether a clean text looks like the name of a file and says nothing of the picture.

    True for texts that end in an image extension, camera names (``DSC_0123``, ``IMG 20190412``)
    and bare numbers, hashes and dates.
    """
    if not _DIGIT_OR_DOT.search(text):
        return False
    return bool(_EXTENSION.search(text) or _CAMERA.match(text) or _IDENTIFIER.match(text))
