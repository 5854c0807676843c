"""DataComp's rules as plainly as they can be written: one row, one condition, all in memory."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import fasttext
import gcld3
import numpy as np

from tests.curate.datacomp_folder import File
from tests.curate.texts.lid import LID_FTZ

Row = dict[str, Any]
_lid = fasttext.load_model(str(LID_FTZ))


def rows_of(written: Sequence[File]) -> list[Row]:
    """Return all rows of a folder, in order."""
    return [row for file in written for row in file.table.to_pylist()]


def subset(uids: Sequence[str]) -> bytes:
    """Return the bytes of DataComp's subset file."""
    keys = np.array(
        [(int(uid[:16], 16), int(uid[16:32], 16)) for uid in uids], dtype=np.dtype("u8,u8")
    )
    keys.sort()
    file = io.BytesIO()
    np.save(file, keys)
    return file.getvalue()


def kept(rows: Sequence[Row], rule: Callable[[Row], bool]) -> bytes:
    """Return the subset file of the rows for which a rule holds."""
    return subset([row["uid"] for row in rows if rule(row)])


def fasttext_language(text: str) -> str:
    """Return fastText's first label."""
    found = _lid.predict(text.replace("\n", " "))
    return str(found[0][0] if isinstance(found[0], (list, tuple)) else found[0]).removeprefix(
        "__label__"
    )


def cld3_language(text: str) -> str:
    """Return the label of CLD3 with the limits of DataComp."""
    detector = gcld3.NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)
    return str(detector.FindLanguage(text.replace("\n", " ")).language)


def fasttext_words(text: str) -> int:
    """Return how many tokens ``fasttext.tokenize`` finds."""
    count, inside = 0, False
    for character in text:
        if character in "\0\t\n\v\f\r ":
            count += inside
            inside = False
            count += character == "\n"
        else:
            inside = True
    return count + inside


def no_filter(_: Row) -> bool:
    """All rows."""
    return True


def basic(row: Row) -> bool:
    """English, more than two words, more than five characters, 200 pixels, three to one."""
    text, sides = row["text"], (row["original_width"], row["original_height"])
    return (
        fasttext_language(text) == "en"
        and len(text.split()) > 2
        and len(text) > 5
        and min(sides) >= 200
        and max(sides) / min(sides) <= 3.0
    )


def clip_score(column: str, threshold: float) -> Callable[[Row], bool]:
    """At least a threshold, as a float32 against a Python number."""
    return lambda row: bool(np.float32(row[column]) >= np.float32(threshold))


def fraction(rows: Sequence[Row], column: str, share: float) -> Callable[[Row], bool]:
    """The highest, and all that equal the lowest of them."""
    scores = sorted((row[column] for row in rows), reverse=True)
    return clip_score(column, scores[int(len(scores) * share)])


def laion2b(row: Row) -> bool:
    """English by CLD3, and 0.28 by B/32."""
    score = clip_score("clip_b32_similarity_score", 0.28)
    return cld3_language(row["text"]) == "en" and score(row)


def image_based(row: Row, vector: np.ndarray, centroids: np.ndarray, targets: set[int]) -> bool:
    """A caption of more than one token, and a vector near to a wanted centroid."""
    text = row["text"]
    caption = fasttext_language(text) == "en" and fasttext_words(text) > 1 and len(text) > 5
    products = [float(vector.astype(np.float64) @ each.astype(np.float64)) for each in centroids]
    return caption and products.index(max(products)) in targets


def text_based(row: Row, first_synset: dict[str, int], ids: set[int]) -> bool:
    """An English caption with a word whose first synset is among some."""
    words = row["text"].split()
    is_english = fasttext_language(row["text"]) == "en"
    return is_english and any(first_synset.get(word.lower()) in ids for word in words)
