"""All scores that are given where pictures are embedded, loaded once per worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cah_dask.pairs.encoders.towers import Embeddings, Encoder
from cah_dask.pairs.options import EmbedOptions
from cah_dask.pairs.scores.files import locate
from cah_dask.pairs.scores.numbers import Scores
from cah_dask.pairs.scores.pictures import PictureScorer, load_picture_scorer
from cah_dask.pairs.scores.prompts import SHELF, PromptScorer, read_prompts


@dataclass(frozen=True, slots=True)
class Scorers:
    """What scores pictures, by the name of the score."""

    pictures: Mapping[str, PictureScorer] = field(default_factory=dict)
    prompts: Mapping[str, tuple[str, PromptScorer]] = field(default_factory=dict)
    """With the encoder whose image vectors they take."""

    @property
    def names(self) -> list[str]:
        """Names of all scores, in their order."""
        return [*self.pictures, *self.prompts]

    def with_prompts(
        self, scores: Mapping[str, Scores], vectors: Mapping[str, Embeddings]
    ) -> dict[str, Scores]:
        """Add the scores by prompts to those of `pictures`, given each encoder's image vectors."""
        by_prompts = {
            name: scorer.score(vectors[encoder]) for name, (encoder, scorer) in self.prompts.items()
        }
        return {**scores, **by_prompts}


NO_SCORERS = Scorers()
"""Gives no scores."""


def load_scorers(
    options: EmbedOptions, encoders: Sequence[Encoder], *, threads: int = 1
) -> Scorers:
    """Load what the options name; `encoders` are those of the same options.

    Raises
    ------
    ConfigError
        If something of it is missing or cannot be loaded.
    """
    pictures = {
        name: load_picture_scorer(
            f"embed.scores.{name}", each, device=options.device, threads=threads
        )
        for name, each in options.scores.items()
    }
    by_name = {encoder.name: encoder for encoder in encoders}
    prompts = {}
    for name, each in options.prompts.items():
        encoder = by_name[each.encoder or encoders[0].name]
        sentences = read_prompts(locate(f"embed.prompts.{name}", each, SHELF))
        prompts[name] = (encoder.name, PromptScorer(each, sentences, encoder.texts["en"]))
    return Scorers(pictures, prompts)
