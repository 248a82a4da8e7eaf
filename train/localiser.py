"""The localiser's training: films made of real crops and of simulated radiographs → heatmaps of their knees.

Loss = cross-entropy of the heatmaps + L1 of the log width and cross-entropy of the implant where a knee is +
cross-entropy of the reversed grey scale.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kneerisk.models.localiser import Localiser
from train import chen
from train.loop import Average, Checkpoint, descend, optimiser, prefetch
from train.recipe import Recipe
from train.samples import look, render_samples, targets

log = logging.getLogger(__name__)
WEIGHTS_FILE = "localiser.safetensors"
CONFIG_FILE = "localiser.json"


def localiser_loss(
    maps: Tensor, inverted: Tensor, knees: Tensor, was_inverted: Tensor, size: int
) -> dict[str, Tensor]:
    """The loss's terms, each a scalar, weighted.

    Args:
        maps: logits float32 [B, 4, c, c] (right, left, log width, implant).
        inverted: logits float32 [B].
        knees: answers float32 [B, 2, 5] as :class:`train.samples.Samples` holds them.
        was_inverted: float32 [B].
        size: pixels a side of the input.
    """
    heat, near, width, implant = targets(knees, maps.shape[-1], size)
    peaks = F.binary_cross_entropy_with_logits(maps[:, :2], heat, weight=1 + 4 * heat, reduction="sum")
    total = near.sum().clamp(min=1)
    metal = F.binary_cross_entropy_with_logits(maps[:, 3:], implant, reduction="none")
    return {
        "peaks": peaks / len(maps) / 20,
        "width": 2 * (near * (maps[:, 2:3] - width).abs()).sum() / total,
        "implant": 0.5 * (near * metal).sum() / total,
        "inverted": 0.5 * F.binary_cross_entropy_with_logits(inverted, was_inverted),
    }


def train(recipe: Recipe, data: Path, out: Path) -> Path:
    """Train on the train split's composites; returns the file with the averaged weights.

    Args:
        recipe: sizes and schedule.
        data: Chen's folder.
        out: where samples, checkpoint, log and weights go; a checkpoint found there is resumed.
    """
    from safetensors.torch import save_file

    stage, config = recipe.localiser, recipe.localiser.optim
    torch.set_num_threads(stage.threads)
    torch.manual_seed(recipe.seed)
    size = stage.localiser.size
    knees = chen.load(data, "train")
    samples = render_samples(
        knees, stage.mixture, stage.films, recipe.seed, size, out / "localiser-films.npz"
    )
    log.info("%d films", len(samples.pixels))

    module = Localiser(stage.localiser).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = Average(module, config.ema_decay)
    optim = optimiser(module, config)
    checkpoint = Checkpoint(out / "localiser.pt", module, average, optim)
    start = checkpoint.resume()
    began, sums = time.monotonic(), dict.fromkeys(("peaks", "width", "implant", "inverted"), 0.0)

    def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
        return look(samples, np.random.default_rng((recipe.seed, 1, step)), config.batch_size)

    for step, (radiograph, answers, inverted) in enumerate(prefetch(batch, start, config.steps), start):
        module.train()
        with torch.autocast("cpu", torch.bfloat16):
            maps, flat = module.logits(radiograph.contiguous(memory_format=torch.channels_last))
        terms = localiser_loss(maps.float(), flat.float(), answers, inverted, size)
        descend(torch.stack(list(terms.values())).sum(), module, optim, config, step)
        average.update(module, step)
        checkpoint.save(step + 1)
        for name, term in terms.items():
            sums[name] += float(term.detach())
        if (step + 1) % 100 == 0:
            pace = (time.monotonic() - began) / (step + 1 - start)
            shown = " ".join(f"{name} {value / 100:.4f}" for name, value in sums.items())
            log.info("step %d/%d %s %.0f ms", step + 1, config.steps, shown, 1000 * pace)
            sums = dict.fromkeys(sums, 0.0)
    checkpoint.save(config.steps, due_only=False)
    weights = out / WEIGHTS_FILE
    save_file({name: value.contiguous() for name, value in average.module.state_dict().items()}, weights)
    (out / CONFIG_FILE).write_text(json.dumps(asdict(stage.localiser), indent=1), encoding="utf-8")
    return weights
