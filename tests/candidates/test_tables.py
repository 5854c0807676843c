import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
    lines = [delimiter.join(columns), *(delimiter.join(map(field, row)) for row in rows)]
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
        ("x.csv", b"", "unreadable after row 0"),
        ("x.parquet", b"PAR1", "unreadable after row 0"),
        ("x.csv.gz", b"no gzip", "unreadable after row 0"),
        ("x.csv", b"url,text\n\xff,a text\n", "unreadable after row 0"),
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
    path = tmp_path / "x.csv"
    rows = "".join(f"http://ex.org/{i}.jpg,a photo of a dog\n" for i in range(120_000))
    path.write_text(f"url,text\n{rows}one,two,three\n")
    found = extract(str(path))
    assert found.counts.kept > 0
    assert len(found.errors) == 1
