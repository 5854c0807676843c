"""A model of open_clip: both towers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from cah_dask.pairs.encoders.models import ModelFiles
from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.pairs.encoders.placement import placement
from cah_dask.pairs.encoders.towers import Embeddings, Pixels, Texts
from cah_dask.pairs.options import EmbedOptions


class OpenClipModel:
    """An open_clip model behind the `towers.Model` protocol."""

    def __init__(self, model: str, files: ModelFiles, options: EmbedOptions) -> None:
        library = open_clip()
        self.dim = files.dim
        self._device, self._dtype = placement(options)
        self._batch_size = options.batch_size
        loaded, transform = library.create_model_from_pretrained(
            files.library_name,
            None if files.folder else model.split("/")[1],
            precision=options.precision,
            device=self._device,
        )
        self._model = loaded.eval()
        self._transform = transform
        self._tokenizer = library.get_tokenizer(files.library_name)

    def preprocess(self, image: Image.Image) -> Pixels:
        """Return a picture as float32 of shape (3, side, side), normalised."""
        pixels: Pixels = self._transform(image).numpy()
        return pixels

    def encode_images(self, images: Sequence[Pixels]) -> Embeddings:
        """Return one unit vector for each preprocessed picture."""
        import torch

        pixels = torch.from_numpy(np.stack(images)).to(self._device, self._dtype)
        with torch.inference_mode():
            return _unit(self._model.encode_image(pixels))

    def encode_texts(self, texts: Sequence[str]) -> Texts:
        """Return one unit vector for each text; texts over the context length are cut."""
        import torch

        batches = [
            list(texts[start : start + self._batch_size])
            for start in range(0, len(texts), self._batch_size)
        ]
        with torch.inference_mode():
            encoded = [
                _unit(self._model.encode_text(self._tokenizer(batch).to(self._device)))
                for batch in batches
            ]
        return Texts(np.concatenate([np.empty((0, self.dim), np.float32), *encoded]))


def _unit(features: Any) -> Embeddings:
    import torch

    vectors: Embeddings = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    return vectors
