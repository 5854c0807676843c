"""What is asked of records and of the hooks that a user brings."""

import math
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from cah_dask.errors import ConfigError
from cah_dask.user_code import is_name

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
RecordKind: TypeAlias = Literal["response", "resource", "revisit", "conversion"]
Payload: TypeAlias = Literal["none", "kept", "all"]


class RecordOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which records go on to `read`; it costs nothing to leave out the others here."""

    kinds: Annotated[tuple[RecordKind, ...], msgspec.Meta(min_length=1)] = ("response", "resource")
    """Types of WARC records: response, resource, revisit, conversion."""
    statuses: tuple[int, ...] = (200,)
    """HTTP statuses of those that have one; empty for any."""
    mime: tuple[str, ...] = ()
    """Beginnings of media types, such as `image/` or `text/html`; empty for any."""
    min_bytes: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Bytes that a body must have."""
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 29)] = 16 << 20
    """Bytes that a body may have, its codings undone."""


class HookOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Code that a user brings."""

    use: str
    """`module:function`, or `module:Class`, which is built once in each process."""
    arguments: dict[str, Any] = {}
    """By which a class is built, or that a function is given besides."""

    def __post_init__(self) -> None:
        """Refuse what is no name; msgspec adds where it was."""
        if not is_name(self.use):
            raise ValueError(f"{self.use!r} is not of the form module:name")


class KeepOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rule of one score, or a hook that decides."""

    score: str | None = None
    """Name of the score that the rule is about."""
    at_least: float | None = None
    """Lowest score that is kept."""
    at_most: float | None = None
    """Highest score that is kept."""
    use: str | None = None
    """A hook in place of the rule."""
    arguments: dict[str, Any] = {}
    """Of the hook."""

    def __post_init__(self) -> None:
        """Refuse a rule that is none; msgspec adds where it was."""
        is_rule = self.score is not None
        limits = (self.at_least, self.at_most)
        if is_rule == (self.use is not None):
            raise ValueError("either `score` with a limit, or `use`, is needed")
        if is_rule and limits == (None, None):
            raise ValueError("a rule needs at_least, at_most or both")
        if not is_rule and limits != (None, None):
            raise ValueError("at_least and at_most are of a rule, not of a hook")
        given = [each for each in limits if each is not None]
        if any(map(math.isnan, given)) or given != sorted(given):
            raise ValueError(
                f"no score is at least {self.at_least} and at most {self.at_most}; at_least may "
                "not be more than at_most, and both are numbers"
            )

    @property
    def hook(self) -> HookOptions | None:
        """The hook, if there is one."""
        return None if self.use is None else HookOptions(use=self.use, arguments=self.arguments)


Hook: TypeAlias = str | HookOptions | None


class ClassifyOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that decides what is made of archives."""

    records: RecordOptions = RecordOptions()
    """Which records are read."""
    read: Hook = None
    """Hook: record to item, or None. Default: the body."""
    prepare: Hook = None
    """Hook: item to arrays. Default: a text, bytes or an array as it is."""
    model: Hook = None
    """Hook: arrays to scores, and vectors if any. Without one, records are only counted."""
    keep: str | KeepOptions | None = None
    """Which scores are kept: a rule, or a hook. Default: all."""
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 13)] = 32
    """Items that the model is given at once; workers of the gpu pool hold a few such batches."""
    payload: Payload = "none"
    """Whether the output holds the item itself (its bytes or text; else the body): of kept records,
    of all that have scores, or of none."""
    vectors: bool = True
    """Whether the output holds the vectors that the model gives."""
    rejected: bool = False
    """Whether the output has a row for records that have scores and are not kept, too."""
    hook_timeout_s: Seconds = 30.0
    """Seconds that `read` and `prepare` may take for one record."""
    hook_memory_gb: Annotated[float, msgspec.Meta(gt=0, le=1 << 20)] = 4.0
    """GB that the process of `read` and `prepare` may take for records, above what it has once they
    are built."""
    model_timeout_s: Seconds = 600.0
    """Seconds that the model and `keep` may take for one batch."""

    @property
    def hooks(self) -> dict[str, HookOptions]:
        """Those that the user names."""
        keep = self.keep.hook if isinstance(self.keep, KeepOptions) else self.keep
        named = {"read": self.read, "prepare": self.prepare, "model": self.model, "keep": keep}
        return {name: as_hook(hook, name) for name, hook in named.items() if hook is not None}


def as_hook(hook: str | HookOptions, key: str) -> HookOptions:
    """Return a hook of which the config may only give the name.

    Raises
    ------
    ConfigError
        If that is none.
    """
    try:
        return hook if isinstance(hook, HookOptions) else HookOptions(use=hook)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
