"""Lists that people write are read by one rule, and what is not understood is told by its line."""

import gzip

import pytest

from cah_dask.blocklists.exclusion import load_exclusion
from cah_dask.blocklists.hashlists import load_hash_lists
from cah_dask.blocklists.lines import Line, host_named, read_lines
from cah_dask.blocklists.optouts import load_optouts
from cah_dask.errors import InputError

HEX = "00112233445566778899aabbccddeeff"
GOOD = {
    "uid": [HEX, HEX.upper()],
    "url_md5": [HEX],
    "md5": [HEX],
    "url": ["http://a.example/x#top", "HTTPS://B.example"],
    "host": [
        "a.example",
        "*.B.example.",
        ".c.example",
        "https://d.example:8443/e?f#g",
        "[::1]",
        "d_1.example",
        "💩.example",
        "10.0.0.1",
        "bücher.example",
        "e.example/",
        "f.example:80",
    ],
    "phrase": ["two words", "C# and F#"],
}
BAD = {
    "uid": ["00", HEX + "0", HEX[:-1] + "g", f"{HEX}, {HEX}"],
    "url_md5": ["http://a.example/"],
    "md5": ["md5"],
    "url": ["a.example/x.jpg", "ftp://a.example/x", "http://", "http://a b/"],
    "host": [
        "a b",
        "a.example, b.example",
        "*",
        "a*b.example",
        "..",
        "a..b",
        "me@a.example",
        "1::",
        "a.example,b.example",
        "a.example;b.example",
        "a.example\tb.example",
        "a.example|b.example",
        "..a.example",
        '"a.example"',
        "'a.example'",
        "(a.example)",
        "<a.example>",
        "10.0.0.0/8",
        "a.example/x",
        "http://a.example,b.example/",
        "=a.example",
    ],
    "phrase": ["...", "-"],
}
ABOVE = ["\ufeff# a list", "", "   ", "\t# of things", "#"]


def written(folder, lines, name="list.txt"):
    data = "\r\n".join(lines).encode()
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["list.txt", "list.txt.gz"])
@pytest.mark.parametrize(("kind", "value"), [(kind, each) for kind in GOOD for each in GOOD[kind]])
def test_comments_and_empty_lines_change_no_list(tmp_path, kind, value, name):
    plain = load_exclusion([f"{kind}:{written(tmp_path, [value], 'plain')}"])
    dressed = [*ABOVE, f"  {value}\t # why: see #12", "# end"]
    found = load_exclusion([f"{kind}:{written(tmp_path, dressed, name)}"])
    for part in ("uids", "urls", "hosts", "image_md5s"):
        assert getattr(found, part).tolist() == getattr(plain, part).tolist()
    assert found.phrases == plain.phrases
    assert sum(len(getattr(found, part)) for part in ("uids", "urls", "hosts", "image_md5s")) == (
        kind != "phrase"
    )


@pytest.mark.parametrize(("kind", "value"), [(kind, each) for kind in BAD for each in BAD[kind]])
def test_what_is_not_understood_is_named_with_its_line(tmp_path, kind, value):
    path = written(tmp_path, [*ABOVE, GOOD[kind][0], value])
    with pytest.raises(InputError, match=rf"list\.txt cannot be read: line {len(ABOVE) + 2}: "):
        load_exclusion([f"{kind}:{path}"])


def test_hash_lists_follow_the_same_rule(tmp_path):
    path = written(tmp_path, [*ABOVE, f"{HEX}  # a picture", HEX[:16], "", "zz"])
    with pytest.raises(InputError, match="line 9: 'zz' is no md5, sha1, sha256 or phash"):
        load_hash_lists((str(path),))
    path = written(tmp_path, [*ABOVE, f"{HEX}  # a picture", HEX[:16]], "good.txt")
    lists = load_hash_lists((str(path),))
    assert lists.match(md5=HEX)
    assert lists.resembles(HEX[:16], 0)


@pytest.mark.parametrize("value", GOOD["host"])
def test_a_host_means_itself_and_what_is_below_it(tmp_path, value):
    found = load_exclusion([f"host:{written(tmp_path, [value])}"])
    host = host_named(value)
    assert found.excludes_host(host)
    assert found.excludes_host(f"www.{host}")
    assert not found.excludes_host(f"x{host}")


def test_opt_outs_are_read_around_what_means_no_host(tmp_path):
    good = [f"{host} # asked by mail" for host in GOOD["host"]]
    path = written(tmp_path, [*ABOVE, *good, *BAD["host"]], "OPTOUT")
    path.write_bytes(path.read_bytes() + b"\r\n\xff\xfe\x00\r\nz.exam")  # half a line at the end
    hosts, faults = load_optouts(path)
    assert len(hosts) == len(GOOD["host"]) + 1
    first = len(ABOVE) + len(good) + 1
    numbers = [int(fault.partition(" line ")[2].partition(":")[0]) for fault in faults]
    assert numbers == list(range(first, first + len(BAD["host"]) + 1))
    assert all(fault.startswith(str(path)) for fault in faults)


def test_lines_are_counted_as_editors_do(tmp_path):
    path = written(tmp_path, ["# one", "two", "", "four # five"])
    assert list(read_lines(path)) == [Line(2, "two"), Line(4, "four")]
