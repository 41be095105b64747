"""Make the pictures of the README and of each method's page with the embedded model.

``python tools/method_grids.py [NAME ...]``; without names, all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import sfumato
from sfumato.attention.maps import MapRecorder, maps_of_words
from sfumato.attention.overlay import overlay
from sfumato.attention.paint_with_words import Painted, PaintWithWords
from sfumato.attention.regions import Region, Regions
from sfumato.attention.structure import Structure
from sfumato.checkpoints.load import load_guide, load_pictures
from sfumato.core.sheet import grid, table
from sfumato.encoders.image import sentences
from sfumato.flows.inpaint import Inpaint, extended, inpaint
from sfumato.flows.invert import Inverting, invert
from sfumato.flows.morph import End, Morph, morph
from sfumato.flows.prompts import EditOfWords
from sfumato.flows.redraw import Redraw, redraw
from sfumato.flows.rewrite import Rewrite, rewrite
from sfumato.flows.steering import Concept
from sfumato.flows.walk import Like
from sfumato.guidance.attend_and_excite import Excite
from sfumato.guidance.clip import CleanSimilarity, NoisySimilarity
from sfumato.language.parse import named_parser
from sfumato.machine import usable_threads
from sfumato.networks.guide import log_probability

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "methods"
PARTS = sfumato.load("emoji")
WALK = sfumato.Walk(20)
README = (
    *("a red apple", "a rocket", "a 3d cat face", "a flat dog face", "a glossy blue bird", "a green car"),
    *("a purple heart", "a birthday cake", "a yellow sun", "a flat pink umbrella", "a house", "a soccer ball"),
    *("a 3d guitar", "a grinning face", "a blue fish", "a flat rose", "a 3d penguin", "a mushroom"),
    *("an orange butterfly", "a pizza", "a red car and a blue bird", "an apple above a banana"),
    *("a yellow star and a green tree", "a cat face left of a dog face"),
)
Sheet = tuple[list[Tensor], Sequence[str], Sequence[str]]
"""Pictures row by row, words over the columns, words beside the rows."""


def made(prompt: str, seed: int, walk: sfumato.Walk = WALK, **asked: object) -> Tensor:
    """One picture (1, 3, 64, 64)."""
    steer = sfumato.Steering(**asked)  # type: ignore[arg-type]
    return sfumato.text_to_image(PARTS, [prompt], seeds=[seed], steer=steer, walk=walk)


def composable() -> Sheet:
    rows = [("a red car", "a blue bird"), ("a yellow star", "a green tree"), ("a cat face", "a red hat")]
    images: list[Tensor] = []
    for first, second in rows:
        images += [made(first, 3), made(second, 3), made(f"{first} and {second}", 3)]
        for langevin in (0, 2):
            images.append(made(first, 3, sfumato.Walk(20, langevin=langevin), concepts=(Concept(second),)))
        images.append(made(f"{first} and {second}", 3, concepts=(Concept(second, -1.0),)))
    columns = ("first", "second", "joined", "AND", "AND, Langevin 2", "joined, NOT second")
    return images, columns, [f"{first} / {second}" for first, second in rows]


def classifier_guidance() -> Sheet:
    guide, scales, words = load_guide("emoji"), (0.0, 1.0, 3.0, 10.0, 30.0), ("rocket", "red apple", "umbrella")
    assert guide is not None
    scores = {word: log_probability(guide, "concept", word) for word in words}
    images = [made("", 5, guidance=1.0, scores=((scores[word], scale),)) for word in words for scale in scales]
    return images, [f"scale {scale:g}" for scale in scales], words


def clip_guidance() -> Sheet:
    guide, pictures, prompts = load_guide("emoji"), load_pictures("emoji"), ("a red apple", "a rocket", "a house")
    assert guide is not None and pictures is not None
    images: list[Tensor] = []
    for prompt in prompts:
        target = sentences(PARTS.text, [prompt])
        noised = NoisySimilarity(guide.encode, target, guide.scale)
        clean = CleanSimilarity(PARTS.codec.decode, pictures, target)
        images += [made(prompt, 5, guidance=1.0)]
        images += [made(prompt, 5, guidance=1.0, scores=((noised, scale),)) for scale in (1.0, 3.0)]
        images += [made(prompt, 5, guidance=1.0, estimate_scores=((clean, scale),)) for scale in (0.3, 1.0)]
        images += [made(prompt, 5)]
    return images, ("none", "noised 1", "noised 3", "estimate 0.3", "estimate 1", "free 4"), prompts


def apg() -> Sheet:
    prompts = ("a yellow sun", "a red apple", "a soccer ball")
    ways: Mapping[str, dict[str, float]] = {
        "guidance 4": {"guidance": 4.0},
        "guidance 12": {"guidance": 12.0},
        "12, rescale 0.7": {"guidance": 12.0, "rescale": 0.7},
        "12, projected": {"guidance": 12.0, "project": 0.0},
    }
    return [made(prompt, 3, **way) for prompt in prompts for way in ways.values()], list(ways), prompts


def pag() -> Sheet:
    prompts, scales = ("a house", "a green car", "a 3d guitar"), (0.0, 1.0, 2.0, 4.0)
    images = [made(prompt, 3, guidance=2.0, perturb=scale) for prompt in prompts for scale in scales]
    return images, [f"pag {scale:g}" for scale in scales], prompts


def strokes(*spots: tuple[tuple[float, float, float], tuple[int, int, int, int]]) -> Tensor:
    """Coloured boxes (left, top, right, bottom) on white, softened."""
    image = torch.ones(1, 3, 64, 64)
    for colour, (left, top, right, bottom) in spots:
        image[0, :, top:bottom, left:right] = torch.tensor(colour)[:, None, None]
    return F.avg_pool2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), 5, 1)


def redrawing() -> Sheet:
    red, green, yellow, blue = (0.8, -0.8, -0.8), (-0.6, 0.4, -0.6), (1.0, 0.8, -0.6), (-0.7, -0.2, 0.8)
    rows = {
        "a red apple": strokes((red, (14, 18, 52, 58)), (green, (32, 6, 44, 16))),
        "a yellow sun": strokes((yellow, (16, 16, 48, 48))),
        "a blue car": strokes((blue, (6, 26, 58, 46)), ((-0.9, -0.9, -0.9), (14, 42, 24, 52))),
    }
    strengths = (0.3, 0.5, 0.7, 0.9, 1.0)
    images: list[Tensor] = []
    for prompt, given in rows.items():
        images += [given, *(redraw(PARTS, Redraw(given, s), [prompt], seeds=[1], walk=WALK) for s in strengths)]
    return images, ["given", *(f"strength {s:g}" for s in strengths)], list(rows)


def ilvr() -> Sheet:
    rows = {"a cat face": made("a red apple", 3), "a bird": made("a green car", 3), "a flower": made("a yellow sun", 3)}
    images: list[Tensor] = []
    for prompt, given in rows.items():
        images += [given, made(prompt, 4)]
        images += [made(prompt, 4, sfumato.Walk(20, like=Like(given, scale))) for scale in (32, 16, 8)]
    return images, ["followed", "alone", "scale 32", "scale 16", "scale 8"], list(rows)


def inpainting() -> Sheet:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    images: list[Tensor] = []
    rows = {"a green pear": made("a red apple", 3), "a dog face": made("a cat face", 3)}
    for prompt, given in rows.items():
        small = F.interpolate(given, (32, 32), mode="bilinear", antialias=True)
        wide, border = extended(small.clamp(-1, 1), 16, 16, 16, 16)
        images += [given, given * (1 - mask) + mask * 0.5]
        images += [_inpainted(Inpaint(given, mask, repaint), prompt) for repaint in (1, 5)]
        images += [
            _inpainted(Inpaint(given, mask, 5, paste=True), prompt),
            wide,
            _inpainted(Inpaint(wide, border), prompt),
        ]
    columns = ("given", "mask", "blend", "repaint 5", "5, pasted", "border", "outpainted")
    return images, columns, list(rows)


def _inpainted(given: Inpaint, prompt: str) -> Tensor:
    return inpaint(PARTS, given, [prompt], seeds=[1], walk=WALK)


def inversion() -> Sheet:
    rows = {"a red apple": "a green apple", "a yellow star": "a red star"}
    images: list[Tensor] = []
    for prompt, edited in rows.items():
        given = made(prompt, 3)
        plain, exact, tuned = (
            invert(PARTS, given, [prompt], walk=WALK, how=how)
            for how in (Inverting("plain"), Inverting("fixed_point"), Inverting("plain", null_text=4.0))
        )
        images.append(given)
        for text, found, guidance in (
            (prompt, plain, 1.0),
            (prompt, exact, 1.0),
            (prompt, plain, 4.0),
            (prompt, tuned, 4.0),
            (edited, tuned, 4.0),
        ):
            walk = sfumato.Walk(20, start=found.start)
            images.append(made(text, 0, walk, guidance=guidance, nulls=found.nulls))
    columns = ("given", "plain, g 1", "fixed, g 1", "plain, g 4", "null-text, g 4", "edited")
    return images, columns, [f"{prompt} / {edited}" for prompt, edited in rows.items()]


def morphs() -> Sheet:
    shares = [number / 7 for number in range(8)]
    rows = [("a red apple", "a blue bird"), ("a cat face", "a dog face"), ("a rocket", "a birthday cake")]
    images = [morph(PARTS, Morph(End(a, 3), End(b, 3), shares), walk=WALK) for a, b in rows]
    return images, [f"{share:.2f}" for share in shares], [f"{a} / {b}" for a, b in rows]


PAIR, HALVES = "a red car and a blue bird", ("a red car", "a blue bird")
"""What the pages of attention edits show."""


def halves() -> tuple[Tensor, Tensor]:
    """Masks of the left and the right half."""
    left = torch.zeros(1, 1, 64, 64)
    left[..., :32] = 1
    return left, 1 - left


def edited(prompts: Sequence[str], ways: Mapping[str, tuple[EditOfWords, ...]], seed: int = 3) -> Sheet:
    """A row a prompt, a column a way."""
    images = [made(prompt, seed, edits=edits) for prompt in prompts for edits in ways.values()]
    return images, list(ways), prompts


def structure() -> Sheet:
    find = named_parser("rules").phrases
    ways = {name: (Structure(find, name),) for name in ("average", "conjunction")}
    return edited((PAIR, "a yellow star and a green tree", "a purple hat and an orange fish"), {"plain": (), **ways})


def regions() -> Sheet:
    """Against the order of the words."""
    left, right = halves()
    images: list[Tensor] = []
    for seed in (3, 4):
        images.append(made(PAIR, seed))
        for share in (0.4, 0.6, 0.8, 1.0):
            bound = Regions((Region(HALVES[1], left), Region(HALVES[0], right)), share)
            images.append(made(PAIR, seed, edits=(bound,)))
    return images, ["plain", *(f"share {share:g}" for share in (0.4, 0.6, 0.8, 1.0))], ["bird left, seed 3", "seed 4"]


def painting() -> Sheet:
    """Against the order of the words."""
    left, right = halves()
    images: list[Tensor] = []
    rows = {PAIR: HALVES, "a yellow star and a green tree": ("a yellow star", "a green tree")}
    for prompt, (first, second) in rows.items():
        images.append(made(prompt, 3))
        for strength in (0.2, 0.4, 0.6, 0.8):
            paint = PaintWithWords((Painted(second, left), Painted(first, right)), strength)
            images.append(made(prompt, 3, edits=(paint,)))
    return images, ["plain", *(f"strength {s:g}" for s in (0.2, 0.4, 0.6, 0.8))], [f"{p}, swapped" for p in rows]


def rewriting() -> Sheet:
    rows = {
        "a red car": ("a blue car", "a red house", "a red car with a hat"),
        "a cat face": ("a dog face", "a green cat face", "a crying cat face"),
        PAIR: ("a red car and a green bird", "a yellow car and a blue bird", "a red bus and a blue bird"),
    }
    images: list[Tensor] = []
    for source, targets in rows.items():
        images += list(rewrite(PARTS, [Rewrite(source, targets)], seeds=[3], walk=WALK).split(1))
        images.append(made(targets[0], 4))
    return (
        images,
        ("source", "first", "second", "third", "first, another seed"),
        [": ".join((s, "; ".join(t))) for s, t in rows.items()],
    )


def exciting() -> Sheet:
    rows = {
        PAIR: ("car", "bird"),
        "a cat face and a red hat": ("cat", "hat"),
        "a dog face and a green apple": ("dog", "apple"),
    }
    images: list[Tensor] = []
    for prompt, words in rows.items():
        for seed in (3, 4):
            images += [made(prompt, seed), made(prompt, seed, sfumato.Walk(20, excite=Excite(words)))]
    return images, ("plain, seed 3", "excited", "plain, seed 4", "excited"), list(rows)


def looking() -> Sheet:
    images: list[Tensor] = []
    for prompt in (PAIR, "a cat face above a green tree"):
        recorder = MapRecorder()
        image = made(prompt, 3, edits=(lambda encoder, text, seen=recorder: seen,))
        named = maps_of_words(recorder.maps(64, 64), PARTS.text([prompt]))
        images += [image, *overlay(image.expand(len(named), -1, -1, -1), torch.stack([m for _, m in named])).split(1)]
    return images, ("", *(f"word {number}" for number in range(1, 8))), (PAIR, "a cat face above a green tree")


SHEETS: Mapping[str, Callable[[], Sheet]] = {
    "composable": composable,
    "classifier_guidance": classifier_guidance,
    "clip_guidance": clip_guidance,
    "apg": apg,
    "pag": pag,
    "redraw": redrawing,
    "ilvr": ilvr,
    "inpaint": inpainting,
    "inversion": inversion,
    "morph": morphs,
    "structure": structure,
    "regions": regions,
    "paint_with_words": painting,
    "prompt_to_prompt": rewriting,
    "attend_and_excite": exciting,
    "attention_maps": looking,
}


def readme() -> None:
    """The picture of the README: the first ones drawn, from seed 3 on, by the defaults."""
    images = sfumato.text_to_image(PARTS, README, seeds=range(3, 3 + len(README)))
    grid(images, columns=8, labels=README).save(FOLDER.parent / "grid.png", optimize=True)
    print(FOLDER.parent / "grid.png")


def main() -> None:
    """Make the named sheets, or all of them."""
    torch.set_num_threads(usable_threads())
    FOLDER.mkdir(parents=True, exist_ok=True)
    if "readme" in (sys.argv[1:] or ["readme"]):
        readme()
    for name in [name for name in sys.argv[1:] if name != "readme"] if sys.argv[1:] else SHEETS:
        images, columns, rows = SHEETS[name]()
        large = F.interpolate(torch.cat(images).float().clamp(-1, 1), scale_factor=1.5, mode="bilinear")
        table(large, columns, rows).save(FOLDER / f"{name}.png", optimize=True)
        print(FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
