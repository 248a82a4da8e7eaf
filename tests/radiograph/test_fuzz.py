"""A few mutants of every kind of file; ``make fuzz`` reads tens of thousands, each in its own process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kneerisk.radiograph.decode.read import read
from kneerisk.records import Radiograph, RadiographRef, Refusal

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_the_files_that_are_mutated_are_sound(tmp_path: Path) -> None:
    from benchmarks.sound_files import seeds

    path = tmp_path / "a"
    refused = []
    for name, data in seeds().items():
        path.write_bytes(data)
        if not isinstance(read(RadiographRef(path, "a")), Radiograph):
            refused.append(name)
    assert refused == ["frames"], "which is a file of two frames"


def test_no_mutant_gets_an_answer_that_is_none(tmp_path: Path) -> None:
    from benchmarks.fuzz import mutant, wrong_with
    from benchmarks.sound_files import seeds

    path = tmp_path / "a"
    answers = []
    for number in range(2 * len(seeds())):
        _, data = mutant(0, number)
        path.write_bytes(data)
        answers.append(read(RadiographRef(path, "a")))
    assert [wrong for found in answers if (wrong := wrong_with(found))] == []
    assert {Radiograph, Refusal} == {type(found) for found in answers}
    assert mutant(0, 7) == mutant(0, 7)
    assert mutant(0, 7) != mutant(1, 7)


def test_what_is_wrong_with_an_answer_is_found() -> None:
    from benchmarks.fuzz import wrong_with
    from kneerisk.errors import Reason

    ref = RadiographRef(Path("a"), "a")
    pixels = np.full((8, 8), 0.5, np.float32)
    assert wrong_with(Radiograph(ref, pixels, "0")) == ""
    assert wrong_with(Radiograph(ref, pixels * np.float32(np.nan), "0"))
    assert wrong_with(Radiograph(ref, pixels * 3, "0"))
    assert wrong_with(Radiograph(ref, pixels.astype(np.float64), "0"))
    assert wrong_with(Refusal(ref, Reason.NO_PIXELS, " "))
    assert wrong_with(None)


def test_damage_is_of_the_compressed_data_and_repeatable(tmp_path: Path) -> None:
    from benchmarks.damage import FORMATS, SUFFIX, Sound, damage, write
    from benchmarks.sound_files import picture

    sound = Sound("a", picture(160, 144), "L", None)
    for form in FORMATS:
        path = tmp_path / f"a{SUFFIX.get(form, '.dcm')}"
        start, stop = write(sound, form, path)
        found = read(RadiographRef(path, "a"))
        assert isinstance(found, Radiograph), form
        assert found.qc_flags == (), form
        data = path.read_bytes()
        harmed = [damage(data, start, stop, np.random.default_rng(seed)) for seed in (0, 0, 1, 2, 3)]
        assert harmed[0] == harmed[1]
        assert all(one != data and one[:start] == data[:start] for one in harmed)
