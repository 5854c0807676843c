"""Settings that may change between two starts of a run change nothing that it publishes."""

import json
from pathlib import Path
from typing import Any

import pytest

from cah_dask.run.settings import identity, loading, render
from cah_dask.run.settings.identity import OPERATIONAL
from tests import runs
from tests.webserver import WebServer

OTHERWISE: dict[str, Any] = {
    "keep_images": False,
    "staged_gb": 0.001,
    "compact": True,
    "quota_files": 1_000_000,
    "max_attempts": 2,
    "max_lost_share": 0.5,
    "pools.cpu.workers": 1,
    "pools.io.workers": 2,
    "download.requests_per_s": 500,
    "download.bytes_per_s": 50_000_000,
    "download.connections": 7,
    "download.contact": "others@lab.example",
    "download.about_url": "https://lab.example/about",
    "download.decoders": 2,
    "download.hosts.spacing_s": 0.02,
    "download.hosts.concurrency": 1,
    "download.hosts.of": {"*.test": {"spacing_s": 0.01, "concurrency": 2}, "h1.test": {}},
    "download.hosts.address_concurrency": 3,
    "download.alarm_hosts": 7,
    "download.alarm_share": 0,
    "download.alarm_dns_share": 0,
    "embed.device": "cpu",
    "report.prices": {"cpu": 0.04, "gpu": 2.5},
    "report.currency": "EUR",
    "performance_report": "dask.html",
}
"""Each of them with another value than in the first run."""
ELSEWHERE = {
    "run_dir": "both runs have their own",
    "site": "a file of other settings",
    "slurm": "tests/slurm compares local runs and those on Slurm",
    "download.crawl": "asks a site's leave; only one value lets a run begin",
    "download.nameservers": "tests/images asks such; here hosts are told by `resolve`",
}


@pytest.fixture(scope="module")
def web():
    with WebServer() as server:
        yield server


def test_every_such_key_is_looked_at():
    looked_at = {*OTHERWISE, *ELSEWHERE}
    for key in OPERATIONAL:
        assert any(name == key or name.startswith(f"{key}.") for name in looked_at), key
    for name in looked_at:
        assert any(name == key or name.startswith(f"{key}.") for key in OPERATIONAL), name


def test_a_run_with_all_of_them_changed_publishes_the_same(
    tmp_path: Path, web: WebServer, random_model: Path
):
    links = [
        (web.url(f"/ok-{number}.jpg", host=f"h{number % 7}.test"), f"A picture of thing {number}")
        for number in range(40)
    ]
    inputs = runs.write_inputs(tmp_path / "in", links)
    digests = []
    otherwise = OTHERWISE | {"performance_report": str(tmp_path / "dask.html")}
    for name, overrides in (("one", {}), ("another", otherwise)):
        path = tmp_path / f"{name}.yaml"
        runs.write_config(path, inputs=inputs, model=random_model, port=web.port)
        texts = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
        changed = loading.load(path, texts)
        before = identity.settings(loading.load(path).config)
        after = identity.settings(changed.config)
        assert all(before.get(key) != after[key] for key in overrides)
        path.write_text(render.render(changed))
        assert runs.finish(path) == 0, runs.output(path)
        digests.append(runs.release_digests(path.with_suffix("")))
    assert digests[0] == digests[1]
