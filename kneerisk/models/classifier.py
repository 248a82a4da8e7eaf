"""The multi-task classifiers: one trunk over a latent reads the KL grade, or its change, and 16 landmarks.

Shared trunk, KL head, and deconvolutions ending in a 2D soft-argmax are the paper's (arXiv 2506.14560); the
trunk's make and the skips of the landmark branch are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kneerisk.models.trunk import ResidualBlock, SamePadConv, Stage, norm, stages

_HIDDEN = 64
_NEVER = -1e4


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of the classifier."""

    latent_channels: int = 8
    crop_size: int = 224
    stem_channels: int = 40
    stages: tuple[Stage, ...] = (
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    )
    head_channels: int = 1280
    dropout: float = 0.3


def soft_argmax(heatmaps: Tensor, size: int) -> Tensor:
    """Expected position under the softmax of each heatmap (arXiv 1711.08229).

    Args:
        heatmaps: float32 [B, K, h, w], any range.
        size: pixels a side of the image that the heatmaps cover.

    Returns:
        float32 [B, K, 2]: (x, y) in pixels of that image, centre of the first pixel at 0.
    """
    batch, points, height, width = heatmaps.shape
    weights = heatmaps.reshape(batch, points, -1).softmax(dim=-1).reshape(heatmaps.shape)
    across = (torch.arange(width, device=heatmaps.device) + 0.5) * (size / width) - 0.5
    down = (torch.arange(height, device=heatmaps.device) + 0.5) * (size / height) - 0.5
    return torch.stack([(weights.sum(dim=2) * across).sum(-1), (weights.sum(dim=3) * down).sum(-1)], dim=-1)


def posterior(logits: Tensor, caution: Tensor) -> Tensor:
    """Logits [B, 5] → P [B, 5], the less sure the flatter: softmax(l (1 + c max l)), l = log softmax(logits).

    A classifier taught smoothed labels is too modest where it is sure and too bold where it is not; one
    temperature can mend either, not both.  The order of the grades stays for c below 1 / log 5.

    Args:
        logits: float32, by a temperature.
        caution: c, a scalar of at least 0.
    """
    log = logits.log_softmax(dim=1)
    return (log * (1 + caution * log.amax(dim=1, keepdim=True))).softmax(dim=1)


class Classifier(nn.Module):
    """Latent → P(KL grade) and landmarks."""

    temperature: Tensor
    caution: Tensor
    """How much further an unsure posterior is flattened: see :func:`posterior`."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        width = config.stem_channels
        self.stem = nn.Sequential(
            nn.Conv2d(config.latent_channels, width, 3, padding=1), ResidualBlock(width)
        )
        self.stages = stages(width, config.stages)
        deep = config.stages[-1][3]
        middle = config.stages[1][3]
        self.head = nn.Sequential(
            SamePadConv(deep, config.head_channels, 1), norm(config.head_channels), nn.ReLU6()
        )
        self.grade = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(config.head_channels, 5))
        self.rise1 = _deconvolution(deep, 96)
        self.rise2 = _deconvolution(96 + middle, 64)
        self.rise3 = _deconvolution(64 + width, 32)
        self.heatmaps = nn.Conv2d(32, 16, 1)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("caution", torch.zeros(()))

    def logits(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Latent [B, C, h, w] → (grade logits [B, 5], landmarks [B, 16, 2] in crop pixels), float32."""
        summary, landmarks = self.read(latent)
        grade: Tensor = self.grade(summary)
        return grade.float(), landmarks

    def read(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Latent [B, C, h, w] → (what grades are told by [B, E], landmarks [B, 16, 2] in crop pixels)."""
        shallow, middle, deep = self._features(latent)
        rising = torch.cat([self.rise1(deep), middle], dim=1)
        rising = self.rise3(torch.cat([self.rise2(rising), shallow], dim=1))
        landmarks = soft_argmax(self.heatmaps(rising).float(), self.config.crop_size)
        return self._summary(deep), landmarks

    def summary(self, latent: Tensor) -> Tensor:
        """Latent [B, C, h, w] → what grades are told by, [B, E], without the work of finding landmarks."""
        return self._summary(self._features(latent)[2])

    def _features(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The trunk at the latent's size, at half and at a quarter of it."""
        shallow = self.stem(latent)
        middle = self.stages[1](self.stages[0](shallow))
        return shallow, middle, self.stages[3](self.stages[2](middle))

    def _summary(self, deep: Tensor) -> Tensor:
        summary: Tensor = self.head(deep).mean(dim=(2, 3))
        return summary

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Latent [B, C, h, w] → (P(KL) float32 [B, 5], landmarks float32 [B, 16, 2] in crop pixels)."""
        grade, landmarks = self.logits(latent)
        return posterior(grade / self.temperature, self.caution), landmarks


class LaterClassifier(nn.Module):
    """Forecast latent → P(grade at twelve months | grade now), and landmarks.

    Ours, not the paper's, whose later classifier answers a second, independent posterior.  This one reads the
    forecast alone and answers the change: row i is P(KL j at twelve months | KL i now), j ≥ i.  The triangle
    says that knees do not heal; it is a model of the outcome, no clamp on an answer.  It reads by the
    classifier of the grade now, unchanged, so that a grade or a landmark moves only where the latent did.
    """

    allowed: Tensor

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        self.reader = Classifier(config)
        self.reader.grade = nn.Sequential()  # its own answer is not asked for
        self.transition = nn.Sequential(
            nn.Linear(config.head_channels, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 25)
        )
        self.register_buffer("allowed", torch.ones(5, 5).triu())

    def start_from(self, reader: Classifier, moves: Tensor) -> None:
        """Take over a trained classifier, and answer a population's P(later | now) [5, 5] at first."""
        known = {name: v for name, v in reader.state_dict().items() if not name.startswith("grade.")}
        self.reader.load_state_dict(known)
        last = self.transition[2]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(moves.clamp(min=1e-4).log().flatten())

    def moves(self, summary: Tensor) -> Tensor:
        """What the classifier tells grades by [B, E] → log P(later | now) float32 [B, 5, 5]."""
        logits = self.transition(summary).float().reshape(-1, 5, 5)
        # Within float16's range: engines run in it.
        moves: Tensor = (logits + _NEVER * (1 - self.allowed)).log_softmax(dim=2)
        return moves

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast latent [B, C, h, w] → (P(later | now) float32 [B, 5, 5], landmarks [B, 16, 2])."""
        summary, landmarks = self.reader.read(latent)
        return self.moves(summary).exp() * self.allowed, landmarks


def _deconvolution(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )
