import gzip
import itertools
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.candidates.dedup import host_bucket
from cah_dask.candidates.extract import ExtractOptions, check_input, extract_archive
from cah_dask.candidates.tables import TableOptions
from cah_dask.counts import Counts
from cah_dask.errors import InputError, ShardError
from cah_dask.keys import from_digests, unique
from cah_dask.schema import uid
from cah_dask.urls import host_of
from tests.fileserver import FileServer, serve

URLS = ["http://ex.org/1.jpg", "http://ex.org/2.jpg", "x.jpg", None]
TEXTS = ["a photo of a dog", 'a "quoted", cat\tand a dog', "a relative link", "a text without url"]
NUMBERS, SCORES, SHAS = [str(n) for n in range(4)], ["0.3"] * 4, ["a" * 64] * 4
LAYOUTS = {
    "laion400m": {
        "SAMPLE_ID": NUMBERS, "URL": URLS, "TEXT": TEXTS, "HEIGHT": NUMBERS, "WIDTH": NUMBERS,
        "LICENSE": ["?"] * 4, "NSFW": ["UNLIKELY"] * 4, "similarity": SCORES,
    },
    "laion2B-en": {
        "SAMPLE_ID": NUMBERS, "URL": URLS, "TEXT": TEXTS, "HEIGHT": NUMBERS, "WIDTH": NUMBERS,
        "LICENSE": ["?"] * 4, "NSFW": ["UNLIKELY"] * 4, "similarity": SCORES, "hash": NUMBERS,
        "punsafe": SCORES, "pwatermark": SCORES,
    },
    "laion2B-multi": {
        "URL": URLS, "TEXT": TEXTS, "LANGUAGE": ["en"] * 4, "LICENSE": ["?"] * 4, "hash": NUMBERS,
    },
    "laion-aesthetic": {
        "URL": URLS, "TEXT": TEXTS, "WIDTH": NUMBERS, "HEIGHT": NUMBERS, "similarity": SCORES,
        "punsafe": SCORES, "pwatermark": SCORES, "AESTHETIC_SCORE": SCORES, "hash": NUMBERS,
        "__index_level_0__": NUMBERS,
    },
    "re-laion": {
        "url": URLS, "caption": TEXTS, "similarity": SCORES, "hash": NUMBERS, "key": NUMBERS,
    },
    "coyo": {
        "id": NUMBERS, "url": URLS, "text": TEXTS, "width": NUMBERS, "height": NUMBERS,
        "image_phash": ["a" * 16] * 4, "text_length": NUMBERS, "clip_similarity_vitb32": SCORES,
    },
    "datacomp": {"uid": ["0"] * 4, "url": URLS, "text": TEXTS, "sha256": SHAS},
    "img2dataset": {"key": ["0"] * 4, "caption": TEXTS, "url": URLS, "sha256": SHAS},
    "cc2dataset": {"url": URLS, "alt": TEXTS, "page_url": ["http://ex.org/"] * 4},
}  # fmt: skip


def write_delimited(path, columns: dict, delimiter: str) -> None:
    def field(value) -> str:
        return '"' + (value or "").replace('"', '""') + '"'

    rows = zip(*columns.values(), strict=True)
    lines = [delimiter.join(map(field, row)) for row in (columns, *rows)]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write(path, columns: dict) -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        write_delimited(path, columns, "\t" if ".tsv" in path.name.lower() else ",")
    return str(path)


def extract(name: str, **options):
    found = extract_archive(name, ExtractOptions(**options), buckets=1)
    found.counts.require_balance(name)
    return found


def rows_of(found) -> list[dict]:
    rows = pa.concat_tables(found.groups).to_pylist()
    return sorted(rows, key=lambda row: row["record_offset"])


def kept(found) -> list[tuple]:
    return [(row["url"], row["text"], row["record_offset"]) for row in rows_of(found)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".csv.gz", ".TSV"])
def test_tables_of_other_tools_are_sources(tmp_path, layout, suffix):
    name = write(tmp_path / f"x{suffix}", LAYOUTS[layout])
    check_input(name, ExtractOptions())
    found = extract(name)
    assert kept(found) == [(URLS[0], TEXTS[0], 0), (URLS[1], TEXTS[1].replace("\t", " "), 1)]
    assert found.counts.rejected == {"bad_url": 1, "no_url": 1}
    assert found.counts.notes["records"] == 4
    assert {row["license"] for row in rows_of(found)} == {None}
    has_hash = "sha256" in LAYOUTS[layout]
    expected = bytes.fromhex(SHAS[0]) if has_hash else None
    assert {row["published_sha256"] for row in rows_of(found)} == {expected}


def test_columns_may_have_any_name(tmp_path):
    columns = {"bild": URLS, "beschreibung": TEXTS, "seite": ["http://a.org/"] * 4}
    name = write(tmp_path / "x.csv", columns)
    table = TableOptions(url="bild", text="beschreibung", page="seite")
    found = extract(name, table=table)
    assert len(kept(found)) == 2
    assert found.groups[0]["page_url"].to_pylist() == ["http://a.org/"] * 2


def test_numbers_and_words_for_nothing_are_texts_in_a_csv(tmp_path):
    texts = ["12345", "NaN NA null", "None None", "2024-01-01"]
    urls = [f"http://ex.org/{i}.jpg" for i in range(4)]
    found = extract(write(tmp_path / "x.csv", {"url": urls, "text": texts}))
    assert [text for _, text, _ in kept(found)] == texts


def test_a_table_may_be_remote_and_its_connection_may_break(tmp_path):
    for suffix in (".parquet", ".csv.gz"):
        path = tmp_path / f"x{suffix}"
        write(path, {"url": [f"http://ex.org/{i}" for i in range(999)], "text": TEXTS[:1] * 999})
        server = FileServer(path.read_bytes(), cut_after=path.stat().st_size // 2 + 1)
        with serve(server, path.name):
            check_input(server.url, ExtractOptions())
            assert extract(server.url).counts.kept == 999
        assert len(server.requests) > 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.csv",
            b"url,name\na,b\n",
            r"no column text or TEXT or caption or alt; it has url, name",
        ),
        ("x.csv", b"", "no column url or URL or image_url; it has "),
        ("x.tsv", b"url\ttext\ttext\n1\t2\t3\n", "has more than one column text"),
        ("x.parquet", b"PAR1", "unreadable after row 0"),
        ("x.csv.gz", b"no gzip", "unreadable after row 0"),
    ],
)
def test_a_bad_table_is_a_clear_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        check_input(str(tmp_path / name), ExtractOptions())
    with pytest.raises(ShardError, match=message):
        extract(str(tmp_path / name))


def test_a_missing_table_and_an_empty_one_are_lost_shards(tmp_path):
    with pytest.raises(ShardError, match="unreadable"):
        extract(str(tmp_path / "missing.parquet"))
    nothing = pa.array([], pa.string())
    with pytest.raises(ShardError, match="no records"):
        extract(write(tmp_path / "x.parquet", {"url": nothing, "text": nothing}))


def test_a_table_that_breaks_gives_what_was_before(tmp_path):
    path = tmp_path / "x.csv.gz"
    rows = "".join(f"http://ex.org/{i}.jpg,a photo of a dog\n" for i in range(120_000))
    path.write_bytes(gzip.compress(f"url,text\n{rows}".encode())[:-40])
    found = extract(str(path))
    assert found.counts.kept > 0
    assert len(found.errors) == 1


LINE = st.text(alphabet="abc\"'\\,;é ", max_size=12)


@given(st.lists(LINE, max_size=30))
def test_a_raw_tsv_has_as_many_rows_as_lines(tmp_path_factory, captions):
    path = tmp_path_factory.mktemp("t") / "x.tsv"
    lines = [f"http://ex.org/{n}.jpg\t{caption}\n" for n, caption in enumerate(captions)]
    path.write_text("url\ttext\n" + "".join(lines) + "http://ex.org/z.jpg\tthe last one\n")
    found = extract(str(path))
    assert found.counts.seen == len(captions) + 1
    assert found.counts.notes["bad_records"] == 0


def test_quotes_of_a_tsv_count_where_its_header_has_them_or_the_option_says_so(tmp_path):
    (tmp_path / "x.tsv").write_text('"url"\t"text"\n"http://ex.org/1.jpg"\t"two\tdogs here"\n')
    assert [text for _, text, _ in kept(extract(str(tmp_path / "x.tsv")))] == ["two dogs here"]
    (tmp_path / "y.tsv").write_text('url\ttext\nhttp://ex.org/1.jpg\t"two\tdogs here"\n')
    found = extract(str(tmp_path / "y.tsv"), table=TableOptions(quoted=True))
    assert [text for _, text, _ in kept(found)] == ["two dogs here"]


def test_rows_that_are_none_cost_themselves(tmp_path):
    good = [f"http://ex.org/{n}.jpg,a photo of dog {n}" for n in range(4)]
    bad = [
        b"one,two,three",
        b"alone",
        b"http://ex.org/9.jpg,caf\xff\0 x",
        b'a,"' + b"x" * (5 << 20),
    ]
    lines = itertools.chain(*zip((line.encode() for line in good), bad, strict=True))
    (tmp_path / "x.csv").write_bytes(b"url,text\n" + b"\n".join(lines) + b"\n")
    found = extract(str(tmp_path / "x.csv"))
    assert found.errors == ()
    texts = [text for _, text, _ in kept(found)]
    assert set(texts) == {*(f"a photo of dog {n}" for n in range(4)), "caf\ufffd x"}
    assert found.counts.notes["bad_records"] == 3


def test_endless_cells_of_a_parquet_file_take_no_memory_together(tmp_path):
    texts = ["x" * 5_000_000] * 150 + ["a photo of a dog"]
    urls = [f"http://ex.org/{n}.jpg" for n in range(len(texts))]
    name = write(tmp_path / "x.parquet", {"url": urls, "text": texts})
    code = (
        "import sys, resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from cah_dask.candidates.extract import ExtractOptions, extract_archive\n"
        "print(extract_archive(sys.argv[1], ExtractOptions(), buckets=1).counts.rejected)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name], capture_output=True, text=True, check=True
    )
    assert done.stdout == "{'long_text': 150}\n"


def test_lines_behind_a_quote_that_is_never_closed_are_counted_and_named(tmp_path):
    lines = [f"http://ex.org/{n}.jpg,a photo of thing {n}" for n in range(1000)]
    lines[10] = 'http://ex.org/10.jpg,"a photo of thing 10'
    (tmp_path / "x.csv").write_text("\n".join(["url,text", *lines]) + "\n")
    found = extract(str(tmp_path / "x.csv"))
    assert found.counts.kept == 10
    assert found.counts.seen + found.counts.notes["bad_records"] == 1000
    assert "990 lines are lost" in found.errors[0]


def test_a_text_may_have_line_ends_within_its_quotes(tmp_path):
    rows = "".join(f'http://ex.org/{n}.jpg,"a photo\nof thing\n{n}"\n' for n in range(9))
    (tmp_path / "x.csv").write_text("url,text\n" + rows)
    assert extract(str(tmp_path / "x.csv")).counts.kept == 9


@pytest.mark.parametrize("texts", [[["a photo"]], [{"a": "photo"}]])
def test_a_column_that_holds_no_texts_is_a_clear_error(tmp_path, texts):
    pq.write_table(
        pa.table({"url": ["http://ex.org/1.jpg"], "text": texts}), tmp_path / "x.parquet"
    )
    with pytest.raises(InputError, match=r"column text holds .*, not text"):
        check_input(str(tmp_path / "x.parquet"), ExtractOptions())


def test_a_table_may_be_larger_than_any_archive(tmp_path, monkeypatch):
    monkeypatch.setattr("cah_dask.candidates.extract.ARCHIVE_BYTES", 5_000)
    lines = "".join(f"http://ex.org/{n}.jpg,a photo of thing {n}\n" for n in range(500))
    (tmp_path / "x.csv").write_text("url,text\n" + lines)
    assert extract(str(tmp_path / "x.csv")).counts.kept == 500


RAW = [
    ("http://ex.org/1.jpg", "a photo of a dog"),
    ("HTTP://EX.org:80/a b.jpg#top", "  two\nlines &amp; an entity "),
    ("http://bücher.example/ä.jpg", "e\u0301 in two parts"),
]
"""Urls and texts that cleaning would change, but for the first."""


def published(tmp_path, pairs=RAW, **columns):
    uids = [uid(text, url).hex() for url, text in pairs]
    urls, texts = zip(*pairs, strict=True)
    made = {"uid": uids, "url": urls, "text": texts} | columns
    return write(tmp_path / "x.parquet", made)


def test_a_row_that_was_published_keeps_url_text_and_uid(tmp_path):
    found = extract(published(tmp_path))
    assert [(row["url"], row["text"]) for row in rows_of(found)] == RAW
    assert [row["uid"] for row in rows_of(found)] == [uid(text, url) for url, text in RAW]
    assert found.counts.notes["bad_uids"] == 0


def test_a_uid_may_be_bytes_and_its_column_have_any_name(tmp_path):
    uids = pa.array([uid(text, url) for url, text in RAW], pa.binary(16))
    urls, texts = zip(*RAW, strict=True)
    pq.write_table(pa.table({"id": uids, "url": urls, "text": texts}), tmp_path / "x.parquet")
    found = extract(str(tmp_path / "x.parquet"), table=TableOptions(uid="id"))
    assert [(row["url"], row["text"]) for row in rows_of(found)] == RAW


def test_a_uid_that_is_not_that_of_the_row_is_not_believed(tmp_path):
    uids = ["f" * 32, "no uid", uid(*reversed(RAW[2])).hex()]
    found = extract(published(tmp_path, uid=uids))
    urls = [row["url"] for row in rows_of(found)]
    assert urls == ["http://ex.org/1.jpg", "http://ex.org/a%20b.jpg", RAW[2][0]]
    assert [row["uid"] for row in rows_of(found)] == [
        uid(row["text"], row["url"]) for row in rows_of(found)
    ]
    assert found.counts.notes["bad_uids"] == 2


def test_urls_that_stay_as_they_are_belong_to_the_bucket_of_their_host(tmp_path):
    found = extract_archive(published(tmp_path), ExtractOptions(), buckets=1000)
    hosts = ["ex.org", "ex.org", "xn--bcher-kva.example"]
    assert [row["bucket"] for row in rows_of(found)] == [host_bucket(host, 1000) for host in hosts]
    assert [host_of(url) for url, _ in RAW] == hosts


def test_hashes_of_images_are_read_in_hex_or_as_bytes_and_bad_ones_are_counted(tmp_path):
    digests = [bytes([n]) * 32 for n in range(3)]
    found = extract(published(tmp_path, sha256=[digests[0].hex().upper(), None, "no hash"]))
    assert [row["published_sha256"] for row in rows_of(found)] == [digests[0], None, None]
    assert found.counts.notes["bad_sha256"] == 1
    found = extract(published(tmp_path, hash=pa.array(digests)), table=TableOptions(sha256="hash"))
    assert [row["published_sha256"] for row in rows_of(found)] == digests
    table = TableOptions(sha256="hash", verify=False)
    found = extract(published(tmp_path, hash=pa.array(digests)), table=table)
    assert [row["published_sha256"] for row in rows_of(found)] == [None] * 3


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_rows_that_are_not_of_the_subset_are_rejected(tmp_path, suffix):
    pairs = [(f"http://ex.org/{n}.jpg", f"a photo of thing {n}") for n in range(500)]
    uids = [uid(text, url) for url, text in pairs]
    urls, texts = zip(*pairs, strict=True)
    cells = [digest.hex() for digest in uids]
    cells[7] = "no uid"
    name = write(tmp_path / f"x{suffix}", {"uid": cells, "url": urls, "text": texts})
    wanted = [3, 7, 128, 499]
    subset = unique(from_digests(b"".join([uids[n] for n in wanted] + [b"\0" * 16, b"\xff" * 16])))
    found = extract_archive(name, ExtractOptions(), buckets=1, subset=subset)
    assert kept(found) == [(*pairs[n], n) for n in (3, 128, 499)]
    assert found.counts == Counts(500, 3, {"not_in_subset": 497}, found.counts.notes)
    assert found.counts.notes["records"] == 500
    assert "not_in_subset" not in found.counts.notes


def test_a_table_of_which_no_row_is_wanted_is_read_to_its_end(tmp_path):
    found = extract_archive(
        published(tmp_path), ExtractOptions(), buckets=1, subset=from_digests(b"\0" * 16)
    )
    assert found.counts == Counts(3, 0, {"not_in_subset": 3}, found.counts.notes)
    assert found.errors == ()


def test_a_subset_asks_for_a_column_of_uids(tmp_path):
    name = write(tmp_path / "x.csv", {"url": URLS, "text": TEXTS})
    with pytest.raises(InputError, match=r"has no column uid; .* Name its column with"):
        check_input(name, ExtractOptions(table=TableOptions(subset="s.npy")))


def test_a_cell_that_is_no_utf8_costs_no_other_row(tmp_path):
    offsets = pa.py_buffer(np.array([0, 5, 8], np.int32))
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff b dog")])
    urls = ["http://ex.org/0.jpg", "http://ex.org/1.jpg"]
    pq.write_table(pa.table({"url": urls, "text": texts}), tmp_path / "x.parquet")
    found = extract(str(tmp_path / "x.parquet"), min_text=1)
    assert [row["text"] for row in rows_of(found)] == ["a\ufffd b", "dog"]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.binary(), pa.large_binary()])
def test_texts_may_be_of_any_type_that_holds_texts(tmp_path, kind):
    columns = {name: pa.array(cells, kind) for name, cells in (("url", URLS), ("text", TEXTS))}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert len(kept(extract(str(tmp_path / "x.parquet")))) == 2
