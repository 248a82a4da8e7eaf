"""Two tiny networks, with every kind of layer the real ones have, exported once into one folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kneerisk_engines.export import export_components
from kneerisk_engines.spec import Array, ArraySpec, ComponentSpec
from torch import nn


class Coder(nn.Module):
    """Convolution, BatchNorm, a codebook's nearest code and its lookup; a buffer that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.project = nn.Conv2d(8, 4, 1)
        self.register_buffer("codes", F.normalize(torch.randn(16, 4), dim=1))
        self.register_buffer("usage", torch.ones(16))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.project(F.relu6(self.norm(self.stem(image))))
        batch, channels, height, width = features.shape
        vectors = F.normalize(features, dim=1).reshape(batch, channels, -1).transpose(1, 2)
        nearest = (vectors @ self.codes.t()).argmax(dim=-1)
        latent = F.embedding(nearest, self.codes).transpose(1, 2).reshape(batch, channels, height, width)
        return latent, features.mean(dim=(1, 2, 3))


class Forecaster(nn.Module):
    """A U-Net-like body with GroupNorm, skips and a time embedding; a softmax and a soft-argmax head."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.exp(torch.linspace(0.0, 6.9, 8)))
        self.embed = nn.Linear(16, 8)
        self.enter = nn.Conv2d(4, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.down = nn.Conv2d(8, 16, 3, 2, 1)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.leave = nn.Conv2d(16, 4, 3, padding=1)
        self.grade = nn.Linear(16, 5)
        self.heat = nn.Conv2d(16, 3, 1)

    def forward(self, latent: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, ...]:
        angles = time[:, None] * self.frequencies
        embedding = self.embed(torch.cat([angles.sin(), angles.cos()], dim=1))
        shallow = F.silu(self.norm(self.enter(latent))) + embedding[:, :, None, None]
        deep = F.silu(self.down(shallow))
        joined = torch.cat([self.up(deep), shallow], dim=1)
        grade = self.grade(deep.mean(dim=(2, 3))).float().softmax(dim=1)
        heat = self.heat(joined).float()
        weights = (4 * heat).flatten(2).softmax(dim=2).reshape(heat.shape)
        places = torch.arange(heat.shape[-1], dtype=torch.float32)
        points = torch.stack([(weights.sum(2) * places).sum(-1), (weights.sum(3) * places).sum(-1)], dim=-1)
        return self.leave(joined), grade, points


@dataclass(frozen=True)
class Exported:
    folder: Path
    modules: dict[str, Callable[[], nn.Module]]
    trained: dict[str, nn.Module]
    specs: dict[str, ComponentSpec]

    def graph(self, name: str) -> Path:
        return self.folder / f"{name}.onnx"

    def arrays(self, name: str, batch: int, seed: int = 0) -> dict[str, Array]:
        rng = np.random.default_rng(seed)
        return {a.name: rng.random((batch, *a.shape), dtype=np.float32) for a in self.specs[name].inputs}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    modules: dict[str, Callable[[], nn.Module]] = {"coder": Coder, "forecaster": Forecaster}
    trained = {name: build() for name, build in modules.items()}
    norm = trained["coder"].norm
    with torch.no_grad():
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2.0)
        norm.weight.uniform_(0.5, 2.0)
    latent = ArraySpec("latent", (4, 16, 16))
    specs = {
        "coder": ComponentSpec("coder", (ArraySpec("image", (1, 32, 32)),), (latent, ArraySpec("level"))),
        "forecaster": ComponentSpec(
            "forecaster",
            (latent, ArraySpec("time")),
            (ArraySpec("velocity", (4, 16, 16)), ArraySpec("grade", (5,)), ArraySpec("points", (3, 2))),
        ),
    }
    folder = tmp_path_factory.mktemp("exported")
    export_components(folder, {name: (trained[name], specs[name]) for name in specs})
    return Exported(folder, modules, trained, specs)
