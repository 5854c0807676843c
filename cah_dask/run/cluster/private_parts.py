"""What we use of Dask and dask-jobqueue that they do not document: all of it, and why.

The rest of the package knows these classes and functions instead. For each there is a canary in
`tests/run/test_private_parts.py`, which tells what a new version has changed. The one other place
is `gate`, which wraps Tornado's ``Application.find_handler`` and has tests of its own.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any
from unittest.mock import patch

from bokeh.document import Document
from distributed import Scheduler, SpecCluster, Status, Worker
from distributed.deploy.cluster import Cluster as DaskCluster
from distributed.deploy.spec import ProcessInterface
from jinja2 import Template
from tornado.ioloop import IOLoop
from tornado.web import Application


class WatchedCluster(SpecCluster):  # type: ignore[misc]  # untyped library
    """A `SpecCluster` whose subclass has a say when it starts, ends, and gets or loses workers.

    The subclass must not use attributes that Dask's classes have, see `tests/test_architecture.py`.
    """

    async def begin(self) -> None:
        """Learn that the scheduler is up; awaited once, before any worker is started."""

    async def end(self) -> None:
        """Do what must be done while the scheduler still answers; awaited before every close."""

    def came(self, workers: Iterable[str]) -> None:
        """Learn the names of workers that the scheduler has got."""

    def left(self) -> None:
        """Learn that the scheduler has lost a worker."""

    async def start_missing(self) -> None:
        """Start what is in ``worker_spec`` and not in ``workers``; then raise if one failed.

        ``scale`` counts workers of one kind, and there is no other public way.
        """
        await self._correct_state()

    async def _start(self) -> None:
        """Have a hook behind the start of the scheduler: ``await`` starts all workers at once."""
        await super()._start()
        await self.begin()

    async def _close(self) -> None:
        """Have a hook before the end: ``close`` only schedules this, as does ``async with``."""
        await self.end()
        await super()._close()

    def _update_worker_status(self, op: str, msg: Any) -> None:
        """Have a hook for workers, and skip `SpecCluster`'s own rule, which guesses.

        It closes a job by the name of its worker after 15 s: with one process only, and also where
        the worker comes back.
        """
        if op == "remove":
            self.left()
        if op == "add":
            self.came([str(worker["name"]) for worker in msg["workers"].values()])
        DaskCluster._update_worker_status(self, op, msg)  # noqa: SLF001


def slurm_job_class() -> Any:
    """Import dask_jobqueue and return its ``SLURMJob``.

    The import sets a handler that would have SIGINT end this process, with exit 0, and a signal
    that comes before ours is set again would be taken for the end of all work. So it finds no way
    to set one.
    """
    with patch.object(signal, "signal"):
        from dask_jobqueue.slurm import SLURMJob  # noqa: PLC0415  # workers need none

    return SLURMJob


async def close_without_command(job: ProcessInterface) -> None:
    """Mark a job as closed as `SpecCluster` wants it; ``Job.close`` would call ``scancel``."""
    await ProcessInterface.close(job)


def http_application(scheduler: Scheduler) -> Application:
    """Return what answers requests to the dashboard: Dask has no authentication to set up."""
    application: Application = scheduler.http_application
    return application


def stop_http_server(worker: Worker) -> None:
    """Close the HTTP server that every worker starts, without any authentication.

    ``--no-dashboard`` takes away its pages and leaves the server.
    """
    worker.http_server.stop()
    worker.services.clear()


def refuse_new_tasks(worker: Worker) -> None:
    """Keep new tasks from a worker and let the running one end: ``--lifetime`` interrupts it.

    ``paused`` would be undone by the memory monitor.
    """
    worker.status = Status.closing_gracefully


def is_needed(worker: Worker) -> bool:
    """Whether a task runs, or the driver has yet to fetch what one returned; no event tells."""
    return bool(worker.state.executing_count or worker.data)


async def sign_off(worker: Worker, reason: str) -> None:
    """Have the scheduler forget a worker in order, so that its end is no loss to anybody."""
    await worker.scheduler.retire_workers(
        workers=[worker.address], close_workers=False, remove=True, stimulus_id=reason
    )


def answer_calls(scheduler: Scheduler, name: str, answer: Callable[..., Any]) -> None:
    """Have a scheduler answer calls of its workers: Dask's own ways go through a client."""
    scheduler.handlers[name] = answer


def call_scheduler(worker: Worker, name: str, **arguments: Any) -> Awaitable[Any]:
    """Call what `answer_calls` has set up, from another event loop than that of the worker."""
    call: Coroutine[Any, Any, Any] = getattr(worker.scheduler, name)(**arguments)
    future = asyncio.run_coroutine_threadsafe(call, worker.loop.asyncio_loop)
    return asyncio.wrap_future(future)


def add_page(scheduler: Scheduler, name: str, fill: Callable[[Document], None]) -> None:
    """Add a page to the dashboard of a running scheduler, first in the navigation of all pages.

    Dask knows its own pages only. Its template variables are made once for each scheduler, and all
    pages hold the same list.

    Parameters
    ----------
    fill
        Fills a new document; its variables and theme are those of the other pages.
    """
    from distributed.dashboard.components.scheduler import BOKEH_THEME  # noqa: PLC0415
    from distributed.dashboard.core import BokehApplication  # noqa: PLC0415
    from distributed.dashboard.scheduler import template_variables  # noqa: PLC0415

    def made(_: Scheduler, extra: dict[str, Any], document: Document) -> None:
        document.template_variables.update(extra)
        document.theme = BOKEH_THEME
        fill(document)

    variables = template_variables(scheduler)
    variables["pages"].insert(0, name)
    page = BokehApplication({f"/{name}": made}, scheduler, template_variables=variables)
    scheduler.http_application.add_application(page)
    page.initialize(IOLoop.current())
    page.start()


def page_template(text: str) -> Template:
    """Return a template that may extend those of the dashboard, such as ``base.html``."""
    from distributed.dashboard.components.scheduler import env  # noqa: PLC0415

    template: Template = env.from_string(text)
    return template
