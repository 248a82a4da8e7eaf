"""Latents made once and drawn from again and again: the codes of several views of every knee.

The first view is the crop as it is, as scoring sees it; the others are augmented.  All visits of one knee are
seen through the same augmentation in the same view: position, exposure, blur and noise are theirs together,
so that a pair of visits differs by what changed, not by the augmentation.
"""

from __future__ import annotations

import dataclasses
import logging
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kneerisk.method.exposure import equalise
from kneerisk.models.vqvae import ProductQuantiser
from kneerisk_train.data.augment import AugmentConfig, augment, draw_affine, move
from kneerisk_train.data.knees import Knees
from kneerisk_train.run.loop import prefetch, seed_of
from kneerisk_train.run.session import Session
from kneerisk_train.stages.vqvae import AutoencoderWithHeads

log = logging.getLogger(__name__)

Codes = npt.NDArray[np.int16]
Radiograph = npt.NDArray[np.float32]

BATCH = 64
VIEW = AugmentConfig(rotation_degrees=5, scale=0.08, aspect=0.08, shift_px=8, erase=0.0)
"""Of an augmented view, relative to crops of 224 pixels."""


@dataclass(frozen=True)
class CodedKnees:
    """N knees in V views: their codes, labels and landmarks."""

    codes: Codes
    """[N, V, G, h, w]: indices into G codebooks."""
    grade: npt.NDArray[np.int64]
    """[N]; negative where unknown."""
    landmarks: npt.NDArray[np.float32]
    """[N, V, 16, 2] in crop pixels of the view, NaN where nobody marked them."""

    @property
    def views(self) -> int:
        """V."""
        return int(self.codes.shape[1])


def view_rng(seed: int, knees: Knees, index: int, view: int) -> np.random.Generator:
    """The generator of a knee's augmentation in a view: the same for all its visits."""
    return np.random.default_rng(
        seed_of(seed, "view", str(knees.participant[index]), str(knees.side[index]), view)
    )


def see(
    pixels: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32], rng: np.random.Generator, view: int
) -> Radiograph:
    """A crop [S, S] in a view, equalised, float32 in 0..1; ``rng`` is :func:`view_rng`'s."""
    if view == 0:
        return equalise(pixels.astype(np.uint16))
    return augment(pixels, landmarks, VIEW, rng)[0]


def code_knees(module: AutoencoderWithHeads, knees: Knees, views: int, session: Session) -> CodedKnees:
    """Encode every knee in every view with a trained VQ-VAE."""
    seed, count, size = session.recipe.seed, len(knees), knees.size

    def seen(item: int) -> Radiograph:
        index, view = divmod(item, views)
        return see(knees.pixels[index], knees.landmarks[index], view_rng(seed, knees, index, view), view)

    marks = np.full((count, views, *knees.landmarks.shape[1:]), np.nan, np.float32)
    for index in np.flatnonzero(knees.has_landmarks):
        for view in range(views):
            marks[index, view] = knees.landmarks[index]
            if view:
                matrix = draw_affine(size, VIEW, view_rng(seed, knees, int(index), view))
                marks[index, view] = move(knees.landmarks[index], matrix)
    codes = encode(module, seen, count * views, session)
    return CodedKnees(codes.reshape(count, views, *codes.shape[1:]), knees.grade, marks)


@torch.no_grad()
def encode(
    module: AutoencoderWithHeads, make: Callable[[int], Radiograph], count: int, session: Session
) -> Codes:
    """Codes int16 [count, G, h, w] of ``count`` equalised radiographs [S, S]."""
    module.eval()
    codes = []
    for number, radiographs in enumerate(made_batches(make, count, session)):
        with session.fabric.autocast():
            quantised = module.encoder.quantise(radiographs)
        codes.append(quantised.indices.cpu().numpy().astype(np.int16))
        if number % 50 == 49:
            log.info("encoded %d of %d", (number + 1) * BATCH, count)
    return np.concatenate(codes)


def made_batches(make: Callable[[int], Radiograph], count: int, session: Session) -> Iterator[Tensor]:
    """Equalised radiographs in order, [B, 1, S, S] on the session's device, made ahead by threads."""

    def batch(step: int) -> Tensor:
        span = range(step * BATCH, min(count, (step + 1) * BATCH))
        stacked = torch.from_numpy(np.stack([make(index) for index in span]))[:, None]
        return stacked.contiguous(memory_format=torch.channels_last)

    for radiographs in prefetch(batch, 0, -(-count // BATCH), threads=session.recipe.loader_threads):
        yield radiographs.to(session.device)


@torch.no_grad()
def latents_of(quantiser: ProductQuantiser, codes: Tensor) -> Tensor:
    """Codes, integers [B, G, h, w] → latents float32 [B, C, h, w]."""
    embedded: Tensor = quantiser.embed(codes.long())
    return embedded.contiguous(memory_format=torch.channels_last)


def save_arrays(path: Path, record: Any, purpose: str) -> None:
    """A dataclass of arrays as one npz, whole or not at all."""
    aside = path.with_name(path.name + ".writing.npz")
    arrays = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    np.savez(aside, purpose=np.array(purpose), **arrays)
    aside.replace(path)


def load_arrays(path: Path, kind: Any, purpose: str) -> Any:
    """What :func:`save_arrays` wrote for the same purpose; None where there is no such file."""
    try:
        with np.load(path) as arrays:
            if str(arrays["purpose"]) != purpose:
                return None
            return kind(**{field.name: arrays[field.name] for field in dataclasses.fields(kind)})
    except (FileNotFoundError, KeyError, zipfile.BadZipFile):
        return None
