"""Inverted-residual stages: the shared building block of the encoder and the classifier.

The block is that of MobileNetV2 (arXiv 1801.04381) as EfficientNet-lite uses it (arXiv 1905.11946 without
squeeze-and-excitation, with ReLU6), so that ImageNet weights of EfficientNet-lite0 can be its starting point.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Stage = tuple[int, int, int, int, int]
"""(expansion, kernel, stride, channels out, repeats)."""


class SamePadConv(nn.Conv2d):
    """A convolution without bias whose output has ceil(input / stride) pixels a side.

    For even sizes at stride 2 the extra row and column of padding go to the bottom right, as in the networks
    that the ImageNet weights come from.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1):
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)
        total = kernel - stride
        self._pad = (total // 2, total - total // 2) if stride > 1 else None
        # PyTorch's CPU gradient of a strided or 5x5 depthwise convolution is times slower in bfloat16.
        self._train_in_float32 = groups > 1 and (stride > 1 or kernel > 3)

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C', ceil(H / stride), ceil(W / stride)]."""
        if self._pad is not None:
            input = F.pad(input, (*self._pad, *self._pad))
        if self._train_in_float32 and input.requires_grad and input.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float()).to(input.dtype)
        return super().forward(input)

    def folded(self, input: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """The convolution, then a scale and a shift of every channel, [C'] each, in one."""
        if self._pad is not None:
            input = F.pad(input, (*self._pad, *self._pad))
        weight = self.weight * scale[:, None, None, None]
        return F.conv2d(input, weight, shift, self.stride, self.padding, self.dilation, self.groups)


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with the constants the ImageNet weights were trained with."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def norms_are_frozen(layers: nn.Sequential) -> bool:
    """Whether gradients flow while the layers' batch norms keep their statistics and scales."""
    return torch.is_grad_enabled() and all(
        not (m.training or m.weight.requires_grad) for m in layers if isinstance(m, nn.BatchNorm2d)
    )


def run_frozen(layers: nn.Sequential, features: Tensor) -> Tensor:
    """The layers, each convolution with the frozen norm behind it in one: a pass over the features less."""
    for layer, following in zip(layers, [*list(layers)[1:], nn.Identity()], strict=True):
        if isinstance(layer, SamePadConv):
            assert isinstance(following, nn.BatchNorm2d)
            assert following.running_mean is not None and following.running_var is not None
            scale = following.weight * (following.running_var + following.eps).rsqrt()
            features = layer.folded(features, scale, following.bias - following.running_mean * scale)
        elif not isinstance(layer, nn.BatchNorm2d):
            features = layer(features)
    return features


class InvertedResidual(nn.Module):
    """Expand 1x1, filter depthwise, project 1x1; a skip where shapes allow."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        hidden = channels_in * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [SamePadConv(channels_in, hidden, 1), norm(hidden), nn.ReLU6()]
        layers += [SamePadConv(hidden, hidden, kernel, stride, groups=hidden), norm(hidden), nn.ReLU6()]
        layers += [SamePadConv(hidden, channels_out, 1), norm(channels_out)]
        self.layers = nn.Sequential(*layers)
        self._skip = stride == 1 and channels_in == channels_out

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C', H / stride, W / stride]."""
        run = run_frozen if norms_are_frozen(self.layers) else nn.Sequential.forward
        filtered: Tensor = run(self.layers, features)
        return features + filtered if self._skip else filtered


def stages(channels_in: int, configs: tuple[Stage, ...]) -> nn.ModuleList:
    """One ``nn.Sequential`` of inverted residuals a stage."""
    built = nn.ModuleList()
    for expansion, kernel, stride, channels, repeats in configs:
        blocks = []
        for repeat in range(repeats):
            blocks.append(
                InvertedResidual(channels_in, channels, expansion, kernel, stride if repeat == 0 else 1)
            )
            channels_in = channels
        built.append(nn.Sequential(*blocks))
    return built


class ResidualBlock(nn.Module):
    """Two dense 3x3 convolutions with group normalisation and a skip."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        updated: Tensor = features + self.layers(features)
        return updated
