"""The reference that speed is told against: what a straightforward script of the paper would do.

One radiograph after another, read, cut out and scored alone; torch in eager float32; 50 steps of DDIM (arXiv
2010.02502), a call of the U-Net each.  The weights are loaded once, and loading them is not counted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from kneerisk.compile.open import open_network
from kneerisk.method.calibration import Calibration
from kneerisk.method.diffusion import draw_noise
from kneerisk.method.exposure import equalise
from kneerisk.method.risk import hazards_of
from kneerisk.method.views import mean_posterior, zoomed
from kneerisk.radiograph.decode.read import read
from kneerisk.radiograph.locate.localise import KneeLocaliser
from kneerisk.radiograph.sources.scan import scan
from kneerisk.radiograph.sources.skipped import Skipped
from kneerisk.records import KneeCrop, Radiograph, RadiographRef
from kneerisk.stack.stack import Stack

STEPS = 50


@dataclass(frozen=True)
class Naive:
    """What the reference came to."""

    knees: int
    knees_per_second: float
    risks: dict[str, float]
    """``risk_12m_image`` by the image's path, for the agreement with what is measured against it."""


def ddim(unet, current: np.ndarray, noise: np.ndarray, steps: int) -> np.ndarray:
    """Forecast latents [B, C, h, w] by first-order DDIM in the v-parameterisation."""
    state = noise
    for index in range(steps):
        now, following = (0.5 * math.pi * (1 - i / steps) for i in (index, index + 1))
        time_now = np.full(len(state), 1 - index / steps, np.float32)
        v = unet({"noisy": state, "current": current, "time": time_now})["velocity"]
        clean = math.cos(now) * state - math.sin(now) * v
        error = math.sin(now) * state + math.cos(now) * v
        state = (math.cos(following) * clean + math.sin(following) * error).astype(np.float32)
    return state


def run_naive(manifest: Path, stack: Stack) -> Naive:
    """Score a manifest's images one by one."""
    names = ("localiser", "encoder", "unet", "classifier_now", "classifier_12m")
    risks: dict[str, float] = {}
    knees = 0
    with ExitStack() as kept:
        run = {name: kept.enter_context(open_network(stack, name, "torch", "fp32")).run for name in names}
        calibration = Calibration.from_mapping(stack.calibration())
        size = stack.component("localiser").spec.inputs[0].shape[-1]
        localise = partial(KneeLocaliser(run["localiser"], size=size).localise, invert="auto")
        start = time.perf_counter()
        for item in scan((manifest,), id_from="tag", side=None, skipped=Skipped()):
            if not isinstance(item, RadiographRef):
                continue
            radiograph = read(item, spacing_mm=None, invert="auto")
            if not isinstance(radiograph, Radiograph):
                continue
            for crop in localise(radiograph):
                if isinstance(crop, KneeCrop):
                    risks[item.source_path] = score_one(run, crop, stack.description.grade_zooms, calibration)
                    knees += 1
        seconds = time.perf_counter() - start
    return Naive(knees, knees / seconds, risks)


def score_one(run, crop: KneeCrop, zooms: Sequence[float], calibration: Calibration) -> float:
    """The risk of one knee from its image, its grade now read at the stack's zooms."""
    pixels = equalise(crop.pixels)
    latents = [run["encoder"]({"radiograph": zoomed(pixels, zoom)[None, None]})["latent"] for zoom in zooms]
    future = ddim(run["unet"], latents[0], draw_noise(0, 1, latents[0].shape[1:]), STEPS)
    now = mean_posterior([run["classifier_now"]({"latent": latent})["kl"] for latent in latents])[0]
    moves = run["classifier_12m"]({"latent": future})["transition"][0]
    return float(calibration.from_image(hazards_of(moves), now))
