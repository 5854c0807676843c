"""Files that filters need: the right ones, or one clear line."""

import hashlib
import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest

from cah_dask.curate.texts.assets import IMAGENET_21K, KNOWN, WORDNET, Asset, require
from cah_dask.curate.texts.wordnet import read_entities
from cah_dask.errors import ConfigError
from tests.curate.texts.lid import LID_FTZ


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_with_the_right_bytes_is_taken(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"right")
    assert require(Asset("x", sha256(b"right"), "a shop"), path) == path


def test_another_file_is_refused_with_all_one_needs_to_know(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"wrong")
    with pytest.raises(ConfigError) as caught:
        require(Asset("a model", sha256(b"right"), "https://shop.example/x"), path)
    line = str(caught.value)
    assert "\n" not in line
    for part in ("a model", str(path), sha256(b"wrong"), sha256(b"right"), "shop.example/x"):
        assert part in line


@pytest.mark.parametrize("name", ["missing", ""])
def test_what_is_no_file_is_refused_with_where_to_get_it(tmp_path, name):
    with pytest.raises(ConfigError, match=r"^a model: there is no file .*a shop$"):
        require(Asset("a model", "0" * 64, "a shop"), tmp_path / name)


def test_a_folder_is_its_files_as_sha256sum_lists_them(tmp_path):
    for name in ("b", "a", "other"):
        (tmp_path / name).write_text(name)
    listed = subprocess.run(["sha256sum", "a", "b"], cwd=tmp_path, capture_output=True, check=True)
    folder = Asset("folder", sha256(listed.stdout), "", ("a", "b"))
    assert require(folder, tmp_path) == tmp_path


def test_a_folder_tells_what_it_lacks(tmp_path):
    with pytest.raises(ConfigError, match=r"^wordnet-3\.0: there is no file .*adj\.exc, .*wordnet"):
        require(WORDNET, tmp_path)


def test_known_assets_have_a_checksum_and_a_source():
    for name, asset in KNOWN.items():
        assert asset.name == name
        assert re.fullmatch(r"[0-9a-f]{64}", asset.sha256)
        assert asset.origin
    assert len({asset.sha256 for asset in KNOWN.values()}) == len(KNOWN)


def test_the_compressed_model_of_languages_is_the_known_one():
    assert require(KNOWN["lid.176.ftz"], LID_FTZ) == LID_FTZ


def test_the_ids_of_datacomp_are_those_that_timm_ships():
    listed = distribution("timm").locate_file("timm/data/_info/imagenet21k_goog_synsets.txt")
    entities = read_entities(require(IMAGENET_21K, Path(str(listed))))
    assert len(entities) == 21843
    assert 2084071 in entities  # dog
