"""Draw a page of simulated knees beside real ones, to judge the simulator by eye.

python -m kneerisk_train.paper.simulator_page CHEN PAGE.png [--seed 0] [--zoom 2]

CHEN is the folder of Chen's dataset (doi 10.17632/56rmx5bjcr.1): ``knees.csv`` and the crops it lists.  A row
per KL grade: real knees on the left, simulated ones on the right, all as 96 mm crops of 224 pixels in the
right-knee frame.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.simulate.radiograph import SimulatedRadiograph, simulate_radiograph

_CROP, _FIELD_MM = 224, 96.0
_JOINT = (110.0, 125.7)  # where the landmarks' mean lies in Chen's crops, px
Picture = npt.NDArray[np.uint8]


def crop(simulated: SimulatedRadiograph, knee: int = 0) -> Picture:
    """One knee of a simulated radiograph as an 8-bit crop [224, 224] in the right-knee frame."""
    truth = simulated.knees[knee]
    scale = _FIELD_MM / _CROP / simulated.spacing_mm
    mirror = -1.0 if truth.side == "L" else 1.0
    to_source = np.array(
        [
            [mirror * scale, 0, truth.centre[0] - mirror * scale * _JOINT[0]],
            [0, scale, truth.centre[1] - scale * _JOINT[1]],
        ]
    )
    sigma = 0.45 * scale
    image = simulated.pixels.astype(np.float32) * (255 / (2**simulated.look.bits - 1))
    image = cv2.GaussianBlur(image, (0, 0), sigma).astype(np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(image, to_source, (_CROP, _CROP), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.clip(np.round(out), 0, 255).astype(np.uint8)


def real_knees(root: Path, grade: int, count: int, rng: np.random.Generator) -> list[Picture]:
    """``count`` real crops of a grade, undone of inversion and mirrored into the right-knee frame."""
    with (root / "knees.csv").open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] == "train" and r["kl_grade"] == str(grade)]
    pictures = []
    for i in rng.choice(len(rows), count, replace=False):
        image = cv2.imread(str(root / rows[i]["file"]), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise FileNotFoundError(f"{rows[i]['file']} is listed in knees.csv but cannot be read")
        image = 255 - image if rows[i]["inverted"] == "true" else image
        pictures.append(np.asarray(image[:, ::-1] if rows[i]["side"] == "L" else image, np.uint8))
    return pictures


def page(root: Path, seed: int, zoom: int, columns: int = 3) -> Picture:
    """The page: five rows, ``columns`` real knees, a white gap, ``columns`` simulated ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for grade in range(5):
        real = real_knees(root, grade, columns, rng)
        simulated = []
        for _ in range(columns):
            severity = grade + float(rng.uniform(0, 0.98))
            case = simulate_radiograph(
                int(rng.integers(2**31)), severity_right=severity, severity_left=severity
            )
            simulated.append(crop(case, int(rng.integers(2))))
        size = (_CROP * zoom, _CROP * zoom)
        shown = [
            np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_CUBIC), np.uint8)
            for p in (*real, *simulated)
        ]
        gap = np.full((size[1], 12), 255, np.uint8)
        rows.append(np.hstack([*shown[:columns], gap, *shown[columns:]]))
    return np.vstack(rows)


def main() -> None:
    """Read the arguments and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("chen", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--zoom", type=int, default=2)
    arguments = parser.parse_args()
    cv2.imwrite(str(arguments.page), page(arguments.chen, arguments.seed, arguments.zoom))


if __name__ == "__main__":
    main()
