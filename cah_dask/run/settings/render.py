"""Configurations in words: all values with their origins, all options with their meanings."""

import ast
import difflib
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec
import yaml

from cah_dask.errors import ConfigError
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.identity import settings
from cah_dask.run.settings.loading import Loaded
from cah_dask.run.settings.structs import struct_of


def render(loaded: Loaded) -> str:
    """Return the complete configuration as YAML, each line with the origin of its value."""
    lines: list[str] = []
    groups: list[str] = []
    for key, value in settings(loaded.config).items():
        if key == "site":
            continue  # all its values are here
        *path, name = key.split(".")
        if path != groups:
            common = next(
                (i for i, pair in enumerate(zip(path, groups, strict=False)) if pair[0] != pair[1]),
                min(len(path), len(groups)),
            )
            lines += [f"{'  ' * i}{path[i]}:" for i in range(common, len(path))]
            groups = path
        lines.append(f"{'  ' * len(path)}{name}: {_inline(value)}  # {_origin(loaded, key)}")
    return "\n".join(lines) + "\n"


def _origin(loaded: Loaded, key: str) -> str:
    """Return where the value of a key came from; that of a mapping from its first entry."""
    origins = loaded.origins
    own = (origins[name] for name in (key, *_parents(key)) if name in origins)
    entries = (origin for name, origin in origins.items() if name.startswith(f"{key}."))
    return next(own, None) or next(entries, "default")


def _inline(value: Any) -> str:
    """Return a value as YAML on one line, escaping what PyYAML would not read back as it wrote."""
    text = _flow(value)
    is_plain = "\n" not in text and yaml.safe_load(text) == value
    return text if is_plain else _flow(value, default_style='"', allow_unicode=False)


def _flow(value: Any, **style: Any) -> str:
    options = {"default_flow_style": True, "allow_unicode": True, "width": 10**6, **style}
    text: str = yaml.safe_dump(value, **options)
    return text.removesuffix("\n...\n").removesuffix("\n")


def _parents(key: str) -> Iterator[str]:
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def explained(key: str) -> list[tuple[str, str, str]]:
    """Return what `explain` says of an option, or of all options of a group; "" means all.

    Raises
    ------
    ConfigError
        If there is no such option.
    """
    options = list(explain())
    found = [each for each in options if not key or f"{each[0]}.".startswith(f"{key}.")]
    if not found:
        close = difflib.get_close_matches(key, [name for name, _, _ in options], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see `cah config explain`"
        raise ConfigError(f"no option is called {key}; {hint}")
    return found


def explain(
    kind: type[msgspec.Struct] = Config, prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, default, description) of every option, in order."""
    hints = get_type_hints(kind, include_extras=True)
    descriptions = _field_docstrings(kind)
    for field in msgspec.structs.fields(kind):
        struct = struct_of(hints[field.name])
        if struct is not None:
            yield from explain(struct, f"{prefix}{field.name}.")
            continue
        default = "required" if field.required else _text(field)
        yield f"{prefix}{field.name}", default, descriptions.get(field.name, "")


def _text(field: Any) -> str:
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return _inline(msgspec.to_builtins(value))


def _field_docstrings(kind: type) -> dict[str, str]:
    """Return the string literal that follows each field of a class or of those it extends."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[: kind.__mro__.index(msgspec.Struct)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, text in itertools.pairwise(statements):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found
