"""Images at the edge: picture files, tensors in [-1, 1], resizing.

Between all functions of sfumato images are float32 (B, 3, H, W) in [-1, 1]. Pillow and uint8 occur here and in
``sheet`` only.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

__all__ = [
    "MAX_PIXELS",
    "PictureError",
    "area",
    "check_images",
    "check_masks",
    "cover",
    "from_pictures",
    "open_picture",
    "resize",
    "to_pictures",
]

MAX_PIXELS = 32_000_000
_FORMATS = ("PNG", "JPEG", "WEBP")
_MOST_SCANS = 100


class PictureError(ValueError):
    """A picture file that cannot be used; the message is one sentence that names the file and the reason."""


def open_picture(
    source: str | Path | bytes,
    max_pixels: int = MAX_PIXELS,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Image.Image:
    """Read an untrusted picture.

    PNG, JPEG or WebP by content, whatever the name. The size is read from the header before anything is decoded.
    EXIF orientation is applied, transparency is laid over the background, palettes, grey, CMYK and 16-bit become 8-bit
    RGB, the first picture of an animation counts, and Pillow's warnings are errors, but for EXIF that cannot be read.

    Args:
        source: a path, or the bytes of a file.
        max_pixels: largest width * height.
        background: colour behind transparent parts, 0..255 each.

    Returns:
        an RGB picture, decoded.

    Raises:
        PictureError: no such file, another format, too large, broken.
    """
    name = "picture" if isinstance(source, bytes) else str(source)
    try:
        with _WARNINGS.as_errors():
            content = source if isinstance(source, bytes) else Path(source).read_bytes()
            with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
                _check_size(picture.size, name, max_pixels)
                _check_scans(content, picture.format, name)
                picture.load()
                return _flat(_upright(picture), background)
    except PictureError:
        raise
    except FileNotFoundError as error:
        raise PictureError(f"{name}: there is no such file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        allowed = min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels) / 1e6
        raise PictureError(f"{name}: its pixels are many more than the {allowed:.3g} million allowed") from error
    except Image.UnidentifiedImageError as error:
        raise PictureError(f"{name}: not a PNG, JPEG or WebP picture") from error
    except Exception as error:  # Pillow raises nearly any exception on broken files
        raise PictureError(f"{name}: cannot be read as a picture ({error})") from error


def from_pictures(pictures: Sequence[Image.Image]) -> Tensor:
    """Pictures of one size to images.

    Returns:
        (B, 3, H, W), float32 in [-1, 1].

    Raises:
        ValueError: no pictures, or pictures of different sizes.
    """
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) != 1:
        raise ValueError(f"pictures must have one size to share a batch, got {sizes}")
    arrays = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Images (B, 3, H, W) in [-1, 1] to RGB pictures, rounded to 8 bits.

    Raises:
        ValueError: a tensor that is no such image.
    """
    scaled = (check_images(images).detach().cpu().float() + 1) * 127.5
    arrays = scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(array) for array in arrays]


def check_images(images: Tensor) -> Tensor:
    """The same images, if they are images.

    Args:
        images: (B, 3, H, W), floating, finite, in [-1, 1] to within 0.001.

    Raises:
        ValueError: another shape, dtype or range; says which.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must have shape (B, 3, H, W), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images must be floating numbers in [-1, 1], got {images.dtype}")
    low, high = images.detach().aminmax()
    if not (low >= -1.001 and high <= 1.001):
        raise ValueError(f"images must lie in [-1, 1], these lie in [{float(low):.4g}, {float(high):.4g}]")
    return images


def check_masks(masks: Tensor, what: str) -> None:
    """See that masks are floating numbers (B, 1, H, W) in [0, 1].

    Args:
        masks: 1 where something holds.
        what: they are of, for the message.

    Raises:
        ValueError: they are not.
    """
    if masks.ndim != 4 or masks.shape[1] != 1 or not masks.is_floating_point():
        raise ValueError(
            f"the mask of {what} must be floating numbers (1 or B, 1, H, W), "
            f"got {masks.dtype} of shape {tuple(masks.shape)}"
        )
    low, high = masks.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"the mask of {what} must lie in [0, 1], got [{low:.4g}, {high:.4g}]")


def resize(images: Tensor, height: int, width: int, kind: Literal["bilinear", "bicubic"] = "bilinear") -> Tensor:
    """Resize with a filter that does not alias; differentiable.

    Args:
        images: (B, C, H, W), any range.
        height: new height in pixels, >= 1.
        width: new width in pixels, >= 1.
        kind: "bilinear" stays within the range of the images; "bicubic" is sharper and may leave it a little.

    Returns:
        (B, C, height, width), the images themselves if they have that size.

    Raises:
        ValueError: a size below 1, or a tensor of another shape.
    """
    if height < 1 or width < 1 or images.ndim != 4:
        raise ValueError(f"cannot resize shape {tuple(images.shape)} to {height} x {width}")
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode=kind, antialias=True, align_corners=False)


def area(images: Tensor, height: int, width: int) -> Tensor:
    """The mean over each cell of a grid, a pixel that lies in two cells counted by its parts; differentiable.

    Args:
        images: (B, C, H, W), any range.
        height: cells down, >= 1.
        width: cells across, >= 1.

    Returns:
        (B, C, height, width), within the range of the images and of the same mean.
    """
    down, across = (
        _overlaps(cells, pixels, images) for cells, pixels in zip((height, width), images.shape[-2:], strict=True)
    )
    return down @ images @ across.T


def cover(images: Tensor, height: int, width: int) -> Tensor:
    """Resize without distortion until both sides are covered, and cut out the middle; differentiable.

    What is cut away is never resized, so that a picture a thousand times as long as high takes no more than another.

    Args:
        images: (B, C, H, W), any range.
        height: new height in pixels, >= 1.
        width: new width in pixels, >= 1.

    Returns:
        (B, C, height, width).

    Raises:
        ValueError: as in :func:`resize`.
    """
    scale = max(height / images.shape[-2], width / images.shape[-1])
    tall, wide = (max(side, round(old * scale)) for side, old in zip((height, width), images.shape[-2:], strict=True))
    if min(height, width) < 1 or (tall, wide) == (height, width):
        return resize(images, height, width)
    if tall > height:
        return cover(images.mT, width, height).mT
    first, weights = _middle(images.shape[-1], wide, width)
    kept = images[..., first : first + weights.shape[1]]
    return resize(kept, height, kept.shape[-1]) @ weights.T.to(images)


def _middle(pixels: int, whole: int, count: int) -> tuple[int, Tensor]:
    """Of ``whole`` that :func:`resize` makes of pixels, the middle ``count``: first pixel, weights (count, seen)."""
    step = pixels / whole
    reach = max(1.0, step)
    centres = (torch.arange(count, dtype=torch.float64) + (whole - count) // 2 + 0.5) * step
    first, last = max(0, int(centres[0] - reach)), min(pixels, int(centres[-1] + reach) + 1)
    distances = torch.arange(first, last, dtype=torch.float64) + 0.5 - centres[:, None]
    weights = (1 - distances.abs() / reach).clamp(min=0)
    return first, weights / weights.sum(dim=1, keepdim=True)


def _overlaps(cells: int, pixels: int, like: Tensor) -> Tensor:
    """What part of a cell each pixel takes, along one axis: (cells, pixels), rows sum to 1."""
    edges = torch.arange(cells + 1, device=like.device, dtype=like.dtype)[:, None] * (pixels / cells)
    starts = torch.arange(pixels, device=like.device, dtype=like.dtype)
    common = torch.minimum(edges[1:], starts + 1) - torch.maximum(edges[:-1], starts)
    return common.clamp(min=0) * (cells / pixels)


class _Warnings:
    """Pillow's warnings as errors for as long as any thread reads a picture; threads decode side by side."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._former = warnings.catch_warnings()

    @contextmanager
    def as_errors(self) -> Generator[None]:
        """A block in which they are."""
        with self._lock:
            if not self._inside:
                self._former = warnings.catch_warnings()
                self._former.__enter__()
                warnings.filterwarnings("error", module="PIL")
                warnings.filterwarnings("ignore", "Corrupt EXIF data", module="PIL")  # the picture may be sound
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._former.__exit__(None, None, None)


_WARNINGS = _Warnings()


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says; as it is if that cannot be read."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # Pillow raises nearly any exception on broken metadata
        return picture


def _check_scans(content: bytes, kind: str | None, name: str) -> None:
    """Refuse a JPEG of a thousand scans: each costs a pass over the whole picture and hardly a byte.

    An index of several pictures makes it what Pillow calls "MPO".
    """
    if kind in ("JPEG", "MPO") and content.count(b"\xff\xda") > _MOST_SCANS:
        raise PictureError(f"{name}: more than {_MOST_SCANS} scans, which no camera writes")


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise PictureError(f"{name}: {width} x {height} pixels are more than the {max_pixels / 1e6:g} million allowed")


def _flat(picture: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.int64) // 257
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    behind = Image.new("RGBA", picture.size, (*background, 255))
    return Image.alpha_composite(behind, picture.convert("RGBA")).convert("RGB")
