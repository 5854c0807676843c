import pyarrow as pa

from cah_dask.candidates.extract import ExtractOptions, extract_archive
from cah_dask.demo.planting import plan_site
from cah_dask.demo.site import Ports
from cah_dask.demo.warc import write_warc
from cah_dask.demo.wat import write_wat


def test_the_pages_of_the_web_give_the_candidates_of_what_is_told_of_them(tmp_path):
    site = plan_site(7, Ports(web=8000, closed=8001, names=8002), share=0.3)
    options = ExtractOptions(also=("title", "og:image"))
    tables, counts = [], []
    for name, write in (("x.warc.gz", write_warc), ("x.warc.wat.gz", write_wat)):
        assert write(tmp_path / name, site.archive(0)) > 1
        found = extract_archive(str(tmp_path / name), options, buckets=4)
        tables.append(pa.concat_tables(found.groups).drop_columns(["archive", "record_offset"]))
        counts.append((found.counts.seen, found.counts.kept, found.counts.rejected))
    assert tables[0].num_rows > 100
    assert tables[0].equals(tables[1])
    assert counts[0] == counts[1]


def test_an_archive_of_pages_is_always_the_same(tmp_path):
    site = plan_site(7, Ports(web=8000, closed=8001, names=8002), share=0.1)
    first, second = (tmp_path / folder / "x.warc.gz" for folder in ("1", "2"))
    for path in (first, second):
        path.parent.mkdir()
        write_warc(path, site.archive(0))
    assert first.read_bytes() == second.read_bytes()
