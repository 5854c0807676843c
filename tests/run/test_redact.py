"""`cah redact` as a user types it: what is gone is nowhere, what stays is whole."""

import resource
import shutil
import signal
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from cah_dask.counts import Counts
from cah_dask.curate.care.lists import KINDS
from cah_dask.release.manifest import Step, read_manifest
from cah_dask.run.care.redact import CHOOSE, REDACT, RedactJob, choose_task
from cah_dask.run.derive import PACK, Derivation, pack_task
from cah_dask.run.folder.job_folder import JobFolder
from cah_dask.run.unit import Unit
from tests import releases, runs
from tests.commands import cah, refused, start
from tests.run.test_derive import choose

ROWS = 60
LAST = 59


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of sixty pairs in eight parts."""
    return releases.make(tmp_path_factory.mktemp("redact"), range(ROWS))


@pytest.fixture
def release(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "release"))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def all_bytes(release: Path) -> Iterator[bytes]:
    """Yield the bytes of every file, and of parquet files also what they hold, uncompressed."""
    for path in release.rglob("*"):
        if path.is_file():
            yield path.read_bytes()
        if path.suffix == ".parquet":
            plain = BytesIO()
            pq.write_table(pq.read_table(path), plain, compression="none", use_dictionary=False)
            yield plain.getvalue()


def traces(data: list[bytes], row: dict, arrays: dict[str, np.ndarray]) -> list[str]:
    """Return what of a pair stands anywhere in the files of a release."""
    names = ("uid", "url", "text", "final_url", "sha256", "md5")
    wanted = {name: row[name].encode() for name in names}
    wanted["raw uid"] = bytes.fromhex(row["uid"])
    wanted |= {name: array[row["row"]].tobytes() for name, array in arrays.items()}
    return [name for name, what in wanted.items() if any(what in each for each in data)]


def test_nothing_of_a_redacted_pair_is_in_any_byte_of_the_new_release(
    release: Path, tmp_path: Path
):
    before, arrays = releases.rows(release).to_pylist(), releases.vectors(release)
    code, answered, said = cah(
        "redact", release, "--to", tmp_path / "new",
        "--uids", write(tmp_path / "uids", before[17]["uid"], "ab" * 16),
        "--urls", write(tmp_path / "urls", before[30]["url"], before[LAST]["final_url"], "http://a/"),
        "--hosts", write(tmp_path / "hosts", "h3.example", "cdn5.example"),
        "--hashes", write(tmp_path / "hashes", before[41]["sha256"], before[0]["md5"]),
    )  # fmt: skip
    assert code == 0, said
    gone = {0, 17, 30, 41, LAST, *range(3, ROWS, 7), *range(5, ROWS, 7)}
    kept = [row for row in before if row["row"] not in gone]
    after = releases.rows(tmp_path / "new").to_pylist()
    assert [row["row"] for row in after] == list(range(len(kept)))
    assert [{**row, "row": 0} for row in after] == [{**row, "row": 0} for row in kept]
    for name, array in releases.vectors(tmp_path / "new").items():
        assert array.tobytes() == arrays[name][[row["row"] for row in kept]].tobytes()
    files, old_files = list(all_bytes(tmp_path / "new")), list(all_bytes(release))
    for row in before:
        everything = traces(old_files, row, arrays)
        assert everything == ["uid", "url", "text", "final_url", "sha256", "md5", *arrays]
        assert traces(files, row, arrays) == ([] if row["row"] in gone else everything), row
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"hashes", "hosts", "new", "release", "uids", "urls"}
    for line in ("uids: 1 entry named no row", "urls: 1 entry named no row", "new: written"):
        assert f"{tmp_path}/{line}" in answered
    lists = [each for kind in KINDS for each in (f"--{kind}", str(tmp_path / kind))]
    stop_with_another_list(tmp_path / "new.verify")
    code, faults, said = cah("verify", tmp_path / "new", *lists)
    assert (code, faults) == (0, []), said
    assert not (tmp_path / "new.verify").exists()
    assert "none of them is named by the lists of uids and urls and hosts and hashes" in said


def without(source: Path, gone: int, folder: Path) -> Path:
    """Choose all rows but one by a rule that names it, as a filter does."""
    before = releases.layout_of(source)
    derivation = Derivation(source, folder / "chosen", JobFolder(folder / "job", ()))
    parts = choose(source, folder / "job", [row for row in range(before.rows) if row != gone])

    def step(counts: Counts) -> Step:
        return Step(
            how="filter",
            of="release",
            fingerprint=before.fingerprint,
            rule={"url": {"matches": f"picture-{gone:04d}"}},
            counts=msgspec.structs.replace(counts, notes={}),
        )

    publish(derivation, derivation.begin(parts, step))
    return folder / "chosen"


def redact_here(release: Path, to: Path, uid: str) -> None:
    """Redact one pair in this process."""
    uids = write(to.with_name("uids"), uid)
    job = RedactJob(release, to, {"uids": uids}, to.with_name("scratch"))
    for number in range(job.layout.shards):
        choose_task(job.task_of(Unit(CHOOSE, number=number), is_last_attempt=False))
    publish(job.derivation, job.begin())


def publish(derivation: Derivation, n_shards: int) -> None:
    for number in range(n_shards):
        pack_task(derivation.task(Unit(PACK, number=number), is_last_attempt=False))
    derivation.publish()


def test_a_new_release_is_the_same_wherever_its_gone_row_was(tmp_path: Path):
    texts = [f"{number:04d}" * 40_000 for number in range(ROWS)]  # several pages of parquet a part
    whole = releases.make(tmp_path, range(ROWS), columns={"text": texts})
    uids = releases.rows(whole)["uid"].to_pylist()
    found = []
    for gone, other in ((5, 42), (42, 5)):
        folder = tmp_path / f"without-{gone}"
        folder.mkdir()
        chosen = without(whole, other, folder)
        redact_here(chosen, folder / "new", uids[gone])
        data = list(all_bytes(folder / "new"))
        assert not any(b"picture-%04d" % row in each for row in (gone, other) for each in data)
        found.append(releases.contents(folder / "new"))
    assert found[0] == found[1]
    manifest = read_manifest(folder / "new")
    assert manifest is not None
    fingerprints = [step.fingerprint for step in manifest.steps]
    assert fingerprints == [releases.layout_of(whole).fingerprint, ""]
    assert [step.rule for step in manifest.steps] == [
        {},
        {"lists": {"uids": {"entries": 1, "unmatched": 0}}},
    ]


def stop_with_another_list(scratch: Path) -> JobFolder:
    """Leave what a job of another list leaves that was stopped."""
    folder = JobFolder(scratch / "0123456789abcdef", REDACT)
    with folder.held():
        (folder.path / "chosen").mkdir()
        (folder.path / "chosen" / "part-00000.parquet").write_bytes(b"a uid")
    return folder


def test_what_jobs_of_other_lists_left_goes_unless_one_is_at_work(tmp_path: Path):
    other = stop_with_another_list(tmp_path)
    (tmp_path / "mine").mkdir()
    folder = JobFolder(tmp_path / "own", REDACT)
    with folder.held():
        pass
    with other.held():
        folder.forget_others()
        assert (other.path / "chosen" / "part-00000.parquet").exists()
    folder.forget_others()
    assert {path.name for path in tmp_path.iterdir()} == {"own", "mine"}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of hosts, two of seven."""
    return write(tmp_path_factory.mktemp("lists") / "hosts", "h3.example", "h5.example")


@pytest.fixture(scope="module")
def redacted(whole: Path, lists: Path) -> Path:
    to = whole.with_name("redacted")
    code, _, said = cah("redact", whole, "--to", to, "--hosts", lists)
    assert code == 0, said
    return to


def test_the_log_of_a_redaction_holds_numbers_only(redacted: Path):
    manifest = read_manifest(redacted)
    assert manifest is not None
    (step,) = manifest.steps
    assert (step.how, step.of) == ("redact", "release")
    assert step.rule == {"lists": {"hosts": {"entries": 2, "unmatched": 0}}}
    assert step.counts.rejected == {"hosts_listed": 17}
    assert (step.counts.seen, step.counts.kept) == (ROWS, 43)
    assert "| hosts_listed | 17 |" in (redacted / "README.md").read_text()


@pytest.mark.parametrize("commits", [3, 10])
def test_what_was_cut_off_goes_on_to_the_same_bytes(
    whole: Path, lists: Path, redacted: Path, tmp_path: Path, commits: int
):
    one_worker = ("--set", "pools.cpu.workers=1")
    command = ("redact", whole, "--to", tmp_path / "new", "--hosts", lists, *one_worker)
    first = start(*command)

    def journal() -> list[str]:
        found = list(tmp_path.glob("new.redact/*/journal.jsonl"))
        return found[0].read_text().splitlines() if found else []

    assert runs.wait_for(lambda: len(journal()) >= commits or first.poll() is not None)
    first.kill()
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    assert not (tmp_path / "new").exists()
    parts = {path: path.stat().st_mtime_ns for path in tmp_path.glob("new.redact/*/chosen/*")}
    assert len(parts) >= 3
    stop_with_another_list(tmp_path / "new.redact")
    code, _, said = cah(*command)
    assert code == 0, said
    assert releases.contents(tmp_path / "new") == releases.contents(redacted)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_the_same_command_again_changes_nothing(whole: Path, lists: Path, redacted: Path):
    before = {path: path.stat().st_mtime_ns for path in redacted.rglob("*")}
    code, answered, said = cah("redact", whole, "--to", redacted, "--hosts", lists)
    assert code == 0, said
    assert f"{redacted}: whole, nothing was to be done" in answered
    assert {path: path.stat().st_mtime_ns for path in redacted.rglob("*")} == before


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        ((), 3, "error: name what must go, by --uids, --urls, --hosts or --hashes"),
        (("--uids", "bad"), 4, "bad cannot be read: line 2: 'no uid' is not 32 hex digits"),
        (("--hosts", "empty"), 4, "error: no entry in"),
        (("--hosts", "absent"), 4, "absent does not exist"),
        (("--hosts", "hosts", "--to", "release"), 3, "only read; name a new folder"),
        (("--hosts", "hosts", "--to", "release/new"), 3, "only read; name a new folder"),
        (("--hosts", "hosts", "--to", "."), 3, "exists and is no derived release"),
        (("--hosts", "hosts", "--set", "pools.cpu.wokers=1"), 3, "pools.cpu.workers"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    release: Path, tmp_path: Path, capsys, options: tuple[str, ...], code: int, line: str
):
    write(tmp_path / "hosts", "h3.example")
    write(tmp_path / "bad", "ab" * 16, "no uid")
    write(tmp_path / "empty", "# nobody")
    before = releases.contents(tmp_path)
    given = [each if each.startswith(("-", "pools")) else str(tmp_path / each) for each in options]
    to = [] if "--to" in options else ["--to", str(tmp_path / "new")]
    found, answered, said = refused(capsys, "redact", release, *to, *given)
    assert (found, answered) == (code, []), said
    assert line in said
    assert len(said.splitlines()) == 1
    assert releases.contents(tmp_path) == before


def test_a_run_folder_cannot_be_redacted(tmp_path: Path, capsys):
    (tmp_path / "run").mkdir()
    hosts = write(tmp_path / "hosts", "h3.example")
    to = tmp_path / "new"
    code, _, said = refused(capsys, "redact", tmp_path / "run", "--to", to, "--hosts", hosts)
    assert (code, said.count("\n")) == (4, 1)
    assert f"error: {tmp_path / 'run'} is no release" in said


def test_a_full_disk_is_one_line_and_the_command_goes_on_later(
    whole: Path, lists: Path, redacted: Path, tmp_path: Path
):
    command = ("redact", whole, "--to", tmp_path / "new", "--hosts", lists)

    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    code, _, said = cah(*command, preexec_fn=no_large_files)
    assert code == 5, said
    assert "files may not be so large here" in said.splitlines()[-1]
    assert not (tmp_path / "new").exists()
    assert cah(*command)[0] == 0
    assert releases.contents(tmp_path / "new") == releases.contents(redacted)


def test_verify_looks_for_what_must_be_gone(whole: Path, lists: Path):
    code, faults, said = cah("verify", whole, "--hosts", lists)
    assert code == 5, said
    assert "pairs/part-00000.parquet: hosts that must be gone: 2" in faults
    assert len(faults) == 8
