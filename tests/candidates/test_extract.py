import json
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cah_dask.candidates.dedup import host_bucket
from cah_dask.candidates.extract import Extraction, ExtractOptions, extract_archive
from cah_dask.candidates.language import LanguageOptions
from cah_dask.candidates.page_images import Extra
from cah_dask.candidates.rows import MAX_GROUP_ROWS
from cah_dask.counts import Reject
from cah_dask.errors import RetryableError, ShardError
from cah_dask.schema import CANDIDATES, uid
from tests.strategies import wat_json
from tests.wats import anchor, as_json, image, page, record, write_pages, write_wat

CAPTION = "two brown dogs playing in the green grass"


def extract(archive: str, buckets: int = 4, **options) -> Extraction:
    found = extract_archive(archive, ExtractOptions(**options), buckets=buckets)
    found.counts.require_balance(archive)
    assert sum(map(len, found.groups)) == found.counts.kept
    return found


def rows(found: Extraction) -> list[dict]:
    table = pa.concat_tables([CANDIDATES.empty_table(), *found.groups])
    return sorted(table.to_pylist(), key=lambda row: (row["record_offset"], row["link_index"]))


def kept(tmp_path: Path, *links, **details) -> list[dict]:
    return rows(extract(write_pages(tmp_path / "x.wat.gz", page(*links, **details))))


def rejected(tmp_path: Path, *links, options=None, **details) -> dict[str, int]:
    found = extract(write_pages(tmp_path / "x.wat.gz", page(*links, **details)), **(options or {}))
    return dict(found.counts.rejected)


def test_a_candidate_carries_all_that_an_audit_needs(tmp_path):
    archive = write_pages(
        tmp_path / "x.wat.gz",
        page(
            anchor("https://creativecommons.org/licenses/by/4.0/deed.en", rel="license"),
            image("img/dogs.jpg", f"  {CAPTION}\u00a0!"),
        ),
    )
    [row] = rows(extract(archive))
    url = "https://www.example.org/a/img/dogs.jpg"
    assert row | {"lang_confidence": 1.0, "record_offset": 0} == {
        "bucket": host_bucket("www.example.org", 4),
        "uid": uid(f"{CAPTION} !", url),
        "url": url,
        "text": f"{CAPTION} !",
        "split": "en",
        "lang": "en",
        "lang_confidence": 1.0,
        "lang_is_reliable": True,
        "text_is_filename": False,
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "page_url": "https://www.example.org/a/page.html",
        "archive": archive,
        "record_offset": 0,
        "link_index": 0,
        "published_sha256": None,
    }
    assert 0.9 < row["lang_confidence"] <= 1
    assert row["record_offset"] > 0


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        (image("x.jpg"), Reject.NO_TEXT),
        (image("x.jpg", " \u00a0 "), Reject.NO_TEXT),
        (image("x.jpg", "dogs"), Reject.SHORT_TEXT),
        (image("x.jpg", "d &amp; o"), None),
        (image("x.jpg", "犬が走る"), Reject.SHORT_TEXT),
        (image("x.jpg", "犬が走るよ"), None),
        (image("x.jpg", "d" * 2001), Reject.LONG_TEXT),
        (image("x.jpg", "d" * 2000), None),
        (image("x.jpg", "&#x00000041;" * 2000), None),
        (image("x.jpg", "d" * 1_000_000), Reject.LONG_TEXT),
        (image(None, CAPTION), Reject.NO_URL),
        (image("", CAPTION), Reject.NO_URL),
        (image("data:image/png;base64," + "A" * 5000, CAPTION), Reject.SCHEME),
        (image("javascript:void(0)", CAPTION), Reject.SCHEME),
        (image("//[", CAPTION), Reject.BAD_URL),
        (image("http://169.254.1.1/x.jpg", CAPTION), Reject.PRIVATE_HOST),
        (image("/" + "x" * 2000, CAPTION), Reject.LONG_URL),
        (image("LOGO.SVG?v=1", CAPTION), Reject.FORMAT),
        (image("/favicon.ico#x", CAPTION), Reject.FORMAT),
        (image("http://www.gifts.com/p/1.jpg", CAPTION), None),
        (image("/x.jpg?orig=anim.svg", CAPTION), None),
        (image("a.GIF", CAPTION), None),
    ],
)
def test_each_link_is_kept_or_rejected_for_its_first_fault(tmp_path, link, reason):
    assert rejected(tmp_path, link) == ({} if reason is None else {reason.value: 1})


def test_relative_links_are_kept_and_follow_the_base(tmp_path):
    links = [
        image("img/x.jpg", CAPTION),
        image("/y.jpg", CAPTION),
        image("//cdn.net/z.jpg", CAPTION),
    ]
    assert [row["url"] for row in kept(tmp_path, *links)] == [
        "https://www.example.org/a/img/x.jpg",
        "https://www.example.org/y.jpg",
        "https://cdn.net/z.jpg",
    ]
    assert [row["url"] for row in kept(tmp_path, links[0], base="/b/")] == [
        "https://www.example.org/b/img/x.jpg"
    ]


def test_only_images_are_seen_whatever_other_links_carry(tmp_path):
    archive = write_pages(
        tmp_path / "x.wat.gz",
        page(
            anchor("http://ex.org/big.jpg", alt=CAPTION),
            {"path": "STYLE/#text", "href": "x.png"},
            image("x.jpg", CAPTION),
        ),
    )
    assert extract(archive).counts.seen == 1


def test_an_image_keeps_its_captions_and_equal_pairs_are_duplicates(tmp_path):
    tree = page(
        image("x.jpg", CAPTION), image("x.jpg", "zwei braune Hunde"), image("/a/x.jpg#1", CAPTION)
    )
    found = extract(write_pages(tmp_path / "x.wat.gz", tree, tree))
    assert (found.counts.seen, found.counts.kept) == (6, 2)
    assert found.counts.rejected == {"duplicate": 4}


def test_the_licence_of_a_page_belongs_to_all_its_images_and_to_no_other_page(tmp_path):
    licensed = page(
        image("before.jpg", CAPTION),
        anchor("http://creativecommons.org/publicdomain/zero/1.0/"),
        image("after.jpg", CAPTION),
    )
    found = rows(
        extract(write_pages(tmp_path / "x.wat.gz", licensed, page(image("o.jpg", CAPTION))))
    )
    cc0 = "https://creativecommons.org/publicdomain/zero/1.0/"
    assert [row["license"] for row in found] == [cc0, cc0, None]


@pytest.mark.parametrize(
    "details",
    [
        {"metas": [{"name": "ROBOTS", "content": "NOINDEX, follow"}]},
        {"metas": [{"content": "noai", "name": "robots"}]},
        {"headers": {"x-robots-TAG": "noimageai"}},
        {"headers": {"X-Robots-Tag": ["all", "cah-dask: none"]}},
        {"headers": {"tdm-reservation": "1"}},
        {"metas": [{"name": "tdm-reservation", "content": "1"}]},
    ],
)
def test_pages_that_reserve_their_images_are_respected_and_counted(tmp_path, details):
    links = [image("x.jpg", CAPTION), image("y.jpg")]
    assert rejected(tmp_path, *links, **details) == {"page_directive": 2}
    assert rejected(tmp_path, *links, options={"respect": ()}, **details) == {"no_text": 1}


@pytest.mark.parametrize(
    "details",
    [
        {"metas": [{"name": "robots", "content": "index, follow, max-image-preview:large"}]},
        {"metas": [{"name": "description", "content": "robots noindex"}]},
        {"headers": {"X-Robots-Tag": "otherbot: noindex, noai"}},
        {"headers": {"X-Robots-Tag": "unavailable_after: 25 Jun 2030 15:00:00 PST"}},
        {"headers": {"TDM-Reservation": "0"}},
        {"headers": {"X-Robots-Tag": 7}, "metas": ["robots", {"name": "robots"}]},
    ],
)
def test_pages_that_reserve_nothing_are_kept(tmp_path, details):
    assert rejected(tmp_path, image("x.jpg", CAPTION), **details) == {}


def test_file_names_are_flagged_and_have_no_language(tmp_path):
    [row] = kept(tmp_path, image("x.jpg", "DSC 0001"))
    assert (row["text_is_filename"], row["split"], row["lang"]) == (True, "nolang", "und")


def test_texts_of_all_splits_are_told_apart(tmp_path):
    texts = [CAPTION, "Фотография красивого кота на подоконнике", "★★★★★ 5/5"]
    found = kept(tmp_path, *(image(f"{i}.jpg", text) for i, text in enumerate(texts)))
    assert [(row["split"], row["lang"]) for row in found] == [
        ("en", "en"),
        ("multi", "ru"),
        ("nolang", "und"),
    ]


def test_the_language_thresholds_decide_the_split_but_not_the_evidence(tmp_path):
    archive = write_pages(tmp_path / "x.wat.gz", page(image("x.jpg", "A photo of a cat")))
    [plain] = rows(extract(archive))
    [strict] = rows(extract(archive, language=LanguageOptions(min_confidence_of={"co": 0.99})))
    assert (plain["split"], strict["split"]) == ("multi", "nolang")
    assert plain["lang"] == strict["lang"] == "co"
    assert plain["lang_confidence"] == strict["lang_confidence"]


def test_rows_come_by_bucket_and_groups_end_with_a_bucket(tmp_path):
    links = [image(f"http://h{i % 97}.example.org/{i}.jpg", CAPTION) for i in range(9000)]
    found = extract(write_pages(tmp_path / "x.wat.gz", page(*links)), buckets=16)
    table = pa.concat_tables(found.groups).to_pylist()
    keys = [(row["bucket"], row["record_offset"], row["link_index"]) for row in table]
    assert keys == sorted(keys)
    ends = [group["bucket"][-1].as_py() for group in found.groups]
    assert ends == sorted(set(ends))
    assert len(ends) > 1


def test_a_bucket_that_is_too_big_is_cut_into_several_groups(tmp_path):
    links = [image(f"/{i}.jpg", CAPTION) for i in range(MAX_GROUP_ROWS + 1)]
    found = extract(write_pages(tmp_path / "x.wat.gz", page(*links)))
    assert [len(group) for group in found.groups] == [MAX_GROUP_ROWS, 1]


def test_a_broken_record_is_counted_and_skipped(tmp_path):
    good = record(as_json(page(image("x.jpg", CAPTION))))
    archive = write_wat(tmp_path / "x.wat.gz", record(b'{"Envelope": {"IMG@/src": '), good)
    found = extract(archive)
    assert found.counts.kept == 1
    assert found.counts.notes == {
        "records": 2,
        "pages": 1,
        "bad_records": 1,
        "bytes": found.counts.notes["bytes"],
    }


@pytest.mark.parametrize(
    ("payload", "seen"),
    [
        (b'{"no": "envelope", "IMG@/src": 1}', 0),
        (b'{"Envelope": [], "x": "IMG@/src"}', 0),
        (as_json(page({"path": "IMG@/src"}, image("x.jpg", CAPTION))), 2),
        (as_json(page({"path": "IMG@/src", "url": 5, "alt": ["x"]}, image("x.jpg", CAPTION))), 2),
        (as_json(page({"path": ["IMG@/src"]}, image("x.jpg", CAPTION))), 1),
        (as_json(page(image("x.jpg", CAPTION))).replace(b"two", b"two\xff"), 1),
        (as_json(page(image("x.jpg", CAPTION))).replace(b"two", b"two \\ud83d"), 1),
        (as_json(page(image("x\\ud83d.jpg", CAPTION))), 1),
        (as_json(page(image("x.jpg", CAPTION))).replace(b"IMG@/src", b"IMG@\\/src"), 1),
        (b'{"Envelope": ' + b"[" * 100_000 + b'"IMG@/src"', 0),
    ],
)
def test_one_odd_value_costs_no_more_than_its_link(tmp_path, payload, seen):
    found = extract(write_wat(tmp_path / "x.wat.gz", record(payload)))
    assert found.counts.seen == seen
    assert found.counts.kept == min(seen, 1)


def test_links_are_found_in_any_order_of_keys(tmp_path):
    tree = page(dict(reversed(image("x.jpg", CAPTION).items())))
    payload = json.dumps(dict(reversed(tree.items())), indent=1).encode()
    assert extract(write_wat(tmp_path / "x.wat.gz", record(payload))).counts.kept == 1


def test_an_archive_that_is_cut_gives_what_was_before_the_cut(tmp_path):
    path = tmp_path / "x.wat.gz"
    archive = write_pages(path, *(page(image(f"{i}.jpg", CAPTION)) for i in range(3)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    found = extract(archive)
    assert found.counts.kept == 2
    assert len(found.errors) == 1
    assert "x.wat.gz" in found.errors[0]


def test_an_archive_that_is_damaged_gives_what_was_before_the_damage(tmp_path):
    path = tmp_path / "x.wat.gz"
    archive = write_pages(path, *(page(image(f"{i}.jpg", CAPTION)) for i in range(3)))
    data = bytearray(path.read_bytes())
    data[-300:-200] = bytes(100)
    path.write_bytes(data)
    found = extract(archive)
    assert found.counts.kept == 2
    assert len(found.errors) == 1


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x1f\x8b broken", b"{}\n" * 100])
def test_what_is_no_archive_at_all_is_a_lost_shard(tmp_path, content):
    path = tmp_path / "x.wat.gz"
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"x\.wat\.gz"):
        extract_archive(str(path), ExtractOptions(), buckets=4)


def test_a_missing_archive_may_be_there_later(tmp_path):
    with pytest.raises(RetryableError, match="missing"):
        extract_archive(str(tmp_path / "missing.wat.gz"), ExtractOptions(), buckets=4)


@settings(max_examples=50)
@given(st.lists(wat_json(), max_size=4), st.sets(st.sampled_from(get_args(Extra))).map(tuple))
@example([page(image("//[", CAPTION), image("http://exa mple/", "\ud800" * 9))], ())
@example(
    [{"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": "IMG@/src"}}}}],
    (),
)
def test_every_link_seen_is_kept_or_rejected_whatever_the_json(tmp_path, trees, also):
    payloads = [json.dumps(tree).encode() for tree in trees]
    archive = write_wat(tmp_path / "x.wat.gz", *map(record, [b'{"Envelope": {}}', *payloads]))
    found = extract(archive, also=also)
    assert found.counts.notes["records"] == 1 + sum(p.startswith(b"{") for p in payloads)
    for row in rows(found):
        assert row["url"].startswith(("http://", "https://"))
        assert 5 <= len(row["text"]) <= 2000
        assert row["uid"] == uid(row["text"], row["url"])


def test_addresses_of_allowed_networks_are_as_good_as_public_ones(tmp_path):
    good = ["127.0.1.7", "0x7f000107", "[fd00::7]"]
    hosts = [*good, "127.0.2.7", "10.0.0.1", "localhost", "[::1]"]
    links = [image(f"http://{host}:8080/{n}.jpg", CAPTION) for n, host in enumerate(hosts)]
    archive = write_pages(tmp_path / "x.wat.gz", page(*links))
    allowed = ("127.0.1.0/24", "fd00::/8")
    found = extract_archive(archive, ExtractOptions(), buckets=1, allow_addresses=allowed)
    urls = [row["url"] for row in rows(found)]
    assert urls == [f"http://{host}:8080/{n}.jpg" for n, host in enumerate(hosts[:1] * 2)] + [
        "http://[fd00::7]:8080/2.jpg"
    ]
    assert found.counts.rejected == {"private_host": 4}
