"""Colour words of pictures: measuring the dominant one, and giving an object another by hue.

Everything is done in OKLCH, where lightness, chroma and hue are close to what the eye separates. A pixel's word depends
on these three alone; a picture's word is that of most of its visible pixels, if it has a clear majority.

Differs from the paper: colours outside sRGB are moved towards grey of equal lightness.
Paper: A perceptual color space for image processing (Ottosson, 2020), https://bottosson.github.io/posts/oklab.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sfumato.world.pictures import Rgba

__all__ = ["COLOURS", "WORDS", "colour_shares", "dominant_colour", "from_oklch", "recolour", "to_oklch"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Target:
    lightness: float
    chroma: float
    hue: float


_TARGETS: Mapping[str, _Target] = {
    "red": _Target(0.60, 0.22, 27),
    "orange": _Target(0.74, 0.17, 57),
    "yellow": _Target(0.88, 0.18, 97),
    "green": _Target(0.66, 0.19, 145),
    "blue": _Target(0.58, 0.18, 256),
    "purple": _Target(0.53, 0.20, 302),
    "pink": _Target(0.78, 0.13, 354),
    "brown": _Target(0.44, 0.085, 55),
}
COLOURS = tuple(_TARGETS)
"""Colours an object can be given."""
WORDS = (*COLOURS, "black", "white", "grey")
"""Colours an object can be found to have."""

_GREY_CHROMA = 0.045
_MAJORITY = 0.5
_RUNNER_UP = 0.6
_LEAST_CHANGED = 0.4
_LEAST_OF_COLOURFUL = 0.6

_LINEAR = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.arange(256) / 255], "f4")
_STEPS = 4096
_ENCODED = np.array(
    [12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in np.arange(_STEPS + 1) / _STEPS], "f4"
)
_CONES = np.array(
    [
        [0.4122214708, 0.2119034982, 0.0883024619],
        [0.5363325363, 0.6806995451, 0.2817188376],
        [0.0514459929, 0.1073969566, 0.6299787005],
    ],
    "f4",
)
_LAB = np.array(
    [
        [0.2104542553, 1.9779984951, 0.0259040371],
        [0.7936177850, -2.4285922050, 0.7827717662],
        [-0.0040720468, 0.4505937099, -0.8086757660],
    ],
    "f4",
)
_CONES_BACK, _LAB_BACK = np.linalg.inv(_CONES), np.linalg.inv(_LAB)


def to_oklch(rgb: NDArray[np.uint8]) -> Floats:
    """Lightness, chroma and hue of sRGB colours.

    Args:
        rgb: uint8 (..., 3).

    Returns:
        float32 (..., 3): lightness in [0, 1], chroma in [0, 0.33], hue in degrees, [-180, 180].
    """
    lab = np.cbrt(_LINEAR[rgb] @ _CONES) @ _LAB
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    return np.stack([lab[..., 0], chroma, hue], axis=-1)


def from_oklch(lch: Floats) -> NDArray[np.uint8]:
    """sRGB of lightness, chroma and hue; colours outside sRGB lose chroma, not lightness.

    Args:
        lch: float32 (..., 3) as ``to_oklch`` returns it.

    Returns:
        uint8 (..., 3).
    """
    lightness, chroma, hue = lch[..., 0].clip(0, 1), lch[..., 1], np.radians(lch[..., 2])
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    linear = (lab @ _LAB_BACK) ** 3 @ _CONES_BACK
    grey = (lightness**3)[..., None]
    away = linear - grey
    room = np.where(away > 0, 1 - grey, grey) / np.maximum(np.abs(away), 1e-6)
    linear = grey + away * room.min(axis=-1, keepdims=True).clip(0, 1)
    return (_ENCODED[(linear * _STEPS).clip(0, _STEPS).astype(np.int32)] * 255 + 0.5).astype(np.uint8)


def _word_indices(lch: Floats) -> NDArray[np.intp]:
    """For each pixel the index of its colour in ``WORDS``; -1 between two colours."""
    lightness, chroma, hue = lch[..., 0], lch[..., 1], lch[..., 2] % 360
    grey = chroma < _GREY_CHROMA
    reddish, warm = (hue >= 345) | (hue < 40), (hue >= 40) & (hue < 76)
    golden = (hue >= 76) & (hue < 118)
    rules = [
        (grey & (lightness < 0.38), "black"),
        (grey & (lightness > 0.86), "white"),
        (grey, "grey"),
        (lightness < 0.22, "black"),
        (reddish & (lightness > 0.71), "pink"),
        (reddish & (lightness < 0.48) & (chroma < 0.11), "brown"),
        ((hue >= 20) & (hue < 40) & (lightness < 0.66) & (chroma < 0.13), "brown"),
        (reddish & ((lightness < 0.64) | (chroma > 0.18)), "red"),
        (warm & ((lightness < 0.58) | ((chroma < 0.125) & (lightness < 0.76))), "brown"),
        (warm & (chroma >= 0.1), "orange"),
        (golden & (lightness > 0.72) & (chroma > 0.07), "yellow"),
        (golden & (lightness < 0.6), "brown"),
        ((hue >= 118) & (hue < 178), "green"),
        ((hue >= 212) & (hue < 282) & (chroma > 0.065), "blue"),
        ((hue >= 282) & (hue < 322), "purple"),
        ((hue >= 322) & (hue < 345) & (lightness > 0.6), "pink"),
        ((hue >= 322) & (hue < 345), "purple"),
    ]
    return np.select([holds for holds, _ in rules], [WORDS.index(word) for _, word in rules], default=-1)


def colour_shares(picture: Rgba) -> dict[str, float]:
    """Share of the visible area that has each colour.

    Args:
        picture: uint8 (H, W, 4), straight alpha.

    Returns:
        A share in [0, 1] for each of ``WORDS``; they sum to at most 1, since some pixels lie between two colours.
    """
    visible = picture[..., 3] > 0
    if not visible.any():
        return dict.fromkeys(WORDS, 0.0)
    words = _word_indices(to_oklch(picture[visible][:, :3]))
    counts = np.bincount(words + 1, weights=picture[visible][:, 3], minlength=len(WORDS) + 1)
    return dict(zip(WORDS, (counts[1:] / counts.sum()).tolist(), strict=True))


def dominant_colour(picture: Rgba) -> str | None:
    """The one colour a person would name.

    Args:
        picture: uint8 (H, W, 4), straight alpha.

    Returns:
        The colour that more than half of the visible area has, if no other comes near it; otherwise None.
    """
    return _dominant(picture.tobytes(), picture.shape[1])


@lru_cache(maxsize=3072)
def _dominant(content: bytes, width: int) -> str | None:
    shares = colour_shares(np.frombuffer(content, np.uint8).reshape(-1, width, 4))
    (first, most), (_, second) = sorted(shares.items(), key=lambda item: -item[1])[:2]
    return first if most > _MAJORITY and second < _RUNNER_UP * most else None


def recolour(picture: Rgba, colour: str) -> Rgba | None:
    """Give an object another colour: turn its main hue, and move lightness and chroma to what that colour word needs.

    Parts of other hues (the leaf of an apple) and parts without colour (tyres, windows) stay as they are.

    Args:
        picture: uint8 (64, 64, 4), straight alpha.
        colour: one of ``COLOURS``.

    Returns:
        uint8 (64, 64, 4) whose dominant colour, measured, is the asked one; the picture itself if it has that colour
        already; None if the object has too little colour, or too many colours, to be said to have the asked one.

    Raises:
        KeyError: the colour is not one of ``COLOURS``.
    """
    if colour not in _TARGETS:
        raise KeyError(f"objects cannot be given the colour {colour!r}; possible are {', '.join(COLOURS)}")
    if dominant_colour(picture) == colour:
        return picture
    return _recolour(picture.tobytes(), picture.shape[1], colour)


@lru_cache(maxsize=1024)
def _recolour(content: bytes, width: int, colour: str) -> Rgba | None:
    picture = np.frombuffer(content, np.uint8).reshape(-1, width, 4)
    visible = picture[..., 3] > 0
    pixels, opacity = picture[visible][:, :3], picture[visible][:, 3].astype(np.float32)
    changed = _turn(to_oklch(pixels), opacity, _TARGETS[colour])
    if changed is None:
        return None
    result = picture.copy()
    result[visible, :3] = changed
    result.flags.writeable = False
    return result if dominant_colour(result) == colour else None


def _turn(lch: Floats, opacity: Floats, target: _Target) -> NDArray[np.uint8] | None:
    hue = _main_hue(lch, opacity)
    turn = (lch[:, 2] - hue + 180) % 360 - 180
    chosen = _ramp(lch[:, 1], 0.02, 0.06) * (1 - _ramp(np.abs(turn), 45, 70))
    changed, colourful = float(chosen @ opacity), float((lch[:, 1] > 0.06) @ opacity)
    if changed < _LEAST_CHANGED * float(opacity.sum()) or changed < _LEAST_OF_COLOURFUL * colourful:
        return None
    core = chosen > 0.5
    lightness, chroma = np.median(lch[core, 0]), np.median(lch[core, 1])
    turned = np.stack(
        [
            target.lightness + 0.85 * (lch[:, 0] - lightness),
            (lch[:, 1] * (target.chroma / chroma)).clip(0, 1.25 * target.chroma),
            target.hue + 0.25 * turn,
        ],
        axis=-1,
    )
    before, after = _from_polar(lch), _from_polar(turned)
    mixed = before + chosen[:, None] * (after - before)
    return from_oklch(_to_polar(mixed.astype(np.float32)))


def _main_hue(lch: Floats, opacity: Floats) -> float:
    """The hue, in degrees, that carries most chroma."""
    weights = lch[:, 1] * opacity * (lch[:, 1] > 0.04)
    counts = np.bincount((lch[:, 2] % 360 // 10).astype(np.intp) % 36, weights=weights, minlength=36)
    smooth = counts + np.roll(counts, 1) + np.roll(counts, -1)
    return float(np.argmax(smooth) * 10 + 5)


def _ramp(values: Floats, low: float, high: float) -> Floats:
    return ((values - low) / (high - low)).clip(0, 1)


def _from_polar(lch: Floats) -> Floats:
    hue = np.radians(lch[:, 2])
    return np.stack([lch[:, 0], lch[:, 1] * np.cos(hue), lch[:, 1] * np.sin(hue)], axis=-1)


def _to_polar(lab: Floats) -> Floats:
    return np.stack([lab[:, 0], np.hypot(lab[:, 1], lab[:, 2]), np.degrees(np.arctan2(lab[:, 2], lab[:, 1]))], axis=-1)
