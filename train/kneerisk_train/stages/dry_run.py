"""What a training will be, before it is one: sizes, parameters and an estimate of memory (``--dry-run``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kneerisk.models.classifier import Classifier
from kneerisk.models.localiser import Localiser
from kneerisk.models.unet import UNet
from kneerisk.models.vqvae import Decoder
from kneerisk_train.run.recipe import OptimConfig, Recipe
from kneerisk_train.stages.stage1.teacher import Teacher, names
from kneerisk_train.stages.vqvae import AutoencoderWithHeads

_STATE_BYTES = 4 + 4 + 4 + 8
"""Of a trained parameter: itself, its average, its gradient, Adam's two moments; float32."""


@dataclass(frozen=True)
class StageSize:
    """One stage's size."""

    name: str
    parameters: int
    trained: int
    """Parameters that are not frozen."""
    steps: int
    batch_size: int
    activations: int
    """Bytes that the backward pass keeps, in bf16 where autocast would."""

    @property
    def memory(self) -> int:
        """Bytes on the device, at least: states and activations, without workspaces and the data."""
        return self.trained * _STATE_BYTES + (self.parameters - self.trained) * 8 + self.activations


def dry_run(recipe: Recipe) -> list[StageSize]:
    """Every stage of a recipe; nothing is allocated (torch's meta device)."""
    size, side = recipe.crop_size, recipe.crop_size // 8
    channels = recipe.vqvae.encoder.latent_channels
    bare = replace(recipe, vqvae=replace(recipe.vqvae, imagenet=False))

    def latent(batch: int) -> Tensor:
        return torch.empty(batch, channels, side, side, device="meta")

    def autoencode(module: nn.Module, batch: int) -> None:
        assert isinstance(module, AutoencoderWithHeads)
        continuous = module.encoder.project(
            module.encoder.features(torch.empty(batch, 1, size, size, device="meta"))
        )
        module.decoder(continuous[: max(1, batch // 2)])
        module.classifier.logits(continuous)

    def teach(module: nn.Module, batch: int) -> None:
        module(torch.empty(batch, 1, size, size, device="meta"))

    stages: list[tuple[str, Callable[[], nn.Module], OptimConfig, Callable[[Any, int], Any]]] = [
        *(
            (name, partial(Teacher, bare, see), recipe.teacher.optim, teach)
            for name, see in zip(names(recipe), recipe.teacher.see if recipe.teacher else (), strict=True)
            if recipe.teacher is not None
        ),
        ("vqvae", lambda: AutoencoderWithHeads(bare), recipe.vqvae.optim, autoencode),
        *(
            [
                (
                    "decoder",
                    partial(Decoder, recipe.decoder.decoder),
                    recipe.decoder.optim,
                    lambda module, batch: module(latent(batch)),
                )
            ]
            if recipe.decoder is not None
            else []
        ),
        (
            "diffusion",
            lambda: UNet(recipe.diffusion.unet),
            recipe.diffusion.optim,
            lambda module, batch: module(latent(batch), latent(batch), torch.empty(batch, device="meta")),
        ),
        *(
            (
                name,
                lambda: Classifier(recipe.classifier.classifier),
                optim,
                lambda module, batch: module.logits(latent(batch)),
            )
            for name, optim in (
                ("classifier_now", recipe.classifier.optim),
                ("classifier_12m", recipe.classifier.optim_12m),
            )
        ),
    ]
    if (localiser := recipe.localiser) is not None:
        film = localiser.localiser.size
        stages.append(
            (
                "localiser",
                lambda: Localiser(localiser.localiser),
                localiser.optim,
                lambda module, batch: module.logits(torch.empty(batch, 1, film, film, device="meta")),
            )
        )
    return [_size(recipe, *stage) for stage in stages]


def _size(
    recipe: Recipe,
    name: str,
    make: Callable[[], nn.Module],
    optim: OptimConfig,
    forward: Callable[[Any, int], Any],
) -> StageSize:
    with torch.device("meta"):
        module = make().train()
    parameters = sum(p.numel() for p in module.parameters())
    frozen = 0
    if isinstance(module, AutoencoderWithHeads | Teacher) and recipe.vqvae.imagenet:
        first = module.encoder.stages[1]
        assert isinstance(first, nn.Sequential)
        kept = (module.encoder.stem, module.encoder.stages[0], first[0])
        frozen = sum(p.numel() for part in kept for p in part.parameters())
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward(module, optim.batch_size)
    # Two bytes an element: under autocast convolutions keep bf16.
    activations = sum(2 * tensor.numel() for tensor in saved.values())
    return StageSize(name, parameters, parameters - frozen, optim.steps, optim.batch_size, activations)
