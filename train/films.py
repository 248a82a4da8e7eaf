"""A film under construction: what the localiser's samples are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FilmArray = npt.NDArray[np.float32]
Answer = tuple[float, float, float, int, bool]
"""(x, y) of the joint's middle and its width, all px; 0 for a right knee as seen, 1 for a left one; implant."""


@dataclass
class Film:
    """Pixels float32 [H, W] in 0..1, bone bright, and the knees on them."""

    pixels: FilmArray
    knees: list[Answer] = field(default_factory=list)

    def moved(self, to_film: FilmArray) -> Film:
        """The same pixels with the knees given in pixels of a letterbox, from which ``to_film`` [2, 3] leads back.

        Knees whose middle falls outside the letterbox are dropped.
        """
        side = self.pixels.shape[0]
        moved = []
        for x, y, width, as_seen, metal in self.knees:
            x = (x - to_film[0, 2]) / to_film[0, 0]
            y = (y - to_film[1, 2]) / to_film[1, 1]
            if 0 <= x < side and 0 <= y < side:
                moved.append((float(x), float(y), float(width / to_film[0, 0]), as_seen, metal))
        return Film(self.pixels, moved)
