"""What kneerisk writes is known again, and scored by no later run."""

import base64
import io
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread

from kneerisk.errors import Reason
from kneerisk.marks import MARK, is_marked, marked_png
from kneerisk.radiograph.decode.read import read
from kneerisk.radiograph.sources.scan import scan
from kneerisk.radiograph.sources.skipped import Skipped
from kneerisk.records import RadiographRef, Refusal
from kneerisk.scoring.settings import RunSettings

PIXELS = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, format="PNG")
    return stream.getvalue()


def jpeg() -> bytes:
    from kneerisk.study.report.pictures import _embedded

    return base64.b64decode(_embedded(Image.fromarray(PIXELS)).data.partition(",")[2])


def plot(folder: Path) -> bytes:
    from kneerisk.study.figures.style import new_figure, save

    save(lambda palette: new_figure(), folder / "plot.png")
    return (folder / "plot.png").read_bytes()


def capture() -> bytes:
    example = Path(__file__).parents[2] / "examples" / "cohort" / "SIM0001" / "bilateral.dcm"
    dataset: Dataset = dcmread(example)
    dataset.ManufacturerModelName = MARK
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture
def written(fake: ModuleType, cohort: Path, tmp_path: Path) -> dict[str, bytes]:
    """One of each kind of picture, a preview of a real run among them."""
    fake.run(cohort, RunSettings(tmp_path / "r.parquet", previews=tmp_path / "previews"))
    preview = next((tmp_path / "previews").glob("*.png"))
    return {
        "preview.png": preview.read_bytes(),
        "elsewhere.dcm": preview.read_bytes(),
        "9001": preview.read_bytes(),
        "thumbnail.jpg": jpeg(),
        "plot.png": plot(tmp_path),
        "marked.png": marked_png(png()),
        "capture.dcm": capture(),
    }


def test_a_later_scan_passes_over_what_kneerisk_wrote(written: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "cohort2" / "deep"
    folder.mkdir(parents=True)
    for name, content in written.items():
        (folder / name).write_bytes(content)
    (folder / "radiograph.png").write_bytes(png())
    skipped = Skipped()
    assert [item.source_path for item in scan([folder.parent], skipped=skipped)] == ["deep/radiograph.png"]
    assert skipped.counts == {"a report or picture that kneerisk wrote": len(written)}


def test_one_that_is_named_is_refused(written: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "named.png"
    path.write_bytes(written["preview.png"])
    for found in (next(iter(scan([path]))), read(RadiographRef(path, "named.png"))):
        assert isinstance(found, Refusal)
        assert found.reason is Reason.NOT_AN_IMAGE and "radiograph that it was made of" in found.message


def test_the_mark_changes_no_pixel() -> None:
    marked = marked_png(png())
    with Image.open(io.BytesIO(marked)) as image:
        assert image.text == {"Comment": MARK}
        assert np.array_equal(np.asarray(image), PIXELS)
    assert is_marked(marked) and not is_marked(png())
