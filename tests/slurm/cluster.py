"""A throw-away Slurm cluster on one machine: munged, slurmctld and one slurmd per virtual node.

Needs Debian's packages (``scripts/install-test-system``), nothing under /etc, no systemd and no
containers. All daemons are children of this process and die with it, however it ends.

By hand: ``python -m tests.slurm.cluster`` prints what to put into the shell, and waits for Ctrl-C.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "setpriv")
SBIN = "/usr/sbin:/sbin"

CONF = """\
ClusterName=test
SlurmctldHost={host}({controller})
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
MailProg=/bin/true
SwitchType=switch/none
MpiDefault=none
{binding}
# No cgroups: processes are found by their parents, memory is not enforced.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
PropagateResourceLimits=NONE
# Nodes may claim more processors and memory than the machine has.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,{scheduler}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MaxJobCount={max_jobs}
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
MessageTimeout=10
BatchStartTimeout=10
InactiveLimit=0
KillWait=5
CompleteWait=0
OverTimeLimit=0
Waittime=0
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.log
"""


LOOPBACK_ONLY = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"
"""Listen on the address of a node only, which is 127.0.0.1."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What the cluster pretends to be."""

    nodes: Mapping[str, int] = msgspec.field(default_factory=lambda: {"cpu": 2, "gpu": 1, "io": 1})
    cpus: int = 8
    memory_mb: int = 16_000
    gpus: int = 2
    max_jobs: int = 10_000
    private_networks: bool = False
    """Each node has a network of its own, reached over a bridge (needs root)."""

    def names(self) -> list[str]:
        return [f"{kind}{i + 1}" for kind, count in self.nodes.items() for i in range(count)]


def missing() -> list[str]:
    """Return what a cluster needs and this machine lacks: programs, and the right to make GPUs."""
    lacking = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    return lacking if lacking or _may_make_devices() else ["the right to make device nodes"]


def _may_make_devices() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.mknod(f"{folder}/gpu", 0o20666, os.makedev(1, 3))
        except OSError:
            return False
    return True


def has_networks() -> bool:
    """Return whether this process may give nodes networks of their own."""
    name = f"cah{os.getpid() % 100_000}-probe"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{SBIN}"


class Cluster:
    """The daemons, and what a test does to them; a context manager."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder = folder
        self.layout = layout
        self.net = f"10.77.{os.getpid() % 200 + 20}"
        self.address = f"{self.net}.1" if layout.private_networks else "127.0.0.1"
        self._bridge = f"cah{os.getpid() % 100_000}"
        self._port = _free_ports(len(layout.names()) + 1)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def env(self) -> dict[str, str]:
        """What a user's shell on this cluster has, without traces of another Slurm."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
        path = f"{Path(sys.executable).parent}:{_path()}"
        return {**clean, "PATH": path, "SLURM_CONF": str(self.conf)}

    def __enter__(self) -> "Cluster":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self._write_files()
        self._daemon(
            "munged", "munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key",
            f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munged.seed",
        )  # fmt: skip
        wait_until((self.folder / "munge.socket").exists, 10, "munged")
        if self.layout.private_networks:
            self._make_bridge()
        self.start_controller()
        for number, node in enumerate(self.layout.names()):
            self.start_node(node, number)
        wait_until(self._all_idle, 20, f"the nodes; see {self.folder}")

    def start_controller(self) -> None:
        self._daemon("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        wait_until(lambda: self.run("scontrol", "ping", check=False)[0] == 0, 10, "slurmctld")

    def stop_controller(self) -> None:
        self._end("slurmctld")

    def restart_controller(self, **changes: str) -> None:
        """Change lines of slurm.conf and let slurmctld read it again."""
        self.stop_controller()
        text = self.conf.read_text()
        for key, value in changes.items():
            text = re.sub(f"^{key}=.*$", f"{key}={value}", text, flags=re.M)
        self.conf.write_text(text)
        self.start_controller()

    def start_node(self, node: str, number: int) -> None:
        command = ["slurmd", "-D", "-N", node, "-f", str(self.conf)]
        if self.layout.private_networks:
            self._make_network(node, number)
            script = f"hostname {node} && mount --bind {self.folder}/hosts /etc/hosts && exec "
            inner = f"{script}setpriv --pdeathsig TERM {' '.join(command)}"
            command = ["nsenter", f"--net=/run/netns/{self._veth(node)}", "unshare", "--uts",
                       "--mount", "sh", "-c", inner]  # fmt: skip
        self._daemon(f"slurmd-{node}", *command)

    def _all_idle(self) -> bool:
        _, out = self.run("sinfo", "-h", "-N", "-o", "%N %t", check=False)
        return len(set(re.findall(r"^(\S+) idle$", out, re.M))) == len(self.layout.names())

    def __exit__(self, *_: object) -> None:
        if "slurmctld" in self._daemons:
            with contextlib.suppress(subprocess.SubprocessError):
                self.cancel_all()
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for name in reversed(list(self._daemons)):
            self._end(name)
        if self.layout.private_networks:
            for node in self.layout.names():
                _ip("netns", "del", self._veth(node), check=False)
            _ip("link", "del", self._bridge, check=False)

    def cancel_all(self) -> None:
        """Cancel every job and wait until they are gone."""
        ids = self.run("squeue", "-h", "-o", "%A", timeout=10)[1].split()
        if ids:
            self.run("scancel", *sorted(set(ids)), check=False, timeout=10)
        wait_until(lambda: not self.run("squeue", "-h", check=False)[1], 60, "jobs to end")

    def _processes(self) -> Iterator[psutil.Process]:
        """Processes of this cluster's jobs, told by their environment."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environ = process.environ()
                if environ.get("SLURM_CONF") == str(self.conf) and "SLURM_JOB_ID" in environ:
                    yield process

    def job_processes(self, job_id: str) -> list[psutil.Process]:
        found = []
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                if process.environ()["SLURM_JOB_ID"] == job_id:
                    found.append(process)
        return found

    def run(self, *command: str, check: bool = True, timeout: float = 60):
        """Run a command as a user of the cluster; return its exit status and output."""
        done = subprocess.run(
            command, env=self.env, text=True, timeout=timeout, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}")
        return done.returncode, done.stdout

    def jobs(self, columns: str = "%A|%t|%j") -> list[list[str]]:
        """Return one row per job that is pending or running."""
        out = self.run("squeue", "-h", "-t", "PD,R,CF,S", "-o", columns)[1]
        return [line.split("|") for line in out.splitlines()]

    def ended(self) -> list[dict[str, str]]:
        """Return what Slurm wrote down of every job that ended."""
        path = self.folder / "jobcomp.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]

    def cut(self, node: str) -> None:
        """Let every packet from and to a node vanish."""
        _ip("link", "set", self._veth(node), "down")

    def join(self, node: str) -> None:
        _ip("link", "set", self._veth(node), "up")

    def _veth(self, node: str) -> str:
        return f"{self._bridge}-{node}"[:15]

    def _make_bridge(self) -> None:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self.net}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def _make_network(self, node: str, number: int) -> None:
        name = self._veth(node)
        _ip("netns", "add", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", name, "master", self._bridge, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "addr", "add", f"{self.net}.{10 + number}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "route", "add", "default", "via", f"{self.net}.1")

    def _daemon(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self, name: str) -> None:
        daemon = self._daemons.pop(name)
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _write_files(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        self.conf.write_text(self._conf())
        (self.folder / "gres.conf").write_text(self._gres())
        hosts = Path("/etc/hosts").read_text()
        names = enumerate(self.layout.names())
        hosts += "".join(f"{self.net}.{10 + number} {node}\n" for number, node in names)
        (self.folder / "hosts").write_text(hosts)

    def _conf(self) -> str:
        layout, host = self.layout, socket.gethostname().partition(".")[0]
        text = CONF.format(
            host=host, controller=self.address, port=self._port, folder=self.folder,
            user=_user(), max_jobs=layout.max_jobs, scheduler="bf_resolution=1",
            binding="" if layout.private_networks else LOOPBACK_ONLY,
        )  # fmt: skip
        for number, node in enumerate(layout.names()):
            private = layout.private_networks
            gres = f" Gres=gpu:{layout.gpus}" if node.startswith("gpu") else ""
            text += (
                f"NodeName={node} NodeHostname={node if private else host} NodeAddr="
                f"{f'{self.net}.{10 + number}' if private else '127.0.0.1'} "
                f"Port={self._port + 1 + number} CPUs={layout.cpus} Boards=1 SocketsPerBoard=1 "
                f"CoresPerSocket={layout.cpus} ThreadsPerCore=1 RealMemory={layout.memory_mb}"
                f"{gres} State=UNKNOWN\n"
            )
        for kind, count in layout.nodes.items():
            default = "YES" if kind == "cpu" else "NO"
            text += (
                f"PartitionName={kind} Nodes={kind}[1-{count}] Default={default} "
                "MaxTime=2-00:00:00 DefaultTime=00:30:00 PriorityTier=10 PreemptMode=REQUEUE\n"
            )
        # The same nodes at a higher tier: a job here preempts jobs of the other partitions.
        return text + "PartitionName=urgent Nodes=ALL PriorityTier=100 PreemptMode=OFF\n"

    def _gres(self) -> str:
        """Fake GPUs are character devices, or CUDA_VISIBLE_DEVICES is not set for the job."""
        if not self.layout.nodes.get("gpu"):
            return ""
        devices = "/dev/null"
        if self.layout.gpus > 1:
            for number in range(self.layout.gpus):
                os.mknod(self.folder / f"gpu{number}", 0o20666, os.makedev(1, 3))
            devices = f"{self.folder}/gpu[0-{self.layout.gpus - 1}]"
        return f"NodeName=gpu[1-{self.layout.nodes['gpu']}] Name=gpu File={devices}\n"


def wait_until(condition: Callable[[], object], seconds: float, what: str = "it") -> None:
    """Return once `condition` holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)


def _ip(*command: str, check: bool = True) -> None:
    subprocess.run(["ip", *command], check=check, capture_output=True, env={"PATH": _path()})


def _user() -> str:
    return subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()


def _free_ports(count: int) -> int:
    """Return the first of `count` adjacent ports that nobody listens on."""
    for first in range(26_800, 32_000, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("0.0.0.0", port))
            return first
    raise RuntimeError("no free ports for a Slurm cluster")


def main() -> None:
    """Run a cluster until Ctrl-C or SIGTERM, also where a script started it in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        tempfile.TemporaryDirectory(prefix="cah-slurm-") as name,
        Cluster(Path(name), Layout()) as cluster,
        contextlib.suppress(KeyboardInterrupt),
    ):
        sys.stdout.write("# a Slurm cluster until Ctrl-C; type this line in another shell:\n")
        sys.stdout.write(f"export SLURM_CONF={cluster.conf} PATH=$PATH:{SBIN}\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    main()
