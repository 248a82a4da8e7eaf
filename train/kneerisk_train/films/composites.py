"""Whole radiographs made of real knee crops: the localiser's training data, with its answers.

Each crop is trimmed, scaled to millimetres, continued into a leg above and below, turned by a few degrees
and set on a film with collimation, markers, rulers, hands or metal.  Nothing here is a real radiograph of a
leg: the surroundings are drawn, so that a localiser learns the knee and not what happens to lie around it.
"""

from __future__ import annotations

import cv2
import numpy as np

from kneerisk.radiograph.locate.crop import JOINT_IN_CROP, WIDTH_IN_CROP, letterbox
from kneerisk_train.data.knees import Knees
from kneerisk_train.films import clutter
from kneerisk_train.films.films import Film, FilmArray, blur, close_up, resize, warp
from kneerisk_train.films.other_views import other_film, with_panel

SPACING_MM = 0.43
"""Stands in where a crop's own spacing could not be estimated."""
_OTHER_VIEWS = 0.7
"""Share of simulated other views among the films without a knee."""
_PANEL = 0.25
"""Share of lone knees with another view beside them."""
_CLOSE = 0.4
"""Share of films seen close by."""


def render(knees: Knees, rng: np.random.Generator, kind: str, size: int = 256) -> Film:
    """One composite of a kind, as :func:`compose` makes it, letterboxed and equalised.

    Many films without a knee are simulated other views, and at times another view lies beside a lone knee.
    Many films are seen close by, as :mod:`kneerisk.radiograph.locate.looks` looks at what may be a knee.

    Returns:
        A film of [size, size]; a knee is listed if its joint's middle lies within the film.
    """
    close = kind != "crop" and rng.random() < _CLOSE
    if kind == "none" and rng.random() < _OTHER_VIEWS:
        film = other_film(rng)
    else:
        film = compose(knees, rng, kind, 2 * size if close else size)
    if kind == "single" and rng.random() < _PANEL:
        film = with_panel(film, rng)
    if close:
        film = close_up(film, rng, size)
    film.pixels, to_film = letterbox(film.pixels, size)
    return film.moved(to_film)


def compose(knees: Knees, rng: np.random.Generator, kind: str, size: int) -> Film:
    """One composite of a kind (``both``, ``single``, ``crop``, ``none``), at most ``size`` px a side."""
    if kind == "crop":
        film = _close_crop(knees, rng, size)
    elif kind == "none":
        film = Film(clutter.no_knee(rng, size, lambda: _turned_knee(knees, rng, size)))
    else:
        film = _legs(knees, rng, size, both=kind == "both")
    if kind != "crop" or rng.random() < 0.2:
        film.pixels = clutter.film_marks(film.pixels, rng, gentle=kind == "crop")
    film.pixels = clutter.exposure(film.pixels, rng)
    return film


def _pick(knees: Knees, rng: np.random.Generator, of: int | None = None) -> int:
    """A knee at random; of the participant of ``of`` (but another one) if there is one."""
    if of is not None:
        same = np.flatnonzero(knees.participant == knees.participant[of])
        same = same[same != of]
        if len(same):
            return int(same[0])
    draw = rng.random()
    if draw < 0.2 and knees.has_landmarks.any():
        return int(rng.choice(np.flatnonzero(knees.has_landmarks)))
    if draw > 0.8 and (severe := np.flatnonzero(knees.grade == 4)).size:
        return int(rng.choice(severe))  # the rarest and the least like the others
    return int(rng.integers(len(knees)))


def _joint(knees: Knees, index: int) -> tuple[float, float, float]:
    """(x, y, width) of a crop's joint in its pixels: its landmarks', else where crops have it on average."""
    marks = knees.landmarks[index]
    side = knees.pixels.shape[1]
    if np.isfinite(marks[0, 0]):
        return float(marks[:, 0].mean()), float(marks[:, 1].mean()), float(np.ptp(marks[:, 0]))
    return JOINT_IN_CROP[0] * (side - 1), JOINT_IN_CROP[1] * (side - 1), WIDTH_IN_CROP * side


def _legs(knees: Knees, rng: np.random.Generator, size: int, *, both: bool) -> Film:
    first = _pick(knees, rng)
    if both:
        width_mm, height_mm = rng.uniform(260, 450), rng.uniform(170, 460)
        gap = rng.uniform(0.36, 0.6) * width_mm
        middle = width_mm / 2 + rng.normal(0, 0.04) * width_mm
        places = [(first, middle - gap / 2, 0), (_pick(knees, rng, of=first), middle + gap / 2, 1)]
    else:
        width_mm, height_mm = rng.uniform(110, 300), rng.uniform(130, 450)
        places = [(first, width_mm * rng.uniform(0.3, 0.7), int(rng.integers(2)))]
    scale = size / max(width_mm, height_mm)
    shape = (max(32, round(height_mm * scale)), max(32, round(width_mm * scale)))
    air = rng.choice([0.0, rng.uniform(0, 0.15)])
    film = Film(np.full(shape, air, np.float32) + rng.normal(0, 0.01, shape).astype(np.float32))
    level = height_mm * rng.uniform(0.32, 0.68)
    for index, x_mm, side in places:
        centre = (x_mm * scale, (level + rng.normal(0, 8)) * scale)
        _set_leg(film, knees, rng, index, centre, scale, side)
    return film


def _set_leg(
    film: Film,
    knees: Knees,
    rng: np.random.Generator,
    index: int,
    centre: tuple[float, float],
    px_per_mm: float,
    side: int,
) -> None:
    """Blend one leg into the film so that its joint's middle lies at ``centre``."""
    spacing = np.where(np.isfinite(knees.spacing[index]), knees.spacing[index], SPACING_MM)
    spacing = spacing * rng.uniform(0.92, 1.08)
    x, y, width = _joint(knees, index)
    crop = knees.pixels[index].astype(np.float32) / 255
    # Trim: the joint must not always lie at the same place of the patch that is real.
    top, bottom, left, right = (rng.uniform(0, (0.2, 0.2, 0.05, 0.05)) * 224).astype(int)
    crop = crop[top : 224 - bottom, left : 224 - right]
    x, y = x - left, y - top
    fx, fy = float(spacing[0] * px_per_mm), float(spacing[1] * px_per_mm)
    small = resize(crop, (max(8, round(crop.shape[0] * fy)), max(8, round(crop.shape[1] * fx))))
    fx, fy = small.shape[1] / crop.shape[1], small.shape[0] / crop.shape[0]
    x, y, width = (x + 0.5) * fx - 0.5, (y + 0.5) * fy - 0.5, width * fx
    implant = bool(rng.random() < 0.08)
    if implant:
        small = clutter.implant(small, (x, y), width, rng)
    leg, alpha, (pad_x, pad_y) = _extend(small, film.pixels.shape, rng)
    x, y = x + pad_x, y + pad_y
    if side == 1:
        leg, alpha, x = leg[:, ::-1], alpha[:, ::-1], leg.shape[1] - 1 - x
    turn = cv2.getRotationMatrix2D((float(x), float(y)), float(rng.uniform(-11, 11)), 1.0)
    turn[:, 2] += (centre[0] - x, centre[1] - y)
    leg, alpha = warp(leg, turn, film.pixels.shape), warp(alpha, turn, film.pixels.shape)
    film.pixels = film.pixels * (1 - alpha) + leg * alpha
    film.knees.append((centre[0], centre[1], width, side, implant))


def _extend(
    patch: FilmArray, film_shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[FilmArray, FilmArray, tuple[int, int]]:
    """A knee's patch with shafts above and below, soft tissue aside; its opacity; its new offset."""
    height, width = patch.shape
    reach = int(max(film_shape) * 1.1)
    band = max(3, int(height * rng.uniform(0.08, 0.16)))
    # Mirrored at the seam, so that the stretched band meets the patch without a step.
    above = resize(patch[:band][::-1], (reach, width), shrink=False)
    below = resize(patch[-band:][::-1], (reach, width), shrink=False)
    column = np.concatenate([above, patch, below])
    side = int(width * rng.uniform(0.05, 0.35)) + 2
    wide = np.pad(column, ((0, 0), (side, side)), mode="edge")
    tissue = np.ones(wide.shape, np.float32)
    tissue[:, side : side + width] = 0
    tissue = blur(tissue, max(0.6, width / 40))
    wide = wide * (1 - tissue) + blur(wide, max(0.6, width / 40)) * tissue
    # Opacity: the leg's outline waves a little and fades into air as soft tissue does.
    rows = np.arange(wide.shape[0], dtype=np.float32)[:, None]
    columns = np.arange(wide.shape[1], dtype=np.float32)[None]
    wave = rng.uniform(0, 0.06) * width * np.sin(rows / (width * rng.uniform(0.5, 2)) + rng.uniform(0, 6))
    flare = rng.uniform(-0.02, 0.12) * (reach + height / 2 - rows)
    half = wide.shape[1] / 2 - 1 + np.minimum(wave + np.minimum(flare, width * 0.1), 0)
    edge = np.abs(columns - (wide.shape[1] - 1) / 2)
    softness = width * rng.uniform(0.02, 0.2)
    alpha = np.clip((half - edge) / softness, 0, 1).astype(np.float32)
    return wide.astype(np.float32), alpha, (side, reach)


def _close_crop(knees: Knees, rng: np.random.Generator, size: int) -> Film:
    """One knee that fills the film, squeezed to a square as Chen's crops are, with some play."""
    index = _pick(knees, rng)
    x, y, width = _joint(knees, index)
    crop = knees.pixels[index].astype(np.float32) / 255
    implant = bool(rng.random() < 0.08)
    if implant:
        crop = clutter.implant(crop, (x, y), width, rng)
    side = int(rng.integers(2))
    if side == 1:
        crop, x = np.ascontiguousarray(crop[:, ::-1]), crop.shape[1] - 1 - x
    if rng.random() < 0.6:
        zoom = rng.uniform(0.88, 1.2)
        turn = cv2.getRotationMatrix2D((x, y), float(rng.uniform(-8, 8)), float(zoom))
        shift = rng.uniform(-0.06, 0.06, 2) * crop.shape[1]
        turn[:, 2] += shift
        border = int(rng.choice([cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT_101]))
        crop = warp(crop, turn, crop.shape, border)
        x, y, width = x + shift[0], y + shift[1], width * zoom
    if rng.random() < 0.3:
        stretch = rng.uniform(0.85, 1.15)
        crop = resize(crop, (round(crop.shape[0] * stretch), crop.shape[1]), shrink=False)
        y = y * stretch
    if max(crop.shape) > size:
        ratio = size / max(crop.shape)
        crop = resize(crop, (round(crop.shape[0] * ratio), round(crop.shape[1] * ratio)))
        x, y, width = x * ratio, y * ratio, width * ratio
    return Film(crop, [(float(x), float(y), float(width), side, implant)])


def _turned_knee(knees: Knees, rng: np.random.Generator, size: int) -> FilmArray:
    """A real knee as it is never to be scored: lying, upside down, or cut so that no joint is left."""
    way = rng.integers(4)
    if way == 3:
        crop = knees.pixels[_pick(knees, rng)].astype(np.float32) / 255
        part: FilmArray = crop[:64] if rng.random() < 0.5 else crop[-60:]
        return part
    film = (
        _close_crop(knees, rng, size)
        if rng.random() < 0.5
        else _legs(knees, rng, size, both=rng.random() < 0.5)
    )
    return np.ascontiguousarray(np.rot90(film.pixels, int(way) + 1))
