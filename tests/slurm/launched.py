"""Runs submitted to the test Slurm as users do, and the web that they download from."""

import asyncio
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml
from aiohttp import web

from cah_dask.run.slurm import script
from tests import runs
from tests.slurm.cluster import Cluster, wait_until
from tests.webserver import WebServer

ROOT = Path(__file__).parents[2]
LINKS = 48
POOLS = {
    "cpu": {"partition": "cpu", "time": "30", "max_jobs": 1, "processes": 2},
    "gpu": {"partition": "gpu", "time": "30", "max_jobs": 1, "gres": "gpu:1"},
    "io": {"partition": "io", "time": "30", "max_jobs": 1, "processes": 2, "memory": "500M"},
}
FAST = {"poll_s": 0.5, "idle_s": 60, "drain_s": 5, "interfaces": ["lo"], "command_timeout_s": 5}


class Run:
    """One run as a Slurm job, and what a test wants to know of it."""

    def __init__(self, cluster: Cluster, config: Path) -> None:
        self.cluster = cluster
        self.config = config
        self.folder = config.with_suffix("")
        self.log = config.with_suffix(".out")
        self.job = ""

    def submit(self, *options: str) -> None:
        command = ["sbatch", "--parsable", f"--output={self.log}", "--mem=1G", *options]
        done = subprocess.run(
            [*command, "slurm/launch.sh", str(self.config)],
            cwd=ROOT, env=self.cluster.env, capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.job = done.stdout.strip()

    def finish(self, seconds: float = 150) -> str:
        """Wait until the job is over; return what it printed."""
        self.wait(lambda: not self.is_alive(), seconds)
        return self.text()

    def wait(self, condition: Callable[[], object], seconds: float = 100) -> None:
        """Wait until a condition holds; a failure shows what the run printed."""
        try:
            wait_until(condition, seconds)
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self.cluster.jobs()}\n{self.text()}") from error

    def is_alive(self) -> bool:
        return any(job_id == self.job for (job_id,) in self.cluster.jobs("%A"))

    def completed(self) -> set[str]:
        """Names of worker jobs that ended by themselves."""
        prefix = script.run_prefix(self.folder)
        ended = [job for job in self.cluster.ended() if job["JobState"] == "COMPLETED"]
        return {job["Name"].removeprefix(prefix) for job in ended}

    def worker_processes(self, pool: str) -> list[psutil.Process]:
        """The Dask workers of the pool's first job, without their nannies."""
        processes = self.cluster.job_processes(self.workers(pool)[0])
        (launcher,) = [p for p in processes if "distributed.cli.dask_worker" in p.cmdline()]
        return [p for p in launcher.children() if "spawn_main" in " ".join(p.cmdline())]

    def start_again(self) -> None:
        """Do not wait for the two minutes after which Slurm starts a requeued job."""
        wait_until(lambda: not self.cluster.job_processes(self.job), 30)
        # its credential is of this second, and whatever that started is revoked
        self.cluster.run("scontrol", "update", f"JobId={self.job}", "StartTime=now+2")
        wait_until(lambda: not self.is_pending(), 30)

    def is_pending(self) -> bool:
        return [self.job, "PD"] in self.cluster.jobs("%A|%t")

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def commits(self) -> list[dict[str, Any]]:
        path = self.folder / "journal.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def workers(self, pool: str, state: str = "R") -> list[str]:
        """Ids of the pool's jobs in a state."""
        prefix = script.run_prefix(self.folder) + pool
        return [j for j, s, name in self.cluster.jobs() if s == state and name.startswith(prefix)]

    def driver(self) -> psutil.Process:
        """The Python process of the driver."""
        processes = self.cluster.job_processes(self.job)
        (found,) = [p for p in processes if "cah_dask" in p.cmdline() and "run" in p.cmdline()]
        return found


class Gate(WebServer):
    """A web server that can hold its answers back, so that a download is at work for sure."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__(address=address)
        self._is_held = False
        self._seen = 0

    def hold(self) -> None:
        """Give no answer from now on."""
        self._is_held = True
        self._seen = self._asked

    def wait(self, seconds: float = 100) -> float:
        """Wait until an image is asked for anew; return how long that took."""
        started = time.monotonic()
        wait_until(lambda: self._asked > self._seen, seconds, "a download to wait")
        self._seen = self._asked
        return time.monotonic() - started

    def release(self) -> None:
        """Answer all that wait, and everything from now on."""
        self._is_held = False

    @property
    def _asked(self) -> int:
        return sum(count for (_, path), count in self.hits.items() if path.endswith(".jpg"))

    async def _behave(self, host: str, request: web.Request) -> web.StreamResponse:
        while self._is_held and request.path.endswith(".jpg"):  # noqa: ASYNC110  # it is set from another thread
            await asyncio.sleep(0.05)
        return await super()._behave(host, request)


def write_links(folder: Path, site: Gate, links: int = LINKS) -> str:
    """Write archives that name images of the site, one in twelve missing."""
    return runs.write_inputs(
        folder,
        [
            (
                site.url(f"/{'404' if n % 12 == 0 else 'ok'}-{n}.jpg", host=f"h{n % 9}.test"),
                f"A photograph of thing number {n}",
            )
            for n in range(links)
        ],
    )


def write_config(
    folder: Path, site: Gate, inputs: str, model: Path | str = runs.MODEL, **changes: Any
) -> Path:
    """Write the config of a run with few tasks, none of which gives up on a held answer."""
    path = folder / "run.yaml"
    runs.write_config(path, inputs=inputs, model=model, port=site.port, **changes)
    tree = yaml.safe_load(path.read_text())
    tree["archives_per_wave"] = 2
    tree["dedup"] = {"buckets": 2, "list_urls": 8}
    tree["download"] |= {
        "read_timeout_s": 300,
        "total_timeout_s": 300,
        "resolve": {"*.test": site.address},
        "allow_addresses": [f"{site.address}/32"],
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def on_slurm(
    pools: dict[str, dict[str, Any]] | None = None, options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the config's groups that bring a run to the test Slurm, with some options changed."""
    merged = {name: {**POOLS[name], **(pools or {}).get(name, {})} for name in POOLS}
    return {"pools": merged, "slurm": {**FAST, **(options or {})}}


def assert_same(run: Run, local: Path) -> None:
    """The release is that of the local run, byte for byte; every unit was committed once."""
    text = run.finish()
    assert (run.folder / "release").exists(), text
    assert runs.release_digests(run.folder) == runs.release_digests(local)
    units = Counter((commit["stage"], commit["unit"]) for commit in run.commits())
    assert set(units.values()) == {1}
    assert run.cluster.jobs() == []
