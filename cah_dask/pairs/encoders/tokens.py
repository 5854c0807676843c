"""Tokens of texts, in batches that hold little padding.

Texts are sorted by length, and each batch is cut to its longest. Where no other token sees the
padding, and nothing pools it, this changes no vector. How many batches there are, and which texts
share one, depends on nothing but the texts.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from cah_dask.pairs.encoders.forward import Rows
from cah_dask.pairs.encoders.open_clip_import import open_clip

Lengths: TypeAlias = npt.NDArray[np.int64]
"""Tokens of each text."""

TOKENS_PER_TEXT = 16
"""A batch holds as many tokens as `batch_size` texts of this length, about that of a caption: on
CPUs half as many or twice as many cost the same, five times as many a third more."""


class TextReader(NamedTuple):
    """How the text tower of an open_clip model reads."""

    lengths: Callable[[Any], Lengths]
    """How far it must read each row of tokens, of shape ``(n, context length)``."""
    features: Callable[[Any, Any], Any]
    """Runs ``(model, tokens)`` on tokens that were cut to some length."""


def batches(lengths: Lengths, budget: int) -> Iterator[Rows]:
    """Yield the rows of each batch, the shortest texts first.

    Parameters
    ----------
    budget
        Tokens of a batch, padding included; a text that is longer makes a batch of its own.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > budget:
            yield order[start:end]
            start = end


def text_reader(model: Any) -> TextReader:
    """Return how an open_clip model reads its texts: in full, if no token may be left out."""
    open_clip()
    from open_clip.hf_model import HFTextEncoder
    from open_clip.model import CLIP
    from open_clip.transformer import TextTransformer

    tower = _text_tower(model)
    if isinstance(tower, HFTextEncoder):
        pad = tower.config.pad_token_id
        return TextReader(lambda tokens: _until_padding(tokens, pad), _whole)
    if isinstance(tower, CLIP | TextTransformer) and _is_causal(tower):
        return TextReader(lambda tokens: _pooled_at(tower, tokens).numpy() + 1, _causal)
    return TextReader(lambda tokens: np.full(*tokens.shape), _whole)


def is_longer(tokenizer: Any, texts: Sequence[str], tokens: Any) -> npt.NDArray[np.bool_]:
    """Tell of each text whether the tokenizer of an open_clip model cut it to make `tokens`.

    Such a text has a token more when there is room for one more.
    """
    counts, context_length = _counts(tokenizer, tokens), tokens.shape[1]
    found = np.zeros(len(texts), np.bool_)
    full = np.flatnonzero(counts >= context_length - 1)
    if len(full):
        roomy = tokenizer([texts[row] for row in full.tolist()], context_length=context_length + 1)
        found[full] = _counts(tokenizer, roomy) > counts[full]
    return found


def _counts(tokenizer: Any, tokens: Any) -> Lengths:
    library = open_clip()
    if isinstance(tokenizer, library.SimpleTokenizer):  # its padding is an exclamation mark, too
        ends: Lengths = (tokens.argmax(dim=-1) + 1).numpy()
        return ends
    counts: Lengths = (tokens != tokenizer.tokenizer.pad_token_id).sum(dim=-1).numpy()
    return counts


def _text_tower(model: Any) -> Any:
    return getattr(model, "text", model)  # CLIP holds the parts of its tower itself


def _is_causal(tower: Any) -> bool:
    """Tell whether no token sees a later one, and the last of the text stands for it."""
    return (
        tower.attn_mask is not None
        and getattr(tower, "cls_emb", None) is None
        and _pooling(tower)[0] in ("argmax", "eos")
    )


def _pooling(tower: Any) -> tuple[str, int]:
    """Return how a native tower pools, and its id of the end of a text."""
    if hasattr(tower, "text_pool_type"):
        return tower.text_pool_type, tower.text_eos_id
    return tower.pool_type, tower.eos_id


def _pooled_at(tower: Any, tokens: Any) -> Any:
    """Return where in each row the token is that stands for the text."""
    pooling, end = _pooling(tower)
    return (tokens if pooling == "argmax" else (tokens == end).int()).argmax(dim=-1)


def _until_padding(tokens: Any, pad: int) -> Lengths:
    positions = np.arange(1, tokens.shape[1] + 1)
    lengths: Lengths = ((tokens.numpy() != pad) * positions).max(axis=1).clip(min=1)
    return lengths


def _whole(model: Any, tokens: Any) -> Any:
    return model.encode_text(tokens)


def _causal(model: Any, tokens: Any) -> Any:
    """Do what `encode_text` does, for any number of positions."""
    import torch

    tower = _text_tower(model)
    dtype, length = tower.transformer.get_cast_dtype(), tokens.shape[1]
    states = tower.token_embedding(tokens).to(dtype)
    states = states + tower.positional_embedding[:length].to(dtype)
    states = tower.transformer(states, attn_mask=tower.attn_mask[:length, :length])
    rows = torch.arange(len(tokens), device=tokens.device)
    pooled = tower.ln_final(states[rows, _pooled_at(tower, tokens)])
    projection = tower.text_projection
    if projection is None:
        return pooled
    return projection(pooled) if callable(projection) else pooled @ projection
