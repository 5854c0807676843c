"""Options of scores and of the rules that drop by them."""

from typing import Annotated, Literal, TypeAlias

import msgspec

ScoreName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""What a score, or a rule, is called: lower-case letters, digits and `_`."""

Pin: TypeAlias = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]
"""SHA-256 of a file, hex. Refuse to start unless it is so; filled in at the start, so that a run,
or a release, cannot be made with another file."""

_Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]

HeadKind: TypeAlias = Literal[
    "laion-nsfw", "laion-nsfw-h14", "laion-aesthetic", "datacomp-nsfw", "mlp"
]


class OnnxInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How an ONNX model wants its pictures: squeezed to a square, cut in the middle, normalised."""

    layout: Literal["nchw", "nhwc"]
    channels: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    """Taken from values of 0 to 255, in the order of the channels."""
    std: tuple[_Positive, _Positive, _Positive]
    """They are divided by it then."""
    side: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 224
    """Pixels."""
    resize: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    """Side of the square before the middle is cut out. Default: `side`."""


class PictureOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A score that a model of its own gives to pictures."""

    model: str
    """`opennsfw`, a file `*.onnx`, or `module:Class` (`scores.pictures.PictureScorer`)."""
    input: OnnxInput | None = None
    """Of a file: how it wants its pictures."""
    output: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Of a file: which number of its first output is the score."""
    softmax: bool = False
    """Of a file: take the softmax of its first output before."""
    arguments: dict[str, str | int | float | bool] = {}
    """Of a class: what it is made with."""
    sha256: Pin = ""


class PromptsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A score by what prompts a picture is nearest to, among those of a set."""

    file: str
    """A set of the package (`nsfw`, `age`, `animals`) or a YAML file: label -> prompts."""
    label: str
    """The score is how likely it is that the picture has this label, 0 to 1."""
    top: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Count instead how many of so many nearest prompts have the label."""
    encoder: str | None = None
    """The encoder that embeds the prompts, as English texts. Default: the first."""
    scale: Annotated[float, msgspec.Meta(gt=0)] = 100.0
    """Cosines are multiplied by it before the softmax: the model's own logit scale."""
    sha256: Pin = ""


class HeadOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A score that a small network gives to stored image vectors."""

    file: str
    """Weights: `*.safetensors`, or a PyTorch file that holds tensors and nothing else."""
    kind: HeadKind
    """Whose layout they have."""
    encoder: str | None = None
    """The encoder whose vectors it was trained on. Default: the only one."""
    sha256: Pin = ""


class WordsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A score that counts listed words in a text."""

    file: str
    """A list of the package (`children-en`) or a file with a word or phrase in each line."""
    languages: tuple[str, ...] = ()
    """Count in texts of these languages only (column `lang`). Default: in all."""
    sha256: Pin = ""


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Scores that a rule is about; a score that is no number is always one of them."""

    above: float | None = None
    """Those that are greater."""
    below: float | None = None
    """Those that are less."""


Rules: TypeAlias = dict[ScoreName, Annotated[dict[ScoreName, Limit], msgspec.Meta(min_length=1)]]
"""By name of the rule and of the score: it drops the rows of which all its limits are true."""
