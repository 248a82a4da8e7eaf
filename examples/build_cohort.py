"""Build examples/cohort from the published crops of Chen (2018) and from simulated radiographs.

Usage: python examples/build_cohort.py CHEN_FOLDER

CHEN_FOLDER holds ``<split>/<KL grade>/<participant><side>.png`` and ``knees.csv``, whose columns are file,
split, participant_id, side, kl_grade, inverted, mm_per_px_x and mm_per_px_y.  The real knees are of the
**val** split: no weights were trained on them.  Written are

- seven participants' knees as DICOM, a crop a file, in several transfer syntaxes, their spacing as estimated;
- two participants' knees as the PNG files that were published, one pair with its grey scale inverted;
- three participants' simulated bilateral radiographs, their grades known;
- one file that is cut off in the middle, and one that shows no knee: simulated, and drawn;
- ``cohort.csv`` beside the folder: a row for every knee, with a reader's (or the simulator's) grade.

The same crops give the same bytes.
"""

from __future__ import annotations

import csv
import itertools
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import uid
from wrap_dicom import save, wrapped

from kneerisk.simulate.dicom import dicom_bytes
from kneerisk.simulate.radiograph import SimulatedRadiograph, simulate_radiograph
from kneerisk.simulate.vendors import LOOKS, Syntax

HERE = Path(__file__).parent
COHORT = HERE / "cohort"

AS_DICOM = {
    "9003380": uid.ExplicitVRLittleEndian,  # KL grades 1 and 1
    "9009067": uid.RLELossless,  # 0 and 0
    "9026695": uid.JPEGLossless,  # 0 and 3
    "9070207": uid.JPEG2000Lossless,  # 4 and 3
    "9112020": uid.JPEGLSLossless,  # 2 and 2
    "9191788": uid.ImplicitVRLittleEndian,  # 2 and 3
    "9579255": uid.JPEGLossless,  # 2 and 3, inverted: the header says MONOCHROME1
}
"""Participants of the val split, and the transfer syntax that their knees are wrapped in."""

AS_PNG = ("9115049", "9775753")
"""KL grades 3 and 4; 0 and 0, inverted with nothing to say so."""


@dataclass(frozen=True)
class Simulated:
    """How a simulated participant's radiograph comes to be; coarser than life, for a small file."""

    look: int
    """Index of the vendor's look: its grey scale, its noise and how it writes a header."""
    severity_right: float
    severity_left: float
    """Hidden severity; its whole part is the Kellgren-Lawrence grade."""
    spacing_mm: float
    syntax: Syntax


SIMULATED = {
    "SIM0001": Simulated(0, 0.4, 1.5, 0.25, "jpeg-lossless"),
    "SIM0002": Simulated(2, 2.5, 3.4, 0.30, "jpeg-2000"),
    "SIM0003": Simulated(4, 0.2, 4.3, 0.30, "jpeg-ls"),
}
CUT_OFF = ("SIM0004", Simulated(1, 1.2, 0.3, 0.30, "jpeg-lossless"))
HAND = "SIM0005"

SOURCE = "Crop by Chen P. (2018), doi 10.17632/56rmx5bjcr.1, CC BY 4.0; wrapped as DICOM, pixels unchanged"
FIELDS = ("path", "participant_id", "side", "kl_0m", "origin")


def real_knees(chen: Path) -> list[dict[str, str]]:
    """Copy or wrap the chosen participants' crops; gives their rows of cohort.csv."""
    with (chen / "knees.csv").open(newline="") as file:
        published = {row["participant_id"] + row["side"]: row for row in csv.DictReader(file)}
    rows = []
    for participant in sorted([*AS_DICOM, *AS_PNG]):
        for side in "RL":
            crop = published[participant + side]
            if crop["split"] != "val":
                raise SystemExit(f"{crop['file']} is of the split {crop['split']}; choose knees of val")
            suffix = ".dcm" if participant in AS_DICOM else ".png"
            target = COHORT / participant / f"{participant}{side}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if participant in AS_PNG:
                shutil.copyfile(chen / crop["file"], target)
            else:
                pixels = cv2.imread(str(chen / crop["file"]), cv2.IMREAD_GRAYSCALE)
                spacing = (float(crop["mm_per_px_y"]), float(crop["mm_per_px_x"]))
                dataset = wrapped(
                    np.asarray(pixels, np.uint8),
                    participant,
                    side,
                    spacing,
                    crop["inverted"] == "true",
                    SOURCE,
                )
                save(dataset, target, AS_DICOM[participant])
            rows.append(row_of(target, participant, side, crop["kl_grade"], "real"))
    return rows


def simulated_knees() -> list[dict[str, str]]:
    """Write the simulated radiographs; gives their knees' rows of cohort.csv."""
    rows = []
    for seed, (participant, recipe) in enumerate(SIMULATED.items(), start=1):
        target = COHORT / participant / "bilateral.dcm"
        radiograph = write_simulated(recipe, seed, participant, target)
        rows += [
            row_of(target, participant, knee.side, str(knee.kl_grade), "simulated")
            for knee in radiograph.knees
        ]
    return rows


def write_simulated(recipe: Simulated, seed: int, participant: str, target: Path) -> SimulatedRadiograph:
    """Simulate one participant's bilateral radiograph and write it as DICOM."""
    radiograph = simulate_radiograph(
        seed,
        severity_right=recipe.severity_right,
        severity_left=recipe.severity_left,
        look=LOOKS[recipe.look],
        spacing_mm=recipe.spacing_mm,
        marker=True,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(dicom_bytes(radiograph, participant_id=participant, syntax=recipe.syntax))
    return radiograph


def cut_off_file() -> None:
    """Write a simulated radiograph whose copy stopped in the middle of its pixels."""
    participant, recipe = CUT_OFF
    target = COHORT / participant / "cut-off.dcm"
    write_simulated(recipe, 4, participant, target)
    whole = target.read_bytes()
    target.write_bytes(whole[: len(whole) // 3])


def row_of(path: Path, participant: str, side: str, grade: str, origin: str) -> dict[str, str]:
    """One knee's row of cohort.csv."""
    name = path.relative_to(HERE).as_posix()
    return dict(zip(FIELDS, (name, participant, side, grade, origin), strict=True))


def drawn_hand() -> npt.NDArray[np.uint8]:
    """Draw a hand of bone-bright bars and ellipses, [640, 512]: plainly a drawing, and no knee."""
    image = np.full((640, 512), 20.0, np.float32)
    cv2.ellipse(image, (256, 430), (130, 150), 0, 0, 360, 70.0, -1)
    for finger, (x, top) in enumerate(((110, 190), (190, 90), (256, 60), (322, 90), (400, 170))):
        root = np.array([256 + (x - 256) * 0.55, 470.0])
        tip = np.array([float(x), float(top)])
        joints = [root + (tip - root) * part for part in (0.0, 0.42, 0.66, 0.84, 1.0)]
        for begin, end in itertools.pairwise(joints):
            bone = (end - begin) * 0.06
            a, b = (begin + bone).astype(int).tolist(), (end - bone).astype(int).tolist()
            cv2.line(image, a, b, 75.0, 54 - 2 * finger)
            cv2.line(image, a, b, 190.0, 20)
            cv2.circle(image, b, 14, 205.0, -1)
    cv2.rectangle(image, (200, 560), (312, 639), 180.0, -1)
    grain = np.random.default_rng(0).normal(0.0, 3.0, image.shape)
    return np.clip(cv2.GaussianBlur(image, (0, 0), 3.0) + grain, 0, 255).astype(np.uint8)


def main(arguments: list[str]) -> None:
    """Write the cohort and cohort.csv."""
    if len(arguments) != 1 or not (Path(arguments[0]) / "knees.csv").is_file():
        raise SystemExit(__doc__)
    rows = real_knees(Path(arguments[0])) + simulated_knees()
    cut_off_file()
    hand = COHORT / HAND / "hand.dcm"
    hand.parent.mkdir(parents=True, exist_ok=True)
    save(wrapped(drawn_hand(), HAND, "R", None, False, "A drawing", part="HAND"), hand, uid.JPEGLSLossless)
    with (HERE / "cohort.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
