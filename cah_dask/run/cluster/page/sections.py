"""The parts of the page that are words, tables and pictures: HTML, escaped."""

from functools import cache, partial

import jinja2
from bokeh.models import InlineStyleSheet
from bokeh.models.widgets.markups import Div

from cah_dask.run.watch.figures import Figures
from cah_dask.run.watch.terminal import at_work, clock
from cah_dask.words import printable, short, span

NAMES = ("lost", "head", "stages", "funnel", "pools", "hosts", "pairs")
"""Macros of ``sections.html``, and roots of the document."""

LONGEST_TEXT = 160
"""Characters of a caption or url that are shown: some are 10 kB long."""


class Sections:
    """One `Div` for each of `NAMES`."""

    def __init__(self) -> None:
        templates = _templates()
        style = InlineStyleSheet(css=templates.get_template("sections.css").render())
        self._macros = templates.get_template("sections.html").module
        self._divs = {
            name: Div(
                name=name,
                stylesheets=[style],
                sizing_mode="stretch_width",
                margin=0,
                disable_math=True,
                visible=name != "lost",
            )
            for name in NAMES
        }
        self.roots = list(self._divs.values())

    def show(self, figures: Figures) -> None:
        """Change the texts that are others now."""
        for name, div in self._divs.items():
            text = str(getattr(self._macros, name)(figures)).strip()
            if div.text != text:
                div.text = text


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cah_dask.run.cluster", "page"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": partial(short, most=LONGEST_TEXT), "printable": printable}
    environment.filters |= {"at_work": at_work, "span": span, "clock": clock, "size": size}
    return environment


def size(n_bytes: float) -> str:
    """Return a number of bytes with a unit of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"
