import math

import pytest
import torch

from sfumato.core.condition import Condition
from sfumato.core.noise import Noise
from sfumato.guidance.interpolation import lerp_conditions, slerp


def vectors(seed: int, count: int = 3, width: int = 64) -> torch.Tensor:
    return Noise(range(seed, seed + count))((count, width))


def test_the_ends_are_exact() -> None:
    a, b = vectors(0), vectors(10)
    assert torch.equal(slerp(a, b, 0.0), a) and torch.equal(slerp(a, b, 1.0), b)


def test_unit_vectors_stay_unit_and_turn_evenly() -> None:
    a, b = (torch.nn.functional.normalize(vectors(seed), dim=1) for seed in (0, 10))
    way = [slerp(a, b, share / 8) for share in range(9)]
    for each in way:
        torch.testing.assert_close(each.norm(dim=1), torch.ones(3))
    angles = torch.stack([(p * q).sum(1).clamp(-1, 1).acos() for p, q in zip(way, way[1:], strict=False)])
    torch.testing.assert_close(angles, angles[:1].expand_as(angles), rtol=1e-3, atol=1e-4)


def test_it_is_symmetric_and_noise_stays_noise() -> None:
    a, b = vectors(0, 4, 4096), vectors(10, 4, 4096)
    torch.testing.assert_close(slerp(a, b, 0.3), slerp(b, a, 0.7))
    assert slerp(a, b, 0.5).std().item() == pytest.approx(1, abs=0.02)
    assert torch.lerp(a, b, 0.5).std().item() == pytest.approx(math.sqrt(0.5), abs=0.02)


def test_equal_opposite_and_zero_vectors_go_straight() -> None:
    a = vectors(0)
    torch.testing.assert_close(slerp(a, a, 0.4), a)
    torch.testing.assert_close(slerp(a, -a, 0.5), torch.zeros_like(a))
    torch.testing.assert_close(slerp(a, 2 * a, 0.5), 1.5 * a)
    torch.testing.assert_close(slerp(a, 0 * a, 0.5).isfinite().all(), torch.tensor(True))


def test_images_do_not_mix() -> None:
    a, b = vectors(0).reshape(3, 4, 4, 4), vectors(10).reshape(3, 4, 4, 4)
    torch.testing.assert_close(slerp(a, b, 0.3)[1:2], slerp(a[1:2], b[1:2], 0.3))


def test_conditions() -> None:
    tokens = Noise([0, 1])((2, 5, 8))
    long = Condition(tokens=tokens, vector=vectors(0, 2, 8))
    other = Noise([2, 3])((2, 3, 8))
    short = Condition(tokens=other, vector=vectors(10, 2, 8))
    found = lerp_conditions(long, short, 0.25)
    assert found.tokens is not None and found.vector is not None and found.token_mask is not None
    torch.testing.assert_close(found.tokens[:, :3], torch.lerp(tokens[:, :3], other, 0.25))
    torch.testing.assert_close(found.tokens[:, 3:], 0.75 * tokens[:, 3:])
    assert found.token_mask.all(), "a token of either end is seen"
    torch.testing.assert_close(found.vector, slerp(vectors(0, 2, 8), vectors(10, 2, 8), 0.25))
    assert lerp_conditions(long, short, 0.0) is long and lerp_conditions(long, short, 1.0) is short
    same = lerp_conditions(long, Condition(tokens=tokens.clone(), vector=vectors(0, 2, 8)), 0.5)
    assert same.token_mask is None


def test_mistakes_are_refused() -> None:
    for share in (-0.1, 2.0, float("nan")):
        with pytest.raises(ValueError, match=r"a share in \[0, 1\], got"):
            lerp_conditions(Condition(vector=vectors(0)), Condition(vector=vectors(1)), share)
    a = vectors(0)
    for first, second, share in ((a, a[:1], 0.5), (a, a, -0.1), (a, a, 1.1), (a, a, math.nan)):
        with pytest.raises(ValueError, match="equal shapes and a share"):
            slerp(first, second, share)
    tokens = Condition(tokens=torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match="explicit null"):
        lerp_conditions(tokens, Condition(vector=torch.zeros(1, 4)), 0.5)
    sizes = [Condition(tokens=torch.zeros(1, 2, 4), extras={"class": torch.tensor([each])}) for each in (1, 2)]
    with pytest.raises(ValueError, match="extras"):
        lerp_conditions(*sizes, 0.5)
