"""Batches in which every knee stands twice, for losses that ask it to stay the same knee however exposed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kneerisk_train.data.augment import AugmentConfig, augment_twice
from kneerisk_train.data.knees import Knees


def expose_twice(
    knees: Knees, chosen: npt.NDArray[np.int64], config: AugmentConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Rows of knees [B] → equalised radiographs [2B, 1, S, S] and landmarks [2B, 16, 2], augmented.

    Row i and row B + i are of one knee, moved alike: as it was exposed, and as it might have been.
    """
    made = [augment_twice(knees.pixels[i], knees.landmarks[i], config, rng) for i in chosen]
    radiographs = torch.from_numpy(
        np.concatenate([[views[place] for views, _ in made] for place in range(2)])
    )
    landmarks = torch.from_numpy(np.stack([points for _, points in made]))
    return radiographs[:, None].contiguous(memory_format=torch.channels_last), landmarks.repeat(2, 1, 1)
