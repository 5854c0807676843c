"""Who may talk to a run: its certificate, the token of its dashboard, and the way to it.

All secrets of a run lie in a folder that only who drives it can enter. They travel as paths, never
in arguments, environments or names of jobs, which every user of a cluster can read.
"""

import getpass
import os
import secrets
import socket
from pathlib import Path

import msgspec
from distributed import Security

from cah_dask.errors import ConfigError

DASHBOARD_PORT = 8787
"""Port on the user's own machine; Dask's usual one."""


class Access(msgspec.Struct, frozen=True):
    """The secrets of one run: paths of its certificate and key, and its dashboard's token."""

    certificate: Path
    key: Path
    token: str

    def security(self) -> Security:
        """Return what scheduler, workers and clients need to talk to each other and nobody else."""
        sides = ("client", "scheduler", "worker")
        files = {f"tls_{side}_cert": str(self.certificate) for side in sides}
        files |= {f"tls_{side}_key": str(self.key) for side in sides}
        return Security(require_encryption=True, tls_ca_file=str(self.certificate), **files)


def grant(folder: Path) -> Access:
    """Make a new certificate and a new token in `folder`.

    They live as long as their driver: workers that a killed driver left behind cannot come back to
    the next one, and whoever got hold of a token, by its old port perhaps, has nothing.

    Raises
    ------
    ConfigError
        If the folder belongs to somebody else.
    """
    folder = folder.resolve()  # jobs may start elsewhere
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to another user; set run_dir to a folder of yours")
    folder.chmod(0o700)
    made = Security.temporary()
    token = secrets.token_urlsafe(32)
    write_private(folder / "token", token)
    return Access(
        write_private(folder / "cert.pem", made.tls_client_cert),
        write_private(folder / "key.pem", made.tls_client_key),
        token,
    )


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner can read, never in any other state."""
    temporary = path.with_name(f".tmp-{secrets.token_hex(8)}-{path.name}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return temporary.replace(path)


class Dashboard(msgspec.Struct, frozen=True):
    """Where the dashboard is, and how to get there from elsewhere."""

    port: int
    token: str
    host: str
    login: str | None = None
    page: str = "status"
    """The one to open first."""

    @property
    def link(self) -> str:
        """What to open on the machine that runs the driver; it holds the token."""
        return f"http://127.0.0.1:{self.port}/{self.page}?token={self.token}"

    @property
    def tunnel(self) -> str:
        """The ssh command for the user's own machine."""
        jump = f"-J {self.login} " if self.login else ""
        target = f"{_user()}@{self.host}"
        return f"ssh -N -L {DASHBOARD_PORT}:127.0.0.1:{self.port} {jump}{target}"

    def write(self, path: Path) -> None:
        """Write down for the owner alone how to open the dashboard."""
        elsewhere = self.link.replace(f":{self.port}", f":{DASHBOARD_PORT}")
        write_private(
            path,
            f"on {self.host} itself, open\n  {self.link}\n"
            f"from elsewhere, run\n  {self.tunnel}\nand open\n  {elsewhere}\n",
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container users may have no name
        return "USER"


def dashboard(port: int, access: Access, login: str | None) -> Dashboard:
    """Return the way to the dashboard that listens on `port` of this machine."""
    return Dashboard(port, access.token, socket.gethostname(), login)
