"""Which models options mean, and mistakes found before a GPU is asked for."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cah_dask.errors import ConfigError
from cah_dask.pairs.contract import pictures
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.encoders.models import embedding_dim, file_sha256
from cah_dask.pairs.encoders.towers import Encoder
from cah_dask.pairs.options import EmbedOptions, EncoderOptions
from cah_dask.pairs.resolve import identity, is_as_pinned, resolve, with_names_of


def options(model: Path | str, **changes) -> EmbedOptions:
    return EmbedOptions(**{"model": str(model), **changes})


def load_encoder(*given, **changes) -> Encoder:
    (encoder,) = load_encoders(*given, **changes)
    return encoder


def test_bf16_moves_vectors_a_little(random_model: Path):
    exact, rounded = (
        tower.encode_images([tower.preprocess(each) for each in pictures()])
        for tower in (
            load_encoder(options(random_model)).image,
            load_encoder(options(random_model, precision="bf16")).image,
        )
    )
    assert np.allclose(exact, rounded, atol=0.05)


def test_resolving_pins_every_file(random_model: Path):
    pinned = resolve(options(random_model))
    names = ("open_clip_model.safetensors", "open_clip_config.json")
    found = {name: file_sha256(random_model / name) for name in names}
    assert pinned.checksums == {str(random_model): found}
    assert resolve(pinned) == pinned


def test_the_dimension_is_known_without_loading_weights(random_model: Path):
    assert resolve(options(random_model)).encoders[random_model.name].dim == 16
    assert embedding_dim("ViT-B-32-quickgelu/openai") == 512


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("openclip", "unknown model 'openclip'; known: tiny, the presets of `cah models list`"),
        ("ViT-B-32-quickgelu/openia", "such as ViT-B-32-quickgelu/openai"),
        ("ViT-B-32/openai", "use ViT-B-32-quickgelu/openai"),
        ("/nowhere/at/all", "has no open_clip_config.json"),
    ],
)
def test_an_unknown_model_is_refused_with_what_is_known(model: str, message: str):
    with pytest.raises(ConfigError, match=message):
        resolve(options(model))


def test_missing_weights_are_named(random_model: Path, tmp_path: Path):
    (tmp_path / "open_clip_config.json").write_bytes(
        (random_model / "open_clip_config.json").read_bytes()
    )
    with pytest.raises(ConfigError, match=r"has no weights; it needs open_clip_model\.safetensors"):
        resolve(options(tmp_path))


def test_other_files_than_the_config_names_are_refused(random_model: Path):
    for wanted, message in (
        ({"open_clip_model.safetensors": "0" * 64}, r"embed\.checksums wants 0000"),
        ({"vocab.txt": "0" * 64}, "is no file of it"),
    ):
        with pytest.raises(ConfigError, match=message):
            resolve(options(random_model, checksums={str(random_model): wanted}))
    with pytest.raises(ConfigError, match="names /else, which is no model of this"):
        resolve(options(random_model, checksums={"/else": {}}))


def test_a_model_and_encoders_are_not_given_both():
    encoders = {"a": EncoderOptions(image="tiny")}
    with pytest.raises(ConfigError, match="are both given"):
        resolve(options("tiny", encoders=encoders))


def test_towers_of_spaces_of_unequal_size_are_refused(random_model: Path):
    encoders = {"a": EncoderOptions(image="tiny", texts={"multi": str(random_model)})}
    with pytest.raises(ConfigError, match="they are not of one space"):
        resolve(EmbedOptions(encoders=encoders))


def test_several_encoders_keep_their_names_and_share_a_model(random_model: Path):
    model = str(random_model)
    encoders = {"a": EncoderOptions(image=model), "b": EncoderOptions(image="tiny")}
    one, two = load_encoders(EmbedOptions(encoders=encoders))
    assert (one.name, one.dim, two.name) == ("a", 16, "b")
    assert two.dim != 16


def test_encoders_are_known_by_their_files(random_model: Path, tmp_path: Path):
    copied = shutil.copytree(random_model, tmp_path / "elsewhere")
    here, there, other = (resolve(options(model)) for model in (random_model, copied, "tiny"))
    assert list(there.encoders) == ["elsewhere"]
    assert list(with_names_of(there, here).encoders) == [random_model.name]
    assert with_names_of(other, here) == other


def resolved(*encoders: EncoderOptions, **checksums: str) -> EmbedOptions:
    """Resolved options of encoders a, b... whose models have a file each."""
    named = dict(zip("ab", encoders, strict=False))
    models = {
        model: {"w": checksums[model.rpartition("/")[2]]} for e in encoders for model in e.models
    }
    return EmbedOptions(
        encoders=named, checksums=models, names={model: f"name of {model}" for model in models}
    )


def test_names_follow_the_towers_in_whatever_order_the_splits_are_written():
    digests = {name: name * 64 for name in "123"}
    before = resolved(
        EncoderOptions(image="/x/1", texts={"multi": "/x/2", "nolang": "/x/3"}), **digests
    )
    again = resolved(
        EncoderOptions(image="/x/1", texts={"nolang": "/x/3", "multi": "/x/2"}), **digests
    )
    assert with_names_of(again, before).names == before.names
    moved = resolved(
        EncoderOptions(image="/y/1", texts={"nolang": "/y/3", "multi": "/y/2"}), **digests
    )
    assert with_names_of(moved, before).names == {
        f"/y/{name}": f"name of /x/{name}" for name in "123"
    }


def test_two_folders_with_one_model_may_become_one():
    same = dict.fromkeys("12", "0" * 64)
    before = resolved(EncoderOptions(image="/x/1", texts={"multi": "/x/2"}), **same)
    after = resolved(EncoderOptions(image="/x/1"), **same)
    assert with_names_of(after, before).names == {"/x/1": "name of /x/1"}


def test_the_order_of_encoders_is_part_of_what_a_run_is():
    one, two = EncoderOptions(image="/x/1"), EncoderOptions(image="/x/2")
    digests = {"1": "1" * 64, "2": "2" * 64}
    found = [
        list(identity(resolved(*pair, **digests)).values()) for pair in ((one, two), (two, one))
    ]
    assert found[0] == found[1][::-1] != found[1]


def test_fetched_models_that_are_gone_are_those_that_a_run_was_begun_with():
    before = resolved(EncoderOptions(image="/models/p/1"), **{"1": "1" * 64})
    assert is_as_pinned(EmbedOptions(model="/models/p"), before)
    assert not is_as_pinned(EmbedOptions(model="/models/q"), before)
    assert not is_as_pinned(EmbedOptions(model="/models/p", batch_size=2), before)
