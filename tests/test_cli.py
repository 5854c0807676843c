"""The command line as a user meets it: one line and an exit code for every mistake."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

RECORD = b'{"Envelope": {"Payload-Metadata": {}}}'
WAT = gzip.compress(
    b"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Target-URI: http://page.example/\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s\r\n\r\n" % (len(RECORD), RECORD)
)


def cah(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cah_dask", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


@pytest.fixture
def config(tmp_path: Path):
    """Writes a config that would run, changed by the given keys."""

    def write(**changes) -> Path:
        (tmp_path / "a.warc.wat.gz").write_bytes(WAT)
        tree = {
            "run_dir": str(tmp_path / "run"),
            "inputs": [str(tmp_path / "*.warc.wat.gz")],
            "download": {"contact": "me@lab.example", "crawl": "allowed"},
            "embed": {"model": "tiny"},
            "select": {"thresholds": {"en": 0.2, "multi": 0.2, "nolang": 0.2}},
            **changes,
        }
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
        return tmp_path / "c.yaml"

    return write


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"inputs": ["none.warc.wat.gz"]}, 4, "none.warc.wat.gz"),
        ({"colour": "red"}, 3, "unknown key colour"),
        ({"run_dir": "/proc/nowhere"}, 3, "run folder /proc/nowhere cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code_and_writes_nothing(
    config, tmp_path: Path, changes: dict, code: int, message: str
):
    done = cah("run", config(**changes))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_check_of_a_good_config_says_what_it_found(config):
    done = cah("config", "check", config())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok: 1 archive, model tiny")


def test_a_shown_config_can_be_used_again(config, tmp_path: Path):
    shown = cah("config", "show", config(), "--set", "embed.batch_size=7").stdout
    assert "batch_size: 7  # --set" in shown
    (tmp_path / "shown.yaml").write_text(shown)
    assert cah("config", "show", tmp_path / "shown.yaml").returncode == 0


def test_status_and_report_of_a_folder_that_is_no_run_are_refused(tmp_path: Path):
    for command in ("status", "report"):
        done = cah(command, tmp_path)
        assert done.returncode == 3
        assert "is not a run folder" in done.stderr


def test_wrong_usage_is_exit_code_2():
    assert cah("run").returncode == 2
    assert cah("fly").returncode == 2


def test_help_names_the_exit_codes():
    assert "75 stopped before its end" in " ".join(cah("run", "--help").stdout.split())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_stops_the_run_with_one_line(config, tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("this container may not mount a tmpfs")
    try:
        done = cah("run", config(run_dir=str(disk / "run")))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert done.returncode == 5, done.stderr
    assert "no space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_option_or_a_group_can_be_explained():
    done = cah("config", "explain", "download.hosts")
    assert done.returncode == 0, done.stderr
    assert "download.hosts.spacing_s: 1.0\n    " in done.stdout
    assert all(line.startswith(("download.hosts.", "    ")) for line in done.stdout.splitlines())
    assert cah("config", "explain", "download.retries").stdout.startswith("download.retries: ")
    odd = cah("config", "explain", "download.retry")
    assert odd.returncode == 3
    assert "no option is called download.retry; did you mean download.retries" in odd.stderr


def test_a_wrong_entry_of_a_mapping_is_named(config):
    done = cah("config", "check", config(), "--set", "select.thresholds.multi=7")
    assert done.returncode == 3
    assert "select.thresholds.multi: expected" in done.stderr
