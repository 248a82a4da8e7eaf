"""A whole simulated radiograph: legs, markers, collimation, one vendor's look; every truth kept beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.records import Side
from kneerisk.simulate.render import Image, draw_knee, soft_tissue
from kneerisk.simulate.shape import MAX_SEVERITY, Points, grade_of, knee_shape
from kneerisk.simulate.vendors import LOOKS, Look, add_noise, expose

View = Literal["bilateral", "single"]

_CANVAS_MM = 0.25  # bones are drawn no finer than this and enlarged: noise carries the finest grain


@dataclass(frozen=True, slots=True)
class SimulatedKnee:
    """One knee's truth in the pixels of its radiograph."""

    side: Side
    severity: float
    kl_grade: int
    centre: tuple[float, float]
    """(x, y) in source pixels: the mean of the 16 landmarks."""
    landmarks: npt.NDArray[np.float32]
    """[16, 2] (x, y) in source pixels, T0-T8 then F0-F6, each lateral to medial."""


@dataclass(frozen=True, slots=True)
class SimulatedRadiograph:
    """A simulated radiograph and its truth."""

    pixels: npt.NDArray[np.uint16]
    """[H, W], bone bright, ``look.bits`` bits."""
    spacing_mm: float
    knees: tuple[SimulatedKnee, ...]
    look: Look
    view: View
    seed: int
    marker: bool
    """Whether lead letters show the side."""


def simulate_radiograph(
    seed: int,
    *,
    view: View = "bilateral",
    side: Side = "R",
    severity_right: float | None = None,
    severity_left: float | None = None,
    look: Look | None = None,
    shape: tuple[int, int] | None = None,
    spacing_mm: float | None = None,
    marker: bool | None = None,
    anatomy_seed: int | None = None,
) -> SimulatedRadiograph:
    """Simulate one PA fixed-flexion radiograph; the image's left is the participant's right.

    Parameters
    ----------
    seed
        Everything left open is drawn from it; the same arguments give the same pixels.
    view, side
        Both knees, or the one of ``side``.
    severity_right, severity_left
        Hidden disease severity in [0, 5); its whole part is the KL grade.  Drawn, mostly mild, where
        ``None``.
    look
        The vendor's look; one of ``LOOKS`` where ``None``.
    shape
        Rows and columns; about 2048 x 2494 for two knees at the look's own spacing, fewer with a coarser
        ``spacing_mm`` (the field in mm stays), where ``None``.
    spacing_mm
        mm per pixel; the look's own where ``None``.
    marker
        Whether R and L letters are shown; usually, where ``None``.
    anatomy_seed
        The person; ``seed`` where ``None``.  The same person at another severity keeps all but the disease.
    """
    rng = np.random.default_rng([seed, 1])
    look = LOOKS[int(rng.integers(len(LOOKS)))] if look is None else look
    marker = bool(rng.random() < 0.85) if marker is None else marker
    spacing = look.spacing_mm if spacing_mm is None else float(spacing_mm)
    if not 0.05 <= spacing <= 2:
        raise ValueError(f"spacing_mm must lie in 0.05 to 2, got {spacing}")
    rows, cols = _field(view, look.spacing_mm / spacing, rng) if shape is None else shape
    factor = max(_CANVAS_MM / spacing, 1.0)
    size = (max(round(rows / factor), 16), max(round(cols / factor), 16))
    scale = np.array([size[1] / cols, size[0] / rows])  # source pixels → canvas pixels
    mm = spacing * rows / size[0]

    sides: tuple[Side, ...] = ("R", "L") if view == "bilateral" else (side,)
    placed = _place(sides, (rows * spacing, cols * spacing), rng)
    person = seed if anatomy_seed is None else anatomy_seed
    person_width = float(np.clip(np.random.default_rng([person, 2]).normal(78.0, 6.5), 62, 96))
    given = {"R": severity_right, "L": severity_left}

    tissue = np.zeros(size, np.float32)
    bones = np.zeros(size, np.float32)
    knees = []
    girth = float(rng.uniform(1.05, 1.45)) * person_width
    texture = float(rng.uniform(0.6, 1.4))
    for which in sides:
        x_mm, y_mm, turn = placed[which]
        own = given[which]
        severity = float(min(rng.beta(1.1, 1.9) * 5, MAX_SEVERITY)) if own is None else float(own)
        knee = knee_shape(np.random.default_rng([person, 3 + (which == "L")]), severity, person_width)
        affine = _affine((x_mm / spacing, y_mm / spacing), turn + 0.5 * knee.varus_deg, which, spacing)
        to_canvas = np.column_stack([affine[:, :2] * scale[:, None], (affine[:, 2] + 0.5) * scale - 0.5])
        tissue = np.maximum(tissue, _leg(size, to_canvas, girth, mm, rng))
        draw_knee(bones, knee, to_canvas, rng, texture)
        truth = knee.landmarks @ affine[:, :2].T + affine[:, 2]
        centre = truth.mean(axis=0)
        knees.append(
            SimulatedKnee(
                side=which,
                severity=severity,
                kl_grade=grade_of(severity),
                centre=(float(centre[0]), float(centre[1])),
                landmarks=np.asarray(truth, np.float32),
            )
        )
    attenuation = tissue + bones
    signal = expose(attenuation, tissue, look, mm, rng)
    _things(signal, placed, mm, marker, rng)
    outside = _collimate(signal, look, mm, rng)
    full = np.asarray(cv2.resize(signal, (cols, rows), interpolation=cv2.INTER_CUBIC), np.float32)
    weaken = np.asarray(cv2.resize(attenuation, (cols, rows), interpolation=cv2.INTER_LINEAR), np.float32)
    full = add_noise(full, weaken, look, rng)
    if not look.white_border:
        full[cv2.resize(outside, (cols, rows), interpolation=cv2.INTER_NEAREST) > 0] = 0
    top = 2**look.bits - 1
    pixels = np.round(np.clip(full, 0, 1) * top).astype(np.uint16)
    return SimulatedRadiograph(pixels, spacing, tuple(knees), look, view, seed, marker)


def _field(view: View, zoom: float, rng: np.random.Generator) -> tuple[int, int]:
    """Rows and columns of the stored image."""
    if view == "bilateral":
        rows, cols = 2048 + int(rng.integers(-48, 49)), 2494 + int(rng.integers(-60, 61))
        if rng.random() < 0.15:  # a long field
            rows = round(rows * 1.22)
    else:
        rows, cols = int(rng.integers(1500, 2500)), int(rng.integers(1000, 1500))
    return max(round(rows * zoom), 64), max(round(cols * zoom), 64)


def _place(
    sides: tuple[Side, ...], field_mm: tuple[float, float], rng: np.random.Generator
) -> dict[Side, tuple[float, float, float]]:
    """Where each knee lies: x, y in mm from the image's corner, and its turn in degrees."""
    height, width = field_mm
    y = height * float(rng.uniform(0.42, 0.6))
    turn = float(rng.normal(0, 1.0))
    if len(sides) == 1:
        return {sides[0]: (width * float(rng.uniform(0.42, 0.58)), y, turn + float(rng.normal(0, 2)))}
    apart = float(np.clip(rng.normal(0.245, 0.015) * width, 72, width / 2 - 58))
    middle = width / 2 + float(rng.normal(0, 6))
    lean = float(rng.normal(1.0, 1.5))
    return {
        "R": (middle - apart, y + float(rng.normal(0, 4)), turn - lean),
        "L": (middle + apart, y + float(rng.normal(0, 4)), turn + lean),
    }


def _affine(centre: tuple[float, float], turn_deg: float, side: Side, spacing: float) -> Points:
    """[2, 3]: mm of the right-knee frame → source pixels, a left knee mirrored, turned by ``turn_deg``."""
    a = np.radians(turn_deg)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    mirror = np.diag([1.0 if side == "R" else -1.0, 1.0])
    return np.column_stack([turn @ mirror / spacing, np.asarray(centre)])


def _leg(
    size: tuple[int, int], to_canvas: Points, girth_mm: float, mm: float, rng: np.random.Generator
) -> Image:
    """A leg's soft tissue around the knee that ``to_canvas`` places."""
    rows = np.arange(size[0])
    centre, down = to_canvas[:, 2], to_canvas[:, 1]
    along = (rows - centre[1]) / down[1]  # mm below the joint
    middle = centre[0] + down[0] * along
    half = (
        girth_mm
        * 0.5
        * np.interp(along, (-220, -90, -40, 10, 50, 110, 220), (2.0, 1.6, 1.42, 1.33, 1.32, 1.4, 1.3))
    )
    half = half * (1 + 0.02 * np.interp(along, np.linspace(-200, 200, 9), rng.normal(size=9)))
    return soft_tissue(size, middle, half / mm, 1 / mm, rng)


def _things(
    signal: Image,
    placed: dict[Side, tuple[float, float, float]],
    mm: float,
    marker: bool,
    rng: np.random.Generator,
) -> None:
    """Lead letters, now and then a ruler, a positioning frame's beads, or fingers at the thigh; in place."""
    height, width = signal.shape
    lead = np.zeros(signal.shape, np.uint8)
    if marker:
        high = float(rng.uniform(0.08, 0.92))
        style = int(rng.integers(3))
        size = float(rng.uniform(9, 16)) / mm
        for which, (x, _, _) in placed.items():
            out = (-1 if which == "R" else 1) * float(rng.uniform(62, 78))
            at = (
                np.clip((x + out) / mm, size, width - 2 * size),
                np.clip(high * height, 2 * size, height - size),
            )
            _letter(lead, which, (float(at[0]), float(at[1])), size, style)
    if rng.random() < 0.2:
        x = round(width * (0.5 if len(placed) == 2 else float(rng.choice([0.06, 0.94]))))
        for i in range(int(rng.integers(8, 24))):
            y = round(height * 0.9 - i * 10 / mm)
            cv2.line(lead, (x, y), (x + round((8 if i % 5 else 14) / mm), y), 255, max(round(0.6 / mm), 1))
    if rng.random() < 0.3:
        x = width * (0.5 if len(placed) == 2 else 0.5 + float(rng.choice([-0.35, 0.35])))
        for i in range(7):
            at_px = (round(x), round(height * 0.62 + i * 15 / mm))
            cv2.circle(lead, at_px, max(round(1.6 / mm), 1), 255, -1, cv2.LINE_AA)
    np.maximum(signal, cv2.GaussianBlur(lead, (0, 0), 0.7).astype(np.float32) / 255, out=signal)
    if rng.random() < 0.04:
        _fingers(signal, mm, rng)


def _letter(
    lead: npt.NDArray[np.uint8], letter: str, at: tuple[float, float], size: float, style: int
) -> None:
    fonts = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX)
    x, y = round(at[0]), round(at[1])
    thick = max(round(size * 0.14), 1)
    cv2.putText(lead, letter, (x, y), fonts[style], size / 22, 255, thick, cv2.LINE_AA)
    if style == 1:
        cv2.circle(
            lead, (x + round(size * 0.45), y - round(size * 0.48)), round(size), 255, thick, cv2.LINE_AA
        )


def _fingers(signal: Image, mm: float, rng: np.random.Generator) -> None:
    """Four fingers reaching in from the top edge: soft tissue with a bone in each."""
    layer = np.zeros(signal.shape, np.uint8)
    x0 = float(rng.uniform(0.05, 0.85)) * signal.shape[1]
    for i in range(4):
        start = (round(x0 + i * 19 / mm), 0)
        end = (
            round(x0 + i * 19 / mm + float(rng.uniform(-8, 8)) / mm),
            round(float(rng.uniform(35, 70)) / mm),
        )
        finger = np.zeros_like(layer)
        cv2.line(finger, start, end, 30, max(round(17 / mm), 1), cv2.LINE_AA)
        bone = np.zeros_like(layer)
        cv2.line(bone, start, end, 40, max(round(8 / mm), 1), cv2.LINE_AA)
        layer = np.maximum(layer, finger + bone)
    np.minimum(signal + cv2.GaussianBlur(layer.astype(np.float32) / 255, (0, 0), 1.0 / mm), 1, out=signal)


def _collimate(signal: Image, look: Look, mm: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Shut the field's borders now and then; what lies outside (1) is whitened where the look does."""
    height, width = signal.shape
    outside = np.zeros(signal.shape, np.uint8)
    if rng.random() < 0.55:
        outside[:] = 1
        shut = rng.uniform(0, 12, 4) / mm
        turn = np.radians(float(rng.normal(0, 0.5)))
        box = np.array([[shut[0], shut[1]], [width - shut[2], shut[1]], [width - shut[2], height - shut[3]],
                        [shut[0], height - shut[3]]])  # fmt: skip
        middle = np.array([width / 2, height / 2])
        box = (box - middle) @ np.array(
            [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        ) + middle
        cv2.fillPoly(outside, [np.round(box).astype(np.int32)], 0)
        if look.white_border:
            soft = cv2.GaussianBlur(outside.astype(np.float32), (0, 0), max(0.4 / mm, 0.3))
            np.maximum(signal, soft * 0.97, out=signal)
    return outside
