"""``python -m cah_dask.demo.slurm prepare | serve | judge``: the demo as a run on a Slurm cluster.

`prepare` writes the archives that ``configs/demo-slurm.yaml`` names; the job of its io pool calls
`serve`, so that the web is where the downloads are, on loopback, at ports that are always the same,
and ends with the job; `judge` compares what was released with what was planted.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
from rich.console import Console

from cah_dask.demo.__main__ import show
from cah_dask.demo.demo import ACCESS_LOG, SEED, write_archives
from cah_dask.demo.planting import plan_site
from cah_dask.demo.server import run_server
from cah_dask.demo.site import Ports
from cah_dask.demo.verdict import judge
from cah_dask.errors import ConfigError

FOLDER = Path("runs/demo-slurm")
PORTS = Ports(web=27080, closed=27081, names=27053)
_SHARE = "share.json"


def prepare(folder: Path, share: float) -> None:
    """Write the archives of the web, instead of those of an earlier demo."""
    if folder.exists() and not (folder / _SHARE).exists():
        raise ConfigError(f"{folder} is not the folder of a demo on Slurm")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _SHARE).write_bytes(msgspec.json.encode(share))
    write_archives(folder, plan_site(SEED, PORTS, share))


def serve() -> int:
    """Serve the web in the background as long as the calling job's shell lives.

    Returns 0 as soon as it answers, and 1 if it cannot: it has said why on stderr.
    """
    command = [sys.executable, "-m", "cah_dask.demo.slurm", "stay", "--job", str(os.getppid())]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    return 0 if server.stdout and server.stdout.readline() else 1


def stay(folder: Path, job: int) -> None:
    """Serve the web until the process `job` has ended."""
    share = msgspec.json.decode((folder / _SHARE).read_bytes(), type=float)
    with (folder / ACCESS_LOG).open("a", encoding="utf-8", buffering=1) as log:
        try:
            asyncio.run(run_server(SEED, share, log, _end_of(job), PORTS))
        except OSError as error:
            sys.exit(f"{error}: is another demo running on this node? It uses {PORTS}")


async def _end_of(job: int) -> None:
    while _is_alive(job):  # noqa: ASYNC110  # it is not our child
        await asyncio.sleep(1)


def _is_alive(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")  # ended, and nobody asked how


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cah_dask.demo.slurm", description=__doc__)
    parser.add_argument("what", choices=("prepare", "serve", "stay", "judge"))
    parser.add_argument("--share", type=float, default=1.0, help="part of the web to prepare")
    parser.add_argument("--job", type=int, default=0, help="process that `stay` outlives not")
    chosen = parser.parse_args()
    console = Console()
    match chosen.what:
        case "prepare":
            prepare(FOLDER, chosen.share)
            console.print("now: sbatch slurm/launch.sh configs/demo-slurm.yaml", highlight=False)
        case "serve":
            return serve()
        case "stay":
            stay(FOLDER, chosen.job)
        case "judge":
            share = msgspec.json.decode((FOLDER / _SHARE).read_bytes(), type=float)
            site = plan_site(SEED, PORTS, share)
            verdict = judge(site, FOLDER / "run", FOLDER / ACCESS_LOG)
            show(verdict, FOLDER, console)
            return 0 if verdict.is_good else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
