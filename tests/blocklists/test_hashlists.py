import gzip
import hashlib

import pytest

from cah_dask.blocklists.hashlists import HashLists, load_hash_lists
from cah_dask.errors import InputError


def digest(kind: str, data: bytes = b"bad") -> str:
    return hashlib.new(kind, data).hexdigest()


def test_lists_of_all_kinds_are_read_and_matched(tmp_path):
    (tmp_path / "a.txt").write_text(f"{digest('md5').upper()}\n\n# note\n{digest('sha1')}\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(digest("sha256").encode()))
    lists = load_hash_lists((str(tmp_path / "a.txt"), str(tmp_path / "b.txt.gz")))
    assert lists.with_sha1
    for kind in ("md5", "sha1", "sha256"):
        assert lists.match(**{kind: digest(kind)})
        assert not lists.match(**{kind: digest(kind, b"good")})
    assert not lists.match(md5=digest("md5", b"good"), sha1=None)


def test_perceptual_hashes_match_by_the_bits_that_differ(tmp_path):
    (tmp_path / "a.txt").write_text(f"00000000000000ff\n{digest('md5')}\nffffffffffffffff\n")
    lists = load_hash_lists((str(tmp_path / "a.txt"),))
    assert lists.with_phash
    assert lists.match(md5=digest("md5"))
    assert lists.resembles("00000000000000ff", 0)
    assert not lists.resembles("80000000000000fe", 1)
    assert lists.resembles("80000000000000fe", 2)
    assert not HashLists().with_phash


def test_no_list_matches_nothing():
    assert not HashLists().match(md5=digest("md5"))
    assert not load_hash_lists(()).with_sha1


@pytest.mark.parametrize(
    "text", ["no digest", "abcd", "d41d8cd98f00b204e9800998ecf8427e00", "0" * 14]
)
def test_anything_else_in_a_list_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, match=r"a\.txt"):
        load_hash_lists((str(tmp_path / "a.txt"),))


def test_a_missing_list_is_an_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_hash_lists((str(tmp_path / "nowhere.txt"),))
