"""A model of open_clip: both towers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from cah_dask.pairs.encoders.clip_config import local_text_tower
from cah_dask.pairs.encoders.forward import Forward, Rows
from cah_dask.pairs.encoders.models import ModelFiles
from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.pairs.encoders.pixels import pixel_maker
from cah_dask.pairs.encoders.placement import placement
from cah_dask.pairs.encoders.tokens import TOKENS_PER_TEXT, batches, is_longer, text_reader
from cah_dask.pairs.encoders.towers import Embeddings, Pixels, Texts
from cah_dask.pairs.options import EmbedOptions


class OpenClipModel:
    """An open_clip model behind the `towers.Model` protocol."""

    def __init__(self, model: str, files: ModelFiles, options: EmbedOptions) -> None:
        library = open_clip()
        import torch
        from open_clip.transform import PreprocessCfg

        self.dim = files.dim
        self._device, dtype = placement(options)
        loaded, transform = library.create_model_from_pretrained(
            files.library_name,
            None if files.folder else model.split("/")[1],
            precision=options.precision,
            device=self._device,
            **local_text_tower(files.folder),
        )
        if self._device.type == "cuda":
            loaded = loaded.to(memory_format=torch.channels_last)
        self._forward = Forward(loaded.eval(), dtype)
        config = PreprocessCfg(**loaded.visual.preprocess_cfg)
        self._pixels = pixel_maker(transform, config, self._device)
        self._tokenizer = library.get_tokenizer(files.library_name)
        self._reader = text_reader(loaded)
        self._budget = options.batch_size * TOKENS_PER_TEXT

    def preprocess(self, image: Image.Image) -> Pixels:
        """Return a picture as `encode_images` takes it."""
        return self._pixels.preprocess(image)

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Return one unit vector for each preprocessed picture; they are one batch."""

        def features(model: Any, dtype: Any, rows: Rows) -> Any:
            return model.encode_image(self._pixels.batch([images[row] for row in rows]).to(dtype))

        return self._forward(features, len(images))

    def encode_texts(self, texts: Sequence[str]) -> Texts:
        """Return one unit vector for each text; texts over the context length are cut."""
        if not texts:
            return Texts(np.empty((0, self.dim), np.float32))
        tokens = self._tokenizer(list(texts))
        lengths = self._reader.lengths(tokens)
        order = list(batches(lengths, self._budget))
        encoded = [self._encode(tokens[rows, : lengths[rows].max()]) for rows in order]
        vectors = np.concatenate(encoded)[np.argsort(np.concatenate(order))]
        return Texts(vectors, int(is_longer(self._tokenizer, texts, tokens).sum()))

    def _encode(self, tokens: Any) -> Embeddings:
        def features(model: Any, _: Any, rows: Rows) -> Any:
            return self._reader.features(model, tokens[rows].to(self._device))

        return self._forward(features, len(tokens))
