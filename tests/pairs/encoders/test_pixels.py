"""Pictures resized on the device are those that Pillow makes."""

import numpy as np
import pytest
from PIL import Image

from cah_dask.pairs.encoders.open_clip_import import open_clip
from cah_dask.pairs.encoders.pixels import DevicePixels, PillowPixels, pixel_maker

torch = pytest.importorskip("torch")
open_clip()
transform = pytest.importorskip("open_clip.transform")

CPU = torch.device("cpu")
SIZES = [(256, 341), (400, 256), (64, 64), (224, 224), (512, 300), (65, 300), (90, 101), (256, 341)]
CONFIGS = {
    "CLIP": transform.PreprocessCfg(),
    "SigLIP": transform.PreprocessCfg(256, mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="squash"),
    "small": transform.PreprocessCfg((32, 32)),
}


def photographs() -> list[Image.Image]:
    """Draw pictures of some coarse structure, and as much noise as a camera leaves."""
    random = np.random.default_rng(5)
    made = []
    for height, width in SIZES:
        coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8))
        levels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
        noisy = levels + random.normal(0, 5, levels.shape)
        made.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    return made


@pytest.mark.parametrize("name", CONFIGS)
def test_the_device_makes_the_pixels_of_pillow(name: str):
    config = CONFIGS[name]
    pillow = PillowPixels(transform.image_transform_v2(config, is_train=False), CPU)
    device = DevicePixels(config, CPU)
    wanted, found = (
        maker.batch([maker.preprocess(image) for image in photographs()])
        for maker in (pillow, device)
    )
    levels = (wanted - found).abs() * 255 * torch.tensor(config.std).view(3, 1, 1)
    assert levels.max() < 2.5
    assert (levels > 0.5).float().mean() < 0.05
    assert found.shape == wanted.shape


def test_a_picture_does_not_depend_on_its_neighbours():
    device = DevicePixels(CONFIGS["CLIP"], CPU)
    images = [device.preprocess(image) for image in photographs()]
    together = device.batch(images)
    assert all(
        (together[row] - device.batch([image])[0]).abs().max() < 0.02
        for row, image in enumerate(images)
    )


@pytest.mark.parametrize(
    ("changes", "on_device"),
    [
        ({}, True),
        ({"size": (224, 112)}, False),
        ({"interpolation": "bilinear"}, False),
        ({"resize_mode": "longest"}, False),
    ],
)
def test_what_the_device_cannot_do_the_cores_do(changes: dict, on_device: bool):  # noqa: FBT001
    config = transform.PreprocessCfg(**changes)
    assert DevicePixels.can(config) == on_device


def test_without_a_gpu_the_cores_do_all():
    assert isinstance(pixel_maker(lambda image: image, CONFIGS["CLIP"], CPU), PillowPixels)
