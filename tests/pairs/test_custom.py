"""Models of one's own: the example of the documentation, and what is refused."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from PIL import Image

from cah_dask.errors import ConfigError
from cah_dask.pairs.encoders.custom import require_working
from cah_dask.pairs.encoders.load import load_encoders
from cah_dask.pairs.encoders.loadable import require_loadable
from cah_dask.pairs.encoders.models import embedding_dim, locate
from cah_dask.pairs.options import EmbedOptions, EncoderOptions
from cah_dask.pairs.resolve import resolve

PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory from which modules are imported; other tests see none of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def module(name: str, source: str) -> str:
    sys.modules.pop(name, None)
    Path(f"{name}.py").write_text(dedent(source))
    return name


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_example_of_the_documentation_works():
    model = f"{module('colours', examples()[0])}:Colours"
    (encoder,) = load_encoders(EmbedOptions(model=model))
    pixels = [encoder.image.preprocess(Image.new("RGB", (40, 30), c)) for c in ("red", "blue")]
    texts = encoder.texts["multi"].encode_texts(["red things", "blue things", "no colour"])
    cosine = encoder.image.encode_images(pixels) @ texts.vectors.T
    assert cosine.argmax(1).tolist() == [0, 1]
    assert encoder.dim == embedding_dim(model) == 4


def test_the_example_keeps_the_contract(here: Path):
    module("colours", examples()[0])
    module("test_colours", examples()[1])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(here)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here)
    assert done.returncode == 0, done.stdout
    assert "9 passed" in done.stdout


TOWERS = """
    import numpy as np
    from cah_dask.pairs.encoders.towers import Texts

    class Texts28:
        dim = 28
        files = ["weights.npy"]
        def __init__(self, options):
            self.options = options
        def encode_texts(self, texts):
            return Texts(np.tile(np.eye(28, dtype=np.float32)[0], (len(texts), 1)))

    class Images28:
        dim = 28
        def __init__(self, options): pass
        def preprocess(self, image): return np.zeros(1)
        def encode_images(self, images):
            return np.tile(np.eye(28, dtype=np.float32)[0], (len(images), 1))
"""


def test_a_text_tower_of_ones_own_speaks_for_the_splits_that_name_it(here: Path):
    model = f"{module('towers_a', TOWERS)}:Texts28"
    (here / "weights.npy").write_bytes(b"1")
    options = EmbedOptions(encoders={"a": EncoderOptions(image="tiny", texts={"multi": model})})
    (encoder,) = load_encoders(options)
    assert encoder.texts["multi"].encode_texts(["x"]).vectors[0, 0] == 1
    assert encoder.texts["en"].encode_texts(["x"]).vectors[0, 0] != 1


def test_a_changed_source_or_file_is_another_model(here: Path):
    model = f"{module('towers_b', TOWERS)}:Texts28"
    (here / "weights.npy").write_bytes(b"1")
    encoders = {"a": EncoderOptions(image="tiny", texts={"multi": model})}
    pinned = resolve(EmbedOptions(encoders=encoders)).checksums
    assert set(pinned[model]) == {"towers_b.py", "weights.npy"}
    for name in pinned[model]:
        wanted = {**pinned, model: {**pinned[model], name: "0" * 64}}
        with pytest.raises(ConfigError, match=re.escape(f"{name} of {model} has SHA-256")):
            resolve(EmbedOptions(encoders=encoders, checksums=wanted))


def test_a_missing_file_is_named():
    model = f"{module('towers_c', TOWERS)}:Texts28"
    with pytest.raises(ConfigError, match=r"names a file that is missing: .*weights\.npy"):
        locate(model)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (EncoderOptions(image="towers_d:Texts28"), "is a text tower alone"),
        (EncoderOptions(image="towers_d:Images28"), r"image tower alone; .*encoders\.a\.texts\.en"),
        (EncoderOptions(image="tiny", texts={"nolang": "towers_d:Images28"}), r"texts\.nolang"),
    ],
)
def test_a_tower_that_is_missing_is_named(here: Path, encoder: EncoderOptions, message: str):
    module("towers_d", TOWERS)
    (here / "weights.npy").write_bytes(b"1")
    with pytest.raises(ConfigError, match=message):
        resolve(EmbedOptions(encoders={"a": encoder}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "AttributeError: module 'wrong' has no attribute 'Model'"),
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("class Model", "SyntaxError"),
        ("class Model: pass", "no class attribute dim"),
        ("class Model: dim = '4'", "no class attribute dim"),
        ("class Model: dim = 4", "has neither encode_texts nor"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(source: str, message: str):
    module("wrong", source)
    with pytest.raises(ConfigError, match=message) as caught:
        locate("wrong:Model")
    assert "\n" not in str(caught.value)


def test_a_module_that_is_nowhere_is_refused():
    with pytest.raises(ConfigError, match=r"nowhere:Model cannot be imported from .*PYTHONPATH"):
        locate("nowhere:Model")


@pytest.mark.parametrize(
    ("init", "answer", "message"),
    [
        ("1 / 0", "None", "ZeroDivisionError: division by zero"),
        ("open('/no/weights')", "None", "FileNotFoundError: .*No such file"),
        ("pass", "np.ones((1, 4), np.float32)", "a vector of length 2; it has to be a unit vector"),
        ("pass", "np.full((1, 4), 0.5)", "gives float64 of shape"),
        ("pass", "np.ones((1, 8), np.float32)", r"of shape \(1, 8\)"),
        ("pass", "np.full((1, 4), np.nan, np.float32)", "has to be a unit vector"),
    ],
)
def test_a_model_that_does_not_work_is_refused_before_the_run(init: str, answer: str, message: str):
    module(
        "broken",
        f"""
        import numpy as np
        from cah_dask.pairs.encoders.towers import Texts

        class Model:
            dim = 4
            def __init__(self, options):
                {init}
            def encode_texts(self, texts):
                return Texts({answer})
        """,
    )
    with pytest.raises(ConfigError, match=message) as caught:
        require_working("broken:Model")
    assert "\n" not in str(caught.value)


def test_a_model_is_built_by_a_process_of_its_own():
    model = f"{module('dies', DIES)}:Model"
    with pytest.raises(ConfigError, match=r"dies:Model cannot be loaded: RuntimeError: too big"):
        require_loadable(locate(model))


DIES = """
    class Model:
        dim = 4
        def __init__(self, options):
            raise RuntimeError("too big")
        def encode_texts(self, texts): ...
"""
