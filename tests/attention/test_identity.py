import pytest
import torch
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0

from sfumato.attention.identity import IdentityAttention, middle
from sfumato.core.attention import Site
from sfumato.core.branch import Branch, Guided
from tests.parts import branch, counted, scaled_linear, start, tiny_model

LEVEL = scaled_linear().at(torch.tensor(400.0))


def test_it_equals_the_identity_processor_of_diffusers() -> None:
    """That one takes (plain, perturbed) halves of a batch; here the perturbed half is a branch."""
    model, x, text = tiny_model(), start(), branch(1)
    perturbed = Branch(text.condition, (IdentityAttention(),))
    plain, found = model(x, LEVEL, [text, perturbed])
    layer = model.network.unet.mid_block.attentions[0].transformer_blocks[0].attn1
    layer.set_processor(PAGIdentitySelfAttnProcessor2_0())
    tokens = torch.cat([text.condition.tokens] * 2)
    output = model.network.unet(torch.cat([x, x]), 400, tokens).sample
    wanted = (torch.cat([x, x]) - LEVEL.sigma * output) / LEVEL.alpha
    torch.testing.assert_close(torch.cat([plain, found]), wanted, rtol=0, atol=1e-10)
    assert (plain - found).abs().max() > 1e-4


def test_it_is_the_limit_of_scores_with_an_infinite_diagonal() -> None:
    from sfumato.core.attention import AttentionEdit

    class Diagonal(AttentionEdit):
        def applies(self, site: Site) -> bool:
            return site.kind == "self"

        def scores(self, scores: torch.Tensor, site: Site, ratio: torch.Tensor) -> torch.Tensor:
            return scores + 1e6 * torch.eye(scores.shape[-1])

    condition = branch(1).condition
    edits = [(Diagonal(),), (IdentityAttention(where=lambda site: True),)]
    slow, fast = tiny_model()(start(), LEVEL, [Branch(condition, edit) for edit in edits])
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-9)


def test_as_a_third_branch_it_costs_no_further_forward() -> None:
    model, text, none = tiny_model(), branch(1), branch(0)
    perturbed = Branch(text.condition, (IdentityAttention(),))
    denoise = Guided(model, none + 4.0 * (text - none) + 3.0 * (text - perturbed))
    denoise(start(), LEVEL)
    with counted(model) as rows:
        denoise(start(), LEVEL)
    assert rows == [6]


def test_a_place_without_layers_is_refused() -> None:
    edit = IdentityAttention(where=lambda site: site.name.startswith("nowhere"))
    with pytest.raises(ValueError, match="edit IdentityAttention matches no layer"):
        tiny_model()(start(), LEVEL, [Branch(branch(1).condition, (edit,))])


def test_the_middle_is_found_by_name() -> None:
    model = tiny_model()
    model(start(), LEVEL, [Branch(branch(1).condition, (IdentityAttention(),))])
    (sites,) = model._sites.values()
    assert [site.name for site in sites if middle(site) and site.kind == "self"] == [
        "mid_block.attentions.0.transformer_blocks.0.attn1"
    ]
