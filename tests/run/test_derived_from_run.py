"""Releases of what a run has scored, made by `cah filter`, beside the one that it published."""

from pathlib import Path

import pytest

from cah_dask.release.manifest import read_manifest
from tests import releases, runs
from tests.commands import cah
from tests.webserver import WebServer

LINKS = 60


@pytest.mark.parametrize("is_compact", [False, True])
def test_all_that_is_scored_is_the_release_of_a_run_that_selects_all(
    tmp_path: Path, *, is_compact: bool
):
    with WebServer() as web:
        links = [
            (web.url(f"/ok-{n}.jpg", host=f"h{n % 7}.test"), f"A picture of thing {n}")
            for n in range(LINKS)
        ]
        inputs = runs.write_inputs(tmp_path / "wats", links)
        config = runs.write_config(
            tmp_path / "run.yaml",
            inputs=inputs,
            port=web.port,
            pack={"rows_per_shard": 16, "rows_per_chunk": 4},
            compact=is_compact,
        )
        assert runs.finish(config) == 0, runs.output(config)
    published = tmp_path / "run" / "release"
    new, newer = tmp_path / "new", tmp_path / "newer"
    code, _, said = cah("filter", tmp_path / "run", "no-filter", "--to", new)
    assert code == 0, said
    assert releases.rows(new).equals(releases.rows(published))
    for name, array in releases.vectors(published).items():
        assert releases.vectors(new)[name].tobytes() == array.tobytes()
    one, other = releases.layout_of(published), releases.layout_of(new)
    assert (other.encoders, other.encoder, other.scores) == (one.encoders, one.encoder, one.scores)
    (tmp_path / "hosts").write_text("h3.test\n")
    code, _, said = cah("redact", new, "--to", newer, "--hosts", tmp_path / "hosts")
    assert code == 0, said
    code, faults, said = cah("verify", newer, "--hosts", tmp_path / "hosts")
    assert (code, faults) == (0, []), said
    manifest = read_manifest(newer)
    assert manifest is not None
    assert [(step.how, step.of) for step in manifest.steps] == [
        ("filter", "run"),
        ("redact", "release"),
    ]
