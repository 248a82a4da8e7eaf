"""Simulated radiographs as films for the localiser: another look at knees, with exact answers."""

from __future__ import annotations

import numpy as np

from train.composites import Film


def simulated_film(rng: np.random.Generator, size: int) -> Film:
    """One."""
    raise NotImplementedError
