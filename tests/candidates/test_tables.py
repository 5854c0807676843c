import gzip
import itertools
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.candidates.extract import ExtractOptions, check_input, extract_archive
from cah_dask.candidates.tables import TableOptions
from cah_dask.errors import InputError, ShardError
from tests.candidates.fileserver import FileServer, serve

URLS = ["http://ex.org/1.jpg", "http://ex.org/2.jpg", "x.jpg", None]
TEXTS = ["a photo of a dog", 'a "quoted", cat\tand a dog', "a relative link", "a text without url"]
LAYOUTS = {
    "laion": {"URL": URLS, "TEXT": TEXTS, "LICENSE": ["?"] * 4},
    "datacomp": {"uid": ["0"] * 4, "url": URLS, "text": TEXTS},
    "img2dataset": {"key": ["0"] * 4, "caption": TEXTS, "url": URLS},
    "cc2dataset": {"url": URLS, "alt": TEXTS, "page_url": ["http://ex.org/"] * 4},
}


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


def kept(found) -> list[tuple]:
    rows = pa.concat_tables(found.groups).to_pylist()
    return [(row["url"], row["text"], row["record_offset"]) for row in rows]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".csv.gz", ".TSV"])
def test_tables_of_other_tools_are_sources(tmp_path, layout, suffix):
    name = write(tmp_path / f"x{suffix}", LAYOUTS[layout])
    check_input(name, ExtractOptions())
    found = extract(name)
    assert kept(found) == [(URLS[0], TEXTS[0], 0), (URLS[1], TEXTS[1].replace("\t", " "), 1)]
    assert found.counts.rejected == {"bad_url": 1, "no_url": 1}
    assert found.counts.notes["records"] == 4


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
