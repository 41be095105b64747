"""The recipe of one picture: every setting that makes it, each a field of the name of its flag, each checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sfumato.fields import Rule, column_of, either, fits_all, number, one_of, or_none, rows, text, whole
from sfumato.from_memory import FromMemory
from sfumato.given import GIVEN, HEXADECIMAL, NAME, PLACE, Box, Given

__all__ = ["MOST_STEPS", "OPTIONAL", "PARSERS", "TASKS", "Recipe"]

TASKS = ("generate", "redraw", "inpaint", "outpaint", "morph", "rewrite")
"""The commands whose pictures carry a recipe."""

PARSERS = ("rules", "spacy", "benepar", "stanza")
"""What can find phrases in a prompt."""

MOST_STEPS = 1000
"""Steps that a denoiser can be asked for."""


@dataclass(frozen=True)
class Recipe:
    """All that makes one picture. The fields from ``task`` on are off by default, and written down only when on.

    Args:
        prompt: what it shows.
        seed: of this picture alone, in [0, 2**64).
        negative: what it is guided away from.
        model: name of an installed model, or of the folder it was loaded from; never a path.
        fingerprint: hexadecimal digits that tell one model from another; "" if unknown.
        steps: in [1, 65536]; of a model that draws codes, their number.
        scheduler: a short name or the name of a diffusers class; "codes" if the model draws codes.
        guidance: scale in [0, 1000]; 1 is no guidance.
        guidance_interval: shares of the path between which guidance acts, 0 <= low < high <= 1.
        rescale: share of the guided estimate's rescaling, in [0, 1].
        width: pixels, in [8, 4096]; None is the model's own size.
        height: pixels, likewise.
        dtype: "float32" or "bfloat16", in which the network computed.
        batch: pictures that were made together with it, itself included.
        threads: of the CPU; 0 if unknown.
        version: of the sfumato that made it; "" if another program did.
        task: one of ``TASKS``.
        concepts: further prompts with weights relative to guidance, positive for AND and negative for NOT.
        pag: scale of perturbed-attention guidance, in [0, 1000].
        apg: share kept of guidance along the estimate, in [0, 1]; None is no projection.
        threshold: "static", "dynamic:QUANTILE", or "".
        classifier: (head, word, scale) of each classifier that is followed.
        clip_guidance: scale in [0, 1000].
        clip_form: "noised", or "estimate" for clean pictures through the estimate.
        experts: (model, start, stop): another model for a share of the path.
        langevin: Langevin steps after each step, in [0, 100].
        structure: "phrases", "scene-graph" or "conjunction" for structured diffusion guidance, or "".
        parser: that finds its phrases, one of ``PARSERS``.
        paint: (phrase, where, weight): words that are painted; where is a file, or a box (left, top, right, bottom).
        paint_strength: of all of them, in [0, 1000].
        regions: (prompt, where): prompts that are bound to a region.
        region_share: what those prompts have of the attention there, in [0, 1].
        excite: phrases whose attention is raised.
        recall: pictures of a memory that are in the context.
        like: picture whose coarse shapes are followed.
        like_scale: side of its blocks, in pixels.
        like_until: share of the path up to which it is followed.
        start: file of an inversion to begin from.
        picture: what is redrawn, inpainted, extended, or morphed from.
        mask: where.
        strength: share of the path that is redrawn.
        repeats: times that it is, in [1, 100].
        repaint: times that each stretch is walked.
        paste: whether kept pixels are put back after decoding.
        border: pixels left, right, above and below that are added.
        to_prompt: what the last picture of a morph, or the rewritten picture, shows.
        to_seed: its seed.
        to_picture: what is morphed to.
        share: of the way of a morph, in [0, 1].
        cross: share of the path for which a rewritten picture takes over the source's cross-attention.
        self_attention: likewise self-attention.
        reweight: (phrase, factor): words of the rewritten prompt that count for more or less.
        blend: phrases outside whose place the source is kept.
        temperature: of a model that draws codes, in [0, 1000]; 0 takes the likeliest code.
        top_k: only the likeliest so many codes are drawn; None is all.
        top_p: only the fewest codes that are likely by so much together, in (0, 1].

    Raises:
        ValueError: a field of another type or outside its range.
    """

    prompt: str
    seed: int
    negative: str = ""
    model: str = ""
    fingerprint: str = ""
    steps: int = 20
    scheduler: str = "ddim"
    guidance: float = 4.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    width: int | None = None
    height: int | None = None
    dtype: str = "float32"
    batch: int = 1
    threads: int = 0
    version: str = ""
    task: str = "generate"
    concepts: tuple[tuple[str, float], ...] = ()
    pag: float = 0.0
    apg: float | None = None
    threshold: str = ""
    classifier: tuple[tuple[str, str, float], ...] = ()
    clip_guidance: float = 0.0
    clip_form: str = "noised"
    experts: tuple[tuple[Given, float, float], ...] = ()
    langevin: int = 0
    structure: str = ""
    parser: str = "rules"
    paint: tuple[tuple[str, Given | Box, float], ...] = ()
    paint_strength: float = 0.4
    regions: tuple[tuple[str, Given | Box], ...] = ()
    region_share: float = 0.8
    excite: tuple[str, ...] = ()
    recall: FromMemory | None = None
    like: Given | None = None
    like_scale: int = 16
    like_until: float = 0.8
    start: Given | None = None
    picture: Given | None = None
    mask: Given | None = None
    strength: float = 0.6
    repeats: int = 1
    repaint: int = 1
    paste: bool = False
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    to_prompt: str = ""
    to_seed: int = 0
    to_picture: Given | None = None
    share: float = 0.0
    cross: float = 0.8
    self_attention: float = 0.4
    reweight: tuple[tuple[str, float], ...] = ()
    blend: tuple[str, ...] = ()
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            rule.check(name, getattr(self, name))

    @property
    def shows(self) -> str:
        """The prompt of the picture itself: of a rewrite what it was rewritten to."""
        return self.to_prompt if self.task == "rewrite" else self.prompt

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, of the picture inside a border.

        Raises:
            ValueError: they are left to the model.
        """
        if self.height is None or self.width is None:
            raise ValueError("the recipe names no size")
        return self.height, self.width

    @property
    def whole_size(self) -> tuple[int, int]:
        """Height and width in pixels, with the border.

        Raises:
            ValueError: they are left to the model.
        """
        (height, width), (left, right, above, below) = self.size, self.border
        return height + above + below, width + left + right

    @property
    def given(self) -> tuple[Given, ...]:
        """The files that it names, without those of models."""
        files = (self.like, self.start, self.picture, self.mask, self.to_picture)
        places = (row[1] for row in (*self.paint, *self.regions))
        asked = () if self.recall is None else (self.recall.query,)
        return tuple(each for each in (*files, *places, *asked) if isinstance(each, Given))


def _is_interval(value: Any) -> bool:
    return fits_all(value, (number(0, 1), number(0, 1))) and value[0] < value[1]


def _is_threshold(value: Any) -> bool:
    if not isinstance(value, str) or value in ("", "static"):
        return value in ("", "static")
    kind, _, quantile = value.partition(":")
    try:
        return kind == "dynamic" and 0 < float(quantile) <= 1
    except ValueError:
        return False


_PROMPT, _SEED, _SHARE, _SCALE = text(10_000), whole(0, 2**64 - 1), number(0, 1), number(0, 1000)
_SIDE = whole(8, 4096)
_PHRASES = column_of("phrases", _PROMPT)

_RULES: Mapping[str, Rule] = {
    "prompt": _PROMPT,
    "seed": _SEED,
    "negative": _PROMPT,
    "model": NAME,
    "fingerprint": HEXADECIMAL,
    "steps": whole(1, 65_536),
    "scheduler": text(80),
    "guidance": _SCALE,
    "guidance_interval": Rule(_is_interval, "two numbers with 0 <= low < high <= 1"),
    "rescale": _SHARE,
    "width": or_none(_SIDE),
    "height": or_none(_SIDE),
    "dtype": one_of("float32", "bfloat16"),
    "batch": whole(1, 100_000),
    "threads": whole(0, 4096),
    "version": text(40),
    "task": one_of(*TASKS),
    "concepts": rows("a prompt and its weight", _PROMPT, number(-1000, 1000)),
    "pag": _SCALE,
    "apg": or_none(_SHARE),
    "threshold": Rule(_is_threshold, '"static" or "dynamic:QUANTILE" with a quantile in (0, 1]'),
    "classifier": rows("a head, a word and a scale", NAME, NAME, _SCALE),
    "clip_guidance": _SCALE,
    "clip_form": one_of("noised", "estimate"),
    "experts": rows("a model and the share of the path that is its own", GIVEN, _SHARE, _SHARE),
    "langevin": whole(0, 100),
    "structure": one_of("", "phrases", "scene-graph", "conjunction"),
    "parser": one_of(*PARSERS),
    "paint": rows("a phrase, a file or a box, and a weight", _PROMPT, PLACE, _SCALE),
    "paint_strength": _SCALE,
    "regions": rows("a prompt and a file or a box", _PROMPT, PLACE),
    "region_share": _SHARE,
    "excite": _PHRASES,
    "recall": or_none(Rule(lambda value: isinstance(value, FromMemory), "what is taken from a memory")),
    "like": or_none(GIVEN),
    "like_scale": whole(1, 4096),
    "like_until": _SHARE,
    "start": or_none(GIVEN),
    "picture": or_none(GIVEN),
    "mask": or_none(GIVEN),
    "strength": _SHARE,
    "repeats": whole(1, 100),
    "repaint": whole(1, 1000),
    "paste": either(),
    "border": Rule(lambda value: fits_all(value, (whole(0, 4096),) * 4), "four whole numbers from 0 to 4096"),
    "to_prompt": _PROMPT,
    "to_seed": _SEED,
    "to_picture": or_none(GIVEN),
    "share": _SHARE,
    "cross": _SHARE,
    "self_attention": _SHARE,
    "reweight": rows("a phrase and its factor", _PROMPT, number(-1000, 1000)),
    "blend": _PHRASES,
    "temperature": _SCALE,
    "top_k": or_none(whole(1, 1_000_000)),
    "top_p": number(1e-9, 1),
}

_names = [field.name for field in fields(Recipe)]
OPTIONAL: frozenset[str] = frozenset(_names[_names.index("task") :])
"""Fields that are written down only when they are not at their defaults."""
