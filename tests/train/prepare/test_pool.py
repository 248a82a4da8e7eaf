"""Worker processes crop as one process does."""

from pathlib import Path

import h5py
import numpy as np
from kneerisk_train.prepare.prepare import PrepareSettings, prepare

from kneerisk.simulate.dicom import write_dicom
from kneerisk.simulate.radiograph import simulate_radiograph


def test_two_processes_with_the_shipped_localiser_give_what_one_gives(tmp_path: Path) -> None:
    for number in (1, 2):
        shown = simulate_radiograph(number, spacing_mm=1.0)
        write_dicom(shown, tmp_path / f"images/P{number}/film.dcm", participant_id=f"P{number}")
    crops = {}
    for workers in (1, 2):
        out = tmp_path / f"with-{workers}"
        *_, summary = prepare(PrepareSettings("folder", tmp_path / "images", out, workers=workers))
        assert isinstance(summary, dict) and summary["knees"] == 4
        with h5py.File(out / "knees.h5") as file:
            crops[workers] = file["crops"][:]
    np.testing.assert_array_equal(crops[1], crops[2])
