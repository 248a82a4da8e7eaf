"""The numbered examples run as they are shown, on a few of the cohort's files."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SOME = ("9070207/9070207R.dcm", "9115049/9115049L.png", "SIM0002/bilateral.dcm", "SIM0005/hand.dcm")


@pytest.fixture(scope="module")
def small_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of the cohort, and its manifest's rows of them."""
    folder = tmp_path_factory.mktemp("examples")
    for name in SOME:
        (folder / "cohort" / name).parent.mkdir(parents=True)
        shutil.copyfile(EXAMPLES / "cohort" / name, folder / "cohort" / name)
    header, *rows = (EXAMPLES / "cohort.csv").read_text().splitlines()
    ours = [row for row in rows if any(name in row for name in SOME)]
    (folder / "cohort.csv").write_text("\n".join([header, *ours]) + "\n")
    return folder


def run_example(name: str, *arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "POLARS_TABLE_WIDTH": "400"}
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_score_then_read(small_cohort: Path) -> None:
    shown = run_example("01_score_a_cohort.py", "cohort", cwd=small_cohort)
    assert "9115049" in shown
    shown = run_example("02_read_the_table.py", cwd=small_cohort)
    assert "hand.dcm" in shown
    assert "population: Osteoarthritis Initiative" in shown


def test_readers_grades(small_cohort: Path) -> None:
    shown = run_example("03_use_a_readers_grades.py", "cohort.csv", cwd=small_cohort)
    assert "simulated" in shown
    assert "real" in shown


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated study of 800 people, shared by the walk-throughs that stand on it."""
    folder = tmp_path_factory.mktemp("study")
    run_example("simulated_study.py", "study", "800", cwd=folder)
    return folder


def test_an_epidemiologist_finds_the_numbers_wrong_and_mends_them(study: Path) -> None:
    shown = run_example("04_evaluate_and_recalibrate.py", "study", "800", cwd=study)
    before, after = (
        [float(n) for n in re.findall(r"AUC ([\d.]+).*slope ([-\d.]+), in the large ([-+\d.]+)", line)[0]]
        for line in shown.splitlines()
        if "AUC" in line
    )
    assert before[2] < -0.8 and abs(after[2]) < 0.05  # the scores are far too high, until they are mended
    assert abs(after[1] - 1) < 0.05
    assert before[0] == after[0] > 0.7  # nothing is re-ranked
    assert "Recalibrate with kneerisk calibrate" in shown
    true, mended = map(
        float, re.findall(r"mean true risk ([\d.]+), mean recalibrated risk ([\d.]+)", shown)[0]
    )
    assert abs(true - mended) < 0.02


def test_a_trial_designer_is_told_what_the_risks_promised_and_what_came(study: Path) -> None:
    shown = run_example("05_enrich_a_trial.py", "study", "800", cwd=study)
    assert "refused:" in shown and "SIMULATED alarm" in shown and "--force" in shown
    assert "the risks promised" in shown
    rates = [float(rate) for rate in re.findall(r"event rate ([\d.]+)%", shown)]
    assert rates[1] > 1.5 * rates[0]
    assert "rise on average, within the interval" in shown


def test_a_developer_compares_two_risks_and_writes_a_page(study: Path) -> None:
    shown = run_example("06_report_on_a_stack.py", "study", "800", cwd=study)
    first, second = (float(auc) for auc in re.findall(r": AUC ([\d.]+)", shown))
    assert first > second > 0.6  # the second is the first one's truth, blurred
    page = (study / "study" / "report.html").read_text("utf-8")
    assert page.index("Research software, no medical device") < page.index("SIMULATED alarm")
    assert "This cohort is simulated" in page and "Trial enrichment" in page
    assert (study / "study" / "report-files" / "reliability.svg").is_file()


def test_the_manifest_names_every_file_of_the_cohort_but_those_without_a_knee() -> None:
    rows = [line.split(",") for line in (EXAMPLES / "cohort.csv").read_text().splitlines()[1:]]
    files = {
        p.relative_to(EXAMPLES).as_posix() for p in (EXAMPLES / "cohort").rglob("*") if p.suffix != ".md"
    }
    named = {row[0] for row in rows}
    without = {"cohort/SIM0004/cut-off.dcm", "cohort/SIM0005/hand.dcm"}
    assert named | without == {name for name in files if (EXAMPLES / name).is_file()}
    assert {row[3] for row in rows if row[4] == "real"} == set("01234")


def test_wrapping_changes_no_pixel(tmp_path: Path) -> None:
    import numpy as np
    from pydicom import dcmread, uid

    wrap = runpy.run_path(str(EXAMPLES / "wrap_dicom.py"))
    pixels = np.random.default_rng(1).integers(0, 256, (60, 40)).astype(np.uint8)
    syntaxes = (uid.ImplicitVRLittleEndian, uid.RLELossless, uid.JPEGLossless, uid.JPEGLSLossless)
    for syntax in (*syntaxes, uid.JPEG2000Lossless):
        dataset = wrap["wrapped"](pixels, "P1", "L", (0.4, 0.5), True, "test")
        wrap["save"](dataset, tmp_path / "knee.dcm", syntax)
        read = dcmread(tmp_path / "knee.dcm")
        assert np.array_equal(read.pixel_array, pixels)
        assert read.PhotometricInterpretation == "MONOCHROME1"
        assert read.file_meta.TransferSyntaxUID == syntax
