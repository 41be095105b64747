from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, IPAdapterAttnProcessor2_0
from torch import nn

from sfumato.core.attention import AttentionCall
from sfumato.core.processor import EditableProcessor, borrowed, install
from tests.tiny import tiny_sdxl_unet, tiny_unet


@pytest.fixture(autouse=True)
def _no_grad() -> None:
    with torch.no_grad():
        yield


def _layer(**settings: Any) -> Attention:
    config = {"query_dim": 16, "heads": 2, "dim_head": 8, **settings}
    return Attention(processor=AttnProcessor2_0(), **config).double().eval()


LAYERS = {
    "self": {},
    "cross": {"cross_attention_dim": 12},
    "biased": {"bias": True, "out_bias": False},
    "group norm and residual": {"norm_num_groups": 4, "residual_connection": True, "rescale_output_factor": 1.7},
    "normed queries": {"qk_norm": "layer_norm"},
    "normed context": {"cross_attention_dim": 12, "cross_attention_norm": "layer_norm"},
    "spatial norm": {"query_dim": 32, "spatial_norm_dim": 6},
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("called", [False, True])
def test_a_layer_computes_what_the_stock_processor_computes(name: str, masked: bool, called: bool) -> None:
    torch.manual_seed(0)
    layer = _layer(**LAYERS[name])
    crossed = "cross_attention_dim" in LAYERS[name]
    width = LAYERS[name].get("query_dim", 16)
    image = (
        torch.randn(3, width, 4, 4) if name in ("spatial norm", "group norm and residual") else torch.randn(3, 16, 16)
    )
    context = torch.randn(3, 5, 12).double() if crossed else None
    keys = 5 if crossed else 16
    mask = -1e4 * (torch.rand(3, 1, keys) > 0.6).double() if masked else None
    temb = torch.randn(3, 6, 4, 4).double() if name == "spatial norm" else None
    inputs = {"encoder_hidden_states": context, "attention_mask": mask, "temb": temb}
    wanted = layer(image.double(), **inputs)
    layer.set_processor(EditableProcessor("layer"))
    call = AttentionCall(((0, 1, ()), (1, 3, ())), (4, 4), torch.tensor(1.0)) if called else None
    found = layer(image.double(), **inputs, call=call)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("build", [tiny_unet, tiny_sdxl_unet])
def test_a_whole_network_computes_what_it_did(build: Any) -> None:
    unet = build().double()
    x, context = torch.randn(2, 4, 8, 8).double(), torch.randn(2, 6, unet.config.cross_attention_dim).double()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    added = {"text_embeds": torch.randn(2, 16).double(), "time_ids": torch.rand(2, 6).double()}
    inputs = {"encoder_attention_mask": mask, "added_cond_kwargs": added}
    stock = unet(x, 500, context, **inputs).sample
    with borrowed(unet):
        torch.testing.assert_close(unet(x, 500, context, **inputs).sample, stock, rtol=0, atol=1e-12)


def test_borrowing_puts_the_former_processors_back_even_after_an_error() -> None:
    unet = tiny_unet()
    former = dict(unet.attn_processors)
    with pytest.raises(RuntimeError, match="inside"), borrowed(unet):
        assert {type(processor) for processor in unet.attn_processors.values()} == {EditableProcessor}
        raise RuntimeError("inside")
    assert unet.attn_processors == former


def test_installing_again_is_harmless_and_layers_know_their_names() -> None:
    unet = tiny_unet()
    install(unet)
    install(unet)
    for key, processor in unet.attn_processors.items():
        assert key == f"{processor.name}.processor"
        assert isinstance(unet.get_submodule(processor.name), Attention)


def test_a_processor_with_weights_is_not_overwritten() -> None:
    unet = tiny_unet()
    name, layer = next((n, m) for n, m in unet.named_modules() if isinstance(m, Attention))
    adapter = IPAdapterAttnProcessor2_0(hidden_size=16, cross_attention_dim=32)
    layer.set_processor(adapter)
    with pytest.raises(ValueError, match=f"{name} has a IPAdapterAttnProcessor2_0"):
        install(unet)
    with pytest.raises(ValueError, match="IPAdapter"), borrowed(unet):
        pass
    assert layer.processor is adapter


def test_networks_without_attention_are_left_alone() -> None:
    install(nn.Linear(2, 2))


def test_low_rank_adapters_act_through_the_processor() -> None:
    from peft import LoraConfig

    unet = tiny_unet().double()
    install(unet)
    x, context = torch.randn(2, 4, 8, 8).double(), torch.randn(2, 6, 32).double()
    base = unet(x, 500, context).sample
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    unet.double()
    assert (unet(x, 500, context).sample - base).abs().max() > 1e-6
    unet.disable_adapters()
    torch.testing.assert_close(unet(x, 500, context).sample, base, rtol=0, atol=1e-12)


def test_threads_may_call_one_network_without_calls() -> None:
    unet = tiny_unet().double()
    install(unet)
    x, context = torch.randn(2, 4, 8, 8).double(), torch.randn(2, 6, 32).double()

    def run(time: int) -> torch.Tensor:
        with torch.no_grad():
            return unet(x, time, context).sample

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(run, range(8)))
    assert all(torch.equal(found, run(time)) for time, found in enumerate(together))
