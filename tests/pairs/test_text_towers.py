"""Text towers of mCLIP and M-CLIP: the formula, the padding, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.load import load_model
from cah_dask.pairs.encoders.loadable import require_loadable
from cah_dask.pairs.encoders.models import checksums, locate
from cah_dask.pairs.encoders.text_tower import require_fitting
from cah_dask.pairs.encoders.weights import require_whole
from cah_dask.pairs.options import EmbedOptions
from tests.hostile import Trap
from tests.text_models import (
    DIM,
    LENGTH,
    LONG,
    TEXTS,
    m_clip,
    sentence_transformers,
    transformers,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def mclip(tmp_path: Path) -> Path:
    return sentence_transformers(tmp_path / "mclip")


def options(**changes) -> EmbedOptions:
    return EmbedOptions(**({"batch_size": 4} | changes))


def padded_tokens(folder: Path, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of all texts at the full length, and where they are no padding."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pad = tokenizer.token_to_id("[PAD]") if tokenizer.token_to_id("[PAD]") is not None else 1
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH, pad_id=pad)
    encoded = tokenizer.encode_batch(texts)
    return np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded])


def mean_and_linear(
    hidden: np.ndarray, mask: np.ndarray, weight: np.ndarray, bias: np.ndarray | float = 0.0
) -> np.ndarray:
    mean = np.einsum("ntd,nt->nd", hidden, mask) / mask.sum(1, keepdims=True)
    vectors = mean @ weight.T + bias
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def hidden_of(model, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        answer = model.eval()(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))
    return answer.last_hidden_state.numpy()


def test_mclip_is_the_mean_of_tokens_through_a_linear_layer(mclip: Path):
    ids, mask = padded_tokens(mclip, [*TEXTS, LONG])
    hidden = hidden_of(transformers().DistilBertModel.from_pretrained(mclip), ids, mask)
    weight = load_file(mclip / "2_Dense" / "model.safetensors")["linear.weight"].numpy()
    texts = load_model(str(mclip), options()).encode_texts([*TEXTS, LONG])
    assert texts.vectors.dtype == np.float32
    assert np.abs(texts.vectors - mean_and_linear(hidden, mask, weight)).max() <= 1e-5
    assert texts.n_cut == 1


def test_m_clip_is_the_mean_of_tokens_through_a_linear_layer_with_bias(tmp_path: Path):
    folder = m_clip(tmp_path)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    config = transformers().XLMRobertaConfig(
        **json.loads((folder / "xlm-roberta-large/config.json").read_text())
    )
    model = transformers().XLMRobertaModel(config)
    prefix = "transformer."
    parts = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    model.load_state_dict(parts, strict=False)
    ids, mask = padded_tokens(folder, [*TEXTS, LONG])
    weight, bias = (state[f"LinearTransformation.{name}"].numpy() for name in ("weight", "bias"))
    expected = mean_and_linear(hidden_of(model, ids, mask), mask, weight, bias)
    texts = load_model(str(folder), options()).encode_texts([*TEXTS, LONG])
    assert np.abs(texts.vectors - expected).max() <= 1e-5
    assert texts.n_cut == 1


def test_texts_of_like_length_share_a_batch_that_is_padded_to_its_longest(mclip: Path):
    tower = load_model(str(mclip), options())
    shapes = []
    tower._forward._model["transformer"].register_forward_pre_hook(
        lambda _module, _args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    tower.encode_texts(["red " * n for n in (9, 1, 20, 2, 3, 10, 4, 60)])
    assert shapes == [(5, 11), (2, 22), (1, LENGTH)]  # at most 4 times 16 tokens


def test_weights_are_read_from_both_kinds_of_files_and_places(mclip: Path, tmp_path: Path):
    other = sentence_transformers(tmp_path / "o", root="0_Transformer/", dense="pytorch_model.bin")
    first, second = (
        load_model(str(each), options()).encode_texts(TEXTS) for each in (mclip, other)
    )
    assert np.array_equal(first.vectors, second.vectors)
    assert "0_Transformer/model.safetensors" in checksums(locate(str(other)))


def test_the_newer_words_of_sentence_transformers_mean_the_same(mclip: Path):
    before = load_model(str(mclip), options()).encode_texts([*TEXTS, LONG])
    (mclip / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    (mclip / "sentence_bert_config.json").write_text("{}")
    (mclip / "tokenizer_config.json").write_text(json.dumps({"model_max_length": LENGTH}))
    after = load_model(str(mclip), options()).encode_texts([*TEXTS, LONG])
    assert np.array_equal(before.vectors, after.vectors)


def test_every_file_that_decides_vectors_is_pinned(mclip: Path):
    before = checksums(locate(str(mclip)))
    assert before.keys() == {
        "modules.json", "config.json", "model.safetensors", "tokenizer.json",
        "sentence_bert_config.json", "1_Pooling/config.json", "2_Dense/config.json",
        "2_Dense/model.safetensors",
    }  # fmt: skip


def test_half_precision_moves_vectors_a_little(mclip: Path):
    exact, rounded = (
        load_model(str(mclip), options(precision=each)).encode_texts(TEXTS).vectors
        for each in ("fp32", "bf16")
    )
    assert 0 < np.abs(exact - rounded).max() < 0.05


def test_texts_that_overflow_in_half_precision_are_embedded_in_float32(mclip: Path):
    state = load_file(mclip / "model.safetensors")
    large = {name: state[name] * 2e4 for name in state if ".1.ffn.lin" in name}
    save_file(state | large, mclip / "model.safetensors")
    exact, half = (
        load_model(str(mclip), options(precision=each)).encode_texts(TEXTS).vectors
        for each in ("fp32", "fp16")
    )
    assert np.abs(exact - half).max() < 0.02


def look_at(folder: Path) -> None:
    """What `require_loadable` does in a process of its own."""
    found = locate(str(folder))
    for path in found.files.values():
        if path.suffix == ".safetensors":
            require_whole(path)
    assert found.text is not None
    require_fitting(found.text)


def said(folder: Path) -> str:
    """What is said of a model that is refused: one line, before any task."""
    with pytest.raises(ConfigError) as caught:
        look_at(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sound_text_towers_are_loadable_and_looked_at_once(mclip: Path, tmp_path: Path):
    for _ in range(2):
        require_loadable(locate(str(mclip)))
        require_loadable(locate(str(m_clip(tmp_path / "m-clip"))))
    assert len(list((tmp_path / "cache" / "cah_dask").iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "known: mean"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "known: mean"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "known: mean"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.Tanh"}, "known: Identity"),
        ("2_Dense/config.json", {"activation_function": None}, "known: Identity"),
        ("2_Dense/config.json", {"use_residual": True}, "known: false"),
        ("2_Dense/config.json", {"out_features": "512"}, "a positive number"),
        ("2_Dense/config.json", {"out_features": 8}, r"shape \(16, 24\)"),
        ("2_Dense/config.json", {"in_features": 12}, "takes 12 numbers of a token"),
        ("2_Dense/config.json", {"bias": True}, r"no weights linear\.bias"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "known: false"),
        ("config.json", {"n_layers": 3}, r"no weights transformer\.layer\.2"),
        ("config.json", {"n_layers": 1}, r"transformer\.layer\.1.* knows nothing of"),
        ("config.json", {"hidden_dim": 64}, "its config asks for"),
        ("config.json", {"model_type": "no-such"}, "no transformer that can be built"),
        ("config.json", {"vocab_size": 20}, "not of one model|asks for"),
    ],
)
def test_what_is_not_done_here_and_what_does_not_fit_is_refused(
    mclip: Path, name: str, change: dict, message: str
):
    path = mclip / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert_matches(message, said(mclip))


def assert_matches(pattern: str, text: str) -> None:
    with pytest.raises(ConfigError, match=pattern):
        raise ConfigError(text)


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json", "config.json", "model.safetensors", "1_Pooling/config.json",
        "2_Dense/model.safetensors", "sentence_bert_config.json",
    ],
)  # fmt: skip
def test_a_missing_file_is_named(mclip: Path, name: str):
    (mclip / name).unlink()
    assert name in said(mclip)


@pytest.mark.parametrize("name", ["config.json", "modules.json", "2_Dense/config.json"])
@pytest.mark.parametrize("text", ["", "[1]", "3"])
def test_a_file_that_is_not_what_it_should_be_is_refused(mclip: Path, name: str, text: str):
    (mclip / name).write_text(text)
    assert name.rsplit("/", maxsplit=1)[-1] in said(mclip)


@pytest.mark.parametrize("name", ["model.safetensors", "2_Dense/model.safetensors"])
def test_weights_that_were_cut_are_refused(mclip: Path, name: str):
    data = (mclip / name).read_bytes()
    (mclip / name).write_bytes(data[:-9])
    assert "it was cut while it was copied" in said(mclip)


def test_a_prompt_that_texts_would_get_is_refused(mclip: Path):
    path = mclip / "config_sentence_transformers.json"
    path.write_text('{"prompts": {}, "default_prompt_name": null}')
    look_at(mclip)
    path.write_text('{"prompts": {"query": "query: "}, "default_prompt_name": "query"}')
    assert "known: null" in said(mclip)


def test_parts_in_another_order_are_refused(mclip: Path):
    path = mclip / "modules.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:2]))
    assert "known: Transformer, Pooling, Dense" in said(mclip)


def test_a_tokenizer_of_another_model_is_refused(mclip: Path):
    weights = load_file(mclip / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    save_file(weights | {name: weights[name][:20].contiguous()}, mclip / "model.safetensors")
    path = mclip / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 20}))
    assert "they are not of one model" in said(mclip)


def test_what_is_wrong_is_said_in_one_line_by_the_process_that_looks(mclip: Path):
    path = mclip / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_layers": 3}))
    with pytest.raises(
        ConfigError, match=r"cannot be loaded: .* no weights transformer\.layer\.2.*$"
    ):
        require_loadable(locate(str(mclip)))


@pytest.mark.parametrize("make", [sentence_transformers, m_clip])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, make: Callable[[Path], Path]):
    folder = make(tmp_path / "model")
    for path in folder.glob("model.safetensors"):
        path.unlink()
    torch.save(Trap(tmp_path / "ran"), folder / "pytorch_model.bin")
    assert "no file of tensors only" in said(folder)
    assert not (tmp_path / "ran").exists()


def test_the_base_of_m_clip_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = m_clip(tmp_path)
    (folder / "xlm-roberta-large" / "config.json").unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "run `cah models fetch`" in said(folder)


def test_the_length_of_a_vector_is_read_from_the_configuration(mclip: Path, tmp_path: Path):
    assert locate(str(mclip)).dim == locate(str(m_clip(tmp_path / "m"))).dim == DIM
