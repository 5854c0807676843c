"""What the dashboard says of a run: the page ``/cah``, ``/cah.json``, and lines of ``/metrics``."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import msgspec
import prometheus_client
from distributed import Scheduler
from tornado.web import RequestHandler

from cah_dask.run.cluster.page.document import RunPage
from cah_dask.run.cluster.page.metrics import Collector
from cah_dask.run.cluster.private_parts import add_page, http_application
from cah_dask.run.watch.live import Watch

PAGE = "cah"


@contextlib.asynccontextmanager
async def shown(scheduler: Scheduler, watch: Watch) -> AsyncIterator[None]:
    """Have the HTTP server of a scheduler show figures, behind the token as all that it has.

    Who looks at the page is shown those of the end, too.
    """
    page = RunPage(watch.figures)
    add_page(scheduler, PAGE, page.fill)
    routes = [(rf"/{PAGE}.json", FiguresHandler, {"watch": watch})]
    http_application(scheduler).add_handlers(r".*", routes)
    collector = Collector(partial(watch.figures, with_pairs=False))  # it shows none
    prometheus_client.REGISTRY.register(collector)
    try:
        yield
        await page.until_seen()
    finally:
        prometheus_client.REGISTRY.unregister(collector)


class FiguresHandler(RequestHandler):
    """Answers with the figures as JSON, without the thumbnails."""

    def initialize(self, watch: Watch) -> None:
        """Take what the route has for every request."""
        self._watch = watch

    def get(self) -> None:
        """Answer with all of them."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.write(msgspec.json.encode(self._watch.figures().without_thumbnails()))
