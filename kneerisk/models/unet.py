"""The forecasting U-Net: from a noised future latent and the current latent to the velocity v.

Conditioning is by concatenation along channels, as in the paper (arXiv 2506.14560).  Ours: a knee a year on
is mostly the knee of today, so the network learns the change alone.  It is preconditioned, as arXiv
2206.00364 does for pictures around zero, around the current latent z0, for changes of size s (root mean
square):

    prior   ẑ12 = N(z0, s²);   z_t = alpha ẑ12 + sigma eps
    r       = z_t - alpha z0;  D = alpha² s² + sigma²
    x̂       = z0 + (alpha s² / D) r + (s sigma / √D) F(r / √D, z0, t)
    v       = (alpha z_t - x̂) / sigma = (alpha sigma (1 - s²) / D) r - sigma z0 - (s / √D) F

F's target has unit variance at every t.  F = 0 forecasts the current latent, in any number of steps to
within s.
The blocks have no norms and ReLU alone, which runtimes fuse into their convolutions; the time enters as a
shift of each channel (arXiv 2006.11239).  Widths are the recipe's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the U-Net: ``channels * multipliers[i]`` channels at latent size / 2**i."""

    latent_channels: int = 8
    channels: int = 48
    multipliers: tuple[int, ...] = (1, 2, 3)
    blocks: int = 1
    conditioned: bool = True
    """Whether it sees the current latent; an ablation sees zeros in its place, and knows no change."""


class TimeBlock(nn.Module):
    """Two 3x3 convolutions on a skip; the time shifts the channels between them."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.shift = nn.Linear(embedding, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """[B, C, h, w] and [B, E] → [B, C', h, w]."""
        hidden = self.conv1(F.relu(features)) + self.shift(embedding)[:, :, None, None]
        updated: Tensor = self.skip(features) + self.conv2(F.relu(hidden))
        return updated


class UNet(nn.Module):
    """Predicts v (arXiv 2202.00512) from [z_t, z_0] and the time."""

    frequencies: Tensor
    change: Tensor

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        widths = [config.channels * m for m in config.multipliers]
        embedding = 4 * config.channels
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(1000), 32)))
        self.register_buffer("change", torch.ones(()))
        self.embed = nn.Sequential(
            nn.Linear(64, embedding), nn.ReLU(), nn.Linear(embedding, embedding), nn.ReLU()
        )
        self.enter = nn.Conv2d(2 * config.latent_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        width = widths[0]
        for level, wide in enumerate(widths):
            for _ in range(config.blocks):
                self.down.append(TimeBlock(width, wide, embedding))
                width = wide
            if level + 1 < len(widths):
                self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        self.middle = nn.ModuleList([TimeBlock(width, width, embedding), TimeBlock(width, width, embedding)])
        self.up = nn.ModuleList()
        self.grow = nn.ModuleList()
        for level, wide in reversed(list(enumerate(widths))):
            for _ in range(config.blocks):
                self.up.append(TimeBlock(width + wide, wide, embedding))
                width = wide
            if level:
                self.grow.append(nn.ConvTranspose2d(width, width, 2, stride=2))
        last = nn.Conv2d(width, config.latent_channels, 3, padding=1)
        self.leave = nn.Sequential(nn.ReLU(), last)
        self._initialise()

    def _initialise(self) -> None:
        """Keep the signal's size through the network, without norms; forecast the present at first."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                taps = 1 if isinstance(module, nn.ConvTranspose2d) else math.prod(module.kernel_size)
                nn.init.normal_(module.weight, 0, (module.in_channels * taps) ** -0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, TimeBlock):
                nn.init.normal_(module.conv2.weight, 0, 0.3 * (9 * module.conv2.in_channels) ** -0.5)
        last = self.leave[1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)

    def expect_change(self, size: float) -> None:
        """Set s, the root mean square by which latents change within a year.

        Raises:
            ValueError: where it is not above 0.
        """
        if not size > 0:
            raise ValueError(f"futures must differ from the present, not by {size}")
        if self.config.conditioned:
            self.change.fill_(size)

    def loss_weight(self, time: Tensor) -> Tensor:
        """D / s² at times [B], [B, 1, 1, 1]: a squared error of v times this is one of F."""
        alpha, sigma = _alpha_sigma(time)
        return alpha.square() + (sigma / self.change).square()

    def forward(self, noisy: Tensor, current: Tensor, time: Tensor) -> Tensor:
        """z_t [B, C, h, w], z_0 [B, C, h, w], time [B] in 0..1 → v float32 [B, C, h, w]."""
        seen = current if self.config.conditioned else current * 0.0
        alpha, sigma = _alpha_sigma(time)
        s = self.change
        spread = (alpha * s).square() + sigma.square()
        residual = noisy - alpha * seen
        change = self._change(residual * spread.rsqrt(), seen, time).float()
        kept = alpha * sigma * (1 - s.square()) / spread
        velocity: Tensor = kept * residual - sigma * seen - s * spread.rsqrt() * change
        return velocity

    def _change(self, residual: Tensor, seen: Tensor, time: Tensor) -> Tensor:
        """F: the change that the residual does not tell, in units of its own spread."""
        angles = time[:, None] * self.frequencies[None]
        embedding = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        features = self.enter(torch.cat([residual, seen], dim=1))
        skips = []
        blocks = self.config.blocks
        for index, block in enumerate(self.down):
            features = block(features, embedding)
            skips.append(features)
            if (index + 1) % blocks == 0 and index // blocks < len(self.shrink):
                features = self.shrink[index // blocks](features)
        for block in self.middle:
            features = block(features, embedding)
        for index, block in enumerate(self.up):
            features = block(torch.cat([features, skips.pop()], dim=1), embedding)
            if (index + 1) % blocks == 0 and index // blocks < len(self.grow):
                features = self.grow[index // blocks](features)
        answer: Tensor = self.leave(features)
        return answer


def _alpha_sigma(time: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise at times [B], each [B, 1, 1, 1]; see :mod:`kneerisk.method.diffusion`."""
    angle = (0.5 * math.pi * time)[:, None, None, None]
    return angle.cos(), angle.sin()
