"""The U-Net adapter calls diffusers' model as diffusers does, and refuses what the network cannot take in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core.attention import AttentionCall, AttentionEdit
from sfumato.core.condition import Condition
from sfumato.core.noise import Noise
from sfumato.networks.unet import UNetNetwork
from tests.tiny import POOLED_WIDTH, TEXT_WIDTH, tiny_sdxl_unet, tiny_unet

X = Noise([1, 2])((2, 4, 16, 16))
TIME = torch.tensor([10.0, 700.0])
TOKENS = Noise([3, 4])((2, 7, TEXT_WIDTH))


@torch.no_grad()
def called(network: UNetNetwork, condition: Condition, call: AttentionCall | None = None) -> Tensor:
    return network(X, TIME, condition, call)


@torch.no_grad()
def stock(unet: Any, x: Tensor = X, tokens: Tensor = TOKENS, **settings: Any) -> Tensor:
    return unet(x, TIME, encoder_hidden_states=tokens, **settings).sample


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)
    assert theirs.std() > 0.05


def test_tokens() -> None:
    theirs = stock(tiny_unet())
    close(called(UNetNetwork(tiny_unet()), Condition(tokens=TOKENS)), theirs)


def test_masked_tokens_do_not_count() -> None:
    network = UNetNetwork(tiny_unet())
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[:, 7:] = False
    padded = torch.cat([TOKENS, torch.full((2, 2, TEXT_WIDTH), 9.0)], dim=1)
    close(called(network, Condition(tokens=padded, token_mask=mask)), called(network, Condition(tokens=TOKENS)))
    assert (called(network, Condition(tokens=padded)) - called(network, Condition(tokens=TOKENS))).abs().max() > 1e-3


def test_vector_and_size() -> None:
    vector, size = Noise([5, 6])((2, POOLED_WIDTH)), torch.tensor([[64, 48, 0, 8, 64, 48], [32, 32, 0, 0, 32, 32]])
    tokens = TOKENS.repeat(1, 1, 2)
    theirs = stock(tiny_sdxl_unet(), tokens=tokens, added_cond_kwargs={"text_embeds": vector, "time_ids": size})
    network = UNetNetwork(tiny_sdxl_unet())
    assert network.sized and not UNetNetwork(tiny_unet()).sized
    close(called(network, Condition(tokens=tokens, vector=vector, extras={"size": size})), theirs)
    with pytest.raises(ValueError, match='takes a vector and the extra "size"'):
        called(network, Condition(tokens=tokens, vector=vector))


def test_channels_are_concatenated() -> None:
    channels = Noise([7, 8])((2, 5, 16, 16))
    theirs = stock(tiny_unet(in_channels=9), torch.cat([X, channels], dim=1))
    network = UNetNetwork(tiny_unet(in_channels=9))
    close(called(network, Condition(tokens=TOKENS, channels=channels)), theirs)
    with pytest.raises(ValueError, match="takes 9 channels, and got 4 of x and 0"):
        called(network, Condition(tokens=TOKENS))
    with pytest.raises(ValueError, match="takes 4 channels, and got 4 of x and 5"):
        called(UNetNetwork(tiny_unet()), Condition(tokens=TOKENS, channels=channels))


@pytest.mark.parametrize("name", ["class", "augment"])
def test_class_labels(name: str) -> None:
    labels = torch.tensor([2, 0])
    theirs = stock(tiny_unet(num_class_embeds=3), class_labels=labels)
    network = UNetNetwork(tiny_unet(num_class_embeds=3))
    close(called(network, Condition(tokens=TOKENS, extras={name: labels})), theirs)
    with pytest.raises(ValueError, match='takes one of the extras "class" and "augment"'):
        called(network, Condition(tokens=TOKENS))
    with pytest.raises(ValueError, match="takes no class"):
        called(UNetNetwork(tiny_unet()), Condition(tokens=TOKENS, extras={name: labels}))


def test_a_projected_vector() -> None:
    settings = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 6}
    vector = Noise([9, 10])((2, 6))
    theirs = stock(tiny_unet(**settings), class_labels=vector)
    network = UNetNetwork(tiny_unet(**settings))
    close(called(network, Condition(tokens=TOKENS, vector=vector)), theirs)
    with pytest.raises(ValueError, match="takes a vector, and the condition has 0"):
        called(network, Condition(tokens=TOKENS))


def test_guidance_that_is_told() -> None:
    from diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_text2img import (
        LatentConsistencyModelPipeline,
    )

    scale = torch.tensor([1.5, 8.0])
    told = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, scale - 1, 12)  # type: ignore[arg-type]
    theirs = stock(tiny_unet(time_cond_proj_dim=12), timestep_cond=told)
    network = UNetNetwork(tiny_unet(time_cond_proj_dim=12))
    close(called(network, Condition(tokens=TOKENS, extras={"guidance": scale})), theirs)
    with pytest.raises(ValueError, match="is told a guidance scale"):
        called(network, Condition(tokens=TOKENS))
    with pytest.raises(ValueError, match="is not told a guidance scale"):
        called(UNetNetwork(tiny_unet()), Condition(tokens=TOKENS, extras={"guidance": scale}))


def test_what_the_network_does_not_take() -> None:
    network = UNetNetwork(tiny_unet())
    with pytest.raises(ValueError, match="the condition has none; use an encoder's null"):
        called(network, Condition())
    with pytest.raises(ValueError, match="takes no vector and no size"):
        called(network, Condition(tokens=TOKENS, vector=torch.zeros(2, 3)))


def test_networks_that_no_condition_describes() -> None:
    unet = tiny_unet(addition_embed_type="text_image", addition_time_embed_dim=8)
    with pytest.raises(ValueError, match="addition_embed_type 'text_image' are not supported"):
        UNetNetwork(unet)


class Blind(AttentionEdit):
    """Takes the context away."""

    def applies(self, site: Any) -> bool:
        return site.kind == "cross"

    def context(self, keys: Tensor, values: Tensor, site: Any) -> tuple[Tensor, Tensor]:
        return keys, torch.zeros_like(values)


def test_a_call_reaches_the_layers() -> None:
    network, condition = UNetNetwork(tiny_unet()), Condition(tokens=TOKENS)
    plain = called(network, condition)
    edited = called(network, condition, AttentionCall(((0, 1, ()), (1, 2, (Blind(),))), (16, 16), torch.tensor(1.0)))
    torch.testing.assert_close(edited[0], plain[0])
    assert (edited[1] - plain[1]).abs().max() > 1e-3


def test_dtype_follows_the_weights() -> None:
    network = UNetNetwork(tiny_unet().bfloat16())
    assert network.dtype == torch.bfloat16
    with torch.no_grad():
        output = network(X.bfloat16(), TIME, Condition(tokens=TOKENS.bfloat16()), None)
    assert output.dtype == torch.bfloat16
