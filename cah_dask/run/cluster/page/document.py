"""The page as a Bokeh document: its parts are made once, and then only their contents change."""

from collections.abc import Callable
from importlib.resources import files

from bokeh.document import Document

from cah_dask.run.cluster.page.charts import Histograms, Outcomes
from cah_dask.run.cluster.page.sections import Sections
from cah_dask.run.cluster.private_parts import page_template
from cah_dask.run.watch.figures import Figures

REFRESH_MS = 1000
TEMPLATE = files("cah_dask.run.cluster.page").joinpath("page.html").read_text(encoding="utf-8")


class RunPage:
    """Makes the document of each browser that looks; all of them show the same figures."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures

    def fill(self, document: Document) -> None:
        """Put all parts into a document, and keep them up to date while it is open."""
        parts = (Sections(), Outcomes(), Histograms())
        document.title = "cah: a run"
        document.template = page_template(TEMPLATE)
        for part in parts:
            for root in part.roots:
                document.add_root(root)

        def refresh() -> None:
            figures = self._figures()
            for part in parts:
                part.show(figures)

        refresh()
        document.add_periodic_callback(refresh, REFRESH_MS)
