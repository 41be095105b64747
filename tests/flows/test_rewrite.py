"""Rewriting: what stays, what changes, and that it goes together with everything else that is asked of the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.attention.alignment import refined, replaced
from sfumato.checkpoints.load import Parts, load
from sfumato.core.codec import PixelCodec
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.sample import Record
from sfumato.flows.invert import Inverting, invert
from sfumato.flows.rewrite import Blend, Rewrite, rewrite
from sfumato.flows.steering import Concept
from sfumato.flows.text_to_image import text_to_image
from sfumato.flows.walk import Excite, Like, Walk
from sfumato.networks.unet import UNetNetwork
from tests.parts import HalveValues, Sharpen, counted, sorted_settings
from tests.tiny import ZERO_SNR, tiny_unet, write_emoji, write_sd1, write_sd2, write_sdxl

SWAP = ("a red hat on a cat", "a scarlet hat on a cat")
"""As many words in both, not as many tokens."""
ADD = ("a hat on a cat", "a red hat on a cat, blurry")
IMAGE = Noise([7]).uniform((1, 3, 32, 32)).float() * 2 - 1


def sharpened(parts: Parts) -> Parts:
    """The same with cross-attention that tells tokens apart, which a random network hardly does."""
    with torch.no_grad():
        for name, parameter in parts.network.unet.named_parameters():
            if "attn2.to_q" in name or "attn2.to_k" in name:
                parameter.mul_(12)
    return parts


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return sharpened(load(write_sd1(tmp_path_factory.mktemp("sd1"))))


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return sharpened(load(write_emoji(tmp_path_factory.mktemp("emoji"))))


@pytest.fixture(params=["sd1", "emoji"])
def parts(request: pytest.FixtureRequest) -> Parts:
    """Texts padded to 77 tokens, unmasked; and to the longest, masked."""
    return request.getfixturevalue(request.param)


def rewritten(parts: Parts, *given: Rewrite, seeds: Sequence[int] = (), **settings: Any) -> Tensor:
    defaults = {"steps": 3, "guidance": 3.0, "seeds": seeds or range(3, 3 + len(given))}
    return rewrite(parts, given, **sorted_settings({**defaults, **settings}))


def plain(parts: Parts, prompts: Sequence[str], seed: int = 3, **settings: Any) -> Tensor:
    """The prompts from one noise, without edits."""
    defaults = {"steps": 3, "guidance": 3.0, "seeds": [seed] * len(prompts)}
    return text_to_image(parts, prompts, **sorted_settings({**defaults, **settings}))


def near(found: Tensor, wanted: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("prompts", [SWAP, ADD])
def test_the_source_is_what_it_would_be_alone_and_the_rewrite_is_not(parts: Parts, prompts: tuple[str, str]) -> None:
    found, alone = rewritten(parts, Rewrite(*split(prompts))), plain(parts, prompts)
    assert found.shape == (2, 3, 32, 32) and found.dtype == torch.float32 and not found.requires_grad
    near(found[0], alone[0])
    assert (found[1] - alone[1]).abs().max() > 1e-2 and (found[1] - found[0]).abs().max() > 1e-2


@pytest.mark.parametrize("scheduler", ["euler_a", "heun", "dpmpp_2m", "unipc"])
def test_every_sampler_gives_source_and_rewrite_the_same_noise(emoji: Parts, scheduler: str) -> None:
    given = Rewrite(SWAP[0], (SWAP[0], SWAP[1]))
    found, alone = rewritten(emoji, given, scheduler=scheduler), plain(emoji, SWAP, scheduler=scheduler)
    near(found[0], alone[0])
    near(found[1], found[0], 1e-6)
    assert (found[2] - alone[1]).abs().max() > 1e-2


def split(prompts: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    return prompts[0], tuple(prompts[1:])


def test_windows_of_nought_are_plain_generation_bit_for_bit(parts: Parts) -> None:
    given = Rewrite(*split(SWAP), cross=0, self_attention=0)
    assert torch.equal(rewritten(parts, given), plain(parts, SWAP))


@pytest.mark.parametrize("windows", [(0.0, 0.0), (0.4, 0.8), (1, 1), (1.0, 0.0)])
def test_a_prompt_rewritten_to_itself_is_the_same_picture(parts: Parts, windows: tuple[float, float]) -> None:
    found = rewritten(parts, Rewrite(SWAP[0], (SWAP[0],) * 2, *windows))
    for each in found:
        near(each, found[0], 1e-6)
    near(found[0], plain(parts, SWAP[:1])[0])


def test_the_source_is_the_same_whatever_is_done_to_the_rewrite(parts: Parts) -> None:
    """Bit for bit while texts are padded alike, which is the other text's doing with BERT's."""
    sources = [
        rewritten(parts, Rewrite(SWAP[0], (target,), weights=weights, align=align))[0]
        for target, weights, align in (
            (SWAP[1], {}, replaced),
            (SWAP[1], {"scarlet": -2.0}, refined),
            (SWAP[0], {"red": -2.0}, replaced),
            (SWAP[0], {"red": 0.0, "hat": 2.0}, refined),
        )
    ]
    assert torch.equal(sources[0], sources[1]) and torch.equal(sources[2], sources[3])
    near(sources[2], sources[0])


def test_each_window_has_its_effect(parts: Parts) -> None:
    windows = [(0.0, 0.0), (0.8, 0.0), (0.4, 0.0), (0.0, 0.4), (0.0, 1.0), (0.8, 0.4)]
    targets = [rewritten(parts, Rewrite(*split(SWAP), *each), steps=5)[1] for each in windows]
    assert all((a - b).abs().max() > 1e-3 for index, a in enumerate(targets) for b in targets[:index])


def test_tokens_are_matched_by_word_where_there_are_as_many(parts: Parts) -> None:
    for prompts, align, other in ((SWAP, replaced, refined), ((*ADD,), refined, None)):
        found = rewritten(parts, Rewrite(*split(prompts)))
        assert torch.equal(found, rewritten(parts, Rewrite(*split(prompts), align=align)))
        if other is not None:
            assert not torch.equal(found, rewritten(parts, Rewrite(*split(prompts), align=other)))


def test_words_have_weights_of_their_own(parts: Parts) -> None:
    same = (SWAP[0], (SWAP[0],))

    def weighed(**weights: float) -> Tensor:
        return rewritten(parts, Rewrite(*same, weights=weights))[1]

    none = weighed()
    assert torch.equal(weighed(red=1.0, hat=1.0), none)
    both = weighed(red=2.0, hat=0.0)
    assert torch.equal(both, weighed(hat=0.0, red=2.0))
    different = [none, both, weighed(red=2.0), weighed(hat=0.0), weighed(red=0.0, hat=2.0)]
    assert all((a - b).abs().max() > 1e-3 for index, a in enumerate(different) for b in different[:index])


def test_words_have_windows_of_their_own(parts: Parts) -> None:
    found = rewritten(parts, Rewrite(*split(SWAP), cross=0.8))
    assert torch.equal(rewritten(parts, Rewrite(*split(SWAP), cross=0.8, windows={"scarlet": 0.8})), found)
    freer = rewritten(parts, Rewrite(*split(SWAP), cross=0.8, windows={"scarlet": 0.2}))
    assert torch.equal(freer[0], found[0]) and (freer[1] - found[1]).abs().max() > 1e-3
    whole = {"a scarlet hat on a cat": 0.8}
    marks = rewritten(parts, Rewrite(*split(SWAP), cross=0, windows=whole))
    assert (marks[1] - found[1]).abs().max() > 1e-4, "the marks of beginning and end belong to no word"


def test_a_weight_acts_at_all_places_of_a_word(parts: Parts) -> None:
    twice = ("a red hat on a red cat",) * 2
    found = rewritten(parts, Rewrite(*split(twice), weights={"red": -2.0}))[1]
    parted = rewritten(
        parts, Rewrite(*split(twice), weights={"red hat": -2.0, "hat": 1.0, "red cat": -2.0, "cat": 1.0})
    )
    assert torch.equal(found, parted[1])


def test_several_rewrites_at_once_are_what_each_is_alone(parts: Parts) -> None:
    given = (
        Rewrite(*split(SWAP), cross=0.6, weights={"scarlet": 2.0}, blend=Blend(("red", "scarlet"))),
        Rewrite("two dogs", ("two blue dogs", "two cats"), self_attention=0.6, weights={"blue": 0.5}),
        Rewrite(*split(ADD), windows={"cat": 0.2}),
    )
    together, alone = (
        rewritten(parts, *given, seeds=(3, 4, 5)),
        [rewritten(parts, each, seeds=[seed]) for seed, each in zip((3, 4, 5), given, strict=True)],
    )
    assert [len(each) for each in alone] == [2, 3, 2]
    near(together, torch.cat(alone), 2e-3)
    assert (together - torch.cat(alone)).abs().mean() < 1e-5


def test_outside_the_area_of_the_words_latents_are_the_sources_bit_for_bit(parts: Parts) -> None:
    records: list[Record] = []
    given = Rewrite(*split(SWAP), blend=Blend(("hat",), start=0.4, threshold=0.7))
    found = rewritten(parts, given, watch=records.append, steps=5)
    shares = [float((record.x[0] == record.x[1]).all(0).float().mean()) for record in records]
    assert shares[:2] == [0, 0] and all(0.05 < share < 0.95 for share in shares[2:]), shares
    without = rewritten(parts, replace(given, blend=None), steps=5)
    near(found[0], without[0])
    assert (found[1] - without[1]).abs().max() > 1e-2
    nowhere = rewritten(parts, replace(given, blend=Blend(("hat",), keep=(SWAP[0], SWAP[1]), threshold=0.0, start=0)))
    assert torch.equal(nowhere[1], nowhere[0])


def test_the_area_is_that_of_maps_before_they_are_edited(parts: Parts) -> None:
    """A word of the rewrite alone, whose edited maps are nought, still has its area."""
    given = Rewrite(*split(ADD), cross=1.0, weights={"red": 0.0}, blend=Blend(("red",)))
    found = rewritten(parts, given)
    assert (found[0] - found[1]).abs().max() > 1e-2


def test_one_forward_a_step(parts: Parts) -> None:
    with counted(parts.model) as rows:
        rewritten(parts, Rewrite(*split(SWAP), weights={"hat": 2.0}, blend=Blend(("hat",))), steps=4, size=(16, 32))
    assert rows[0] == 1 and rows[1:] == [4] * 4, "one row to learn which layers there are, once a size"


OTHERS: list[dict[str, Any]] = [
    {"edits": (lambda encoder, words: Sharpen(0.5),)},
    {"edits": (lambda encoder, words: HalveValues(),)},
    {"concepts": (Concept("a dog", 0.5), Concept("blurry", -0.5))},
    {"negative": "blurry"},
    {"interval": (0.2, 0.8)},
    {"perturb": 1.0},
    {"rescale": 0.7},
    {"project": 0.0},
    {"guidance": (1.0, 6.0)},
    {"guidance": 1.0},
    {"estimate_scores": ((lambda x0: -x0.square().flatten(1).sum(1), 0.1),)},
    {"like": Like(IMAGE, scale=4)},
    {"langevin": 1},
    {"excite": Excite(("cat",))},
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
def test_it_goes_together_with_all_else(emoji: Parts, other: dict[str, Any]) -> None:
    given, tolerance = Rewrite(*split(SWAP), weights={"hat": 2.0}), 0.02 if "excite" in other else 1e-3
    found, alone = rewritten(emoji, given, **other), plain(emoji, SWAP, **other)
    near(found[0], alone[0], tolerance)  # excitement makes 3e-3 of a difference of 1e-6 in x
    assert found.isfinite().all() and (found[1] - alone[1]).abs().max() > 1e-2
    assert (found - rewritten(emoji, given)).abs().max() > 1e-3, "it has an effect"
    blended = rewritten(emoji, replace(given, blend=Blend(("hat",))), **other)
    near(blended[0], alone[0], tolerance)


def test_a_path_may_begin_at_pure_noise_and_texts_may_have_vectors(tmp_path_factory: pytest.TempPathFactory) -> None:
    given = Rewrite(*split(SWAP), weights={"hat": 2.0}, blend=Blend(("hat",)))
    for folder in (write_sd2(tmp_path_factory.mktemp("sd2"), **ZERO_SNR), write_sdxl(tmp_path_factory.mktemp("sdxl"))):
        parts = load(folder)
        found = rewritten(parts, given)
        near(found[0], plain(parts, SWAP)[0])
        assert found.isfinite().all() and (found[0] - found[1]).abs().max() > 1e-3


@pytest.fixture(scope="module")
def wide(emoji: Parts) -> Parts:
    """Attention at a half and a quarter of x alone, as SDXL has it: at 1024 x 1024, of 64 x 64 and 32 x 32."""
    unet = tiny_unet(
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    model = DenoisingModel(UNetNetwork(unet, "v"), emoji.model.schedule)
    return sharpened(replace(emoji, codec=PixelCodec(), model=model))


def test_grids_of_64_and_32_are_rewritten_blended_and_excited(wide: Parts) -> None:
    """An x of 128 x 128: self-attention and areas of 32 x 32, which no fixed side of 16 or 24 allows."""
    given = Rewrite(*split(SWAP), blend=Blend(("hat",), start=0, threshold=0.7))
    settings: dict[str, Any] = {"steps": 1, "guidance": 1.0, "size": (128, 128)}
    records: list[Record] = []
    found = rewritten(wide, given, watch=records.append, **settings)
    same = (records[0].x[0] == records[0].x[1]).all(0)
    blocks = same.unflatten(0, (32, 4)).unflatten(2, (32, 4)).float().mean((1, 3))
    assert ((blocks == 0) | (blocks == 1)).all() and 0.01 < same.float().mean() < 0.99, "decided on 32 x 32"
    excited = rewritten(wide, replace(given, self_attention=0), excite=Excite(("cat",), refine=()), **settings)
    assert (excited[0] - found[0]).abs().max() > 1e-4


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A network whose answer hardly depends on x, so that inversion is exact: a tenth of a random one."""
    parts = load(write_sd2(tmp_path_factory.mktemp("calm")))
    with torch.no_grad():
        for parameter in parts.network.unet.conv_out.parameters():
            parameter.mul_(0.1)
    return parts


def test_a_given_picture_is_rewritten_without_guidance(calm: Parts) -> None:
    found = invert(calm, IMAGE, [SWAP[0]], walk=Walk(5))
    settings = {"guidance": 1.0, "start": found.start, "steps": 5}
    source, target = rewritten(calm, Rewrite(*split(SWAP)), **settings)
    near(source, plain(calm, SWAP[:1], **settings)[0])
    with torch.no_grad():
        near(source, calm.codec.decode(calm.codec.encode(IMAGE))[0], 1e-3)
    assert (source - target).abs().max() > 1e-3


def test_a_given_picture_is_rewritten_with_tuned_nulls(calm: Parts) -> None:
    images, prompts = torch.cat([IMAGE, -IMAGE]), [SWAP[0], ADD[0]]
    found = invert(calm, images, prompts, walk=Walk(3), how=Inverting("plain", null_text=5.0))
    settings = {"guidance": 5.0, "start": found.start, "nulls": found.nulls}
    both = rewritten(calm, Rewrite(*split(SWAP)), Rewrite(*split(ADD)), **settings)
    kept = text_to_image(calm, prompts, **sorted_settings({**settings, "seeds": [0, 0], "steps": 3}))
    near(both[[0, 2]], kept)
    one = {**settings, "start": found.start[:1], "nulls": tuple(tokens[:1] for tokens in found.nulls or ())}
    near(rewritten(calm, Rewrite(*split(SWAP)), **one), both[:2])
    assert ((both[0] - both[1]).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"weights": {"rad": 2.0}}, "'rad' is not in the text 'a scarlet hat on a cat'; nearest are"),
        ({"windows": {"hats": 0.2}}, "'hats' is not in the text 'a scarlet hat on a cat'; nearest are 'hat'"),
        ({"weights": {"hat": 2.0}, "windows": {"hat": 0.0}}, "the weight of 'hat' acts while its window"),
        ({"weights": {"hat": 2.0}, "windows": {"cat": 0.5}, "cross": 0.0}, "the weight of 'hat' acts while its window"),
        ({"weights": {"red": 2.0}}, "'red' is not in the text 'a scarlet hat on a cat'"),
        ({"blend": Blend(("hut",))}, "'hut' is not in the text 'a red hat on a cat'; nearest are 'hat'"),
        ({"blend": Blend(("hat",), keep=("dog",))}, "'dog' is not in the text"),
    ],
)
def test_words_that_are_in_no_prompt_are_refused(emoji: Parts, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        rewritten(emoji, Rewrite(*split(SWAP), **settings))


def test_a_word_need_be_in_one_of_the_targets_only(emoji: Parts) -> None:
    targets = ("a blue hat", "a red cat")
    found = rewritten(emoji, Rewrite("a red hat", targets, weights={"blue": 2.0, "cat": 0.5}, blend=Blend(("cat",))))
    assert found.shape[0] == 3 and found.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"targets": ()}, "a tuple of one or more targets"),
        ({"targets": "a dog"}, "a tuple of one or more targets, got 'a dog'"),
        ({"cross": 1.1}, "a window must end at a share of the path"),
        ({"self_attention": -1}, "a window must end at a share of the path"),
        ({"windows": {"cat": 2.0}}, "a window must end at a share of the path"),
        ({"weights": {"cat": 2.0}, "cross": 0}, "weights act while a window of their words lasts"),
        ({"weights": {"cat": float("inf")}}, "the weight of 'cat' must be a finite number"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Rewrite(**{"source": "a cat", "targets": ("a dog",), **settings})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"words": ()}, "needs the words"), ({"start": 2.0}, "start in"), ({"threshold": 1.0}, "threshold in")],
)
def test_a_blend_out_of_range_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Blend(**{"words": ("cat",), **settings})


def test_a_seed_for_each_rewrite(emoji: Parts) -> None:
    for given, seeds in (((), ()), ((Rewrite(*split(SWAP)),), (1, 2))):
        with pytest.raises(ValueError, match="a list of rewrites and one seed for each"):
            rewrite(emoji, given, seeds=seeds)
    with pytest.raises(ValueError, match="have 6 and 8 words; replacement needs as many"):
        rewritten(emoji, Rewrite(SWAP[0], (ADD[1],), align=replaced))
