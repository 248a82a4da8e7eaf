"""Pictures to look at while training: rows of crops under their captions, and how the loss went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.marks import KEYWORD, MARK
from kneerisk.plotting import figure_class

Crops = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]
_MARK = (80, 200, 255)
_STRIP, _NARROWEST = 22, 360
"""A caption's height, and the least width, in pixels."""
_SMOOTH = 50
"""The running mean spans so many-th part of the steps."""


def side_by_side(*rows: tuple[str, Crops]) -> Picture:
    """Rows of crops [N, S, S] in 0..1, each under its caption, one above the other, uint8 [H, W, 3]."""
    return np.concatenate([captioned(words, _grey(np.concatenate(list(row), axis=1))) for words, row in rows])


def marked_crops(words: str, crops: Crops, landmarks: npt.NDArray[np.float32]) -> Picture:
    """Crops [N, S, S] in 0..1 in a row under a caption, each with its 16 landmarks [N, 16, 2], uint8."""
    shown = []
    for crop, points in zip(crops, landmarks, strict=True):
        picture = _grey(crop)
        for x, y in points:
            cv2.circle(picture, (round(float(x)), round(float(y))), 2, _MARK, -1, cv2.LINE_AA)
        shown.append(picture)
    return captioned(words, np.concatenate(shown, axis=1))


def captioned(words: str, picture: Picture) -> Picture:
    """A picture [H, W, 3] under a strip that says what it is; a narrow one is widened with black."""
    wide = max(picture.shape[1], _NARROWEST)
    canvas = np.zeros((picture.shape[0] + _STRIP, wide, 3), np.uint8)
    canvas[_STRIP:, : picture.shape[1]] = picture
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (length, _), _ = cv2.getTextSize(words, font, size, 1)
    size = min(size, size * (wide - 12) / max(length, 1))
    cv2.putText(canvas, words, (6, _STRIP - 7), font, size, (235, 235, 235), 1, cv2.LINE_AA)
    return canvas


def draw_losses(path: Path, name: str, steps: Sequence[int], losses: Mapping[str, Sequence[float]]) -> bool:
    """Draw a stage's loss and its terms against the step; False without matplotlib.

    Args:
        path: of the PNG.
        name: the stage's.
        steps: in order.
        losses: the loss and its terms by name, a value a step.
    """
    try:
        make = figure_class()
    except ImportError:
        return False
    figure = make(figsize=(8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    window = max(1, len(steps) // _SMOOTH)
    kernel = np.full(window, 1 / window)
    for key, values in losses.items():
        if key == "loss":
            axes.plot(steps, values, color="0.8", linewidth=0.7)
        mean = np.convolve(values, kernel, mode="valid")
        main = key == "loss"
        axes.plot(
            steps[window - 1 :],
            mean,
            label=key,
            color="black" if main else None,
            linewidth=1.8 if main else 1,
        )
    axes.set(
        title=f"{name}: loss over {len(steps)} steps, mean of {window}",
        xlabel="step",
        ylabel="loss, and its weighted terms",
    )
    if all(value > 0 for value in losses.get("loss", ())):
        axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={KEYWORD: MARK})
    return True


def _grey(crop: Crops) -> Picture:
    grey = np.asarray((crop.clip(0, 1) * 255).round(), np.uint8)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
