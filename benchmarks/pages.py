"""Measure the extraction from pages, beside that from their WAT and parsers that build trees.

    python benchmarks/web_wat.py web.warc.gz --pages 4000 --warc
    python benchmarks/pages.py web.warc.gz web.warc.wat.gz [--repeat 5]
    python benchmarks/pages.py --hostile

CPU seconds (user + system) of one process, medians; the steps take turns. Each step of an archive
includes the ones before it:

    read      its records, of a WARC with their codings undone
    pages     HTML or JSON parsed, page rules applied
    whole     `extract_archive`

Beside them, out of memory, the bodies of the WARC: our lexer, and selectolax and resiliparse as far
as they are installed, each with the attributes of all images, metas and bases.

``--hostile`` gives each of them pages of 20,000 and 40,000 pieces in a process of its own that may
have 6 GB: time, and peak.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec

from cah_dask.archives.records import Records
from cah_dask.archives.responses import Responses, Wanted
from cah_dask.candidates.archive_pages import read_pages
from cah_dask.candidates.charset import decoded
from cah_dask.candidates.extract import ExtractOptions, extract_archive
from cah_dask.candidates.html import MEDIA_TYPES
from cah_dask.candidates.tags import tags

OPTIONS = ExtractOptions()
NAMES = ("img", "meta", "base")
WANTED = Wanted(("response", "resource"), (200,), (*MEDIA_TYPES, ""))
MEMORY_BYTES = 6 << 30
HOSTILE: dict[str, Callable[[int], str]] = {
    "open `<div>`": lambda n: "<div>" * n,
    "open `<font color=N><p>`": lambda n: "".join(f"<font color={i}><p>" for i in range(n)),
    "open `<b id=N>`, then `</p>`": lambda n: "".join(f"<b id={i}>" for i in range(n)) + "</p>" * n,
    "open `<div>`, then `<li>`": lambda n: "<div>" * n + "<li>" * n,
    "one tag with attributes": lambda n: "<p " + "".join(f"a{i}=1 " for i in range(n)) + ">",
    "open quotes": lambda n: '<img alt="' * n,
}


def by_lexer(text: str) -> int:
    """Find the tags with our lexer."""
    return sum(1 for _ in tags(text, NAMES))


def by_selectolax(text: str) -> int:
    """Find them in the tree of selectolax."""
    from selectolax.lexbor import LexborHTMLParser  # noqa: PLC0415  # may not be installed

    found = LexborHTMLParser(text).css(",".join(NAMES))
    return sum(len(list(node.attributes)) > 0 for node in found)


def by_resiliparse(text: str) -> int:
    """Find them in the tree of resiliparse."""
    from resiliparse.parse.html import HTMLTree  # noqa: PLC0415  # as above

    document = HTMLTree.parse(text).document
    found = document.query_selector_all(",".join(NAMES)) if document else ()
    return sum(len(list(node.attributes)) > 0 for node in found)


PARSERS = {
    name: parse
    for name, parse in (
        ("lexer", by_lexer),
        ("selectolax", by_selectolax),
        ("resiliparse", by_resiliparse),
    )
    if name == "lexer" or find_spec(name)
}


def read_warc(archive: str) -> int:
    """Read the pages of a WARC; return how many."""
    return sum(1 for _ in Responses(archive, WANTED))


def read_wat(archive: str) -> int:
    """Read the records of a WAT; return how many."""
    return sum(1 for _ in Records(archive))


def pages(archive: str) -> int:
    """Parse all pages; return how many have images."""
    return sum(1 for _ in read_pages(archive, OPTIONS.page_rules(), Counter()))


def whole(archive: str) -> int:
    """Extract; return the candidates."""
    return extract_archive(archive, OPTIONS, buckets=256).counts.kept


def cpu_seconds(step: Callable[[], object]) -> float:
    """Return what a step takes of the processor."""
    started = time.process_time()
    step()
    return time.process_time() - started


def compare(warc: str, wat: str, repeat: int) -> None:
    """Print a Markdown table of both archives, and one of the parsers."""
    texts = [decoded(page.body, dict(page.headers).get("Content-Type", ""))
             for page in Responses(warc, WANTED)]  # fmt: skip
    steps: dict[str, Callable[[], object]] = {
        "WARC read": lambda: read_warc(warc),
        "WARC pages": lambda: pages(warc),
        "WARC whole": lambda: whole(warc),
        "WAT read": lambda: read_wat(wat),
        "WAT pages": lambda: pages(wat),
        "WAT whole": lambda: whole(wat),
    }
    for name, parse in PARSERS.items():
        steps[name] = lambda parse=parse: sum(map(parse, texts))  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeat):
        for name, step in steps.items():
            seconds[name].append(cpu_seconds(step))
    n_bytes = sum(len(text.encode()) for text in texts)
    print(f"{len(texts)} pages, {n_bytes / 1e6:.1f} MB of HTML, {whole(warc)} candidates")
    print(f"({whole(wat)} of the WAT); Python {sys.version.split()[0]}\n")
    print("| step | CPU s (min, median, max) | pages/s | MB of HTML/s |\n|---|---|---|---|")
    for name, values in seconds.items():
        middle = statistics.median(values)
        spread = f"{min(values):.3f}, {middle:.3f}, {max(values):.3f}"
        rates = f"{len(texts) / middle:,.0f} | {n_bytes / middle / 1e6:.0f}"
        print(f"| {name} | {spread} | {rates} |")


def hostile() -> None:
    """Print a Markdown table of what hostile pages cost each parser."""
    print(f"| page | KB | {' | '.join(PARSERS)} |\n|---|---|{'---|' * len(PARSERS)}")
    for page, make in HOSTILE.items():
        for n in (20_000, 40_000):
            costs = [cost(parser, page, n) for parser in PARSERS]
            size = f"{len(make(n)) / 1e3:,.0f}"
            print(f"| {page}, {n:,} | {size} | {' | '.join(costs)} |", flush=True)


def cost(parser: str, page: str, n: int) -> str:
    """Return time and peak of a parser in a process of its own, or that it fails."""
    command = [sys.executable, __file__, "--one", json.dumps([parser, page, n])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or f"fails with {MEMORY_BYTES >> 30} GB"


def one(parser: str, page: str, n: int) -> None:
    """Parse one page and print what that costs."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    text = HOSTILE[page](n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = cpu_seconds(lambda: PARSERS[parser](text))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{seconds:.2f} s, {peak / 1024:,.0f} MB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("warc", nargs="?")
    parser.add_argument("wat", nargs="?")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(*json.loads(options.one))
    elif options.hostile:
        hostile()
    else:
        compare(options.warc, options.wat, options.repeat)


if __name__ == "__main__":
    main()
