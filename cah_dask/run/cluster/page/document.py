"""The page as a Bokeh document: its parts are made once, and then only their contents change."""

import asyncio
import math
import time
from collections.abc import Callable
from importlib.resources import files

from bokeh.application.application import SessionContext
from bokeh.document import Document
from bokeh.events import ClientReconnected, ConnectionLost
from bokeh.models import CustomJS

from cah_dask.run.cluster.page.charts import Histograms, Outcomes
from cah_dask.run.cluster.page.sections import Sections
from cah_dask.run.cluster.private_parts import page_template
from cah_dask.run.watch.figures import Figures

REFRESH_MS = 1000
LAST_LOOK_S = 5.0
"""Seconds for which browsers that look are waited for, at most, at the end of a run."""

TEMPLATE = files("cah_dask.run.cluster.page").joinpath("page.html").read_text(encoding="utf-8")


class RunPage:
    """Makes the document of each browser that looks; all of them show the same figures."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures
        self._refreshes: dict[Document, int] = {}

    def fill(self, document: Document) -> None:
        """Put all parts into a document, and keep them up to date while it is open."""
        parts = (Sections(), Outcomes(), Histograms())
        document.title = "cah: a run"
        document.template = page_template(TEMPLATE)
        document.config.notify_connection_status = False  # its note covers the verdict
        for part in parts:
            for root in part.roots:
                document.add_root(root)
        _say_when_lost(document)

        def refresh() -> None:
            figures = self._figures()
            for part in parts:
                part.show(figures)
            self._refreshes[document] += 1

        self._refreshes[document] = 0

        def forget(_: SessionContext) -> None:
            del self._refreshes[document]

        document.on_session_destroyed(forget)
        refresh()
        document.add_periodic_callback(refresh, REFRESH_MS)

    async def until_seen(self) -> None:
        """Wait until all who look have been sent what is so now."""
        before, until = dict(self._refreshes), time.monotonic() + LAST_LOOK_S

        def is_behind() -> bool:  # the first refresh may have begun before, or show cached figures
            now = self._refreshes
            return any(now.get(each, math.inf) < number + 3 for each, number in before.items())

        while is_behind() and time.monotonic() < until:  # noqa: ASYNC110  # Bokeh tells of no event
            await asyncio.sleep(REFRESH_MS / 5000)


def _say_when_lost(document: Document) -> None:
    """Have the browser itself say so once nothing new comes."""
    lost = document.get_model_by_name("lost")
    for event, is_visible in ((ConnectionLost, "true"), (ClientReconnected, "false")):
        code = f"lost.visible = {is_visible}"
        document.js_on_event(event, CustomJS(args={"lost": lost}, code=code))
