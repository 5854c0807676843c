"""The job of `cah classify`, unit by unit: what it leaves, and that nothing depends on order."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest
import zarr

from cah_dask.classify.scoring import HISTOGRAM, OF_MODEL
from cah_dask.counts import Counts
from cah_dask.errors import ConfigError, RunError
from cah_dask.run.classifying.job import ClassifyJob
from cah_dask.run.classifying.output import read_layout
from cah_dask.run.classifying.report import ERRORS_SHOWN, Source, write_documents
from cah_dask.run.classifying.tasks import HOOKS_LOG, READ, SCORE
from cah_dask.run.classifying.trial import trial
from cah_dask.run.task import Done
from cah_dask.run.unit import Unit
from cah_dask.storage import Receipt, read_receipt
from tests import jobs_here
from tests.classify import archives

TEXTS = [f"{archives.WORDS[n % 6]} {a} {n}" for a in range(4) for n in range(60) if n % 7]
SOUND = [t for t in TEXTS if not t.startswith(("skip", "bad", "a nan"))]
KEPT = [text for text in SOUND if len(text) >= 10]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archives")
    archives.write(folder)
    return folder


def made(tmp_path: Path, inputs: Path, name: str = "c.yaml", **changes) -> ClassifyJob:
    job = archives.job_of(archives.write_config(tmp_path / name, inputs, **changes))
    jobs_here.carry_out(job)
    return job


def rows(job: ClassifyJob) -> pa.Table:
    return pyarrow.dataset.dataset(job.to / "records").to_table()


def receipts(job: ClassifyJob, stage: str) -> Iterator[Counts]:
    for path in sorted((job.folder.path / stage).rglob("*.parquet")):
        yield read_receipt(path).counts


def test_what_hooks_print_is_in_the_log_of_the_job(inputs: Path, tmp_path: Path, capfd):
    read = "tests.classify.bad_hooks:printing"
    job = archives.job_of(archives.write_config(tmp_path / "c.yaml", inputs, read=read))
    jobs_here.carry_out(job, at_most=1)
    lines = (job.folder.path / HOOKS_LOG).read_text().splitlines()
    assert set(lines) == {r"0.warc.gz: red \x1b[31m"}
    assert capfd.readouterr() == ("", "")
    assert r"0.warc.gz: printed: red \x1b[31m" in list(trial(job))


def test_what_comes_out(whole: ClassifyJob):
    job, table = whole, rows(whole)
    assert table.column_names == [
        "row", "url", "date", "archive", "offset", "digest", "mime", "status",
        "score_length", "score_vowels", "payload",
    ]  # fmt: skip
    texts = [payload.decode() for payload in table["payload"].to_pylist()]
    assert texts == KEPT
    assert table["row"].to_pylist() == list(range(len(KEPT)))
    assert table["score_length"].to_pylist() == [len(text) for text in KEPT]
    assert table["url"][0].as_py() == "http://h.test/0.warc/4"
    assert set(table["archive"].to_pylist()) == {f"{number}.warc.gz" for number in range(4)}
    vectors = np.asarray(zarr.open_group(job.to / "vectors.zarr", mode="r")["vectors"])
    assert vectors.tolist() == [[text.count(letter) for letter in "abc"] for text in KEPT]
    assert len(list((job.to / "records").iterdir())) == -(-len(KEPT) // 32)


def test_every_record_has_one_outcome(whole: ClassifyJob):
    summary = whole.summary()
    read, scored = summary.counts["read"], summary.counts["score"]
    assert (read.seen, scored.seen, scored.kept) == (240, read.kept, len(KEPT))
    lost = {"status": 36, "not_wanted": sum(text.startswith("skip") for text in TEXTS)}
    assert read.rejected == lost
    assert scored.rejected == {
        "bad_score": sum(text.startswith("a nan") for text in TEXTS),
        "below": len(SOUND) - len(KEPT),
        "model_error": sum(text.startswith("bad") for text in TEXTS),
    }
    assert read.is_balanced
    assert scored.is_balanced
    assert summary.notes["mime/text/plain"] == len(TEXTS)


def test_rejected_rows_are_there_if_asked_for(inputs: Path, tmp_path: Path):
    table = rows(made(tmp_path, inputs, rejected=True, payload="all", vectors=False))
    assert [payload.decode() for payload in table["payload"].to_pylist()] == SOUND
    assert table["kept"].to_pylist() == [len(text) >= 10 for text in SOUND]


def test_records_are_only_counted_without_a_model(inputs: Path, tmp_path: Path):
    job = made(tmp_path, inputs, model=None, keep=None)
    assert list(job.summary().counts) == ["read"]
    table = rows(job)
    assert len(table) == len([text for text in TEXTS if not text.startswith("skip")])
    assert "payload" not in table.column_names
    assert not (job.to / "vectors.zarr").exists()


def test_nothing_that_is_staged_stays(whole: ClassifyJob):
    assert list(receipts(whole, READ.folder)) == []
    assert len(list(receipts(whole, SCORE.folder))) == 4


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> ClassifyJob:
    return made(tmp_path_factory.mktemp("whole"), inputs, payload="kept")


@pytest.mark.parametrize("at_most", range(1, 12, 3))
def test_a_job_that_is_cut_off_goes_on_to_the_same_bytes(
    inputs: Path, tmp_path: Path, whole: ClassifyJob, at_most: int
):
    config = archives.write_config(tmp_path / "c.yaml", inputs, payload="kept")
    jobs_here.carry_out(archives.job_of(config), seed=at_most, at_most=at_most)
    assert not (tmp_path / "c-out").exists()
    jobs_here.carry_out(job := archives.job_of(config), seed=at_most + 1)
    assert archives.digests(job.to) == archives.digests(whole.to)
    found, expected = job.summary(), whole.summary()
    assert (found.counts, found.errors) == (expected.counts, expected.errors)


def test_a_finished_job_is_known_and_another_one_is_refused(inputs: Path, tmp_path: Path):
    job = made(tmp_path, inputs)
    assert archives.job_of(tmp_path / "c.yaml").is_there
    for changes in ({"batch_size": 4}, {"read": "tests.classify.bad_hooks:read"}):
        config = archives.write_config(tmp_path / "c.yaml", inputs, **changes)
        with pytest.raises(ConfigError, match="is of another job"):
            archives.job_of(config)
    limits = {"staged_gb": 1.0, "hook_timeout_s": 5.0, "hook_memory_gb": 2.0}
    archives.write_config(tmp_path / "c.yaml", inputs, **limits)
    assert archives.job_of(tmp_path / "c.yaml").is_there, "how it works is no other job"
    (job.to / "records" / "part-00000.parquet").unlink()
    with pytest.raises(ConfigError, match="has lost files"):
        archives.job_of(tmp_path / "c.yaml")


def test_a_folder_that_is_no_output_is_left_alone(inputs: Path, tmp_path: Path):
    config = archives.write_config(tmp_path / "c.yaml", inputs)
    (tmp_path / "c-out").mkdir()
    with pytest.raises(ConfigError, match="holds no output of `cah classify`"):
        archives.job_of(config)
    (tmp_path / "c-out").rmdir()
    (tmp_path / "c-out").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="holds no output of `cah classify`"):
        archives.job_of(config)


def test_one_job_at_a_time_makes_an_output(inputs: Path, tmp_path: Path):
    config = archives.write_config(tmp_path / "c.yaml", inputs)
    one = archives.job_of(config)
    archives.write_config(config, inputs, batch_size=4, scratch=str(tmp_path / "elsewhere"))
    other = archives.job_of(config)
    with one.folder.held():
        with pytest.raises(RunError, match=r"another driver .* is at work in .*c-out\.classify"):
            jobs_here.carry_out(other)
        assert not (tmp_path / "elsewhere").exists()
    jobs_here.carry_out(other)
    other.folder.forget()
    assert other.to.exists()
    one.folder.forget()
    assert not (tmp_path / "c-out.classify").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_an_output_that_came_meanwhile_is_one_line_and_costs_no_work(
    inputs: Path, tmp_path: Path, kind: str
):
    job = archives.job_of(archives.write_config(tmp_path / "c.yaml", inputs))
    scratch = job.folder.path
    if kind == "folder":
        (job.to / "of somebody").mkdir(parents=True)
    elif kind == "file":
        job.to.touch()
    else:
        job.to.symlink_to("nowhere")
    with pytest.raises(RunError, match=r"c-out came to be while the job was at work; move it away"):
        jobs_here.carry_out(job)
    job.to.rename(tmp_path / "away")
    again = archives.job_of(tmp_path / "c.yaml")
    assert again.folder.path == scratch
    jobs_here.carry_out(again, at_most=0)
    assert again.to.exists()


def test_archives_of_nothing_that_is_wanted_give_an_empty_output(tmp_path: Path):
    archives.write_texts(tmp_path / "a.warc.gz", ["a 404"])
    job = made(tmp_path, tmp_path)
    assert len(rows(job)) == 0
    assert "score_vowels" in rows(job).column_names


def test_a_fault_of_each_record_publishes_nothing(tmp_path: Path):
    archives.write_texts(tmp_path / "a.warc.gz", ["", "bad", "bad"])
    message = r"hooks or model fail for all of 2 records, .* the first: a.warc.gz: record at \d+: "
    with pytest.raises(RunError, match=message):
        made(tmp_path, tmp_path)
    assert not (tmp_path / "c-out").exists()


def test_what_is_no_archive_publishes_nothing(tmp_path: Path):
    (tmp_path / "a.warc.gz").write_bytes(b"no archive at all " * 1000)
    with pytest.raises(RunError, match="1 archive without a single response or the like"):
        made(tmp_path, tmp_path)


MINE = """
from tests.classify import models

def read(record):
    return models.text(record)

class Model(models.Lengths):
    pass
"""


@pytest.mark.parametrize("hook", ["read", "model"])
def test_a_hook_that_changes_while_a_job_is_at_work_stops_it(tmp_path: Path, hook: str):
    archives.write(tmp_path / "in")
    mine = tmp_path / f"changing_{hook}.py"
    mine.write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)  # and for processes of hooks:
        patch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
        use = {"read": "changing_read:read", "model": "changing_model:Model"}[hook]
        config = archives.write_config(tmp_path / "c.yaml", tmp_path / "in", **{hook: use})
        job = archives.job_of(config)
        assert job.name
        mine.write_text(f"{mine.read_text()}\n# changed\n")
        with pytest.raises(RunError, match=f"{hook}: changing_{hook}.py on .* is not what it was"):
            jobs_here.carry_out(job)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "tests.classify.models:Unbuildable"},
        {"keep": {"score": "nothing", "at_least": 1}},
    ],
)
def test_a_model_that_cannot_be_built_names_the_node(inputs: Path, tmp_path: Path, changes):
    with pytest.raises(RunError, match=f"on {os.uname().nodename}: "):
        made(tmp_path, inputs, **changes)


def test_it_is_said_once_a_minute_which_pool_is_the_bottleneck(inputs: Path, tmp_path: Path):
    now = 0.0
    job = archives.job_of(archives.write_config(tmp_path / "c.yaml", inputs))
    job.clock = lambda: now
    counts, timings = Counts(10, 10), {"read": 9000, "model": 1000}
    receipt = Receipt(stage="score", unit="", config="", counts=counts, timings=timings)
    said = []
    for now in (0, 30, 59, 61, 100, 122):  # noqa: B007  # the clock reads it
        said.append(job.remark(Unit(SCORE), Done(receipt, 1.0, "here")))  # noqa: PERF401
    assert [bool(line) for line in said] == [False, False, False, True, False, True]
    assert said[3].startswith("the model waits for records 78% of its time")
    assert job.remark(Unit(READ), Done(receipt, 1.0, "here")) == ""


PRIVATE = "/scratch/project_9/me"


def test_no_path_of_ours_is_published(inputs: Path, tmp_path: Path):
    model = {
        "use": "tests.classify.models:Telling",
        "arguments": {"weights": [f"{PRIVATE}/w.npz", "~/me/w.npz"]},
    }
    job = made(tmp_path, inputs, model=model)
    page, card = ((job.to / name).read_text() for name in ("report.html", "README.md"))
    assert "cannot read w.npz" in page
    assert "weights: [w.npz, w.npz]" in card
    assert "project_9" not in page + card
    assert "~/me" not in page + card


def test_the_report_shows_texts_and_says_what_was_lost(whole: ClassifyJob, inputs: Path):
    page = (whole.to / "report.html").read_text()
    assert f"{len(KEPT)} records from 4 archives" in page
    assert "aeiou abc 0 4</bdi><br>" in page
    assert "abc 0 6</bdi><br>" in page, "one that is below"
    assert "a bad text" in page
    for path in (inputs, whole.to.parent):
        assert str(path) not in page + (whole.to / "README.md").read_text()


def test_the_report_of_very_many_scores_and_media_types_is_short(
    whole: ClassifyJob, tmp_path: Path
):
    names = ("length", *(f"{'x' * 1000}{number}" for number in range(2000)))
    notes = {f"{HISTOGRAM}/{number}/{name}": 7 for name in names for number in range(-50, 50)}
    notes |= {f"mime/{'y' * 1000}{number}": 1 for number in range(5000)}
    notes |= {f"{OF_MODEL}/{'z' * 1000}{number}": 1 for number in range(5000)}
    errors = ("e" * 10_000,) * ERRORS_SHOWN
    summary = msgspec.structs.replace(whole.summary(), notes=notes, errors=errors)
    source = Source(whole.folder.path, {}, {}, whole.config, whole._hooks)
    layout = read_layout(whole.to)
    assert layout is not None
    write_documents(tmp_path, source, msgspec.structs.replace(layout, names=names), summary)
    page = (tmp_path / "report.html").read_text()
    assert len(page) < 1_000_000
    assert "1,977 more scores are not drawn" in page
    assert "score histogram of length," in page, "the one that decides is drawn"
    assert '<td>others</td><td class="number">4,960</td>' in page
