"""`cah index`: what an index holds, whoever made it, and what kills and damage cost."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cah_dask.archives.blocks import Blocks
from cah_dask.errors import ConfigError, DamageError, InputError
from cah_dask.images.archived.captures import GROUP_ROWS, Key, key_of
from cah_dask.images.archived.index import ArchiveIndex, bucket_part, read_about
from cah_dask.run.indexing.job import IndexJob, sources_of
from cah_dask.storage import open_part, read_part
from tests import warcs
from tests.archived import make_index, take, write_gzip
from tests.commands import cah
from tests.fileserver import FileServer, serve
from tests.hostile import picture
from tests.run.test_damage import flip
from tests.warcs import response, revisit, write_warc

JPEG = {"Content-Type": "image/jpeg"}
N = 40


def url(n: int) -> str:
    return f"http://host{n % 7}.test/{n}.jpg"


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("archives")
    records = [response(url(n), picture(seed=n), JPEG) for n in range(N)]
    again = revisit("http://again.test/1.jpg", (url(1), warcs.DATE), warcs.digest(picture(seed=1)))
    moved = response("http://moved.test/2.jpg", b"", {"Location": url(2)}, 301)
    return [
        write_warc(folder / "a.warc.gz", [*records[::2], again], requests=True),
        write_warc(folder / "b.warc.gz", [*records[1::2], moved]),
    ]


URLS = [*map(url, range(N)), "http://again.test/1.jpg", "http://moved.test/2.jpg"]


def cdx_fields(archive: str) -> list[dict[str, str]]:
    """Return what a CDX file says of each record of an archive, by letter."""
    found: list[dict[str, str]] = []

    def note(block) -> None:
        fields, status = block.fields(), block.read(12)[9:12].decode()
        is_revisit = block.kind == "revisit"
        found.append(
            {
                "a": block.url(),
                "b": "".join(filter(str.isdigit, fields["warc-date"])),
                "m": "warc/revisit" if is_revisit else "image/jpeg",
                "s": "-" if is_revisit else status,
                "k": fields["warc-payload-digest"].removeprefix("sha1:"),
                "V": str(block.offset),
                "g": Path(archive).name,
            }
        )

    list(Blocks(archive, ("response", "revisit"), note))
    return found


def classic(archive: str) -> str:
    lines = [
        f"key {f['b']} {f['a']} {f['m']} {f['s']} {f['k']} - - 99 {f['V']} {f['g']}"
        for f in cdx_fields(archive)
    ]
    return "\n".join([" CDX N b a m s k r M S V g", *lines, ""])


def cdxj(archive: str) -> str:
    names = {"a": "url", "m": "mime", "s": "status", "k": "digest", "V": "offset", "g": "filename"}
    lines = [
        f"test,key)/ {f['b']} " + json.dumps({name: f[letter] for letter, name in names.items()})
        for f in cdx_fields(archive)
    ]
    return "\n".join([*lines, ""])


def captures(index: Path) -> list[dict[str, Any]]:
    about = read_about(index)
    assert about is not None
    parts = [bucket_part(index, each) for each in range(about.buckets)]
    return [row for part in parts for row in read_part(part).to_pylist()]


def test_every_record_of_the_archives_is_in_the_index(archives, tmp_path):
    index = make_index(tmp_path / "index", archives)
    found = captures(index.to)
    assert len(found) == len(URLS)
    places = ArchiveIndex(index.to, 4).best(URLS)
    assert sorted(places) == sorted(URLS)
    assert {place.archive for place in places.values()} == {"a.warc.gz", "b.warc.gz"}
    assert ArchiveIndex(index.to, 4).best(["http://no.test/", "no url", url(N)]) == {}


def test_cdx_files_of_every_kind_give_what_reading_gives(archives, tmp_path):
    read = make_index(tmp_path / "read", archives)
    beside = Path(archives[0]).parent
    (beside / "all.cdx").write_text(classic(archives[0]) + classic(archives[1]))
    (beside / "b.cdxj").write_text(cdxj(archives[1]))
    written = [
        [str(beside / "all.cdx")],
        [write_gzip(beside / "cdx-00000.gz", cdxj(archives[0])), str(beside / "b.cdxj")],
        [archives[0], str(beside / "b.cdxj")],
        [*archives, str(beside / "all.cdx")],
    ]
    made, images = take(URLS, read, tmp_path / "read.h5")
    assert made.counts.kept == len(URLS)
    for number, sources in enumerate(written):
        index = make_index(tmp_path / f"{number}", sources)
        assert captures(index.to) == captures(read.to)
        other, others = take(URLS, index, tmp_path / f"{number}.h5")
        assert (other.outcomes.equals(made.outcomes), others == images) == (True, True)


def test_archives_that_a_cdx_file_names_are_looked_for(archives, tmp_path):
    folder = tmp_path / "cdx"
    folder.mkdir()
    (folder / "x.cdx").write_text(classic(archives[0]).replace("a.warc", "crawl/segment/a.warc"))
    index = make_index(tmp_path / "index", [str(folder / "x.cdx")])
    made, _ = take([url(0)], index, tmp_path / "1.h5")
    assert made.counts.rejected == {"archive_lost": 1}
    made, _ = take([url(0)], index, tmp_path / "2.h5", root=str(Path(archives[0]).parent))
    assert made.counts.kept == 1
    for place in ("crawl/segment/a.warc.gz", "a.warc.gz"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(archives[0], folder / place)
        made, _ = take([url(0)], index, tmp_path / "3.h5")
        assert made.counts.kept == 1
        (folder / place).unlink()


def test_a_kill_after_any_unit_costs_nothing(archives, tmp_path):
    whole = make_index(tmp_path / "whole", archives)
    for n_units in range(len(archives) + 4):
        to = tmp_path / f"{n_units}"
        make_index(to, archives, at_most=n_units)
        assert not IndexJob(sources_of(archives), to, 4).is_complete
        make_index(to, archives, seed=n_units)
        for bucket in range(4):
            ours, others = bucket_part(to, bucket), bucket_part(whole.to, bucket)
            assert read_part(ours).equals(read_part(others))


def test_of_a_damaged_archive_what_can_be_read_is_indexed(archives, tmp_path):
    data = Path(archives[1]).read_bytes()
    (tmp_path / "b.warc.gz").write_bytes(data[: len(data) // 2])
    sources = [archives[0], str(tmp_path / "b.warc.gz")]
    code, _, said = cah("index", *sources, "--to", tmp_path / "index", "--buckets", "4")
    assert code == 0
    assert "warning: b.warc.gz: " in said
    found = captures(tmp_path / "index")
    assert N // 2 + 1 < len(found) < len(URLS)


def test_a_damaged_part_is_found_and_made_again(archives, tmp_path):
    index = make_index(tmp_path / "index", archives)
    part = bucket_part(index.to, 2)
    before = read_part(part)
    flip(part, 20)
    with pytest.raises(DamageError, match="b00002"):
        take(URLS, index, tmp_path / "1.h5")
    part.unlink()
    again = make_index(tmp_path / "index", archives)
    assert read_part(part).equals(before)
    assert take(URLS, again, tmp_path / "2.h5")[0].counts.kept == len(URLS)


def test_a_look_up_reads_only_the_row_groups_that_may_hold_it(tmp_path):
    (tmp_path / "x.cdx").write_text(
        "".join(
            f"k 20240531011749 http://h{n % 99}.test/{n}.jpg image/jpeg 200 - - {n} x.warc.gz\n"
            for n in range(4 * GROUP_ROWS)
        )
    )
    index = make_index(tmp_path / "index", [str(tmp_path / "x.cdx")], buckets=1)
    with open_part(bucket_part(index.to, 0)) as part:
        assert part.n_row_groups == 4
        columns = part.read(columns=list(Key._fields)).to_pydict()
    keys = [Key(*each) for each in zip(*columns.values(), strict=True)]
    assert keys == sorted(keys)
    numbers = range(0, 4 * GROUP_ROWS, 1001)
    wanted = [f"http://h{n % 99}.test/{n}.jpg" for n in numbers]
    places = ArchiveIndex(index.to, 1).best([*wanted, "http://h5.test/none.jpg"])
    assert [places[each].offset for each in wanted] == list(numbers)
    flip(bucket_part(index.to, 0), 10)  # in the first row group
    first = {url for url in wanted if (key_of(url) or Key(0, 0)) < keys[GROUP_ROWS]}
    assert 0 < len(first) < len(wanted)
    rest = [url for url in wanted if url not in first]
    assert len(ArchiveIndex(index.to, 1).best(rest)) == len(rest)
    with pytest.raises(DamageError, match="b00000"):
        ArchiveIndex(index.to, 1).best(first)


def test_archives_on_a_server_are_indexed_and_read_by_ranges(archives, tmp_path):
    with serve(FileServer(Path(archives[0]).read_bytes()), "x.warc.gz") as server:
        place = server.url
        index = make_index(tmp_path / "index", [place])
        made, _ = take(URLS[:10:2], index, tmp_path / "1.h5")
        assert made.counts.kept == 5
        server.failures = [404] * 9
        assert take(URLS[:10:2], index, tmp_path / "2.h5")[0].counts.rejected == {"archive_lost": 5}
        code, _, said = cah("index", place, "--to", tmp_path / "none", "--buckets", "1")
        assert (code, "HTTP 404" in said, "run again" in said) == (6, True, True)
        server.failures = [404] * 9
        code, _, said = cah("index", f"{place}?sign=secret", "--to", tmp_path / "signed")
        assert (code, "HTTP 404" in said, "secret" in said) == (6, True, False)
        assert "secret" not in "".join(p.read_text() for p in tmp_path.glob("signed/**/*.jsonl"))
        server.failures = []
        assert cah("index", place, "--to", tmp_path / "none", "--buckets", "1")[0] == 0


def test_two_cdx_files_may_mean_different_archives_by_one_name(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for n, folder in enumerate(folders):
        folder.mkdir()
        archive = write_warc(folder / "out.warc.gz", [response(url(n), picture(seed=n), JPEG)])
        (folder / "index.cdxj").write_text(cdxj(archive))
    sources = [str(folder / "index.cdxj") for folder in folders]
    index = make_index(tmp_path / "index", sources)
    made, images = take([url(0), url(1)], index, tmp_path / "1.h5")
    assert (made.counts.kept, len(set(images))) == (2, 2)
    (folders[1] / "out.warc.gz").unlink()
    made, _ = take([url(0), url(1)], index, tmp_path / "2.h5")
    assert made.outcomes["status"].to_pylist() == ["ok", "archive_lost"]


def test_an_archive_is_not_that_of_its_name_beside_a_cdx_file(archives, tmp_path):
    other = write_warc(tmp_path / "a.warc.gz", [response(url(99), picture(seed=99), JPEG)])
    (tmp_path / "x.cdx").write_text(classic(other))
    index = make_index(tmp_path / "index", [archives[0], str(tmp_path / "x.cdx")])
    made, _ = take([url(0), url(99)], index, tmp_path / "1.h5")
    assert made.counts.kept == 2
    Path(other).unlink()
    (tmp_path / "x.cdx").write_text(classic(archives[0]))
    index = make_index(tmp_path / "again", [archives[0], str(tmp_path / "x.cdx")])
    assert take([url(0)], index, tmp_path / "2.h5")[0].counts.kept == 1


def test_an_index_of_archives_that_lie_elsewhere_now_says_where(archives, tmp_path):
    places = [tmp_path / "old", tmp_path / "new"]
    places[0].mkdir()
    shutil.copy(archives[0], places[0])
    command = ("--to", tmp_path / "index", "--buckets", "4")
    assert cah("index", places[0] / "a.warc.gz", *command)[0] == 0
    places[0].rename(places[1])
    code, said, _ = cah("index", places[1] / "a.warc.gz", *command)
    assert (code, said) == (0, [f"{tmp_path / 'index'}: whole, nothing was to be done"])
    job = IndexJob(sources_of([str(places[1] / "a.warc.gz")]), tmp_path / "index", 4)
    assert read_about(job.to) == job.about
    assert take([url(0)], job, tmp_path / "1.h5")[0].counts.kept == 1


@pytest.mark.parametrize("which", [0, 1])
def test_an_index_knows_an_archive_by_what_it_holds(tmp_path, which):
    names = []
    for n, folder in enumerate((tmp_path / "p", tmp_path / "q")):
        folder.mkdir()
        archive = write_warc(folder / "out.warc.gz", [response(url(n), picture(seed=n), JPEG)])
        (folder / "x.cdx").write_text(classic(archive))
        names.append(str((folder / "out.warc.gz", folder / "x.cdx")[which]))
    make_index(tmp_path / "index", names[:1])
    with pytest.raises(ConfigError, match="is an index of other archives"):
        IndexJob(sources_of(names[1:]), tmp_path / "index", 4)
    shutil.copytree(tmp_path / "p", tmp_path / "r")
    same = names[0].replace("/p/", "/r/")
    assert IndexJob(sources_of([same]), tmp_path / "index", 4).is_complete


def test_a_folder_of_something_else_is_refused(archives, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        IndexJob(sources_of(archives), tmp_path, 4)
    make_index(tmp_path / "index", archives)
    for sources, buckets in ((archives[:1], 4), (archives, 5)):
        with pytest.raises(ConfigError, match="is an index of other archives, or with other"):
            IndexJob(sources_of(sources), tmp_path / "index", buckets)


@pytest.mark.parametrize("end", ["warc.wat.gz", "WET", "parquet", "csv", "csv.gz", "tsv.gz"])
def test_archives_that_hold_no_pictures_are_refused(tmp_path, end):
    (tmp_path / f"x.{end}").touch()
    with pytest.raises(InputError, match=r"holds no pictures; name WARC archives \(.warc.gz\) or"):
        sources_of([str(tmp_path / f"x.{end}")])


def test_the_command_says_what_it_did(archives, tmp_path):
    command = ("index", *archives, "--to", tmp_path / "index", "--buckets", "4")
    assert cah(*command)[:2] == (0, [f"{tmp_path / 'index'}: written, 42 captures"])
    assert cah(*command)[:2] == (0, [f"{tmp_path / 'index'}: whole, nothing was to be done"])
