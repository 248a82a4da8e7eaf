"""``kneerisk prepare``: a release on disk → a folder to train from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.version import __version__
from kneerisk_train.prepare.assemble import choose_crops
from kneerisk_train.prepare.crops import CropSetup
from kneerisk_train.prepare.pool import Setup, crop_all
from kneerisk_train.prepare.release import Kind, Release, ReleaseImage
from kneerisk_train.prepare.releases.landmarks import Landmarks
from kneerisk_train.prepare.staging import FOLDER, Staging, open_staging, remove
from kneerisk_train.prepare.write import OUTPUTS, SUMMARY, write_outputs, writing


def default_workers() -> int:
    """As many as CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """What to prepare, and how."""

    kind: Kind
    root: Path
    out: Path
    tables: Path | None = None
    """A folder with the release's tables, where they lie elsewhere."""
    landmarks: Path | None = None
    """A CSV of KNEEL's points."""
    cropped: bool = False
    """Whether every image is one knee's crop already."""
    stack: str = "compact"
    workers: int = field(default_factory=default_workers)
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"--workers must be at least 1; got {self.workers}")
        if self.cropped and self.kind != "folder":
            raise UsageError(f"--cropped is for folders of crops; {self.kind} has whole radiographs")
        if self.tables is not None and self.kind == "folder":
            raise UsageError(
                "--tables is for oai and most; a folder's table is its manifest: give it as ROOT"
            )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    done: int
    total: int
    knees: int
    left_out: int
    """Radiographs or knees refused."""
    reused: int
    """Radiographs that an earlier run had finished."""


def prepare(settings: PrepareSettings, setup: Setup | None = None) -> Iterator[Progress | dict[str, Any]]:
    """Prepare a release: yields progress, and last the summary (what ``summary.json`` holds).

    A run that was stopped goes on when the same is asked again; what it writes is byte for byte what an
    uninterrupted run writes.

    Args:
        settings: what is asked.
        setup: what crops a radiograph; the stack's localiser where ``None``.

    Raises:
        UsageError: before anything is written: the release or the output folder is not as it should be.
        KneeriskError: the disk is full, or no radiograph gave a crop.
    """
    from kneerisk.radiograph.locate.crop import CROP_SIZE
    from kneerisk.stack.stack import Stack

    _check_out(settings)
    release = open_release(settings)
    landmarks = Landmarks(settings.landmarks, release.ledger)
    stack = None if settings.cropped else Stack.load(settings.stack)
    provenance = {
        "release": settings.kind,
        "crops": "as given" if settings.cropped else "localised",
        "stack": None if stack is None else stack.name,
        "stack_sha256": None if stack is None else stack.sha256,
        "kneerisk_version": __version__,
    }
    marks = {**provenance, "radiographs": _digest(release), "crop_size": CROP_SIZE}
    if settings.overwrite:
        _remove_earlier(settings.out)
    setup = setup or CropSetup(release.root, settings.stack, settings.cropped)
    with writing(settings.out), open_staging(settings.out, marks) as staging:
        yield from _crop(release, staging, setup, settings.workers)
        chosen = choose_crops(release, staging)
        if chosen.keys:
            summary = write_outputs(settings.out, release, chosen, staging, landmarks, provenance, CROP_SIZE)
    remove(settings.out)
    if not chosen.keys:
        settings.out.rmdir()
        raise KneeriskError(_no_crops(release))
    yield summary


def open_release(settings: PrepareSettings) -> Release:
    """Read the tables and list the radiographs; nothing is decoded."""
    if settings.kind == "oai":
        from kneerisk_train.prepare.releases.oai import open_oai

        return open_oai(settings.root, settings.tables)
    if settings.kind == "most":
        from kneerisk_train.prepare.releases.most import open_most

        return open_most(settings.root, settings.tables)
    from kneerisk_train.prepare.releases.folder import open_folder

    return open_folder(settings.root)


def _crop(release: Release, staging: Staging, setup: Setup, workers: int) -> Iterator[Progress]:
    total, reused = len(release.images), len(staging)
    knees = left_out = 0
    for _, found in staging.read(with_pixels=False):
        knees += sum(knee.reason is None for knee in found)
        left_out += sum(knee.reason is not None for knee in found)
    yield Progress(reused, total, knees, left_out, reused)
    todo: Iterator[tuple[int, ReleaseImage]] = (
        item for item in enumerate(release.images) if item[0] not in staging
    )
    with closing(crop_all(todo, setup, min(workers, max(1, total - reused)))) as cropped:  # type: ignore[type-var]
        for index, found in cropped:
            staging.add(index, found)
            knees += sum(knee.reason is None for knee in found)
            left_out += sum(knee.reason is not None for knee in found)
            yield Progress(len(staging), total, knees, left_out, reused)


def _check_out(settings: PrepareSettings) -> None:
    out = settings.out
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out} is a file: name a folder for --out")
    there = {entry.name for entry in out.iterdir()}
    if SUMMARY in there and not settings.overwrite and FOLDER not in there:
        raise UsageError(f"{out} holds a prepared cohort: name a new folder, or give --overwrite")
    if there - {*OUTPUTS, FOLDER} or (there and FOLDER not in there and SUMMARY not in there):
        raise UsageError(f"{out} is not empty, and holds no unfinished run: name a new folder")


def _remove_earlier(out: Path) -> None:
    for name in OUTPUTS:
        (out / name).unlink(missing_ok=True)
    remove(out)


def _digest(release: Release) -> str:
    """Over what the crops depend on: each radiograph's place, size, time, and what the tables say of it."""
    digest = hashlib.sha256()
    for image in release.images:
        status = (release.root / image.path).stat()
        about = (image.path, image.side, image.spacing_mm, image.inverted, status.st_size, status.st_mtime_ns)
        digest.update(repr(about).encode())
    return digest.hexdigest()


def _no_crops(release: Release) -> str:
    _, counts = release.ledger.sections()["radiographs"]
    why = ", ".join(f"{outcome.removeprefix('left out: ')} {count}" for outcome, count in counts.items())
    return f"none of the {len(release.images)} radiographs gave a knee ({why}); nothing was prepared"
