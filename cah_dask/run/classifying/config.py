"""All that `cah classify` is told."""

from typing import Annotated, Any, Literal

import msgspec

from cah_dask.classify.identity import Digests, identity
from cah_dask.classify.options import ClassifyOptions
from cah_dask.errors import ConfigError
from cah_dask.release.layout import PackOptions
from cah_dask.run.settings.config import Config, PoolsOptions
from cah_dask.run.slurm.options import SlurmOptions


class ClassifyConfig(ClassifyOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that `cah classify` is told."""

    inputs: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """WARC archives: files, globs, http(s) urls, or `warc.paths(.gz)` lists of them."""
    to: str
    """Folder of the output; it is there once it is whole."""
    scratch: str | None = None
    """Folder within which it keeps what is done, which all nodes share. Default: beside `to`."""
    staged_gb: Annotated[float, msgspec.Meta(gt=0)] = 50.0
    """No archive is begun while more than this many GB (1e9 bytes) of items wait for the model,
    those of archives that are being read included."""
    samples: Annotated[int, msgspec.Meta(ge=0, le=200)] = 24
    """Kept items, and others, that the report shows."""
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    """Attempts at one task before it is given up and named at the end."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that the model is built on: `auto` is cuda on workers that see a GPU, else cpu."""
    pack: PackOptions = PackOptions(rows_per_shard=65_536, rows_per_chunk=1024)
    """Sizes of the files of the output."""
    pools: PoolsOptions = PoolsOptions()
    """Where tasks run: cpu reads and packs, gpu has the model."""
    slurm: SlurmOptions = SlurmOptions()
    """How to deal with Slurm, when a pool names a partition."""
    site: str | None = None
    """Site file whose values of pools and Slurm lie beneath this file's."""

    @property
    def options(self) -> ClassifyOptions:
        """What decides the output."""
        fields = ClassifyOptions.__struct_fields__
        return ClassifyOptions(**{name: getattr(self, name) for name in fields})

    @property
    def machine(self) -> Config:
        """Where tasks run, as other jobs are told it."""
        return Config(run_dir=".", inputs=("none",), pools=self.pools, slurm=self.slurm)

    def known_by(self, hooks: Digests) -> dict[str, Any]:
        """Return what tells the output from others, but for the archives.

        Parameters
        ----------
        hooks
            What the files of the hooks hold.
        """
        found: dict[str, Any] = msgspec.to_builtins(self.options)
        limits = ("hook_timeout_s", "hook_memory_gb", "model_timeout_s")
        for name in ("read", "prepare", "model", *limits):
            del found[name]
        if isinstance(self.keep, str) or (self.keep and self.keep.use):
            del found["keep"]
        return found | {
            "hooks": identity(self.options, hooks),
            "pack": msgspec.to_builtins(self.pack),
        }


def check(config: ClassifyConfig) -> None:
    """Refuse what cannot work.

    Raises
    ------
    ConfigError
        For the first thing that is wrong.
    """
    if config.pack.rows_per_shard % config.pack.rows_per_chunk:
        raise ConfigError(
            f"pack.rows_per_shard {config.pack.rows_per_shard} is no multiple of "
            f"pack.rows_per_chunk {config.pack.rows_per_chunk}"
        )
    if config.model is None and config.keep is not None:
        raise ConfigError(
            "keep decides by scores, but there is no model; leave it out, or name one"
        )
    if config.records.min_bytes > config.records.max_bytes:
        raise ConfigError("records.min_bytes is more than records.max_bytes")
