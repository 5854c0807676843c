"""From options to encoders that are ready to embed."""

from typing import Any

from cah_dask.pairs.encoders.clip import OpenClipModel
from cah_dask.pairs.encoders.custom import custom_class, is_custom
from cah_dask.pairs.encoders.models import locate
from cah_dask.pairs.encoders.text_tower import TransformerTextTower
from cah_dask.pairs.encoders.towers import Encoder
from cah_dask.pairs.options import EmbedOptions
from cah_dask.pairs.resolve import resolve
from cah_dask.schema import SPLITS


def load_encoders(options: EmbedOptions, *, threads: int = 1) -> list[Encoder]:
    """Load the models that the options name onto their device; seconds to minutes.

    Parameters
    ----------
    threads
        CPU threads for the models, without a GPU.

    Raises
    ------
    ConfigError
        If files of a model are missing, or are not the ones that `resolve` pinned.
    """
    import torch

    options = resolve(options)
    torch.set_num_threads(threads)
    loaded = {model: load_model(model, options) for model in options.models}
    return [
        Encoder(
            name,
            loaded[encoder.image],
            {split: loaded[encoder.text(split)] for split in SPLITS},
        )
        for name, encoder in options.encoders.items()
    ]


def load_model(model: str, options: EmbedOptions) -> Any:
    """Load one model: a `towers.Model`, or one of its towers where it has no other."""
    if is_custom(model):
        return custom_class(model)(options)
    files = locate(model)
    if files.text is not None:
        return TransformerTextTower(files.text, options)
    return OpenClipModel(model, files, options)
