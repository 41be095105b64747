import pytest
import torch

from sfumato.core.condition import Condition


def _full(count: int = 2, length: int = 3) -> Condition:
    return Condition(
        tokens=torch.randn(count, length, 4),
        vector=torch.randn(count, 5),
        channels=torch.randn(count, 1, 2, 2),
        extras={"class": torch.arange(count), "guidance": torch.rand(count)},
    )


def test_count_and_the_empty_condition() -> None:
    assert _full(3).count == 3
    assert Condition().count is None
    assert Condition.cat([Condition(), Condition()]).count is None


def test_cat_puts_images_after_one_another() -> None:
    first, second = _full(2), _full(1)
    both = Condition.cat([first, second])
    assert both.count == 3
    assert both.token_mask is None
    assert torch.equal(both.tokens, torch.cat([first.tokens, second.tokens]))
    assert torch.equal(both.channels[2:], second.channels)
    assert both.extras["class"].tolist() == [0, 1, 0]
    assert Condition.cat([first]) is first


def test_cat_pads_and_masks_tokens_of_different_lengths() -> None:
    short, long = Condition(tokens=torch.ones(1, 2, 4)), Condition(tokens=torch.ones(2, 5, 4))
    both = Condition.cat([short, long])
    assert both.tokens.shape == (3, 5, 4)
    assert both.token_mask.sum(dim=1).tolist() == [2, 5, 5]
    assert both.tokens[0, 2:].abs().sum() == 0


def test_cat_keeps_masks_and_makes_missing_ones() -> None:
    masked = Condition(tokens=torch.ones(1, 3, 4), token_mask=torch.tensor([[True, False, True]]))
    both = Condition.cat([masked, Condition(tokens=torch.ones(1, 4, 4))])
    assert both.token_mask.tolist() == [[True, False, True, False], [True, True, True, True]]


def test_cat_refuses_an_absent_field_and_names_it() -> None:
    for field, value in (("vector", None), ("channels", None), ("extras", {})):
        with pytest.raises(ValueError, match="explicit null"):
            Condition.cat([_full(), _full().replace(**{field: value})])
    with pytest.raises(ValueError, match="tokens"):
        Condition.cat([_full(), _full().replace(tokens=None)])
    with pytest.raises(ValueError, match="at least one"):
        Condition.cat([])


def test_rows_select_reorder_and_repeat() -> None:
    condition = _full(3)
    chosen = condition.rows([2, 0, 0])
    assert torch.equal(chosen.tokens, condition.tokens[[2, 0, 0]])
    assert chosen.extras["class"].tolist() == [2, 0, 0]
    assert torch.equal(condition.rows(slice(1, 3)).vector, condition.vector[1:])
    assert torch.equal(condition.rows(torch.tensor([1])).channels, condition.channels[1:2])


def test_dtype_reaches_what_the_network_multiplies_and_not_the_numbers_it_is_told() -> None:
    half = _full().to(torch.float16)
    assert {half.tokens.dtype, half.vector.dtype, half.channels.dtype} == {torch.float16}
    assert half.extras["guidance"].dtype == torch.float32
    assert half.extras["class"].dtype == torch.int64
    assert _full().to("meta").extras["class"].device.type == "meta"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokens": torch.ones(2, 4)}, "3 dimensions"),
        ({"vector": torch.ones(2, 4, 1)}, "2 dimensions"),
        ({"channels": torch.ones(2, 4)}, "4 dimensions"),
        ({"token_mask": torch.ones(2, 4, dtype=torch.bool)}, "shape .* of the tokens"),
        ({"tokens": torch.ones(2, 3, 4), "token_mask": torch.ones(2, 4, dtype=torch.bool)}, "shape .* of the tokens"),
        ({"tokens": torch.ones(2, 3, 4), "vector": torch.ones(3, 4)}, "same number of images"),
        ({"extras": {"clas": torch.ones(2)}}, "unknown extra 'clas'"),
    ],
)
def test_misshapen_conditions_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Condition(**fields)
