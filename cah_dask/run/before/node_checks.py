"""What can be found out about the machine that this process runs on, before a run needs it."""

import fcntl
import os
import platform
import resource
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import msgspec

from cah_dask.archives.sources import list_archives
from cah_dask.errors import CahError
from cah_dask.pairs.resolve import resolve
from cah_dask.run.before.estimate import count_links, expected, inodes, over_quota, short_of_memory
from cah_dask.run.before.slurm_limits import check_with_slurm, partitions_of
from cah_dask.run.pools import Pool, pools
from cah_dask.run.settings.config import Config
from cah_dask.run.slurm.options import walltime_s
from cah_dask.run.stages import DOWNLOAD, EMBED, EXTRACT, Stage
from cah_dask.storage import publish, write_atomic
from cah_dask.words import counted

Level = Literal["ok", "warn", "fail"]

LIMITS = (
    (resource.RLIMIT_NOFILE, "open files a process", "n", 4096),
    (resource.RLIMIT_NPROC, "processes and threads of this user", "u", 1024),
)
"""What a downloading process needs: 256 connections, their sockets for names, and files; a pool's
job some dozens of processes with their threads."""
TIMEOUT_S = 60
URL = "https://data.commoncrawl.org/"
"""What is asked for to see whether there is a way to the internet, where no url is given."""
TORCH = """\
import torch
built_for = torch.version.cuda or torch.version.hip
n_usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(torch.__version__, built_for, n_usable)
"""
DRIVER = (
    ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
    ["rocm-smi", "--showproductname", "--showdriverversion", "--csv"],
)
"""Commands that name the GPUs of a node and their driver."""


class Finding(msgspec.Struct, frozen=True):
    """One line: how it is, and what to do where it is not well."""

    level: Level
    what: str
    advice: str = ""


def check_node(config: Config, pool: Pool | None, url: str) -> list[Finding]:
    """Check this node for the tasks of a pool, or for a driver where `pool` is None.

    Parameters
    ----------
    url
        Asked for where the pool downloads; nothing else leaves the node.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        _versions,
        _limits,
        lambda: _folder(Path(config.run_dir).resolve().parent),
    ]
    if pool is None:
        is_local = all(each.job is None for each in pools(config.pools, config.slurm.launch))
        checks += [lambda: _space(config), *([] if is_local else [lambda: _slurm(config)])]
        checks += [lambda: _weights(config)]
    else:
        per_stage: dict[Stage, list[Callable[[], Iterator[Finding]]]] = {
            EXTRACT: [lambda: _submits(config, pool)],
            DOWNLOAD: []
            if config.download.source == "archives"
            else [lambda: _internet(config, url), lambda: _time(config, pool)],
            EMBED: [lambda: _weights(config), _gpu],
        }
        checks.append(lambda: _memory(config, pool))
        checks += [check for stage in pool.stages for check in per_stage.get(stage, [])]
    return [finding for check in checks for finding in check()]


def _versions() -> Iterator[Finding]:
    yield Finding("ok", f"{platform.node()}: Python {platform.python_version()}, {sys.executable}")
    for name in ("cah_dask", "dask", "distributed", "dask-jobqueue", "pyarrow", "zarr"):
        try:
            yield Finding("ok", f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding("fail", f"{name} is not installed", "pip install cah_dask")


def _limits() -> Iterator[Finding]:
    for kind, name, option, needed in LIMITS:
        soft, hard = resource.getrlimit(kind)
        if soft == resource.RLIM_INFINITY or soft >= needed:
            yield Finding("ok", f"{'unlimited' if soft < 0 else soft} {name}")
            continue
        most = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        advice = f"`ulimit -{option} {most}` in the pool's prologue, or fewer connections"
        yield Finding("warn", f"only {soft} {name}", advice)


def _folder(folder: Path) -> Iterator[Finding]:
    """Try what a commit does: write, sync, link, rename."""
    path = folder / f".tmp-{uuid.uuid4().hex}"
    try:
        write_atomic(path, b"x")
        has_links = publish(path, path.with_suffix(".linked")) and path.exists()
    except (OSError, CahError) as error:
        yield Finding("fail", f"{folder} cannot be written: {error}", "set run_dir elsewhere")
        return
    finally:
        path.unlink(missing_ok=True)
        path.with_suffix(".linked").unlink(missing_ok=True)
    try:
        with folder.joinpath(f".tmp-{uuid.uuid4().hex}").open("w") as lock:
            Path(lock.name).unlink()
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        advice = "a driver that takes up the run of a killed one waits half a minute first"
        yield Finding("warn", f"{folder} has no file locks ({error.strerror})", advice)
    if has_links:
        yield Finding("ok", f"{folder} can be written, with hard links")
    else:
        advice = "two copies of a task may both publish; the last one counts"
        yield Finding("warn", f"{folder} has no hard links", advice)


def _space(config: Config) -> Iterator[Finding]:
    try:
        archives = list_archives(config.inputs)
        links = count_links(archives, config.extract)
    except CahError as error:
        yield Finding("fail", str(error), "see inputs in the config")
        return
    yield Finding("ok", counted(len(archives), "archive"))
    folder = Path(config.run_dir).resolve().parent
    found = os.statvfs(folder)
    steps = expected(config, len(archives), links)
    n_files = inodes(config, len(archives), links).peak
    for name, free, needed, unit in (
        ("space", found.f_bavail * found.f_frsize / 1e9, sum(s.n_bytes for s in steps) / 1e9, "GB"),
        ("inodes", found.f_favail, n_files, "files"),
    ):
        text = f"{name}: {free:,.0f} {unit} free, about {needed:,.0f} needed"
        if free < needed and (unit == "GB" or found.f_files > 0):
            advice = "mind your quota; keep_images: false and compact: true save most of it"
            yield Finding("warn", text, advice)
        else:
            yield Finding("ok", f"{text} (quotas are not seen here)")
    if fault := over_quota(config, len(archives), links):
        yield Finding("fail", fault, "a run would stop when the quota is used up")
    elif config.quota_files:
        yield Finding("ok", f"quota_files: {config.quota_files:,}, about {n_files:,} needed")


def _memory(config: Config, pool: Pool) -> Iterator[Finding]:
    """Compare what a process of a pool gets with what its tasks take."""
    if shortage := short_of_memory(config, pool):
        yield Finding(
            "warn", shortage, "a worker that takes too much is killed, and its task with it"
        )
    elif pool.process_mb is not None:
        yield Finding("ok", f"a process of the pool has {pool.process_mb:,.0f} MB")


def _slurm(config: Config) -> Iterator[Finding]:
    """Say what the partitions of the pools allow, and whether Slurm takes their jobs from here."""
    try:
        for name, found in sorted(partitions_of(config).items()):
            text = f"partition {name}: {found.nodes} nodes, time limit {found.limit}"
            yield Finding("ok", text)
        check_with_slurm(config)
    except CahError as error:
        yield Finding("fail", str(error), "the jobs of this pool would not start")
    else:
        yield Finding("ok", "Slurm takes the jobs of every pool, and lets this node submit them")


def _submits(config: Config, pool: Pool) -> Iterator[Finding]:
    """Ask Slurm from a node whether it would take one more of the pool's jobs."""
    try:
        check_with_slurm(config, only=pool.name)
    except CahError as error:
        advice = "where jobs may not submit jobs: slurm.launch: srun, in one allocation"
        yield Finding("warn", f"jobs cannot be submitted from this node: {error}", advice)
    else:
        yield Finding("ok", "jobs can be submitted from this node: a driver may run here")


def _weights(config: Config) -> Iterator[Finding]:
    try:
        found = resolve(config.embed)
    except CahError as error:
        yield Finding("fail", str(error), "fetch them where there is internet, or give a folder")
    else:
        for name, checksums in found.checksums.items():
            first = next(iter(checksums.values()))
            yield Finding("ok", f"model {name}, weights {first[:12]}…")


def _gpu() -> Iterator[Finding]:
    """Ask the driver and, in a process of its own, torch: which sees a GPU only if both fit."""
    driver = next((said for command in DRIVER if (said := _output(command))), "")
    torch = _output([sys.executable, "-c", TORCH])
    if driver:
        yield Finding("ok", f"GPUs: {'; '.join(driver.splitlines())}")
    if not torch:
        yield Finding("fail", "torch cannot be imported", "install a build for these nodes")
    elif torch.split()[-1] != "0":
        yield Finding("ok", f"torch, its CUDA or ROCm, and the GPUs it can use: {torch}")
    elif driver:
        advice = "the driver is too old for this torch, or torch is a CPU build"
        yield Finding("fail", f"there is a GPU, but torch cannot use it: {torch}", advice)
    else:
        advice = "embedding runs on the processor; ask for a GPU with gres"
        yield Finding("warn", "no GPU is visible to this job", advice)


def _time(config: Config, pool: Pool) -> Iterator[Finding]:
    """Compare a job's time with the longest that one fetch list may take."""
    longest = config.download.hosts.max_time_s
    time = pool.job.time if pool.job is not None else None
    if time is None:
        return
    text = f"a job lasts {walltime_s(time) / 3600:.1f} h, a fetch list up to {longest / 3600:.1f} h"
    if walltime_s(time) >= 2 * longest:
        yield Finding("ok", text)
    else:
        advice = "lists with slow hosts may be begun in vain: lower download.hosts.max_time_s"
        yield Finding("warn", text, advice)


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # our own command
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _internet(config: Config, url: str) -> Iterator[Finding]:
    """Ask for a name and then for a page; nothing else leaves the node."""
    if not url and config.download.resolve:
        yield Finding("ok", "download.resolve gives the addresses: the internet is not asked for")
        return
    url = url or URL
    host = urlsplit(url).hostname or ""
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        advice = "see /etc/resolv.conf of the node; download.nameservers names others"
        yield Finding("fail", f"{host} has no address here: {error}", advice)
        return
    yield Finding("ok", f"{host} has the address {min(addresses)}")
    request = Request(url, method="HEAD", headers={"User-Agent": "cah-dask doctor"})  # noqa: S310
    try:
        with urlopen(request, timeout=TIMEOUT_S / 4) as answer:  # noqa: S310  # a url of the user
            yield Finding("ok", f"{url} answers {answer.status}")
    except OSError as error:
        advice = "download on nodes with a way out: pools.io, or at another site"
        yield Finding("fail", f"{url} cannot be reached: {error}", advice)
