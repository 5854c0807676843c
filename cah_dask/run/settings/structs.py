"""Options within options: the Struct that a type hint means."""

import types
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec


def struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """Return the Struct that a type hint means, looking into Annotated and Optional."""
    if get_origin(kind) is Annotated:
        return struct_of(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        found = [struct_of(arm) for arm in get_args(kind)]
        return next((arm for arm in found if arm is not None), None)
    return kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None
