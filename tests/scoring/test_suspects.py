"""A file that is being read when run after run dies gets a row; others that were on their way lose none."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from kneerisk.errors import Reason
from kneerisk.records import Radiograph, RadiographRef, Refusal
from kneerisk.scoring.chain import Item, Notice, Rooms, Walk, source_path_of
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.journal.suspects import NAME, Suspects
from kneerisk.scoring.outputs import table
from kneerisk.scoring.settings import RunSettings

REF = RadiographRef(Path("a"), "a")
FOUND = Refusal(REF, Reason.NO_PIXELS, "no pixels")


def key(index: int) -> bytes:
    return index.to_bytes(16, "big")


def died_reading(folder: Path, *indexes: int) -> Suspects:
    """What the next run finds when one died while it read some images."""
    before = Suspects(folder, key)
    copies: list[bytes] = []

    def read(ref: RadiographRef) -> Refusal:
        rest.pop()
        if rest:
            before.read(rest[-1], ref, read)
        else:
            copies.append((folder / NAME).read_bytes())
        return FOUND

    rest = [-1, *reversed(indexes)]
    rest.pop(0)
    before.read(rest[-1], REF, read)
    before.__exit__()
    (folder / NAME).write_bytes(copies[0])
    return Suspects(folder, key)


def test_images_that_were_being_read_are_known_to_the_next_run(tmp_path: Path) -> None:
    with died_reading(tmp_path, 3, 5) as now:
        assert len(now) == 2
        assert [index for index in range(9) if index in now] == [3, 5]
        assert now.read(3, REF, lambda ref: FOUND) is FOUND


def test_one_that_is_read_at_three_deaths_is_not_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        with died_reading(tmp_path, 3) as now:
            assert now.read(3, REF, lambda ref: FOUND) is FOUND
    with died_reading(tmp_path, 3) as now:
        found = now.read(3, REF, lambda ref: pytest.fail("it was opened"))
        assert isinstance(found, Refusal)
        assert found.reason is Reason.READER_CRASHED
        assert "3 runs ended" in found.message
    with Suspects(tmp_path, key, pardon=True) as again:
        assert 3 in again
        assert again.read(3, REF, lambda ref: FOUND) is FOUND


def test_one_that_was_read_well_is_charged_no_further_death(tmp_path: Path) -> None:
    died_reading(tmp_path, 3, 5).__exit__()
    died_reading(tmp_path, 5).__exit__()
    with died_reading(tmp_path, 3) as now:  # its second death, and not its third
        assert now.read(3, REF, lambda ref: FOUND) is FOUND


@pytest.mark.parametrize("how", ["the end", "an error"])
def test_a_run_that_ends_in_words_leaves_no_suspects(tmp_path: Path, how: str) -> None:
    going, may_go = threading.Event(), threading.Event()

    def hold(ref: RadiographRef) -> Refusal:
        going.set()
        may_go.wait(10)
        return FOUND

    suspects = Suspects(tmp_path, key)
    reader = threading.Thread(target=suspects.read, args=(1, REF, hold))
    reader.start()
    going.wait(10)
    suspects.__exit__()
    if how == "an error":
        suspects.read(2, REF, lambda ref: FOUND)  # one that was waiting for its turn
    may_go.set()
    reader.join()
    with Suspects(tmp_path, key) as now:
        assert len(now) == 0


@pytest.mark.parametrize("harm", [b"", b"\xff", bytes(range(256)) * 4])
def test_a_damaged_list_harms_nothing(tmp_path: Path, harm: bytes) -> None:
    (tmp_path / NAME).write_bytes(harm)
    with Suspects(tmp_path, key) as now:
        assert now.read(1, REF, lambda ref: FOUND) is FOUND


DEADLY = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import fake_chain
from dataclasses import replace
from pathlib import Path
from kneerisk.scoring.settings import RunSettings
read = fake_chain.read
def deadly(ref):
    if ref.source_path == "P03.txt":
        os.kill(os.getpid(), signal.SIGKILL)  # as a system ends a job that is out of memory
    return read(ref)
fake_chain.read = deadly
fake_chain.run(Path(sys.argv[2]), RunSettings(Path(sys.argv[3]), resume=True, batch_size=4, workers=3))
"""


def test_a_file_that_ends_every_run_costs_its_own_row(cohort: Path, tmp_path: Path, fake: ModuleType) -> None:
    whole = tmp_path / "whole.parquet"
    fake.run(cohort, RunSettings(whole))
    out = tmp_path / "r.parquet"
    command = [sys.executable, "-c", DEADLY, str(Path(__file__).parent), str(cohort), str(out)]
    codes = [subprocess.run(command, check=False).returncode for _ in range(4)]
    assert codes == [-signal.SIGKILL] * 3 + [0]
    harmed = pl.col("source_path") == "P03.txt"
    found = table.read(out)
    assert found.filter(~harmed).equals(table.read(whole).filter(~harmed))
    assert found.filter(harmed)["reason"].to_list() == ["reader-crashed"]


def test_suspects_are_read_first_and_said(cohort: Path, tmp_path: Path, fake: ModuleType) -> None:
    out = tmp_path / "r.parquet"
    command = [sys.executable, "-c", DEADLY, str(Path(__file__).parent), str(cohort), str(out)]
    subprocess.run(command, check=False)
    steps = fake.run(cohort, RunSettings(out, resume=True))
    (notice,) = [step.message for step in steps if isinstance(step, Notice)]
    assert "read first, one at a time" in notice
    assert steps[-1].images == len(list(cohort.iterdir()))


def test_whoever_scores_is_asked_once_for_suspects_and_others(
    cohort: Path, tmp_path: Path, fake: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster is let go when its images are done: it cannot be asked for the others afterwards."""
    out = tmp_path / "r.parquet"
    command = [sys.executable, "-c", DEADLY, str(Path(__file__).parent), str(cohort), str(out)]
    subprocess.run(command, check=False)
    asked: list[list[str]] = []
    score = Rooms.score

    def noted(self: Rooms, images: Iterable[tuple[int, Item]], walk: Walk, *rest: Any) -> Iterator[Any]:
        taken = list(images)
        asked.append([source_path_of(item) for _, item in taken][: walk.alone])
        assert sorted(index for index, _ in taken) == list(range(len(list(cohort.iterdir()))))
        yield from score(self, iter(taken), walk, *rest)

    monkeypatch.setattr(Rooms, "score", noted)
    fake.run(cohort, RunSettings(out, resume=True))
    (first,) = asked
    assert "P03.txt" in first and len(first) < len(list(cohort.iterdir()))


def test_no_other_image_is_read_beside_a_suspect(cohort: Path, fake: ModuleType) -> None:
    """Or it could not be said which of them ended the run."""
    busy: set[str] = set()
    beside: dict[str, set[str]] = {}

    def read(ref: RadiographRef) -> Radiograph | Refusal:
        busy.add(ref.source_path)
        time.sleep(0.02)
        for one in tuple(busy):
            beside.setdefault(one, set()).update(busy)
        busy.remove(ref.source_path)
        return fake.read(ref)

    images = list(enumerate(fake.scan(cohort)))[:8]
    rooms = replace(fake.rooms(), read=read)
    parts = list(rooms.score(iter(images), Walk(4, None, 2, alone=3), Clock(), lambda index: None))
    names = [source_path_of(item) for _, item in images]
    assert [beside[name] for name in names[:3]] == [{name} for name in names[:3]]
    assert any(len(beside[name]) > 1 for name in names[3:])
    assert sum(len(part) for part in parts if isinstance(part, list)) == len(images)
