"""Options of the embed stage."""

from typing import Annotated, Literal, TypeAlias

import msgspec

from cah_dask.pairs.scores.options import PictureOptions, PromptsOptions, ScoreName
from cah_dask.schema import Split

Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""What an encoder is called: the name of its folder in a release."""

Sha256: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class EncoderOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One image tower, and the text towers that speak its space; each is named like a model."""

    image: str
    """Model that embeds the images, and all texts but those below."""
    texts: dict[Split, str] = {}
    """Model that embeds the texts of a split, where it is another one."""
    dim: int | None = None
    """Length of a vector; filled in at the start."""

    def text(self, split: Split) -> str:
        """Return the model of the texts of a split."""
        return self.texts.get(split, self.image)

    @property
    def models(self) -> list[str]:
        """All models that it is made of, each once, that of the images first."""
        return list(dict.fromkeys([self.image, *self.texts.values()]))


class EmbedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How images and texts become vectors."""

    model: str | None = None
    """A preset of `cah models list`, `ARCHITECTURE/TAG` of open_clip, a model's folder (how models
    reach compute nodes without internet), `hf:ORG/NAME`, a class of yours as `module:Class`, or
    `tiny`, the demo's own. docs/encoders.md tells of each. Default: `laion5b`."""
    encoders: dict[Name, EncoderOptions] = {}
    """Instead of `model`, by any name: `image`, the model whose image tower is used, and `texts`,
    the models of the splits that have another text tower. They share one pass over the images."""
    checksums: dict[str, dict[str, Sha256]] = {}
    """SHA-256 of files, by model and file name. Refuse to start unless they are so; those of all
    files of all models are filled in at the start, so that a run cannot go on with others."""
    names: dict[str, str] = {}
    """What models are called in what is published. Default: as above, of a folder its own name."""
    licence: str = ""
    """Licence of the models, for the data card. Default: that of the preset."""
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=65536)] = 64
    """Images per forward pass, and as many texts as make 16 times as many tokens. Another number
    moves a similarity by about 1e-7, so it is the same for the whole run. Where a batch does not
    fit into the memory of a GPU, it is halved."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where the worker sees a GPU."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of the weights. bf16 is up to 5 times as fast on CPUs with AMX and moves
    similarities by about 1.5e-3; fp16 is for GPUs, and what overflows is repeated in float32.
    Similarities are always summed in float32."""

    scores: dict[ScoreName, PictureOptions] = {}
    """Scores of pictures by models of their own, by name: `{nsfw: {model: opennsfw}}`."""
    prompts: dict[ScoreName, PromptsOptions] = {}
    """Scores of pictures by the prompts that they are nearest to, by name:
    `{nsfw_prompts: {file: nsfw, label: nsfw}}`."""

    @property
    def models(self) -> list[str]:
        """All models of all encoders, each once."""
        return list(dict.fromkeys(name for each in self.encoders.values() for name in each.models))

    @property
    def score_names(self) -> list[str]:
        """All scores of pictures, in their order."""
        return [*self.scores, *self.prompts]
