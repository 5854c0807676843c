"""Disturb whole runs in every way at once; each must end in the same bytes or in a clear error.

    python benchmarks/chaos.py [--runs 100] [--seed 1] [--only SEED] [--keep]

Run from a checkout, on Linux. A small run against a web server on loopback is carried out once in
peace, then again and again while, drawn from a seed, decoders are killed and stopped, workers
killed, all of it suspended, the driver interrupted or killed, and between two starts bits flipped,
ends cut off and files deleted anywhere in the run folder. The same command starts it again, the
last times in peace.

A run passes if it ends with exit 0 and the bytes of the peaceful one, or if its last starts give
the same documented exit code with one line of error. It fails with any other bytes, an undocumented
exit code, a traceback, a hang, or processes that stay behind. Exit 1 if one fails.
"""

import argparse
import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests import runs
from tests.webserver import WebServer

LINKS = 60
STARTS = 8
PEACEFUL = 3
"""Starts at the end that nobody disturbs."""
LIMIT_S = 150.0
"""How long one start may take."""
LEAVE_S = 60.0
"""How long processes of a killed driver may take to notice."""
CODES = {0, 2, 3, 4, 5, 6, 75}
ACTIONS = ("kill decoder", "crash decoder", "stop decoder", "kill worker", "suspend all",
           "kill driver", "end driver", "interrupt driver")  # fmt: skip
DAMAGES = ("flip a bit", "cut", "delete")


class Start:
    """One start of a run and the trouble it gets."""

    def __init__(self, config: Path, rng: random.Random) -> None:
        self.done: list[str] = []
        self._rng = rng
        self._process = runs.start(config)
        self._family = {self._process.pid: psutil.Process(self._process.pid)}

    def disturb(self, times: int) -> None:
        """Do something bad so many times, a while apart."""
        over = threading.Event()
        for _ in range(times):
            end = time.monotonic() + self._rng.uniform(0.2, 4)
            while time.monotonic() < end and self._process.poll() is None:
                self._note_children()
                over.wait(0.1)
            if self._process.poll() is None:
                self._act(self._rng.choice(ACTIONS))

    def _note_children(self) -> list[psutil.Process]:
        children = runs.children(self._process)
        self._family |= {child.pid: child for child in children}
        return children

    def _act(self, action: str) -> None:
        signals = {"kill": signal.SIGKILL, "crash": signal.SIGSEGV, "end": signal.SIGTERM,
                   "interrupt": signal.SIGINT, "stop": signal.SIGSTOP}  # fmt: skip
        verb, whom = action.split()
        children = self._note_children()
        with_part = {"decoder": "cah_dask.images.picture.decoders", "worker": "spawn_main"}
        try:
            if whom == "all":
                self._suspend([self._family[self._process.pid], *children])
            elif whom == "driver":
                self._process.send_signal(signals[verb])
            else:
                part = with_part[whom]
                chosen = [c for c in children if part in " ".join(c.cmdline())]
                if not chosen:
                    return
                self._rng.choice(chosen).send_signal(signals[verb])
        except psutil.Error:
            return  # it has just ended
        self.done.append(action)

    def _suspend(self, processes: list[psutil.Process]) -> None:
        for order in ("suspend", "resume"):
            for process in processes:
                try:
                    getattr(process, order)()
                except psutil.Error:
                    continue
            if order == "suspend":
                threading.Event().wait(self._rng.uniform(0.5, 3))

    def code(self) -> int | None:
        """Wait for the end; None if there is none in time."""
        end = time.monotonic() + LIMIT_S
        while self._process.poll() is None and time.monotonic() < end:
            self._note_children()
            threading.Event().wait(0.2)
        return self._process.poll()

    def left_behind(self) -> list[psutil.Process]:
        """Return the processes that still live a while after the end, and end them."""
        for process in self._family.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()  # one that this script stopped notices nothing before
        _, alive = psutil.wait_procs(self._family.values(), timeout=LEAVE_S)
        for process in alive:
            process.kill()
        return alive


def damage(run_dir: Path, rng: random.Random) -> str:
    """Damage one file of a run folder; return what was done to which."""
    files = sorted(
        path for path in run_dir.rglob("*")
        if path.is_file() and path.stat().st_size
        and path.suffix in {".parquet", ".h5", ".npy", ".jsonl", ".json", ""}
        and not {"secrets", "logs"} & set(path.relative_to(run_dir).parts)
        and "driver.lock" not in path.name
    )  # fmt: skip
    if not files:
        return ""
    path, what = rng.choice(files), rng.choice(DAMAGES)
    data = bytearray(path.read_bytes())
    if what == "delete":
        path.unlink()
    elif what == "cut":
        path.write_bytes(data[: rng.randrange(len(data))])
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
    return f"{what} {path.relative_to(run_dir)}"


def trial(seed: int, config: Path, expected: dict[str, str]) -> Iterator[str]:
    """Carry out one disturbed run; yield what was done, then the outcome in one word or two."""
    rng = random.Random(seed)
    run_dir, errors = config.with_suffix(""), []
    for number in range(STARTS):
        start = Start(config, rng)
        is_peaceful = number >= STARTS - PEACEFUL
        if not is_peaceful:
            start.disturb(rng.randint(0, 4))
        code, left = start.code(), start.left_behind()
        yield f"start {number}: {', '.join(start.done) or 'peace'} -> {code}"
        if code is None or left:
            yield "FAILED: " + ("hang" if code is None else f"{left} stayed")
            return
        said = runs.output(config)
        if "Traceback" in said:
            yield "FAILED: traceback"
            return
        was_killed = code < 0 and any(action.endswith("driver") for action in start.done)
        if code not in CODES and not was_killed:
            yield f"FAILED: exit {code}"
            return
        if code == 0:
            is_same = runs.release_digests(run_dir) == expected
            yield "same bytes" if is_same else "FAILED: other bytes"
            return
        errors.append((code, said.strip().splitlines()[-1] if said.strip() else ""))
        if not is_peaceful and rng.random() < 0.5:
            yield damage(run_dir, rng)
    is_clear = len({code for code, _ in errors[-2:]}) == 1 and errors[-1][1].startswith("error:")
    yield f"clear error {errors[-1][0]}: {errors[-1][1]}" if is_clear else f"FAILED: {errors[-1]}"


def main() -> None:
    """Run the trials and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="one trial, by its seed")
    parser.add_argument("--keep", action="store_true", help="keep the folders of failed trials")
    options = parser.parse_args()
    first = options.seed * 1000
    seeds = [options.only] if options.only is not None else range(first, first + options.runs)
    outcomes: Counter[str] = Counter()
    folder = Path(tempfile.mkdtemp())
    with WebServer() as web:
        names = {0: "404", 1: "halves"}
        links = [
            (
                web.url(f"/{names.get(n % 10, 'ok')}-{n}.jpg", host=f"h{n % 7}.test"),
                f"A photograph of thing number {n}",
            )
            for n in range(LINKS)
        ]
        inputs = runs.write_inputs(folder / "in", links)
        made = {"inputs": inputs, "model": Path("tiny"), "port": web.port}
        peaceful = runs.write_config(folder / "peaceful.yaml", **made)
        subprocess.run([sys.executable, "-m", "cah_dask", "run", str(peaceful)], check=True)
        expected = runs.release_digests(peaceful.with_suffix(""))
        for seed in seeds:
            started = time.monotonic()
            config = runs.write_config(folder / f"run-{seed}.yaml", **made)
            *story, outcome = trial(seed, config, expected)
            has_failed = outcome.startswith("FAILED")
            kind = outcome if has_failed else outcome.partition(":")[0]
            outcomes[kind] += 1
            print(f"{seed} {time.monotonic() - started:.0f} s {outcome}", flush=True)
            if has_failed:
                print("\n".join(f"    {line}" for line in story if line), flush=True)
            if not (has_failed and options.keep):
                shutil.rmtree(config.with_suffix(""), ignore_errors=True)
    for kind, count in outcomes.most_common():
        print(f"{count:5d}  {kind}")
    if options.keep:
        print(f"folders: {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(any(kind.startswith("FAILED") for kind in outcomes))


if __name__ == "__main__":
    main()
