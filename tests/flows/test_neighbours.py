"""Pictures in the context: beside words, in place of them, alone, and together with everything else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from sfumato.attention.paint_with_words import Painted, PaintWithWords
from sfumato.attention.structure import Structure
from sfumato.checkpoints.load import Parts, load
from sfumato.core.noise import Noise
from sfumato.encoders.joint import NeighbourTokens
from sfumato.flows.inpaint import Inpaint, inpaint
from sfumato.flows.prompts import Neighbours, null_of, prompted
from sfumato.flows.redraw import Redraw, redraw
from sfumato.flows.rewrite import Rewrite, rewrite
from sfumato.flows.steering import Concept, Steering
from sfumato.flows.walk import Walk
from sfumato.guidance.attend_and_excite import Excite
from sfumato.language.parse import named_parser
from tests.parts import made
from tests.tiny import TEXT_WIDTH, write_emoji, write_sd1

PROMPTS = ["a red hat", "two blue cats"]
TOKENS = NeighbourTokens(normalised=True, scale=2.0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return replace(load(write_emoji(tmp_path_factory.mktemp("emoji"))), neighbours=TOKENS)


@pytest.fixture(scope="module")
def alone(parts: Parts) -> Parts:
    """A model whose context is neighbours and nothing else."""
    return replace(parts, neighbours=replace(TOKENS, alone=True))


def vectors(count: int = 2, k: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, k, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))


def make(parts: Parts, prompts: list[str] = PROMPTS, **settings: Any) -> Tensor:
    return made(parts, prompts, range(len(prompts)), **{"steps": 3, "guidance": 3.0, **settings})


@contextmanager
def forwards(parts: Parts) -> Iterator[list[int]]:
    """The rows of each forward of the network."""
    rows: list[int] = []
    handle = parts.network.unet.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    try:
        yield rows
    finally:
        handle.remove()


def near(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=1e-4)


@pytest.mark.parametrize("words", [True, False])
def test_neighbours_change_the_picture_and_cost_no_forward(parts: Parts, words: bool) -> None:
    with forwards(parts) as rows:
        with_them = make(parts, neighbours=Neighbours(vectors(), words))
    assert rows == [4] * 3
    assert (with_them - make(parts)).abs().max() > 0.02


def test_words_count_unless_they_are_left_out(parts: Parts) -> None:
    others = ["a green tree", "apple"]
    beside, instead = Neighbours(vectors()), Neighbours(vectors(), words=False)
    assert (make(parts, neighbours=beside) - make(parts, others, neighbours=beside)).abs().max() > 0.01
    near(make(parts, neighbours=instead), make(parts, others, neighbours=instead))


def test_their_order_does_not_matter_and_their_number_may_vary(alone: Parts) -> None:
    given = vectors(k=4)
    near(make(alone, neighbours=Neighbours(given)), make(alone, neighbours=Neighbours(given[:, [2, 0, 3, 1]])))
    near(make(alone, neighbours=Neighbours(given)), make(alone, neighbours=Neighbours(given.repeat(1, 2, 1))))
    fewer = make(alone, neighbours=Neighbours(given[:, :1]))
    assert (fewer - make(alone, neighbours=Neighbours(given))).abs().max() > 1e-3


def test_scale_one_is_the_conditional_and_zero_the_null(alone: Parts) -> None:
    given = Neighbours(vectors())
    with forwards(alone) as rows:
        conditional = make(alone, guidance=1.0, neighbours=given)
    assert rows == [2] * 3
    assert (conditional - make(alone, guidance=3.0, neighbours=given)).abs().max() > 1e-3
    nothing = make(alone, guidance=0.0, neighbours=given)
    near(nothing, make(alone, guidance=1.0, neighbours=Neighbours(torch.zeros(2, 3, TEXT_WIDTH))))
    near(nothing, make(alone, guidance=1.0, neighbours=Neighbours(torch.zeros(1, 1, TEXT_WIDTH))))


def test_pictures_are_those_of_a_plain_loop_of_diffusers(alone: Parts) -> None:
    given, unet = vectors(), alone.network.unet
    tokens = TOKENS.scale * given / given.norm(dim=-1, keepdim=True)
    context = torch.cat([torch.zeros_like(tokens), tokens])
    scheduler = DDIMScheduler.from_config(dict(alone.scheduler))
    scheduler.set_timesteps(4)
    x = Noise(range(2))((2, 4, 16, 16))
    with torch.no_grad():
        for step in scheduler.timesteps:
            null, asked = unet(torch.cat([x, x]), step, context).sample.chunk(2)
            x = scheduler.step(null + 3.0 * (asked - null), step, x).prev_sample
        near(make(alone, neighbours=Neighbours(given), steps=4), alone.codec.decode(x))


def test_one_context_serves_all_pictures_and_each_picture_is_its_own(parts: Parts) -> None:
    one = vectors(1)
    near(make(parts, neighbours=Neighbours(one)), make(parts, neighbours=Neighbours(one.repeat(2, 1, 1))))
    many = Neighbours(vectors())
    near(make(parts, neighbours=many)[:1], make(parts, PROMPTS[:1], neighbours=Neighbours(many.vectors[:1])))


def test_tokens_are_as_the_checkpoint_takes_them(parts: Parts) -> None:
    given = vectors()
    near(make(parts, neighbours=Neighbours(given)), make(parts, neighbours=Neighbours(7 * given)))
    raw = replace(parts, neighbours=NeighbourTokens(normalised=False, scale=1.0))
    assert (make(raw, neighbours=Neighbours(given)) - make(raw, neighbours=Neighbours(7 * given))).abs().max() > 0.01


def test_the_two_nulls(parts: Parts) -> None:
    given = Neighbours(vectors())
    zero = replace(given, zero_null=True)
    plain = null_of(parts, 2, (32, 32), neighbours=given).tokens
    longer = null_of(parts, 2, (32, 32), neighbours=zero).tokens
    assert plain is not None and longer is not None
    assert longer.shape[1] == plain.shape[1] + 3 and not longer[:, -3:].any()
    assert (make(parts, neighbours=given) - make(parts, neighbours=zero)).abs().max() > 1e-3


def test_with_structure_paint_and_a_composition_in_one_forward(parts: Parts) -> None:
    parser, mask = named_parser("rules"), torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    edits = (Structure(parser.phrases), PaintWithWords((Painted("hat", mask, 1.0),), 0.5))
    prompts = ["a red hat and a blue cat"] * 2
    concepts = (Concept("a tree", -0.5), Concept("", 1.0, Neighbours(vectors(seed=1), words=False)))
    given = Neighbours(vectors())
    with forwards(parts) as rows:
        everything = make(parts, prompts, neighbours=given, edits=edits, concepts=concepts)
    assert [count for count in rows if count > 1] == [8] * 3 and everything.isfinite().all()
    for without in ({"edits": ()}, {"concepts": ()}, {"neighbours": None}):
        settings: dict[str, Any] = {"neighbours": given, "edits": edits, "concepts": concepts, **without}
        assert (everything - make(parts, prompts, **settings)).abs().max() > 1e-4


def test_with_inpainting_and_redrawing(parts: Parts) -> None:
    image, mask = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    steer = Steering(guidance=3.0, neighbours=Neighbours(vectors()))
    for flow, given in ((inpaint, Inpaint(image, mask)), (redraw, Redraw(image, 0.7))):
        with_them = flow(parts, given, PROMPTS, seeds=[0, 1], steer=steer, walk=Walk(steps=3))  # pyright: ignore
        without = flow(parts, given, PROMPTS, seeds=[0, 1], steer=Steering(3.0), walk=Walk(steps=3))  # pyright: ignore
        assert (with_them - without).abs().max() > 1e-3


def test_a_rewrite_needs_words(parts: Parts) -> None:
    asked = [Rewrite("a red hat", targets=("a blue hat",))]
    beside, instead = (Steering(3.0, neighbours=Neighbours(vectors(1), words)) for words in (True, False))
    assert rewrite(parts, asked, seeds=[0], steer=beside, walk=Walk(steps=2)).shape[0] == 2
    with pytest.raises(ValueError, match="keep the words"):
        rewrite(parts, asked, seeds=[0], steer=instead, walk=Walk(steps=2))


def test_words_to_excite_must_be_in_the_context(parts: Parts) -> None:
    excite = Excite(("hat",))
    beside, instead = (Neighbours(vectors(1), words) for words in (True, False))
    assert make(parts, ["a hat"], neighbours=beside, excite=excite).isfinite().all()
    with pytest.raises(ValueError, match="excite speaks of words, and the context has neighbours.*keep the words"):
        make(parts, ["a hat"], neighbours=instead, excite=excite)


def test_what_cannot_be_is_told(parts: Parts, alone: Parts, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neighbours alone; give it some"):
        make(alone)
    with pytest.raises(ValueError, match="knows no words"):
        make(alone, negative="blurry", neighbours=Neighbours(vectors()))
    with pytest.raises(ValueError, match="words alone and takes no neighbours"):
        make(load(write_sd1(tmp_path)), neighbours=Neighbours(vectors()))
    with pytest.raises(ValueError, match="neighbours of 2 pictures and 1"):
        make(parts, PROMPTS[:1], neighbours=Neighbours(vectors()))
    with pytest.raises(ValueError, match="another encoder"):
        make(parts, neighbours=Neighbours(torch.ones(1, 1, TEXT_WIDTH + 1)))
    with pytest.raises(ValueError, match="edits speak of words"):
        prompted(parts, PROMPTS, (32, 32), (Structure(named_parser("rules").phrases),), Neighbours(vectors(), False))
    with pytest.raises(ValueError, match=r"k >= 1, got shape"):
        Neighbours(torch.ones(2, 0, 4))
