"""The localiser: a small hourglass that finds every knee of a letterboxed radiograph, its side and its width.

Ours, not the paper's.  Heatmaps after KNEEL's idea (arXiv 1907.12237) of finding knees before marking them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class LocaliserConfig:
    """Sizes of the localiser; the heatmaps are a quarter of the input a side."""

    size: int = 256
    """Pixels a side of the letterboxed radiograph."""
    widths: tuple[int, ...] = (16, 24, 40, 48, 64)
    """Channels at a half, a quarter, ... of the input's side."""

    def __post_init__(self) -> None:
        if len(self.widths) < 3 or min(self.widths) < 1:
            raise ValueError(f"widths {self.widths!r} must be three or more positive numbers")
        step = 2 ** len(self.widths)
        if self.size < step or self.size % step:
            raise ValueError(
                f"size {self.size!r} must be a multiple of {step}, for {len(self.widths)} halvings"
            )


class Localiser(nn.Module):
    """Equalised radiograph → where knees are, whose side they look like, how wide, and what disturbs."""

    def __init__(self, config: LocaliserConfig):
        super().__init__()
        self.config = config
        first, quarter, *deeper = config.widths
        self.stem = _block(1, first, stride=2)
        self.quarter = nn.Sequential(_block(first, quarter, stride=2), _block(quarter, quarter))
        falls = []
        width = quarter
        for wider in deeper:
            falls.append(nn.Sequential(_block(width, wider, stride=2), _block(wider, wider)))
            width = wider
        self.falls = nn.ModuleList(falls)
        self.bottom = _block(width, width)
        self.whole = nn.Linear(width, 1)
        rises = []
        for narrower in reversed(config.widths[1:-1]):
            rises.append(_block(width + narrower, narrower))
            width = narrower
        self.rises = nn.ModuleList(rises)
        self.maps = nn.Conv2d(width, 4, 1)

    def logits(self, radiograph: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 1, S, S] → logits: maps [B, 4, S/4, S/4] (right, left, log width, implant), inverted [B]."""
        features = self.quarter(self.stem(radiograph))
        passed = []
        for fall in self.falls:
            passed.append(features)
            features = fall(features)
        features = self.bottom(features)
        inverted = self.whole(features.mean(dim=(2, 3)))[:, 0]
        for rise, skip in zip(self.rises, reversed(passed), strict=True):
            risen = F.interpolate(features, scale_factor=2.0, mode="nearest")
            features = rise(torch.cat([risen, skip], dim=1))
        return self.maps(features), inverted

    def forward(self, radiograph: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Find the knees.

        Args:
            radiograph: float32 [B, 1, S, S], equalised (0..1, bone bright), letterboxed with zeros.

        Returns:
            ``centres`` [B, 2, S/4, S/4] in 0..1: a peak at the joint's middle of a knee that looks like a
            right one (fibula at the image's left; channel 0) or a left one (1); ``width`` [B, 1, S/4, S/4]:
            the joint's width as a share of S, true at peaks; ``implant`` [B, 1, S/4, S/4] in 0..1, likewise;
            ``inverted`` [B] in 0..1: whether the grey scale looks reversed.
        """
        maps, inverted = self.logits(radiograph)
        maps = maps.float()
        return maps[:, :2].sigmoid(), maps[:, 2:3].exp(), maps[:, 3:4].sigmoid(), inverted.float().sigmoid()


def _block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )
