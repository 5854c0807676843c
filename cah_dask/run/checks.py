"""What can be found out about the machine that this process runs on, before a run needs it."""

import os
import platform
import resource
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.error import URLError
from urllib.request import Request, urlopen

import msgspec

from cah_dask.candidates.sources import list_archives
from cah_dask.errors import CahError
from cah_dask.pairs.models import resolve
from cah_dask.run.config import Config
from cah_dask.run.limits import check_with_slurm
from cah_dask.run.plan import Stage
from cah_dask.run.pools import Pool
from cah_dask.run.preview import expected
from cah_dask.storage import publish, write_atomic

Level = Literal["ok", "warn", "fail"]

OPEN_FILES = 4096
"""Descriptors of a process: 256 connections, their sockets for names, and files."""
TIMEOUT_S = 60
TORCH = "import torch; print(torch.__version__, torch.version.cuda, torch.cuda.device_count())"


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
        checks += [
            lambda: _space(config),
            lambda: _slurm(config),
        ]
    if pool is None or Stage.EMBED in pool.stages:
        checks.append(lambda: _weights(config))
    if pool is not None and Stage.EMBED in pool.stages:
        checks.append(_gpu)
    if pool is not None and Stage.DOWNLOAD in pool.stages:
        checks.append(lambda: _internet(url))
    return [finding for check in checks for finding in check()]


def _versions() -> Iterator[Finding]:
    yield Finding("ok", f"{platform.node()}: Python {platform.python_version()}, {sys.executable}")
    for name in ("cah_dask", "dask", "distributed", "dask-jobqueue", "pyarrow", "zarr"):
        try:
            yield Finding("ok", f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding("fail", f"{name} is not installed", "pip install cah_dask")


def _limits() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= OPEN_FILES:
        yield Finding("ok", f"{soft} open files a process")
    else:
        advice = f"`ulimit -n {min(hard, OPEN_FILES)}` in the pool's prologue, or fewer connections"
        yield Finding("warn", f"only {soft} open files a process", advice)


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
    if has_links:
        yield Finding("ok", f"{folder} can be written, with hard links")
    else:
        advice = "two copies of a task may both publish; the last one counts"
        yield Finding("warn", f"{folder} has no hard links", advice)


def _space(config: Config) -> Iterator[Finding]:
    try:
        n_archives = len(list_archives(config.inputs))
    except CahError as error:
        yield Finding("fail", str(error), "see inputs in the config")
        return
    yield Finding("ok", f"{n_archives:,} archives")
    folder = Path(config.run_dir).resolve().parent
    found = os.statvfs(folder)
    steps = expected(config, n_archives)
    for name, free, needed, unit in (
        ("space", found.f_bavail * found.f_frsize / 1e9, sum(s.n_bytes for s in steps) / 1e9, "GB"),
        ("inodes", found.f_favail, sum(s.files for s in steps), "files"),
    ):
        text = f"{name}: {free:,.0f} {unit} free, about {needed:,.0f} needed"
        if free < needed and (unit == "GB" or found.f_files > 0):
            yield Finding("warn", text, "mind your quota; keep_images: false saves most of it")
        else:
            yield Finding("ok", f"{text} (quotas are not seen here)")


def _slurm(config: Config) -> Iterator[Finding]:
    try:
        check_with_slurm(config)
    except CahError as error:
        yield Finding("fail", str(error), "the jobs of this pool would not start")
    else:
        yield Finding("ok", "Slurm takes the jobs of every pool, and lets this node submit them")


def _weights(config: Config) -> Iterator[Finding]:
    try:
        found = resolve(config.embed, config.extract.splits)
    except CahError as error:
        yield Finding("fail", str(error), "fetch them where there is internet, or give a folder")
    else:
        yield Finding("ok", f"model {found.model}, weights {str(found.weights_sha256)[:12]}…")


def _gpu() -> Iterator[Finding]:
    """Ask the driver and, in a process of its own, torch: which sees a GPU only if both fit."""
    tool = shutil.which("nvidia-smi") or shutil.which("rocm-smi")
    driver = _output([tool, "-L"] if "nvidia" in (tool or "") else [tool]) if tool else ""
    torch = _output([sys.executable, "-c", TORCH])
    if not torch:
        yield Finding("fail", "torch cannot be imported", "install a build for these nodes")
    elif torch.split()[-1] != "0":
        yield Finding("ok", f"torch sees GPUs (version, CUDA, count): {torch}")
    elif driver:
        advice = "the driver is too old for this torch, or torch is a CPU build"
        yield Finding("fail", f"there is a GPU, but torch sees none: {torch}", advice)
    else:
        advice = "embedding runs on the processor; ask for a GPU with gres"
        yield Finding("warn", "no GPU is visible to this job", advice)


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # our own command
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _internet(url: str) -> Iterator[Finding]:
    request = Request(url, method="HEAD", headers={"User-Agent": "cah-dask doctor"})  # noqa: S310
    try:
        with urlopen(request, timeout=TIMEOUT_S / 4) as answer:  # noqa: S310  # a url of the user
            yield Finding("ok", f"{url} answers {answer.status}")
    except (URLError, OSError) as error:
        advice = "download on nodes with a way out: pools.io, or at another site"
        yield Finding("fail", f"{url} cannot be reached: {error}", advice)
