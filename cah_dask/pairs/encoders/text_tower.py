"""A transformer of Hugging Face as a text tower: the mean of its tokens, and a linear layer."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.layouts import TextLayout
from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.pairs.encoders.placement import placement
from cah_dask.pairs.encoders.towers import Embeddings, Texts
from cah_dask.pairs.encoders.weights import fill, read_weights
from cah_dask.pairs.options import EmbedOptions


class TransformerTextTower:
    """A text tower of mCLIP or M-CLIP behind the `towers.TextTower` protocol."""

    def __init__(self, layout: TextLayout, options: EmbedOptions) -> None:
        self.dim = layout.dim
        self._device, dtype = placement(options)
        transformer, linear, padding = build(layout)
        load_weights(layout, transformer, linear)
        self._transformer = transformer.to(self._device, dtype).eval()
        self._linear = linear.to(self._device).eval()
        self._padding = padding
        self._tokenizer = read_tokenizer(layout)
        self._batch_size = options.batch_size

    def encode_texts(self, texts: Sequence[str]) -> Texts:
        """Return one unit vector for each text; texts over the context length are cut.

        Texts of like length share a batch, which is padded to its longest text only.
        """
        tokens = self._tokenizer.encode_batch_fast(list(texts))
        order = sorted(range(len(tokens)), key=lambda row: len(tokens[row].ids))
        vectors = np.empty((len(tokens), self.dim), np.float32)
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            vectors[rows] = self._encode([tokens[row].ids for row in rows])
        return Texts(vectors, n_cut=sum(bool(each.overflowing) for each in tokens))

    def _encode(self, tokens: Sequence[Sequence[int]]) -> Embeddings:
        """Embed texts of some tokens each."""
        import torch

        ids, mask = padded(tokens, self._padding)
        with torch.inference_mode():
            unit = unit_vectors(
                self._transformer, self._linear, ids.to(self._device), mask.to(self._device)
            )
        vectors: Embeddings = unit.cpu().numpy()
        return vectors


def padded(tokens: Sequence[Sequence[int]], padding: int) -> tuple[Any, Any]:
    """Return texts as one tensor ``(n, longest)`` of token ids, and where they are no padding."""
    import torch

    lengths = torch.tensor([len(each) for each in tokens])
    length = max(1, int(lengths.max()))
    ids = torch.tensor([[*each, *[padding] * (length - len(each))] for each in tokens])
    return ids, torch.arange(length) < lengths[:, None]


def unit_vectors(transformer: Any, linear: Any, ids: Any, mask: Any) -> Any:
    """Return the vectors of `padded` texts: the mean of their tokens through the linear layer.

    The mean is taken in float32, whatever the transformer computes in.
    """
    import torch

    hidden = transformer(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
    share = mask / mask.sum(1, keepdim=True).clamp(min=1)
    mean = (hidden * share[:, :, None]).sum(1)
    return torch.nn.functional.normalize(linear(mean), dim=-1)


def build(layout: TextLayout) -> tuple[Any, Any, int]:
    """Return transformer and linear layer without their weights, and the id of padding.

    Raises
    ------
    ConfigError
        If the transformers library knows no such architecture.
    """
    open_clip()  # transformers imports torchvision, too
    import torch
    from transformers import AutoConfig, AutoModel

    said = json.loads(layout.config.read_bytes())
    try:
        config = AutoConfig.for_model(**{"model_type": "", **said})
        transformer = AutoModel.from_config(config)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{layout.config} describes no transformer that can be built: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    if config.hidden_size != layout.width:
        raise ConfigError(
            f"the linear layer of {layout.linear} takes {layout.width} numbers of a token, "
            f"{layout.config} gives {config.hidden_size}"
        )
    if getattr(transformer, "pooler", None) is not None:
        transformer.pooler = None  # of the first token, which takes no part
    linear = torch.nn.Linear(layout.width, layout.dim, bias=layout.has_bias)
    return transformer, linear, config.pad_token_id or 0


def load_weights(layout: TextLayout, transformer: Any, linear: Any) -> None:
    """Fill transformer and linear layer.

    Raises
    ------
    ConfigError
        If weights do not fit them.
    """
    weights = read_weights(layout.weights)
    fill(transformer, weights, layout.prefix, layout.weights)
    if layout.linear != layout.weights:
        weights = read_weights(layout.linear)
    fill(linear, weights, layout.linear_prefix, layout.linear)


def read_tokenizer(layout: TextLayout) -> Any:
    """Return the tokenizer, which cuts at the context length and does not pad.

    Raises
    ------
    ConfigError
        If its file is not one that this release of tokenizers reads.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(layout.tokenizer))
    except Exception as error:  # it raises nothing more special
        raise ConfigError(
            f"{layout.tokenizer} is no tokenizer: {' '.join(str(error).split())[:200]}"
        ) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(layout.max_tokens)
    return tokenizer


def require_fitting(layout: TextLayout) -> None:
    """Refuse a text tower that could not be loaded; no memory is taken for its weights.

    Raises
    ------
    ConfigError
        In one line: what is wrong.
    """
    import torch

    tokenizer = read_tokenizer(layout)
    with torch.device("meta"):
        transformer, linear, _ = build(layout)
    load_weights(layout, transformer, linear)
    n_known = transformer.get_input_embeddings().num_embeddings
    if tokenizer.get_vocab_size() > n_known:
        raise ConfigError(
            f"{layout.tokenizer} has {tokenizer.get_vocab_size():,} tokens, the transformer knows "
            f"{n_known:,}; they are not of one model"
        )
