"""Hooks by their names: imported and built."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

from cah_dask.classify.hooks import Keep, Model, Prepare, Read, arrays_of
from cah_dask.classify.options import ClassifyOptions, HookOptions, KeepOptions
from cah_dask.errors import ConfigError
from cah_dask.user_code import import_named

_GIVEN = {"read": "a record", "prepare": "an item", "keep": "the scores", "model": "a batch"}


def body_of(record: Any) -> bytes:
    """Return the body of a record: the default of `read`."""
    return cast("bytes", record.body)


def read_of(options: ClassifyOptions) -> Read:
    """Return what makes items of records."""
    hook = options.hooks.get("read")
    return cast("Read", body_of if hook is None else _built(hook, "read"))


def prepare_of(options: ClassifyOptions) -> Prepare:
    """Return what makes arrays of items."""
    hook = options.hooks.get("prepare")
    return cast("Prepare", arrays_of if hook is None else _built(hook, "prepare"))


def keep_of(options: ClassifyOptions) -> Keep:
    """Return what decides by scores."""
    if (hook := options.hooks.get("keep")) is not None:
        return cast("Keep", _built(hook, "keep"))
    rule = options.keep
    return _Rule(rule) if isinstance(rule, KeepOptions) else _keep_all


def model_of(options: ClassifyOptions, *, device: str, threads: int) -> Model:
    """Build the model on a device.

    Raises
    ------
    ConfigError
        If it does not say what its scores and vectors are.
    """
    hook = options.hooks["model"]
    model = _call(hook, "model", device=device, threads=threads)
    names, dim = getattr(model, "names", None), getattr(model, "dim", None)
    if (
        isinstance(names, str)
        or not isinstance(names, Iterable)
        or not all(isinstance(name, str) and name.isprintable() and name for name in names)
        or len(set(names)) != len(list(names))
    ):
        raise ConfigError(
            f"{hook.use} has names {names!r}; those of its scores are needed, each once"
        )
    if not isinstance(dim, int) or dim < 0:
        raise ConfigError(f"{hook.use} has dim {dim!r}; the length of its vectors is needed, or 0")
    if isinstance(options.keep, KeepOptions) and options.keep.score is not None:
        _require_score(options.keep.score, list(names), hook.use)
    return cast("Model", model)


def _require_score(wanted: str, names: list[str], use: str) -> None:
    if wanted not in names:
        given = ", ".join(names) or "none"
        raise ConfigError(f"keep.score is {wanted!r}, but the scores of {use} are: {given}")


class _Rule:
    """Keeps by one score."""

    def __init__(self, rule: KeepOptions) -> None:
        self._score = rule.score or ""
        self._least = float("-inf") if rule.at_least is None else rule.at_least
        self._most = float("inf") if rule.at_most is None else rule.at_most

    def __call__(self, scores: Mapping[str, float]) -> bool:
        return self._least <= scores[self._score] <= self._most


def _keep_all(scores: Mapping[str, float]) -> bool:  # noqa: ARG001  # a hook
    return True


def _built(hook: HookOptions, key: str) -> Callable[[Any], Any]:
    """Return a function, with its arguments, or an instance of a class."""
    found = import_named(hook.use)
    if isinstance(found, type):
        return cast("Callable[[Any], Any]", _call(hook, key))
    return partial(found, **hook.arguments) if hook.arguments else cast("Any", found)


def _call(hook: HookOptions, key: str, **more: Any) -> Any:
    try:
        return import_named(hook.use)(**more, **hook.arguments)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # whatever the class does
        raise ConfigError(f"{key}: {hook.use} cannot be built: {told(error)}") from error


def told(error: BaseException) -> str:
    """Return what an exception says, in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".removesuffix(": ")


def require_callable(options: ClassifyOptions) -> None:
    """Import all hooks and look whether they can be called as they will be; build none.

    Raises
    ------
    ConfigError
        For the first that cannot.
    """
    for key, hook in options.hooks.items():
        found = import_named(hook.use)
        if not callable(found):
            raise ConfigError(
                f"{key}: {hook.use} is {type(found).__name__}, not a function or class"
            )
        if key == "model" and not isinstance(found, type):
            raise ConfigError(f"model: {hook.use} is no class; a worker builds it once")
        if isinstance(found, type):
            given = {"device": "cpu", "threads": 1} if key == "model" else {}
            _bind(found, key, hook, (), {**given, **hook.arguments})
            _bind(getattr(found, "__call__"), key, hook, (None, None), {})  # noqa: B004, B009
        else:
            _bind(found, key, hook, (None,), hook.arguments)


def _bind(
    found: Any, key: str, hook: HookOptions, given: tuple[None, ...], named: Mapping[str, Any]
) -> None:
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # code in C need not tell
        return
    try:
        signature.bind(*given, **named)
    except TypeError as error:
        how = f"with {_GIVEN[key]}" if given else f"by {', '.join(named) or 'no arguments'}"
        what = "called" if given else "built"
        raise ConfigError(
            f"{key}: {hook.use}{signature} cannot be {what} {how}: {error}"
        ) from error
