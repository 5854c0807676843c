"""Hypothesis strategies for the data of this package."""

from typing import Any

from hypothesis import strategies as st

from tests.wats import page

URLS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            *("x.jpg", "/a/../x.PNG", "//cdn.example.net/i?x=1", "data:image/gif;base64,R0", "//["),
            *(
                "http://localhost/x.jpg",
                "http://10.0.0.1/",
                "https://ex.org/x.svg",
                "",
                " ",
                "#",
                "?",
            ),
            *(
                "http://ex.org:99999/",
                "javascript:0",
                "HTTP://EX.ORG/%zz",
                "http://[::1]/x",
                "\ud800",
            ),
        ]
    ),
)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        ["", "DSC_0001", "a photo of a dog", "schÃ¶n &amp; gut", "x" * 2001, "\ud83d", "犬"]
    ),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10))
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=6,
)


METAS: list[Any] = [
    [{"name": "robots", "content": "noai"}],
    [{"property": "og:image", "content": "/x.jpg"}, {"property": "og:title", "content": "A title"}],
    [{"property": "og:image:alt", "content": "no image"}, {"property": "og:image", "content": 1}],
]


@st.composite
def links(draw: st.DrawFn) -> Any:
    """Draw a link as a WAT holds it: mostly an image, at times of a wrong type somewhere."""
    others = ["A@/href", "IMG@/longdesc", "IMG@/srcset", "IMG@/data-src", "SOURCE@/srcset"]
    path = draw(st.sampled_from(["IMG@/src"] * 5 + others))
    link: dict[str, Any] = {"path": path, "url": draw(URLS), "alt": draw(TEXTS)}
    for name in draw(st.sets(st.sampled_from(["path", "url", "alt", "rel", "title"]), max_size=2)):
        link[name] = draw(TREES)
    return draw(st.sampled_from([link, link, link, draw(TREES)]))


@st.composite
def wat_json(draw: st.DrawFn) -> Any:
    """Draw the JSON of a WAT record: the usual tree with some of its parts replaced by anything."""
    tree: Any = page(
        *draw(st.lists(links(), max_size=6)),
        base=draw(st.none() | URLS),
        metas=draw(st.none() | st.sampled_from(METAS) | TREES),
        headers=draw(st.just({}) | st.just({"X-Robots-Tag": ["a", 5]})),
        head_links=draw(st.none() | st.lists(links(), max_size=2) | TREES),
    )
    path = ["Envelope", "Payload-Metadata", "HTTP-Response-Metadata", "HTML-Metadata", "Links"]
    depth = draw(st.integers(0, 4 * len(path)))
    if depth < len(path):
        parent = tree
        for name in path[:depth]:
            parent = parent[name]
        parent[path[depth]] = draw(TREES)
    return tree
