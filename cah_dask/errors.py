"""Every error this package raises on purpose, by how much it stops and who acts.

::

    CahError
    ├── RecordError       one record or row is unusable: count it, go on
    ├── ShardError        one input is lost: its receipt says why, the run goes on
    ├── RetryableError    may succeed later: the driver tries the task again
    ├── RunError          the run stops; a person looks, then runs the same command again
    │   ├── DamageError   a committed file is not what was written; its unit is done anew
    │   └── AlarmError    so much goes wrong that the fault is ours, or only this node's
    └── ConfigError       a user's mistake, found before anything was written
        └── InputError    the inputs named by the config are missing or of the wrong kind

Faults of the web are not exceptions: they are `counts.Status` values.
"""

from pathlib import Path


class CahError(Exception):
    """Base of all errors raised on purpose; its text is one clear line for a person."""


class RecordError(CahError):
    """One record or row is unusable: count it and go on."""


class ShardError(CahError):
    """One input is lost as a whole; its receipt says why and the run goes on."""


class RetryableError(CahError):
    """The task may succeed later, so the driver tries it again."""


class RunError(CahError):
    """The run must stop and a person must look; nothing committed is lost."""


class DamageError(RunError):
    """A committed file is not what was written; `path` says which."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is damaged: {reason}")
        self.path = path


class AlarmError(RunError):
    """So much goes wrong that the fault is ours: the run stops if it is so elsewhere, too."""


class ConfigError(CahError):
    """The user's configuration is wrong; nothing was written."""


class InputError(ConfigError):
    """An input that the configuration names is missing or is not what it should be."""
