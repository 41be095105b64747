"""Every guidance with every wrapper, after-step edit and step: finite, right shape, declared forwards; or a reason.

On a tiny random U-Net of pixels, with two steps. A new method adds one line to the table of its place, and
``python tools/composition_table.py`` makes docs/composition.md of these tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.attention.alignment import aligned
from sfumato.attention.identity import IdentityAttention
from sfumato.attention.paint_with_words import Painted, PaintWithWords
from sfumato.attention.prompt_to_prompt import CrossInjection, SelfInjection
from sfumato.attention.regions import Region, Regions
from sfumato.attention.structure import Structure
from sfumato.checkpoints.load import Parts, load
from sfumato.core.attention import AttentionEdit
from sfumato.core.branch import Branch
from sfumato.core.codec import LatentCodec, PixelCodec
from sfumato.core.level import Level
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.sample import AfterStep, sample
from sfumato.core.steps import Ddim, Denoiser, Dpmpp2M, EulerAncestral, Heun, Renoising
from sfumato.encoders.joint import NeighbourTokens
from sfumato.encoders.text import EncodedText, TextEncoder
from sfumato.flows.inpaint import Inpaint, inpaint
from sfumato.flows.morph import End, Morph, morph
from sfumato.flows.prompts import Neighbours, condition_of, prompted
from sfumato.flows.redraw import Redraw, redraw
from sfumato.flows.rewrite import Rewrite, rewrite
from sfumato.flows.steering import Concept, Expert, Steering, steered
from sfumato.flows.text_to_image import text_to_image
from sfumato.flows.walk import Walk
from sfumato.guidance.attend_and_excite import AttendAndExcite
from sfumato.guidance.ilvr import Ilvr
from sfumato.guidance.inpaint import KeepKnown
from sfumato.guidance.langevin import Langevin
from sfumato.networks.unet import UNetNetwork
from sfumato.samplers.diffusers_scheduler import from_scheduler, scheduler_of
from sfumato.samplers.sampler import Sampler
from tests.parts import counted, scaled_linear
from tests.tiny import SD1_SCHEDULER, TEXT_WIDTH, tiny_unet, tiny_vae, write_emoji

PROMPTS = ["a red hat", "two blue cats"]
SIZE = (8, 8)
SCHEDULE = scaled_linear()
PICTURES = Noise([8, 9])((2, 3, TEXT_WIDTH))
"""Three neighbours of each picture."""

OTHERS = PICTURES[:1].flip(-1)
"""Three others, for all pictures."""

START, REFERENCE = (Noise([seed, seed + 1])((2, 3, *SIZE)) for seed in (0, 70))
MASK = (torch.arange(8) < 4).float().expand(1, 1, *SIZE)


def small_model(seed: int) -> DenoisingModel:
    """A random U-Net of pixels, of three residual blocks and attention between them."""
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "layers_per_block": 0}
    size = {"in_channels": 3, "out_channels": 3, "block_out_channels": (8,), "norm_num_groups": 4}
    return DenoisingModel(UNetNetwork(tiny_unet(seed=seed, **blocks, **size)), SCHEDULE)


OTHER = small_model(7)
"""An expert."""


def reddish(x: Tensor, level: Level) -> Tensor:
    """Stands for a classifier of noisy pictures."""
    return torch.nn.functional.logsigmoid(x[:, 0] - x[:, 1]).mean(dim=(-2, -1))


def bright(x0: Tensor) -> Tensor:
    """Stands for an encoder of clean pictures."""
    return torch.tanh(x0).mean(dim=(1, 2, 3))


def first_words(text: str) -> list[tuple[int, int]]:
    """Stands for a parser: the first two words."""
    return [(0, text.index(" ", text.index(" ") + 1))] if text.count(" ") > 1 else []


def replaced_maps(_: TextEncoder, text: EncodedText) -> AttentionEdit:
    """The second picture as a rewrite of the first."""
    return CrossInjection(aligned(text, ((0, 1),)))


def replaced_self(_: TextEncoder, text: EncodedText) -> AttentionEdit:
    """Likewise its shapes."""
    return SelfInjection(((0, 1),))


def looked_at(x: Tensor, level: Level) -> Tensor:
    """Stands for the attention that two subjects get."""
    return torch.sigmoid(x[:, :2] - x[:, 2:])


GUIDANCE: Mapping[str, Mapping[str, Any]] = {
    "none": {"guidance": 1.0},
    "classifier-free": {"guidance": 5.0},
    "a scale a picture": {"guidance": (1.0, 7.0)},
    "negative prompt": {"negative": "blurry photo"},
    "AND": {"concepts": (Concept("apple"),)},
    "NOT": {"concepts": (Concept("dog", -0.5),)},
    "interval": {"interval": (0.0, 0.5)},
    "perturbed attention": {"perturb": 3.0},
    "experts": {"experts": (Expert(OTHER, 0.0, 0.5),)},
    "tuned nulls": {"nulls": (Noise([5, 6])((2, 2, TEXT_WIDTH)),) * 4},
    "projected": {"project": 0.0},
    "rescaled": {"rescale": 0.7},
    "structure": {"edits": (Structure(first_words),)},
    "conjunction": {"edits": (Structure(first_words, "conjunction"),)},
    "regions": {"edits": (Regions((Region("apple", MASK), Region(("a hat", "the dog"), 1 - MASK))),)},
    "paint-with-words": {"edits": (PaintWithWords((Painted(("red hat", "cats"), MASK),)),)},
    "prompt-to-prompt": {"edits": (replaced_maps, replaced_self)},
    "neighbours, words": {"neighbours": Neighbours(PICTURES, zero_null=True)},
    "neighbours, no words": {"neighbours": Neighbours(OTHERS, words=False)},
    "AND neighbours": {"concepts": (Concept("", 1.0, Neighbours(OTHERS, words=False)),)},
}
"""Fields of ``Steering``, over classifier-free guidance if they do not say; nulls are cut to the steps of the path."""

WRAPPERS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "classifier": {"scores": ((reddish, 0.5),)},
    "score of the estimate": {"estimate_scores": ((bright, 0.5),)},
    "static threshold": {"threshold": "static"},
    "dynamic threshold": {"threshold": 0.9},
    "classifier, dynamic threshold": {"scores": ((reddish, 0.5),), "threshold": 0.9},
}
AFTER: Mapping[str, Callable[[], AfterStep]] = {
    "ILVR": lambda: Ilvr(REFERENCE, Noise([2, 3]), 2, until=1.0),
    "known part": lambda: KeepKnown(REFERENCE, MASK, Noise([4, 5])),
}
"""In the order in which they act."""

_NOISY, _MIDDLE, _CLEAN = TWO = trailing(SCHEDULE, 2)
STEPS: Mapping[str, tuple[Sampler, int]] = {
    "DDIM": (Sampler(TWO, Ddim()), 2),
    "ancestral Euler": (Sampler(TWO, EulerAncestral()), 2),
    "Heun": (Sampler(TWO, Heun()), 3),
    "DPM++ 2M": (Sampler(TWO, Dpmpp2M()), 2),
    "DDIM, renoising": (Sampler([_NOISY, _MIDDLE, _NOISY, _MIDDLE, _CLEAN], Renoising(Ddim())), 3),
    "DDIM, one Langevin step": (Sampler(TWO, Langevin(Ddim(), 1)), 3),
    "DDIM, excited": (Sampler(TWO, AttendAndExcite(Ddim(), looked_at)), 2),
    "UniPC of diffusers": (from_scheduler(scheduler_of("UniPCMultistepScheduler", SD1_SCHEDULER), 2), 2),
    "KDPM2 of diffusers": (from_scheduler(scheduler_of("KDPM2DiscreteScheduler", SD1_SCHEDULER), 2), 3),
}
"""Each with the forwards of its whole path, whatever is asked of the denoiser."""

SEVERAL = ("a scale a picture", "tuned nulls", "regions", "paint-with-words", "prompt-to-prompt", "neighbours, words")
"""Those that have settings of their own for each of two pictures, or relate them."""

ADDED = ("concepts", "edits")
"""Fields of which several add up."""


def settle_one(one: str, other: str) -> bool:
    """Whether two of ``GUIDANCE`` are values of one field, of which there can be one."""
    return bool((GUIDANCE[one].keys() & GUIDANCE[other].keys()) - {*ADDED})


WORDED = ("structure", "conjunction", "regions", "paint-with-words", "prompt-to-prompt")
ASKED = [name for name in GUIDANCE if name not in ("none", "classifier-free")]
PAIRS = tuple(pair for pair in combinations(ASKED, 2) if not settle_one(*pair))
REFUSED: Mapping[tuple[str, str], str] = {
    ("projected", "rescaled"): "rescale and project both change the size of what guidance adds",
    ("negative prompt", "tuned nulls"): "tuned nulls stand where a negative prompt would",
    ("interval", "tuned nulls"): "and at every step; leave negative and interval out",
    ("conjunction", "regions"): "put further contexts beside the prompt's",
    **{(edit, "neighbours, no words"): "the context has neighbours in their place" for edit in WORDED},
}
"""Those of ``PAIRS``, guidance with guidance, that make no sense, and why."""

ALONE_REFUSED: Mapping[str, str] = {
    "negative prompt": "knows no words",
    **dict.fromkeys(("AND", "NOT"), "give it some"),
    **dict.fromkeys(WORDED, "the context has neighbours in their place"),
}
"""What a model that draws from neighbours alone refuses, and why."""

BESIDE: Mapping[str, Any] = {"neighbours": Neighbours(PICTURES)}
GIVEN = REFERENCE[:1].tanh()
FLOWS: Mapping[str, Callable[[Parts, Steering], Tensor]] = {
    "generate": lambda parts, steer: text_to_image(
        parts, PROMPTS[:1], seeds=[0], size=SIZE, steer=steer, walk=Walk(steps=2)
    ),
    "redraw": lambda parts, steer: redraw(
        parts, Redraw(GIVEN, 0.9), PROMPTS[:1], seeds=[0], steer=steer, walk=Walk(steps=3)
    ),
    "inpaint": lambda parts, steer: inpaint(
        parts, Inpaint(GIVEN, MASK), PROMPTS[:1], seeds=[0], steer=steer, walk=Walk(steps=2)
    ),
    "morph": lambda parts, steer: morph(
        parts, Morph(End("a cat", 0), End("a dog", 1), [0.3]), size=SIZE, steer=steer, walk=Walk(steps=2)
    ),
    "rewrite": lambda parts, steer: rewrite(
        parts, [Rewrite("a red hat", ("a blue hat",))], seeds=[0], size=SIZE, steer=steer, walk=Walk(steps=2)
    ),
}


def small_parts(folder: Path) -> Parts:
    """A checkpoint whose network is :func:`small_model`'s, probed for the layers that edits reach, as is the expert."""
    parts = replace(load(write_emoji(folder)), codec=PixelCodec(), model=small_model(0), neighbours=NeighbourTokens())
    with torch.no_grad():
        perturbed = Branch(condition_of(parts, PROMPTS, SIZE), (IdentityAttention(),))
        for model in (parts.model, OTHER):
            model(START, TWO[0], [perturbed])
    return parts


def asked(sampler: Sampler, *settings: Mapping[str, Any]) -> Steering:
    """Several settings at once; concepts and edits add up."""
    every = {name: value for each in settings for name, value in each.items()}
    added = {name: tuple(one for each in settings for one in each.get(name, ())) for name in ADDED}
    nulls = every.get("nulls")
    return Steering(**{**every, **added, "nulls": nulls and nulls[: len(sampler.path) - 1]})


def without_words(parts: Parts) -> Parts:
    """The same checkpoint as one that draws from neighbours alone."""
    return replace(parts, neighbours=NeighbourTokens(alone=True))


def every_edit() -> list[AfterStep]:
    return [edit() for edit in AFTER.values()]


def denoiser(parts: Parts, sampler: Sampler, *settings: Mapping[str, Any]) -> Denoiser:
    steer = asked(sampler, *settings)
    text = prompted(parts, PROMPTS, SIZE, steer.edits, steer.neighbours).branch
    return steered(parts, text, SIZE, steer, sampler.path)


def walk(parts: Parts, denoise: Denoiser, sampler: Sampler, *after: AfterStep) -> tuple[Tensor, list[int]]:
    """The end of a path, and the rows of each forward on the way, of the model and of the expert."""
    with torch.no_grad(), counted(parts.model) as own, counted(OTHER) as others:
        x = sample(denoise, sampler.scale * START, sampler.path, sampler.step, noise=Noise([0, 1]), after=after)
    return x, own + others


def goes_with_every_step(parts: Parts, *settings: Mapping[str, Any]) -> None:
    """Each step without an edit, and with all of them in turn; the last keeps what is known."""
    for step, (sampler, declared) in STEPS.items():
        denoise = denoiser(parts, sampler, *settings)
        for after in ((), every_edit()):
            x, rows = walk(parts, denoise, sampler, *after)
            assert x.shape == START.shape and x.isfinite().all(), (step, after)
            assert len(rows) == declared, (step, after)
        assert torch.equal(x[..., 4:], REFERENCE[..., 4:]), step


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return small_parts(tmp_path_factory.mktemp("emoji"))


@pytest.mark.parametrize(("guidance", "wrapper"), product(GUIDANCE, WRAPPERS))
def test_guidance_goes_with_wrapper_after_step_edit_and_step(parts: Parts, guidance: str, wrapper: str) -> None:
    goes_with_every_step(parts, GUIDANCE[guidance], WRAPPERS[wrapper])


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_guidance_goes_with_guidance_or_is_refused_for_a_reason(parts: Parts, one: str, other: str) -> None:
    sampler, declared = STEPS["DDIM"]
    if (one, other) in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[one, other]):
            walk(parts, denoiser(parts, sampler, GUIDANCE[one], GUIDANCE[other]), sampler)
        return
    x, rows = walk(parts, denoiser(parts, sampler, GUIDANCE[one], GUIDANCE[other]), sampler)
    assert x.isfinite().all() and len(rows) == declared
    for alone in (one, other):
        assert not torch.equal(x, walk(parts, denoiser(parts, sampler, GUIDANCE[alone]), sampler)[0]), alone


def test_everything_at_once(parts: Parts) -> None:
    """All that does not exclude another: one forward a step, and a backward pass for the score of the estimate."""
    left_out = {"none", "classifier-free", "negative prompt", "interval", "projected", "conjunction"}
    left_out.add("neighbours, no words")
    guidance = [settings for name, settings in GUIDANCE.items() if name not in left_out]
    for step, (sampler, declared) in STEPS.items():
        x, rows = walk(parts, denoiser(parts, sampler, *guidance, *WRAPPERS.values()), sampler, *every_edit())
        assert x.isfinite().all() and len(rows) == declared, step


@pytest.mark.parametrize("guidance", [name for name in GUIDANCE if name not in SEVERAL])
def test_a_picture_does_not_depend_on_its_neighbours(parts: Parts, guidance: str) -> None:
    sampler, _ = STEPS["DDIM"]
    for wrapper, settings in WRAPPERS.items():
        together, _ = walk(parts, denoiser(parts, sampler, GUIDANCE[guidance], settings), sampler)
        steer = asked(sampler, GUIDANCE[guidance], settings)
        text = prompted(parts, PROMPTS[1:], SIZE, steer.edits, steer.neighbours).branch
        denoise = steered(parts, text, SIZE, steer, sampler.path)
        with torch.no_grad():
            alone = sample(denoise, START[1:], sampler.path, sampler.step, noise=Noise([1]))
        torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4, msg=wrapper)


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_a_model_that_draws_from_neighbours_alone(parts: Parts, guidance: str) -> None:
    alone, (sampler, _) = without_words(parts), STEPS["DDIM"]
    if guidance in ALONE_REFUSED:
        with pytest.raises(ValueError, match=ALONE_REFUSED[guidance]):
            denoiser(alone, sampler, BESIDE, GUIDANCE[guidance])
        return
    goes_with_every_step(alone, BESIDE, GUIDANCE[guidance])
    for wrapper, settings in WRAPPERS.items():
        x, rows = walk(alone, denoiser(alone, sampler, BESIDE, GUIDANCE[guidance], settings), sampler)
        assert x.isfinite().all() and len(rows) == 2, wrapper


@pytest.mark.parametrize("flow", FLOWS)
def test_neighbours_go_with_every_flow(parts: Parts, flow: str) -> None:
    """Beside words and as a branch; in place of words and alone, where a flow does not compare words."""
    make, one = FLOWS[flow], Neighbours(OTHERS)
    asked = [(parts, Steering(neighbours=one)), (parts, Steering(**GUIDANCE["AND neighbours"]))]
    if flow != "rewrite":
        asked.append((parts, Steering(neighbours=replace(one, words=False))))
        asked.append((without_words(parts), Steering(neighbours=one)))
    bare = make(parts, Steering())
    for model, steer in asked:
        x = make(model, steer)
        assert x.isfinite().all() and (x - bare).abs().max() > 1e-3, steer


@pytest.mark.parametrize("wrapper", ["static threshold", "dynamic threshold"])
def test_thresholds_of_latents_are_refused(parts: Parts, wrapper: str) -> None:
    with pytest.raises(ValueError, match="this is a model of latents"):
        denoiser(replace(parts, codec=LatentCodec(tiny_vae())), STEPS["DDIM"][0], WRAPPERS[wrapper])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"experts": (Expert(OTHER, 0.0, 0.6), Expert(OTHER, 0.5, 1.0))}, "spans may not overlap"),
        ({"guidance": (1.0, 2.0, 3.0)}, "there are 2 pictures and 3 guidance scales"),
        ({"concepts": (Concept(("apple", "dog", "cat")),)}, "3 texts for 2 pictures"),
        ({"guidance": ()}, "guidance must be a number from 0 on"),
        ({"perturb": -1.0}, "perturb must be a number from 0 on"),
        ({"project": 1.5}, "project must lie"),
        ({"threshold": "dynamic"}, "threshold must be"),
        ({"nulls": (torch.zeros(2, 2, TEXT_WIDTH),)}, "the path has 2 steps and there are nulls for 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(parts: Parts, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        denoiser(parts, STEPS["DDIM"][0], settings)


def test_the_page_says_what_is_so(parts: Parts) -> None:
    from tools.composition_table import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page(parts), "run python tools/composition_table.py"
