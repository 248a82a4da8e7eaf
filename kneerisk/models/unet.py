"""The forecasting U-Net: from a noised future latent and the current latent to the velocity v.

Conditioning is by concatenation along channels, as in the paper (arXiv 2506.14560).  Residual blocks
modulated by the time embedding follow arXiv 2105.05233; widths are the recipe's.
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
    """Whether it sees the current latent; an ablation sees zeros in its place."""

    def __post_init__(self) -> None:
        if self.channels % 8:
            raise ValueError(f"channels must be a multiple of 8, not {self.channels}")


class TimeBlock(nn.Module):
    """Two 3x3 convolutions; the time embedding scales and shifts between them."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * channels_out)
        self.norm2 = nn.GroupNorm(8, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """[B, C, h, w] and [B, E] → [B, C', h, w]."""
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, dim=1)
        hidden = self.conv1(F.silu(self.norm1(features)))
        hidden = self.norm2(hidden) * (1 + scale) + shift
        updated: Tensor = self.skip(features) + self.conv2(F.silu(hidden))
        return updated


class UNet(nn.Module):
    """Predicts v (arXiv 2202.00512) from [z_t, z_0] and the time."""

    frequencies: Tensor

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        widths = [config.channels * m for m in config.multipliers]
        embedding = 4 * config.channels
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(1000), 32)))
        self.embed = nn.Sequential(
            nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
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
        self.leave = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, config.latent_channels, 3, padding=1)
        )

    def forward(self, noisy: Tensor, current: Tensor, time: Tensor) -> Tensor:
        """z_t [B, C, h, w], z_0 [B, C, h, w], time [B] in 0..1 → v float32 [B, C, h, w]."""
        angles = time[:, None] * self.frequencies[None]
        embedding = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        seen = current if self.config.conditioned else current * 0.0
        features = self.enter(torch.cat([noisy, seen], dim=1))
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
        velocity: Tensor = self.leave(features)
        return velocity.float()
