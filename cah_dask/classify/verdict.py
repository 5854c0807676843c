"""Which of both pools holds up the other, in words, and how many workers would even them out."""

import math

import msgspec

from cah_dask.words import counted

BALANCED_WITHIN = 1.25
"""How many times faster one pool may be before the other is called the bottleneck."""

SURE_AFTER = 3
"""Archives of which both are measured before anything is said."""


class Load(msgspec.Struct, frozen=True):
    """What is measured of archives that are read and scored."""

    archives: int = 0
    items: int = 0
    read_s: float = 0.0
    """Seconds of workers of the cpu pool."""
    model_s: float = 0.0
    """Seconds in which models were at work."""
    input_s: float = 0.0
    """Seconds in which models had an archive and waited for its items."""
    worker_s: float = 0.0
    """Seconds in which workers of the gpu pool had archives."""

    def __add__(self, other: "Load") -> "Load":
        return Load(
            self.archives + other.archives,
            self.items + other.items,
            self.read_s + other.read_s,
            self.model_s + other.model_s,
            self.input_s + other.input_s,
            self.worker_s + other.worker_s,
        )

    @property
    def busy(self) -> str:
        """How busy the models were, in words; empty if nothing is measured."""
        if not self.worker_s:
            return ""
        share = min(1.0, self.model_s / self.worker_s)
        return f"while gpu workers had archives, their models were at work {share:.0%} of the time"


def verdict(load: Load, readers: int, models: int) -> str:
    """Say which pool is the bottleneck; nothing while too little is measured to tell.

    A pool gets through its archives in the seconds that they take its workers, divided by how many
    there are. What is slower holds up the other.

    Parameters
    ----------
    readers, models
        Workers of the cpu pool, and of the gpu pool.
    """
    if load.archives < SURE_AFTER or not load.items:
        return ""
    read_s = load.read_s / readers
    model_s = (load.model_s + load.input_s) / models
    rate = f"{load.items / max(read_s, model_s, 1e-9):,.0f} items/s"
    if read_s > BALANCED_WITHIN * model_s:
        needed = math.ceil(readers * read_s / max(model_s, 1e-9))
        return (
            f"the model waits for records {1 - model_s / read_s:.0%} of its time: reading is the "
            f"bottleneck ({rate}); {_more('cpu', readers, needed)}"
        )
    if model_s > BALANCED_WITHIN * read_s:
        needed = math.ceil(models * model_s / max(read_s, 1e-9))
        if load.input_s > load.model_s:
            return (
                f"the model waits for its archive's items to be unpacked {load.input_s:.0f} of "
                f"{load.input_s + load.model_s:.0f} s: their arrays are too large for it; have "
                "`prepare` make smaller ones"
            )
        return (
            f"reading waits for the model {1 - read_s / model_s:.0%} of its time: the model is the "
            f"bottleneck ({rate}); {_more('gpu', models, needed)}"
        )
    return f"reading and the model keep pace with each other ({rate})"


def _more(pool: str, workers: int, needed: int) -> str:
    now = counted(workers, f"{pool} worker")
    return f"with {now}; about {needed:,} would keep pace (pools.{pool})"
