"""A replaced knee: a simulated prosthesis over the joint, saturated as metal is."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from kneerisk.records import Side
from kneerisk.simulate.radiograph import SimulatedRadiograph


def with_implants(simulated: SimulatedRadiograph, sides: tuple[Side, ...]) -> SimulatedRadiograph:
    """The radiograph with a femoral shell, a tibial tray and a stem drawn over the knees of ``sides``."""
    if not sides:
        return simulated
    metal = np.zeros(simulated.pixels.shape, np.uint8)
    for knee in simulated.knees:
        if knee.side not in sides:
            continue
        points = knee.landmarks.astype(np.float64)
        across = points[8] - points[0]
        width = float(np.linalg.norm(across))
        across /= width
        down = np.array([-across[1], across[0]])
        down *= np.sign(down[1])
        start, end = points[0] + 0.04 * width * across, points[8] - 0.04 * width * across
        tray = [start, end, end + 0.06 * width * down, start + 0.06 * width * down]
        middle = (start + end) / 2
        stem = [middle + s * 0.07 * width * across + d * width * down for s, d in ((-1, 0), (1, 0), (1, 0.5))]
        stem.append(middle - 0.07 * width * across + 0.5 * width * down)
        shell = [*points[9:], points[15] - 0.3 * width * down, points[9] - 0.3 * width * down]
        for outline in (tray, stem, shell):
            cv2.fillPoly(metal, [np.round(np.array(outline)).astype(np.int32)], 255, cv2.LINE_AA)
    top = 2**simulated.look.bits - 1
    bright = np.round(metal.astype(np.float32) / 255 * top).astype(np.uint16)
    return replace(simulated, pixels=np.maximum(simulated.pixels, bright))
