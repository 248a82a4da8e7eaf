"""A manifest with a row a knee: each film is read once, films and knees are counted apart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from kneerisk.records import Radiograph, RadiographRef, Refusal
from kneerisk.scoring.chain import Knee, Located, Walk, locate
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.cohort import validate_images
from kneerisk.scoring.outputs.rows import row_of_refusal
from kneerisk.scoring.outputs.summary import Tally
from kneerisk.scoring.settings import RunSettings


@pytest.fixture
def rows(tmp_path: Path) -> list[RadiographRef]:
    """A row a knee of three films, one of them damaged; the second row of each has a flag of its own."""
    made = []
    for name, word in (("a", "one"), ("b", "damaged"), ("c", "one")):
        path = tmp_path / name
        path.write_text(f"{word} {name}")
        made += [
            RadiographRef(path, name, participant_id=name, side="R"),
            RadiographRef(path, name, participant_id=name, side="L", kl_0m=2, qc_flags=("duplicate-uid",)),
        ]
    return made


def test_each_film_is_read_once_and_every_row_keeps_its_own(
    fake: ModuleType, rows: list[RadiographRef]
) -> None:
    reads: Counter[str] = Counter()

    def read(ref: RadiographRef) -> Radiograph | Refusal:
        reads[ref.source_path] += 1
        return fake.read(ref)

    located = list(locate(enumerate(rows), read, fake.localise, Walk(2, None, 4), Clock()))
    assert reads == {"a": 1, "b": 2, "c": 1}  # a refusal is each row's own
    assert [image.index for image in located if isinstance(image, Located)] == list(range(6))
    for image, ref in zip(located, rows, strict=True):
        assert isinstance(image, Located) and image.ref is ref
        for knee in image.knees:
            assert (knee.crop.ref if isinstance(knee, Knee) else knee.ref) is ref


def test_a_row_with_a_spacing_of_its_own_is_read_with_it(
    fake: ModuleType, rows: list[RadiographRef], tmp_path: Path
) -> None:
    seen = []

    def read(ref: RadiographRef) -> Radiograph | Refusal:
        seen.append(ref.spacing_mm)
        return fake.read(ref)

    other = RadiographRef(rows[0].path, "a", side="L", spacing_mm=0.2)
    list(locate(enumerate([rows[0], other]), read, fake.localise, Walk(1, None, 4), Clock()))
    assert seen == [None, 0.2]


def test_flags_of_one_row_are_not_the_next_one_s(fake: ModuleType, rows: list[RadiographRef]) -> None:
    def read(ref: RadiographRef) -> Radiograph | Refusal:
        return Radiograph(ref, fake.read(ref).pixels, "0", qc_flags=(*ref.qc_flags, "colour-image"))

    seen = []

    def localise(radiograph: Radiograph) -> list[Refusal]:
        seen.append(radiograph.qc_flags)
        return []

    first, second = rows[1], rows[0]
    list(locate(enumerate([first, second]), read, localise, Walk(1, None, 4), Clock()))
    assert seen == [("duplicate-uid", "colour-image"), ("colour-image",)]


def test_films_and_knees_are_counted_apart(fake: ModuleType, rows: list[RadiographRef]) -> None:
    *_, found = validate_images(iter(rows), {}, fake.read, fake.localise, RunSettings())
    assert (found.images, found.knees, found.reasons) == (3, 4, {"image-damaged": 2})
    tally = Tally()
    for index, ref in enumerate(rows):
        refusal = fake.read(rows[2])
        row = row_of_refusal(refusal, fake.PROVENANCE)
        tally.add({**row, "image_index": index, "source_path": ref.source_path})
    summary = tally.summary("r.parquet", fake.CALIBRATION)
    assert (summary.images, summary.rows) == (3, 6)
