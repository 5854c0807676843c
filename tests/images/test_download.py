import hashlib
import socket
import ssl
import time

import pytest
import trustme
from PIL import Image

from cah_dask.blocklists.exclusion import load_exclusion
from cah_dask.counts import Counts
from cah_dask.errors import ConfigError, InputError, RunError
from cah_dask.images.download import download_list
from cah_dask.images.options import DownloadOptions, check_options
from cah_dask.images.picture.decode import DecodeOptions, open_rgb
from cah_dask.images.web.network import tls_context
from tests.hostile import encoded, picture
from tests.images.downloads import download, options, rows, statuses
from tests.nameserver import NameServer
from tests.webserver import WebServer


def test_an_image_is_fetched_stored_and_described(web, tmp_path):
    made, images = download([web.url("/ok-1.jpg")], tmp_path, options(web))
    (row,) = rows(made.outcomes)
    assert row["status"] == "ok"
    assert row["http_status"] == 200
    assert row["final_url"] == row["url"]
    assert row["mime"] == "image/jpeg"
    assert (row["original_width"], row["original_height"]) == (96, 72)
    assert (row["attempts"], row["image_row"]) == (1, 0)
    assert len(row["sha256"]) == 64
    assert len(row["md5"]) == 32
    assert row["n_bytes"] > 500
    assert open_rgb(images[0]).size == (96, 72)
    assert made.counts == Counts(1, 1, {}, {"requests": 2, "bytes": row["n_bytes"]})


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_urls_that_lead_nowhere_end_in_their_own_status(web, tmp_path):
    port = closed_port()
    expected = {
        "ftp://a.test/x.jpg": "bad_url",
        "http://a.test:22/x.jpg": "blocked_port",
        "http://10.0.0.1/x.jpg": "blocked_address",
        "http://[::1]/x.jpg": "blocked_address",
        "http://127.0.0.2/x.jpg": "blocked_address",
        "http://2130706434/x.jpg": "blocked_address",
        "http://0x7f.0.0.2/x.jpg": "blocked_address",
        f"http://a.test:{port}/x.jpg": "connect_refused",
        web.url("/redirect.jpg?to=http://10.0.0.1/"): "blocked_address",
        web.url("/redirect.jpg?to=http://[::ffff:7f00:2]/"): "blocked_address",
        web.url("/redirect.jpg?to=http://a.test:25/"): "blocked_port",
        web.url("/redirect.jpg?to=file:///etc/passwd"): "redirect_invalid",
    }
    allowed = options(web, allow_ports=(web.port, port))
    made, _ = download(list(expected), tmp_path, allowed)
    assert dict(zip(expected, statuses(made), strict=True)) == expected


def test_images_are_stored_in_the_order_of_the_list_whatever_the_timing(web, tmp_path):
    urls = [
        web.url(f"/slow-{n}.jpg?s={(n * 7 % 10) / 50}", f"order{n % 5}.test") for n in range(30)
    ]
    one, images = download(urls, tmp_path, options(web, connections=40))
    two, again = download(urls, tmp_path, options(web, connections=3))
    assert one.outcomes["image_row"].to_pylist() == list(range(30))
    assert images == again
    first, second = sorted(tmp_path.glob("*.h5"))
    assert first.read_bytes() == second.read_bytes()
    assert two.counts == one.counts


def test_a_web_that_answers_nothing_rings_the_alarm(web, tmp_path):
    urls = [web.url("/404.jpg", f"alarm{n}.test") for n in range(40)]
    strict = options(web, alarm_hosts=20)
    with pytest.raises(RunError, match=r"only 0 of the first 20 hosts gave an image \(20 http_404"):
        download(urls, tmp_path, strict)
    made, _ = download(urls, tmp_path, options(web, alarm_hosts=20, alarm_share=0))
    assert made.counts.rejected == {"http_404": 40}


def test_a_name_server_that_knows_nothing_rings_the_alarm(web, tmp_path):
    with NameServer({f"h{n}.example": NameServer.SERVFAIL for n in range(40)}) as nameserver:
        urls = [web.url("/ok.jpg", f"h{n}.example") for n in range(40)]
        strict = options(web, alarm_hosts=20, nameservers=(nameserver.address,))
        with pytest.raises(RunError, match=r"first 20 hosts gave an image \(20 dns_error\)") as it:
            download(urls, tmp_path, strict)
    assert f"the name servers ({nameserver.address}) cannot" in str(it.value)
    assert list(tmp_path.iterdir()) == [], "nothing is left of a list that was stopped"


def test_a_name_server_that_cannot_keep_up_rings_the_alarm(web, tmp_path):
    """Three of four names are told: enough images for the other alarm to be silent."""
    names = {f"k{n}.example": NameServer.SERVFAIL if n % 4 == 0 else "127.0.0.1" for n in range(80)}
    with NameServer(names) as nameserver:
        urls = [web.url("/ok.jpg", name) for name in names]
        asking = {"nameservers": (nameserver.address,), "alarm_hosts": 40}
        with pytest.raises(RunError, match=r"^\d+ of the first \d+ hosts ended in dns_error") as it:
            download(urls, tmp_path, options(web, **asking))
        assert f"the name servers ({nameserver.address}) cannot" in str(it.value)
        assert "download.nameservers" in str(it.value)
        made, _ = download(urls, tmp_path, options(web, **asking, alarm_dns_share=1))
        assert made.counts.rejected == {"dns_error": 20}


def test_names_that_do_not_exist_do_not_speak_against_the_name_server(web, tmp_path):
    names = {f"l{n}.example": "127.0.0.1" for n in range(0, 60, 3)}
    with NameServer(names) as nameserver:
        urls = [web.url("/ok.jpg", f"l{n}.example") for n in range(60)]
        asking = {"nameservers": (nameserver.address,), "alarm_hosts": 20}
        made, _ = download(urls, tmp_path, options(web, **asking, alarm_share=0))
    assert made.counts.rejected == {"dns_not_found": 40}


def test_an_empty_list_gives_an_empty_shard(web, tmp_path):
    made, images = download([], tmp_path, options(web))
    assert (len(made.outcomes), images) == (0, [])


def test_no_download_starts_without_a_contact(tmp_path):
    with pytest.raises(ConfigError, match="contact"):
        check_options(DownloadOptions())
    with pytest.raises(ConfigError, match="contact"):
        download_list([], tmp_path / "a.h5", DownloadOptions(), DecodeOptions())
    assert list(tmp_path.iterdir()) == []


def test_certificates_are_verified(tmp_path):
    ca, other = trustme.CA(), trustme.CA()
    context = tls_context.__wrapped__("")
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("good.test").configure_cert(server_context)
    assert context.verify_mode is ssl.CERT_REQUIRED
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with WebServer(tls=server_context) as web:
        urls = [web.url("/ok.jpg", host) for host in ("good.test", "wrong.test")]
        trusting = options(web, ca_file=str(tmp_path / "ca.pem"))
        made, _ = download(urls, tmp_path, trusting)
        assert statuses(made) == ["ok", "tls_certificate"]
        strict = options(web, ca_file=str(tmp_path / "other.pem"))
        made, _ = download(urls, tmp_path, strict)
        assert statuses(made) == ["tls_certificate"] * 2
        made, _ = download([url.replace("https:", "http:") for url in urls], tmp_path, trusting)
        assert set(statuses(made)) <= {"disconnected", "http_4xx", "http_other"}


def test_a_server_without_tls_is_a_tls_error(web, tmp_path):
    made, _ = download([web.url("/ok.jpg").replace("http:", "https:")], tmp_path, options(web))
    assert statuses(made) == ["tls_error"]


@pytest.mark.timeout(30)
def test_a_list_ends_when_the_last_url_holds_the_last_connection(web, tmp_path):
    urls = [web.url(f"/ok-{n}.jpg", "single.test") for n in range(3)]
    made, _ = download(urls, tmp_path, options(web, connections=1))
    assert made.counts.kept == 3


def test_a_host_that_opted_out_is_not_asked_where_a_robots_txt_has_moved_to(web, tmp_path):
    web.moved["moved.test"] = web.url("/robots.txt", "listed.test")
    (tmp_path / "hosts.txt").write_text("listed.test")
    lists = load_exclusion([f"host:{tmp_path / 'hosts.txt'}"])
    url = web.url("/ok-1.jpg", "moved.test")
    made, _ = download([url], tmp_path, options(web, retries=0), exclusion=lists)
    assert statuses(made) == ["robots_unreachable"]
    assert web.hits["moved.test", "/robots.txt"] == 1
    assert web.hits["listed.test", "/robots.txt"] == 0


def test_hosts_and_images_on_a_list_are_left_out(web, tmp_path):
    there = web.url("/ok.jpg", "below.listed.test")
    urls = [
        web.url("/ok-1.jpg", "fine.test"),
        web.url("/webp.jpg", "fine.test"),
        there,
        web.url(f"/redirect.jpg?to={there}", "fine.test"),
    ]
    plain, _ = download(urls[:1], tmp_path, options(web))
    (tmp_path / "hosts.txt").write_text("listed.test")
    (tmp_path / "md5.txt").write_text(plain.outcomes["md5"].to_pylist()[0])
    lists = [f"host:{tmp_path / 'hosts.txt'}", f"md5:{tmp_path / 'md5.txt'}"]
    made, images = download(urls, tmp_path, options(web), exclusion=load_exclusion(lists))
    assert statuses(made) == ["hash_listed", "ok", "optout", "optout"]
    assert len(images) == 1
    assert web.hits["below.listed.test", "/ok.jpg"] == 0
    assert web.hits["below.listed.test", "/robots.txt"] == 0


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
def test_no_image_of_a_hash_list_is_stored(web, tmp_path, kind):
    data = picture(seed=5)
    web.bodies["/known.jpg"] = data
    (tmp_path / "list.txt").write_text(f"# {kind}\n{hashlib.new(kind, data).hexdigest()}\n")
    listed = options(web, hash_lists=(str(tmp_path / "list.txt"),))
    made, images = download([web.url("/known.jpg"), web.url("/ok.jpg")], tmp_path, listed)
    assert statuses(made) == ["hash_listed", "ok"]
    assert len(images) == 1


def test_an_image_that_is_not_what_was_published_is_told_and_not_stored(web, tmp_path):
    data = {name: picture(seed=seed) for seed, name in enumerate(["same", "other", "any", "two"])}
    web.bodies |= {f"/{name}.jpg": body for name, body in data.items()}
    urls = {name: web.url(f"/{name}.jpg") for name in [*data, "404"]}
    right = {name: hashlib.sha256(body).hexdigest() for name, body in data.items()}
    wrong = hashlib.sha256(b"another picture").hexdigest()
    published = {
        urls["same"]: frozenset([right["same"]]),
        urls["other"]: frozenset([wrong]),
        urls["two"]: frozenset([wrong, right["two"]]),
        urls["404"]: frozenset([wrong]),
    }
    made, images = download(list(urls.values()), tmp_path, options(web), published=published)
    assert statuses(made) == ["ok", "changed", "ok", "ok", "http_404"]
    assert len(images) == 3
    assert made.counts.rejected == {"changed": 1, "http_404": 1}
    assert rows(made.outcomes)[1]["sha256"] == right["other"]


def test_no_image_that_looks_like_a_listed_one_is_stored(web, tmp_path):
    drawn = Image.linear_gradient("L").resize((400, 300)).convert("RGB")
    drawn.paste("red", (40, 30, 200, 160))
    other = drawn.rotate(90, expand=True)
    web.bodies["/known.jpg"] = encoded(drawn, "PNG")
    web.bodies["/copy.jpg"] = encoded(drawn.resize((300, 225)), "JPEG", quality=60)
    web.bodies["/other.jpg"] = encoded(other, "PNG")
    urls = [web.url(f"/{name}.jpg") for name in ("known", "copy", "other")]
    shard = tmp_path / "hashed.h5"
    hashed = download_list(urls, shard, options(web), DecodeOptions(phash=True)).outcomes
    known, copy, other = hashed["phash"].to_pylist()
    assert (int(known, 16) ^ int(copy, 16)).bit_count() <= 4
    assert (int(known, 16) ^ int(other, 16)).bit_count() > 16
    (tmp_path / "list.txt").write_text(known)
    listed = options(web, hash_lists=(str(tmp_path / "list.txt"),), phash_distance=4)
    made, images = download(urls, tmp_path, listed)
    assert statuses(made) == ["hash_listed", "hash_listed", "ok"]
    assert len(images) == 1
    plain, _ = download(urls, tmp_path, options(web))
    assert plain.outcomes["phash"].to_pylist() == [None] * 3


def test_a_hash_list_that_is_missing_stops_the_run_before_it_starts(web):
    with pytest.raises(InputError, match=r"nowhere\.txt does not exist"):
        check_options(options(web, hash_lists=("nowhere.txt",)))


@pytest.mark.parametrize("name", ["dripheader", "hints"])
def test_headers_that_never_end_use_up_the_time_of_one_request(web, tmp_path, name):
    patient = options(web, read_timeout_s=30, total_timeout_s=1, retries=0)
    began = time.monotonic()
    made, _ = download([web.url(f"/{name}.jpg", f"{name}.test")], tmp_path, patient)
    assert statuses(made) == ["timeout"]
    assert time.monotonic() - began < 5
