"""Texts by a classifier of Hugging Face, from a folder and without the hub."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cah_dask.classify.hooks import Arrays, Scored
from cah_dask.classify.models.arguments import converted, require_installed, the_text
from cah_dask.classify.models.classifier_folder import (
    CONFIG,
    NAME,
    TOKENIZER,
    folder_files,
    label_places,
    said_labels,
    token_limit,
)
from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.forward import Forward, Rows
from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.pairs.encoders.placement import placement
from cah_dask.pairs.encoders.text_tower import padded
from cah_dask.pairs.encoders.tokens import batches
from cah_dask.pairs.options import EmbedOptions


class TextClassifier:
    """Scores texts by an `AutoModelForSequenceClassification`, one score for each label.

    It takes one array of UTF-8, as the default of `prepare` makes of a text. Scores are shares that
    sum to 1; of a model of several labels at once (`problem_type` of its config) each is a
    probability of its own; of a regression the number itself. Texts of like length share a batch.

    Parameters
    ----------
    folder
        With config.json, tokenizer.json and model.safetensors.
    scores
        Name of a score -> label of the model. Default: all labels, by their own names.
    max_tokens
        Longer texts are cut, and counted in the notes. Default: what the model takes.
    batch_tokens
        Tokens that are run at once, padding included.
    precision
        As `embed.precision`.

    Raises
    ------
    ConfigError
        If a file is missing or of another model, if weights are a pickle or lack the classifier, or
        if a label is unknown.
    """

    dim = 0

    def __init__(
        self,
        *,
        folder: str,
        scores: Mapping[str, str] | None = None,
        max_tokens: int | None = None,
        batch_tokens: int = 8192,
        device: str = "auto",
        threads: int = 1,
        precision: str = "fp32",
    ) -> None:
        require_installed(NAME, "clip", "torch", "transformers", "tokenizers")
        import torch

        path = Path(folder).expanduser()
        self.files(folder=folder, scores=scores)
        options = converted(NAME, {"device": device, "precision": precision}, EmbedOptions)
        where, dtype = placement(options)
        torch.set_num_threads(threads)
        model = _load(path, dtype)
        labels = _labels(path, model.config)
        wanted = dict(zip(labels, labels, strict=True)) if scores is None else scores
        self.names = list(wanted)
        self._columns = label_places(path, wanted, labels)
        self._tokenizer = _tokenizer(path, model, max_tokens)
        self._padding = _padding(path, model.config)
        self._budget = batch_tokens
        self._device = where
        self._forward = Forward(model.to(where).eval(), dtype, _finish(model.config))

    @staticmethod
    def files(*, folder: str, scores: Mapping[str, str] | None = None, **_: Any) -> list[Path]:
        """Return the files that decide the scores.

        Raises
        ------
        ConfigError
            If one of them is missing or was cut, or if the model has no such labels.
        """
        path = Path(folder).expanduser().absolute()
        found = folder_files(path)
        label_places(path, scores or {}, said_labels(path))
        return found

    def __call__(self, batch: Sequence[Arrays]) -> Scored:
        """Return `(n, labels)` scores, in the order of the batch.

        Raises
        ------
        RecordError
            If an item is no text.
        """
        tokens = self._tokenizer.encode_batch_fast([the_text(arrays) for arrays in batch])
        scores = np.empty((len(tokens), len(self.names)), np.float32)
        lengths = np.array([len(each.ids) for each in tokens], int)
        for rows in batches(lengths, self._budget):
            found = self._scores([tokens[row].ids for row in rows])
            scores[rows] = found[:, self._columns]
        n_cut = sum(bool(each.overflowing) for each in tokens)
        return Scored(scores, notes={"cut_texts": n_cut} if n_cut else {})

    def _scores(self, tokens: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        ids, mask = (each.to(self._device) for each in padded(tokens, self._padding))

        def logits(model: Any, _: Any, rows: Rows) -> Any:
            return model(input_ids=ids[rows], attention_mask=mask[rows].long()).logits

        return self._forward(logits, len(tokens))


def _load(folder: Path, dtype: Any) -> Any:
    open_clip()  # transformers imports torchvision, too
    from transformers import AutoModelForSequenceClassification
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=dtype,
        )
    except Exception as error:  # whatever the library meets in files of others
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(f"{NAME}: {folder} cannot be loaded: {said}") from error
    if missing := sorted(found["missing_keys"]):
        raise ConfigError(
            f"{NAME}: {folder} has no weights {missing[0]}; is it a model that was never trained "
            "to classify?"
        )
    return model


def _labels(folder: Path, config: Any) -> list[str]:
    labels = [str(config.id2label[number]) for number in range(config.num_labels)]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"{NAME}: {folder / CONFIG} has a label twice: {', '.join(labels)}")
    return labels


def _tokenizer(folder: Path, model: Any, max_tokens: int | None) -> Any:
    from tokenizers import Tokenizer

    path = folder / TOKENIZER
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # it raises nothing more special
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path} is no tokenizer: {said}") from error
    known = model.get_input_embeddings().num_embeddings
    if tokenizer.get_vocab_size() > known:
        raise ConfigError(
            f"{path} has {tokenizer.get_vocab_size():,} tokens, the model knows {known:,}; they "
            "are not of one model"
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(token_limit(folder, model.config, max_tokens))
    return tokenizer


def _padding(folder: Path, config: Any) -> int:
    padding = getattr(config, "pad_token_id", None)
    if padding is None:
        raise ConfigError(f"{NAME}: {folder / CONFIG} has no pad_token_id, so no two texts share")
    return int(padding)


def _finish(config: Any) -> Any:
    """Return what makes scores of logits, by the kind of problem the model was trained for."""
    import torch

    one_of_many = "single_label_classification" if config.num_labels > 1 else "regression"
    kind = config.problem_type or one_of_many
    if kind == "multi_label_classification":
        return lambda logits: logits.float().sigmoid().cpu().numpy()
    if kind == "regression":
        return lambda logits: logits.float().cpu().numpy()
    return lambda logits: torch.softmax(logits.float(), dim=-1).cpu().numpy()
