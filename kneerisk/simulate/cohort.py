"""Small simulated cohorts: a folder of DICOM radiographs with their truth beside them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from kneerisk.records import LANDMARKS
from kneerisk.simulate.dicom import write_dicom
from kneerisk.simulate.look import LOOKS
from kneerisk.simulate.radiograph import SimulatedRadiograph, simulate_radiograph


def simulate_cohort(directory: Path, participants: int, seed: int = 0) -> Path:
    """Write one bilateral radiograph for each of ``participants`` people, and return the truth's path.

    ``directory/images/SIM0001/bilateral.dcm`` and so on; the vendors' looks take turns.  ``truth.csv``
    beside ``images`` has a row per knee: its grade and severity, centre and landmarks in source pixels.
    """
    if participants < 1:
        raise ValueError(f"participants must be at least 1, got {participants}")
    directory.mkdir(parents=True, exist_ok=True)
    truth = directory / "truth.csv"
    aside = directory / ".truth.csv.part"
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [f"lm_{name}_{axis}" for name in LANDMARKS for axis in "xy"]
        writer.writerow(
            ["participant_id", "side", "path", "kl_0m", "severity", "centre_x", "centre_y", *names]
        )
        for number in range(1, participants + 1):
            person = f"SIM{number:04d}"
            simulated = simulate_radiograph(
                int(np.random.SeedSequence([seed, number]).generate_state(1)[0]),
                look=LOOKS[(number - 1) % len(LOOKS)],
            )
            relative = f"images/{person}/bilateral.dcm"
            write_dicom(simulated, directory / relative, participant_id=person)
            writer.writerows(_rows(simulated, person, relative))
    aside.replace(truth)
    return truth


def _rows(simulated: SimulatedRadiograph, person: str, relative: str) -> list[list[str]]:
    rows = []
    for knee in simulated.knees:
        numbers = [*knee.centre, *(float(v) for v in knee.landmarks.ravel())]
        fixed = [person, knee.side, relative, str(knee.kl_grade), f"{knee.severity:.3f}"]
        rows.append(fixed + [f"{v:.2f}" for v in numbers])
    return rows
