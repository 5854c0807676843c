"""A view of a run with hostile names on the terminal of this process, until a file lets it end."""

import sys
import threading
from pathlib import Path

from rich.console import Console

from cah_dask.run.cluster.access import Dashboard
from cah_dask.run.progress import Progress
from cah_dask.run.stages import COMPACT, DEDUP, DOWNLOAD, EMBED, EXTRACT, PACK, SELECT
from cah_dask.run.watch.figures import Figures, ListsFigures
from cah_dask.run.watch.verdict import judged
from tests.run.watch.loads import host, load, pool, stage

ESCAPE = "\x1b]0;owned\x07\u202e[red]no[/red]"
"""What gives a terminal another title, turns its line, and is markup."""

ESCAPED = r"\x1b]0;owned\x07\u202e[red]no[/red]"
"""As it may be shown."""

STAGES = (EXTRACT, DEDUP, DOWNLOAD, EMBED, COMPACT, SELECT, PACK)
EVERY_S = 0.02


def hostile() -> Figures:
    """Return the figures of a run at work whose hosts, reasons and nodes are hostile."""
    return judged(
        load(
            left_s=7260.0,
            stages=[stage(each, rejected={f"reason{ESCAPE}": 5}) for each in STAGES],
            pools=[
                pool("gpu", EMBED, busy=0.4, pending=2, running=2, reasons={f"Prio{ESCAPE}": 2}),
                pool("io", DOWNLOAD, busy=None),
            ],
            at_work=ListsFigures(
                lists=2, urls=200, done=80, n_bytes=10**6, hosts={f"slow{ESCAPE}.test": 50}
            ),
            recent_hosts=[host(f"bad{ESCAPE}.test", http_403=80)],
            workers_given_up=[f"node{ESCAPE}/cpu-3"],
        )
    )


def main(end: Path) -> None:
    """Show them."""
    rest = threading.Event()
    with Progress(Console(stderr=True)) as view:
        view.start(Dashboard(1, "token", "here"))
        view.warn(f"http://a.test/{ESCAPE}: it is given up")
        while not end.exists():
            view.look(hostile)
            rest.wait(EVERY_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
