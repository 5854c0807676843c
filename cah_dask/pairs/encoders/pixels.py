"""Pictures as a model takes them: made by Pillow on the cores, or on the device of the model.

For a GPU the cores only decode. There a picture is resized as Pillow does it: by the same filter,
first across and then down, rounded to whole grey levels after each. Of photographs no value differs
by more than two levels. (Pillow 13 takes tall pictures down first: up to 5 % of their values then
differ by a level.)
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from cah_dask.pairs.encoders.forward import Rows
from cah_dask.pairs.encoders.towers import Pixels

_PADDED_PIXELS = 16_000_000
"""Pixels that are resized at once, padding included: about half a GB of memory."""


class PixelMaker(Protocol):
    """Makes pictures ready for a model, in two steps."""

    def preprocess(self, image: Image.Image) -> Pixels:
        """Do what the cores do of it."""

    def batch(self, images: Sequence[Pixels]) -> Any:
        """Return pictures on the device: a float32 tensor of shape (n, 3, side, side)."""


def pixel_maker(transform: Callable[[Image.Image], Any], config: Any, device: Any) -> PixelMaker:
    """Return what makes pictures ready for a model of open_clip on its device.

    Parameters
    ----------
    transform
        What open_clip does with a picture.
    config
        Its `PreprocessCfg`.
    """
    if device.type == "cuda" and DevicePixels.can(config):
        return DevicePixels(config, device)
    return PillowPixels(transform, device)


class PillowPixels:
    """Does all of it on the cores."""

    def __init__(self, transform: Callable[[Image.Image], Any], device: Any) -> None:
        self._transform = transform
        self._device = device

    def preprocess(self, image: Image.Image) -> Pixels:
        """Return a picture as float32 of shape (3, side, side), normalised."""
        pixels: Pixels = self._transform(image).numpy()
        return pixels

    def batch(self, images: Sequence[Pixels]) -> Any:
        """Copy pictures to the device."""
        import torch

        return torch.from_numpy(np.stack(images)).to(self._device)


class DevicePixels:
    """Resizes, crops and normalises on the device."""

    def __init__(self, config: Any, device: Any) -> None:
        import torch

        self._side = _side(config.size)
        self._is_squashed = config.resize_mode == "squash"
        self._device = device
        self._mean, self._std = (
            torch.tensor(values, device=device).view(3, 1, 1)
            for values in (config.mean, config.std)
        )

    @staticmethod
    def can(config: Any) -> bool:
        """Tell whether it does what a configuration asks for."""
        is_known = config.resize_mode in ("shortest", "squash")
        return is_known and config.interpolation == "bicubic" and _side(config.size) > 0

    def preprocess(self, image: Image.Image) -> Pixels:
        """Return a picture as it is: uint8 of shape (height, width, 3)."""
        return np.asarray(image)

    def batch(self, images: Sequence[Pixels]) -> Any:
        """Resize, crop and normalise pictures of any size."""
        import torch

        shape = (len(images), 3, self._side, self._side)
        pixels = torch.empty(shape, device=self._device, memory_format=torch.channels_last)
        for rows in _alike([image.shape for image in images]):
            made = self._resized([images[row] for row in rows])
            pixels[torch.from_numpy(rows).to(self._device)] = made
        return pixels.div_(255).sub_(self._mean).div_(self._std)

    def _resized(self, images: Sequence[Pixels]) -> Any:
        """Return grey levels of shape (n, 3, side, side) of pictures of like size."""
        import torch

        heights, widths = ([image.shape[axis] for image in images] for axis in (0, 1))
        n, height, width = len(images), max(heights), max(widths)
        shape = (n, height, width, 3)
        padded = torch.empty(shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        for place, image in zip(padded.numpy(), images, strict=True):
            place[: image.shape[0], : image.shape[1]] = image
        levels = padded.to(self._device, non_blocking=True).permute(0, 1, 3, 2).float()
        across = self._weights(widths, heights)  # (n, side, width)
        levels = _rounded(levels.reshape(n, height * 3, width) @ across.transpose(1, 2))
        down = self._weights(heights, widths)
        levels = _rounded(down @ levels.view(n, height, 3 * self._side))
        return levels.view(n, self._side, 3, self._side).transpose(1, 2)

    def _weights(self, sizes: Sequence[int], others: Sequence[int]) -> Any:
        """Return what each pixel of a line contributes to each of a resized and cropped line.

        Parameters
        ----------
        sizes, others
            Length of the line in each picture, and the picture's other side.

        Returns
        -------
        Tensor
            ``(n, side, longest line)`` float32; rows sum to 1.
        """
        import torch

        plans = [self._plan(size, other) for size, other in zip(sizes, others, strict=True)]
        known = torch.tensor([[*plan, size] for plan, size in zip(plans, sizes, strict=True)])
        resized, first, size = known.to(self._device).double().T[:, :, None]
        scale = size / resized
        step = scale.clamp(min=1)
        places = torch.arange(self._side, device=self._device, dtype=torch.float64)
        centre = ((first + places + 0.5) * scale)[:, :, None]
        pixel = torch.arange(max(sizes), device=self._device, dtype=torch.float64)
        weights = _bicubic((pixel + 0.5 - centre) / step[:, :, None])
        weights *= pixel < size[:, :, None]
        return (weights / weights.sum(-1, keepdim=True)).float()

    def _plan(self, size: int, other: int) -> tuple[int, int]:
        """Return to how many pixels a line is resized, and the first that stays."""
        if self._is_squashed:
            return self._side, 0
        resized = int(self._side * size / min(size, other))
        return resized, round((resized - self._side) / 2)


def _side(size: Any) -> int:
    """Return the side of the square that a model takes, 0 if it takes none."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height) if height == width else 0


def _alike(shapes: Sequence[tuple[int, ...]]) -> Iterator[Rows]:
    """Yield the rows of pictures that are padded to one size, which adds a quarter at the most."""
    group: list[int] = []
    width = area = 0
    for row in sorted(range(len(shapes)), key=shapes.__getitem__):
        own = shapes[row][0] * shapes[row][1]
        width, area = max(width, shapes[row][1]), area + own
        padded = (len(group) + 1) * shapes[row][0] * width  # the last is the highest
        if group and padded > min(_PADDED_PIXELS, 1.25 * area):
            yield np.array(group)
            group, width, area = [], shapes[row][1], own
        group.append(row)
    if group:
        yield np.array(group)


def _bicubic(distance: Any) -> Any:
    """Return the weight at a distance (Keys' cubic with a = -0.5, as Pillow's)."""
    import torch

    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _rounded(levels: Any) -> Any:
    return levels.add_(0.5).floor_().clamp_(0, 255)
