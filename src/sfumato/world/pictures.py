"""One form for every picture: 64 x 64 RGBA, trimmed, scaled with premultiplied alpha, centred."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["LONGER_SIDE", "SIZE", "Rgba", "normalise"]

Rgba = NDArray[np.uint8]
SIZE = 64
LONGER_SIDE = 60
_LARGEST_ENLARGEMENT = 1.25
_VISIBLE = [255 * (alpha > 8) for alpha in range(256)]


def normalise(image: Image.Image) -> Rgba:
    """Trim a picture to what is visible, fit its longer side to 60 pixels, and centre it.

    Small drawings are enlarged by at most 1.25, so that nothing gets blurred. Pillow resamples RGBA with premultiplied
    alpha, hence no dark or light fringes.

    Args:
        image: any size and mode; alpha is kept.

    Returns:
        uint8 (64, 64, 4), straight alpha, colour 0 wherever alpha is 0.

    Raises:
        ValueError: the picture is wholly transparent.
    """
    rgba = image.convert("RGBA")
    box = rgba.getchannel("A").point(_VISIBLE).getbbox()
    if box is None:
        raise ValueError("the picture is wholly transparent")
    width, height = box[2] - box[0], box[3] - box[1]
    scale = min(LONGER_SIDE / max(width, height), _LARGEST_ENLARGEMENT)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = rgba.resize(size, Image.Resampling.LANCZOS, box=box)
    canvas = Image.new("RGBA", (SIZE, SIZE))
    canvas.paste(small, ((SIZE - size[0]) // 2, (SIZE - size[1]) // 2))
    pixels = np.array(canvas)
    pixels[pixels[..., 3] == 0] = 0
    return pixels
