"""`cah classify` as a user types it: whole, interrupted, killed, and what it refuses."""

import contextlib
import random
import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from cah_dask.counts import STAGED
from cah_dask.run.classifying.job import ClassifyJob
from cah_dask.storage import open_part
from tests import jobs_here, runs
from tests.classify import archives
from tests.commands import cah, refused, start


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    archives.write(folder, archives=8, records=40)
    return folder


@pytest.fixture(scope="module")
def expected(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What comes out if nothing is killed."""
    config = archives.write_config(tmp_path_factory.mktemp("whole") / "c.yaml", inputs)
    jobs_here.carry_out(job := archives.job_of(config))
    return archives.digests(job.to)


def scratch_of(config: Path) -> Path:
    return archives.job_of(config).folder.path


def test_what_it_prints_and_leaves(inputs: Path, expected: dict[str, str], tmp_path: Path):
    config = archives.write_config(tmp_path / "c.yaml", inputs)
    code, answer, said = cah("classify", config)
    assert code == 0, said
    assert answer[0].startswith("read: 320 seen, 2")
    assert answer[1].startswith("score: 2")
    assert "bottleneck" in answer[2] or "keep pace" in answer[2]
    assert answer[3] == f"{tmp_path}/c-out: written"
    assert archives.digests(tmp_path / "c-out") == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c-out", "c.yaml"]
    assert cah("classify", config)[:2] == (0, [f"{tmp_path}/c-out: whole, nothing was to be done"])


def test_a_dry_run_shows_a_batch_and_writes_nothing(inputs: Path, tmp_path: Path):
    config = archives.write_config(tmp_path / "c.yaml", inputs)
    code, answer, said = cah("classify", config, "--dry-run")
    assert code == 0, said
    assert answer[0] == "0.warc.gz: the first 28 items of 40 records, not_wanted 6, status 6"
    assert answer[1] == "http://h.test/0.warc/2: length 9, vowels 1; not kept" or answer[
        1
    ].endswith("kept")
    assert any("a bad text" in line for line in answer)
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_ctrl_c_and_on(inputs: Path, expected: dict[str, str], tmp_path: Path):
    config = archives.write_config(tmp_path / "c.yaml", inputs)
    scratch = scratch_of(config)
    process = start("classify", config)
    runs.wait_for_commits(scratch, 2, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert not (tmp_path / "c-out").exists()
    assert cah("classify", config)[0] == 0
    assert archives.digests(tmp_path / "c-out") == expected


@pytest.mark.parametrize("seed", range(2))
def test_kills_of_anything_change_no_byte(
    inputs: Path, expected: dict[str, str], tmp_path: Path, seed: int
):
    config = archives.write_config(tmp_path / "c.yaml", inputs)
    scratch = scratch_of(config)
    chance = random.Random(seed)
    for commits in range(2, 26, 6):
        process = start("classify", config)
        if not kill_some(process, scratch, commits, chance):
            break
    else:
        process = start("classify", config)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 0, said
    assert archives.digests(tmp_path / "c-out") == expected


def kill_some(
    process: subprocess.Popen[str], scratch: Path, commits: int, chance: random.Random
) -> bool:
    """Kill workers and processes of hooks, then the driver; return whether it was alive."""
    runs.wait_for_commits(scratch, commits, process)
    for victim in runs.children(process):
        if chance.random() < 0.3 and "resource_tracker" not in " ".join(command_of(victim)):
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
    runs.wait_for_commits(scratch, commits + 1, process)
    if process.poll() is not None:
        return False
    process.kill()
    process.communicate()
    return True


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_reading_waits_while_too_much_is_staged(inputs: Path, tmp_path: Path):
    """The model waits for a file, which is made once reading has stopped for want of room."""
    go = tmp_path / "go"
    model = {"use": "tests.classify.models:Waiting", "arguments": {"file": str(go)}}
    staged_of = largest_staged(
        archives.job_of(archives.write_config(tmp_path / "one.yaml", inputs))
    )
    room = 2.5 * staged_of / 1e9
    config = archives.write_config(tmp_path / "c.yaml", inputs, model=model, staged_gb=room)
    scratch = scratch_of(config)
    process = start("classify", config)
    assert runs.wait_for(lambda: Path(f"{go}.asked").exists() and len(staged(scratch)) >= 2)
    assert not runs.wait_for(lambda: len(staged(scratch)) > 3, timeout=3)
    go.touch()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said


def staged(scratch: Path) -> list[Path]:
    return list((scratch / "read").rglob("[!.]*.parquet"))


def largest_staged(job: ClassifyJob) -> int:
    jobs_here.carry_out(job, at_most=8)
    sizes = []
    for path in staged(job.folder.path):
        with open_part(path) as part:
            sizes.append(part.receipt.counts.notes[STAGED])
    return max(sizes)


def test_an_archive_at_which_the_model_hangs_is_given_up_and_named(tmp_path: Path):
    archives.write_texts(tmp_path / "a.warc.gz", ["", "abc", "bad"])
    archives.write_texts(tmp_path / "b.warc.gz", ["", "abcabcabc", "abc"])
    config = archives.write_config(
        tmp_path / "c.yaml", tmp_path, model="tests.classify.models:Hanging",
        model_timeout_s=1.0, max_attempts=1,
    )  # fmt: skip
    code, _, said = cah("classify", config)
    assert code == 6, said
    assert "2 workers ended while the model was at work on a.warc.gz: the model took more" in said
    assert not (tmp_path / "c-out").exists()


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("exit", "3 workers ended while the model was at work on a.warc.gz: their process died"),
        ("crash", "3 workers ended while the model was at work on a.warc.gz: their process died"),
        ("hang with the GIL", "3 workers ended while the model was at work on a.warc.gz: their"),
        ("break", "2 workers ended while the model was at work on a.warc.gz: .* since this of a"),
    ],
)
def test_an_archive_at_which_the_worker_ends_is_given_up_and_named(
    tmp_path: Path, how: str, why: str
):
    archives.write_texts(tmp_path / "a.warc.gz", ["", *["abcabcabc"] * 18, "deadly", "abc"])
    archives.write_texts(tmp_path / "b.warc.gz", ["", "abcabcabc", "abc"])
    config = archives.write_config(
        tmp_path / "c.yaml", tmp_path, model_timeout_s=1.0, max_attempts=1,
        model={"use": "tests.classify.models:Deadly", "arguments": {"how": how}},
    )  # fmt: skip
    code, _, said = cah("classify", config)
    assert code == 6, said
    assert re.search(why, said), said
    assert "score b" not in said
    assert not (tmp_path / "c-out").exists()


def test_a_model_that_breaks_once_loses_no_item(
    inputs: Path, expected: dict[str, str], tmp_path: Path
):
    """As one does of a GPU that failed: whatever is given to it then, until its worker ends."""
    model = {"use": "tests.classify.models:Sick", "arguments": {"mark": str(tmp_path / "broke")}}
    config = archives.write_config(tmp_path / "c.yaml", inputs, model=model)
    code, _, said = cah("classify", config)
    assert code == 0, said
    assert (tmp_path / "broke").exists()
    made = archives.digests(tmp_path / "c-out")
    vectors = [name for name in expected if "vectors.zarr" in name]
    assert vectors
    assert {name: made[name] for name in vectors} == {name: expected[name] for name in vectors}


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"inputs": ["/nowhere/*.warc.gz"]}, 4, "matches no file"),
        (
            {"read": "tests.classify.models:gone"},
            3,
            "tests.classify.models:gone cannot be imported",
        ),
        ({"model": None}, 3, "keep decides by scores, but there is no model"),
        ({"keep": {"score": "length"}}, 3, "keep: a rule needs at_least, at_most or both"),
        ({"keep": {"at_least": 1}}, 3, "keep: either `score` with a limit, or `use`, is needed"),
        (
            {"keep": {"score": "length", "at_least": 0.9, "at_most": 0.1}},
            3,
            "keep: no score is at least 0.9 and at most 0.1; at_least may not be more",
        ),
        ({"keep": {"score": "length", "at_least": float("nan")}}, 3, "keep: no score is at least"),
        ({"keep": {"score": "length", "at_most": float("nan")}}, 3, "keep: no score is at least"),
        ({"batchsize": 3}, 3, "unknown key batchsize; did you mean batch_size?"),
        ({"batch_size": 0}, 3, "batch_size: expected `int` >= 1"),
        ({"records": {"kinds": ["request"]}}, 3, "records.kinds"),
        ({"pack": {"rows_per_shard": 7, "rows_per_chunk": 2}}, 3, "is no multiple of"),
    ],
)
def test_bad_configs_are_one_line_and_nothing_is_written(
    capsys, inputs: Path, tmp_path: Path, changes, code: int, message: str
):
    config = archives.write_config(tmp_path / "c.yaml", inputs, **changes)
    found, _, said = refused(capsys, "classify", config)
    assert (found, len(said.splitlines())) == (code, 1), said
    assert message in said
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]
