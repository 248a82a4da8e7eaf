"""Stage 2: the U-Net learns v of the future latent, given the current one (arXiv 2506.14560, 2202.00512)."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kneerisk.diffusion import diffuse
from kneerisk.models.unet import UNet
from kneerisk.models.vqvae import ProductQuantiser
from train import chen
from train.loop import Average, Checkpoint, channels_last, descend, optimiser, prefetch
from train.recipe import Recipe
from train.surrogate import RISES, Pairs, build, transition_rates
from train.vqvae import AutoencoderWithHeads

log = logging.getLogger(__name__)


def load_autoencoder(recipe: Recipe, out: Path) -> AutoencoderWithHeads:
    """The trained stage 1 of this folder, in evaluation mode."""
    module = AutoencoderWithHeads(recipe)
    module.load_state_dict(torch.load(out / "vqvae.pt", map_location="cpu", weights_only=True))
    return channels_last(module).eval()


def surrogate_pairs(recipe: Recipe, data: Path, out: Path) -> Pairs:
    """The train split's surrogate pairs, made once a folder."""
    path = out / "pairs.npz"
    if not path.exists():
        rates = transition_rates(data.parent / "kl_transitions.csv")
        pairs = build(load_autoencoder(recipe, out), chen.load(data, "train"), rates, recipe.seed)
        aside = path.with_name("pairs.writing.npz")
        pairs.save(aside)
        aside.replace(path)
    return Pairs.load(path)


def draw_futures(
    pairs: Pairs, chosen: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random surrogate pair of each chosen knee: codes now, codes at 12 months, grade at 12 months."""
    rises = rng.random(len(chosen)) < pairs.rise_probability[chosen]
    view = np.where(
        rises, rng.integers(0, RISES, len(chosen)), rng.integers(0, pairs.current.shape[1], len(chosen))
    )
    capped = np.minimum(view, RISES - 1)
    future = np.where(rises[:, None, None, None], pairs.rise[chosen, capped], pairs.stay[chosen, view])
    grade = np.where(rises, pairs.rise_grade[chosen, capped], pairs.grade[chosen])
    return pairs.current[chosen, view], future, grade


def train(recipe: Recipe, data: Path, out: Path) -> Path:
    """Train the U-Net on the surrogate pairs; returns the file with the averaged weights."""
    optim_config = recipe.diffusion.optim
    torch.set_num_threads(recipe.threads)
    pairs = surrogate_pairs(recipe, data, out)
    quantiser: ProductQuantiser = load_autoencoder(recipe, out).encoder.quantiser
    torch.manual_seed(recipe.seed + 1)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((recipe.seed, 6, step))
        chosen = rng.integers(0, len(pairs.grade), optim_config.batch_size)
        current, future, _ = draw_futures(pairs, chosen, rng)
        return latent(quantiser, current), latent(quantiser, future)

    module = channels_last(UNet(recipe.diffusion.unet))
    average = Average(module, optim_config.ema_decay)
    optim = optimiser(module, optim_config)
    checkpoint = Checkpoint(out / "diffusion.checkpoint.pt", module, average, optim)
    first = checkpoint.resume()
    module.train()
    began, running = time.monotonic(), 0.0
    for step, (current, future) in enumerate(prefetch(batch, first, optim_config.steps), start=first):
        times = torch.rand(len(current))
        alpha = torch.cos(0.5 * torch.pi * times)[:, None, None, None]
        sigma = torch.sin(0.5 * torch.pi * times)[:, None, None, None]
        noisy, velocity = diffuse(future, torch.randn_like(future), alpha, sigma)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = module(noisy, current, times)
        loss = F.mse_loss(predicted, velocity)
        descend(loss, module, optim, optim_config, step)
        average.update(module, step)
        running = loss.item() if step == first else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0:
            seconds = (time.monotonic() - began) / (step - first + 1)
            log.info("step %d loss %.4f (%.2f s a step)", step, running, seconds)
        checkpoint.save(step + 1)
    checkpoint.save(optim_config.steps, due_only=False)
    path = out / "diffusion.pt"
    torch.save(average.module.state_dict(), path)
    return path


@torch.no_grad()
def latent(quantiser: ProductQuantiser, codes: np.ndarray) -> Tensor:
    """Codes int16 [B, G, h, w] → latents float32 [B, C, h, w]."""
    embedded: Tensor = quantiser.embed(torch.from_numpy(codes.astype(np.int64)))
    return embedded.contiguous(memory_format=torch.channels_last)
