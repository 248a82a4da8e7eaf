"""The VQ-VAE: a radiograph becomes a latent eight times smaller a side, drawn from codebooks, and comes back.

VQ-VAE: arXiv 1711.00937.  Codes on a sphere (cosine codebook): arXiv 2110.04627.  Several codebooks, each for
its own channels (product quantisation), the trunk and all sizes are ours, not the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kneerisk.models.trunk import ResidualBlock, SamePadConv, Stage, norm, stages


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the encoder.  The strides of stem and stages multiply to 8."""

    stem_channels: int = 32
    stages: tuple[Stage, ...] = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2))
    codebooks: int = 2
    codebook_size: int = 512
    code_channels: int = 4

    def __post_init__(self) -> None:
        stride = 2
        for stage in self.stages:
            stride *= stage[2]
        if stride != 8:
            raise ValueError(f"the encoder's strides multiply to {stride}, not to 8")

    @property
    def latent_channels(self) -> int:
        """Channels of the latent."""
        return self.codebooks * self.code_channels

    @property
    def feature_channels(self) -> int:
        """Channels of the features that the codebooks quantise."""
        return self.stages[-1][3]


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the decoder: ``width`` channels at latent size, half of them at twice that size."""

    latent_channels: int = 8
    width: int = 64
    blocks: int = 2
    fine_blocks: int = 1
    """Residual blocks at twice the latent's size."""


class Quantised(NamedTuple):
    """What the quantiser gives: latents and indices as arrays, and the training terms."""

    latent: Tensor
    """[B, C, h, w]; gradients pass straight through to ``continuous``."""
    indices: Tensor
    """int64 [B, codebooks, h, w]."""
    commitment: Tensor
    """Mean squared distance of the continuous latent to its codes (without beta)."""
    continuous: Tensor
    """[B, C, h, w] on the spheres, before the codebooks."""


class ProductQuantiser(nn.Module):
    """Each group of channels is moved to the nearest code of its own codebook, on a sphere of radius sqrt(d).

    On that sphere the latent has unit mean square whatever the radiograph, which is what the diffusion
    expects. The codebooks follow their members by an exponential moving average (arXiv 1711.00937, appendix
    A.1); codes that nobody uses are moved onto vectors of the batch.
    """

    codebook: Tensor
    usage: Tensor

    def __init__(self, codebooks: int, size: int, channels: int, decay: float = 0.99):
        super().__init__()
        self.decay = decay
        self.radius = channels**0.5
        self.register_buffer(
            "codebook", F.normalize(torch.randn(codebooks, size, channels), dim=-1) * self.radius
        )
        self.register_buffer("usage", torch.ones(codebooks, size), persistent=True)

    def to_sphere(self, features: Tensor) -> Tensor:
        """[B, C, h, w] → the same, each group of channels of length ``radius``."""
        batch, _, height, width = features.shape
        groups = features.reshape(batch, self.codebook.shape[0], -1, height, width)
        sphere: Tensor = F.normalize(groups, dim=2) * self.radius
        return sphere.reshape(features.shape)

    def assign(self, latent: Tensor) -> Tensor:
        """Latent on the spheres [B, C, h, w] → nearest codes, int64 [B, codebooks, h, w]."""
        batch, _, height, width = latent.shape
        codebooks, _, channels = self.codebook.shape
        vectors = latent.reshape(batch, codebooks, channels, height * width)
        likeness = self.codebook @ vectors  # on a sphere the nearest is the most alike
        # The codes lie on the outer axis: runtimes then compare whole rows of positions at once.
        return likeness.argmax(dim=2).reshape(batch, codebooks, height, width)

    def embed(self, indices: Tensor) -> Tensor:
        """Codes int64 [B, codebooks, h, w] → latent float32 [B, C, h, w]."""
        groups = [F.embedding(indices[:, g], self.codebook[g]) for g in range(self.codebook.shape[0])]
        return torch.cat(groups, dim=-1).permute(0, 3, 1, 2)

    def forward(self, features: Tensor) -> Quantised:
        """Features [B, C, h, w] → :class:`Quantised`; in training the codebooks learn."""
        continuous = self.to_sphere(features.float())
        indices = self.assign(continuous.detach())
        codes = self.embed(indices)
        if self.training:
            self._follow(continuous.detach(), indices)
        commitment = F.mse_loss(continuous, codes)
        return Quantised(continuous + (codes - continuous).detach(), indices, commitment, continuous)

    @torch.no_grad()
    def _follow(self, continuous: Tensor, indices: Tensor) -> None:
        codebooks, size, channels = self.codebook.shape
        vectors = continuous.permute(1, 0, 2, 3).reshape(codebooks, channels, -1).transpose(1, 2)
        members = indices.permute(1, 0, 2, 3).reshape(codebooks, -1)
        for group in range(codebooks):
            count = torch.bincount(members[group], minlength=size).float()
            total = torch.zeros(size, channels).index_add_(0, members[group], vectors[group])
            self.usage[group].mul_(self.decay).add_(count, alpha=1 - self.decay)
            used = count > 0
            mean = F.normalize(total[used], dim=-1) * self.radius
            weight = (1 - self.decay) * (count[used] / self.usage[group][used]).clamp(max=10).unsqueeze(1)
            moved = torch.lerp(self.codebook[group][used], mean, weight.clamp(max=0.5))
            self.codebook[group][used] = F.normalize(moved, dim=-1) * self.radius
            idle = (self.usage[group] < 0.03).nonzero().squeeze(1)
            if len(idle):
                chosen = torch.randint(len(vectors[group]), (len(idle),), device=vectors.device)
                self.codebook[group][idle] = vectors[group][chosen]
                self.usage[group][idle] = 1.0


class Encoder(nn.Module):
    """Equalised radiograph → quantised latent, and how unlike the training radiographs it looks."""

    novelty_mean: Tensor
    novelty_whitening: Tensor

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(
            SamePadConv(1, config.stem_channels, 3, 2), norm(config.stem_channels), nn.ReLU6()
        )
        self.stages = stages(config.stem_channels, config.stages)
        self.project = nn.Conv2d(config.feature_channels, config.latent_channels, 1)
        self.quantiser = ProductQuantiser(config.codebooks, config.codebook_size, config.code_channels)
        statistics = 2 * config.feature_channels
        self.register_buffer("novelty_mean", torch.zeros(statistics))
        self.register_buffer("novelty_whitening", torch.eye(statistics))

    def features(self, radiograph: Tensor) -> Tensor:
        """Equalised radiograph [B, 1, S, S] in 0..1 → features [B, F, S/8, S/8]."""
        features: Tensor = self.stem((radiograph - 0.5) * 4.0)
        for stage in self.stages:
            features = stage(features)
        return features

    def quantise(self, radiograph: Tensor) -> Quantised:
        """Equalised radiograph [B, 1, S, S] → latent, indices and the training terms."""
        quantised: Quantised = self.quantiser(self.project(self.features(radiograph)))
        return quantised

    def statistics(self, features: Tensor) -> Tensor:
        """Features [B, F, h, w] → mean and standard deviation of each channel, float32 [B, 2F]."""
        features = features.float()
        mean = features.mean(dim=(2, 3))
        spread = (features.square().mean(dim=(2, 3)) - mean.square()).clamp(min=1e-6).sqrt()
        return torch.cat([mean, spread], dim=1)

    def forward(self, radiograph: Tensor) -> tuple[Tensor, Tensor]:
        """Equalised radiograph [B, 1, S, S] → (latent [B, C, S/8, S/8], novelty [B]).

        Novelty is the Mahalanobis distance of the feature statistics to those of the training radiographs,
        divided by the square root of their number: about 1 for a radiograph like them (arXiv 1807.03888).
        """
        features = self.features(radiograph)
        latent = self.quantiser.embed(self.quantiser.assign(self.quantiser.to_sphere(self.project(features))))
        whitened = (self.statistics(features) - self.novelty_mean) @ self.novelty_whitening
        return latent, whitened.square().mean(dim=1).sqrt()


class Decoder(nn.Module):
    """Latent → equalised radiograph; its last upsampling is a pixel shuffle, cheap on a CPU."""

    def __init__(self, config: DecoderConfig):
        super().__init__()
        self.config = config
        half = config.width // 2
        self.layers = nn.Sequential(
            nn.Conv2d(config.latent_channels, config.width, 3, padding=1),
            *[ResidualBlock(config.width) for _ in range(config.blocks)],
            nn.Conv2d(config.width, half * 4, 1),
            nn.PixelShuffle(2),
            *[ResidualBlock(half) for _ in range(config.fine_blocks)],
            nn.Conv2d(half, 16, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """[B, C, h, w] → [B, 1, 8h, 8w], about 0..1 (not clipped)."""
        radiograph: Tensor = self.layers(latent) + 0.5
        return radiograph
