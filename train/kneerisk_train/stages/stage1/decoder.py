"""After stage 1: the decoder alone, on codes that no longer change, for sharper pictures.

No score depends on it: previews show what it draws.  Loss = L1 of the radiograph and of its gradients + L1 of
the features that the frozen trunk sees in both (arXiv 1603.08155): a blurred edge is another feature.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from kneerisk.method.exposure import equalise
from kneerisk.models.trunk import ResidualBlock
from kneerisk.models.vqvae import Decoder, Encoder
from kneerisk_train.data.augment import augment
from kneerisk_train.data.knees import Knees
from kneerisk_train.run.loop import Batch, Stage, channels_last, fit, seed_of, trained_weights
from kneerisk_train.run.pictures import side_by_side
from kneerisk_train.run.session import Session
from kneerisk_train.run.training_log import Picture
from kneerisk_train.stages.vqvae import (
    epoch_slice,
    load_autoencoder,
    radiograph_batches,
    reconstruction_loss,
)

NAME = "decoder"
_SHOWN = 6


class DecoderWithEyes(nn.Module):
    """The decoder, and beside it the frozen trunk that looks at what it draws."""

    def __init__(self, decoder: Decoder, encoder: Encoder):
        super().__init__()
        self.decoder = decoder
        self._eyes = [channels_last(encoder).eval().requires_grad_(False)]  # a list: no part of the weights

    def look(self, radiographs: Tensor) -> list[Tensor]:
        """Radiographs [B, 1, S, S] → the trunk's features at a half and at a quarter of their size."""
        eyes = self._eyes[0]
        shallow = eyes.stages[0](eyes.stem((radiographs - 0.5) * 4.0))
        return [shallow, eyes.stages[1](shallow)]

    def forward(self, radiographs: Tensor) -> tuple[Tensor, Tensor]:
        """Equalised radiographs [B, 1, S, S] → the pictures of their latents, and how other they look."""
        with torch.no_grad():
            latent, _ = self._eyes[0](radiographs)
            wanted = self.look(radiographs)
        decoded = self.decoder(latent.contiguous(memory_format=torch.channels_last))
        unlike = [
            (seen - goal).abs().mean() / goal.abs().mean()
            for seen, goal in zip(self.look(decoded), wanted, strict=True)
        ]
        return decoded, torch.stack(unlike).mean()


def train(session: Session) -> nn.Module:
    """Train the decoder on the train split; returns its averaged weights."""
    recipe = session.recipe
    config = recipe.decoder
    assert config is not None
    knees, val = session.data.knees["train"], session.data.knees["val"]
    autoencoder = load_autoencoder(session)
    torch.manual_seed(seed_of(recipe.seed, NAME))
    decoder = Decoder(config.decoder)
    grow(autoencoder.decoder, decoder)
    module = DecoderWithEyes(decoder, autoencoder.encoder)
    plain = dataclasses.replace(recipe.vqvae.augment, field=0, blur_px=0, noise=0, erase=0, looks=0)

    def batch(step: int, rng: np.random.Generator) -> Batch:
        chosen = epoch_slice(len(knees), step, config.optim.batch_size, recipe.seed)
        made = [augment(knees.pixels[i], knees.landmarks[i], plain, rng)[0] for i in chosen]
        radiographs = torch.from_numpy(np.stack(made))[:, None]
        return (radiographs.contiguous(memory_format=torch.channels_last),)

    def terms(training: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        (radiographs,) = arrays
        decoded, unlike = training(radiographs)
        return {
            "reconstruction": reconstruction_loss(decoded.float(), radiographs),
            "features": config.feature_weight * unlike.float(),
        }

    stage = Stage(
        name=NAME,
        module=module,
        optim=config.optim,
        batch=batch,
        terms=terms,
        figures=lambda average: evaluate(average, val, session),
        pictures=lambda average: pictures(average, val, session),
        figures_every=config.figures_every,
    )
    return fit(session, stage)


@torch.no_grad()
def grow(trained: Decoder, decoder: Decoder) -> None:
    """Start a decoder of the same width as a trained one: blocks that it has more of begin by doing nothing.

    Raises:
        ValueError: the widths differ.
    """
    if trained.config.width != decoder.config.width:
        raise ValueError(
            f"a decoder of width {decoder.config.width} cannot start from one of width {trained.config.width}"
        )
    for old, new in zip(_levels(trained), _levels(decoder), strict=True):
        for place, part in enumerate(new):
            if place < len(old):
                part.load_state_dict(old[place].state_dict())
            elif isinstance(part, ResidualBlock):
                last = part.layers[-1]
                assert isinstance(last, nn.Conv2d) and last.bias is not None
                last.weight.zero_()
                last.bias.zero_()


def _levels(decoder: Decoder) -> list[list[nn.Module]]:
    """Its convolutions, its blocks at the latent's size, and those at twice that size."""
    layers = list(decoder.layers)
    convolutions: list[nn.Module] = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    blocks: list[nn.Module] = [layer for layer in layers if isinstance(layer, ResidualBlock)]
    return [convolutions, blocks[: decoder.config.blocks], blocks[decoder.config.blocks :]]


def load_decoder(session: Session) -> Decoder:
    """The run's decoder: its own stage's where the recipe has one, else stage 1's."""
    config = session.recipe.decoder
    if config is None:
        return load_autoencoder(session).decoder
    weights = trained_weights(session.out, NAME)
    decoder = Decoder(config.decoder)
    decoder.load_state_dict({name.removeprefix("decoder."): value for name, value in weights.items()})
    return channels_last(decoder).eval().to(session.device)


@torch.no_grad()
def evaluate(module: nn.Module, knees: Knees, session: Session) -> dict[str, float]:
    """L1, and the pictures' gradients as a share of the radiographs': 1 is as sharp as those."""
    assert isinstance(module, DecoderWithEyes)
    error, drawn, real = 0.0, 0.0, 0.0
    for radiographs in radiograph_batches(knees.pixels, session):
        decoded, _ = module(radiographs)
        error += float((decoded - radiographs).abs().mean(dim=(1, 2, 3)).sum())
        drawn += sum(float(decoded.diff(dim=axis).abs().sum()) for axis in (2, 3))
        real += sum(float(radiographs.diff(dim=axis).abs().sum()) for axis in (2, 3))
    return {"reconstruction_l1": round(error / len(knees), 4), "sharpness": round(drawn / real, 4)}


@torch.no_grad()
def pictures(module: nn.Module, knees: Knees, session: Session) -> dict[str, Picture]:
    """The first val knees above their reconstructions."""
    assert isinstance(module, DecoderWithEyes)
    crops = np.stack([equalise(crop.astype(np.uint16)) for crop in knees.pixels[:_SHOWN]])
    radiographs = torch.from_numpy(crops)[:, None].contiguous(memory_format=torch.channels_last)
    decoded, _ = module(radiographs.to(session.device))
    drawn = decoded.float().cpu().numpy()[:, 0]
    return {"reconstructions": side_by_side(("radiographs of val", crops), ("their reconstructions", drawn))}
