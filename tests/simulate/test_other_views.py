"""Simulated radiographs without a frontal knee."""

from __future__ import annotations

import numpy as np
import pytest

from kneerisk.simulate.other_views import PARTS, SPACING_MM, simulate_other_view


@pytest.mark.parametrize("part", sorted(PARTS))
def test_every_part_shows_bone_in_tissue_and_a_seed_draws_it_again(part: str) -> None:
    shown = simulate_other_view(4, part)
    np.testing.assert_array_equal(shown, simulate_other_view(4, part))
    other = simulate_other_view(5, part)
    assert shown.shape != other.shape or not np.array_equal(shown, other)
    assert shown.dtype == np.float32 and shown.min() >= 0 and shown.max() <= 1
    assert 100 < shown.shape[0] * SPACING_MM < 400 and shown.std() > 0.03


def test_parts_differ() -> None:
    assert len({simulate_other_view(4, part).tobytes() for part in PARTS}) == len(PARTS)
