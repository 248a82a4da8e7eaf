"""A simulated cohort on disk: participants over visits, in a layout, the truth beside them.

Participants are drawn and written one by one, so memory stays flat; tables and truth grow aside and are
renamed at the end, so a cohort without its tables is one that was cut short.  The same settings give the same
bytes, whatever the number of processes.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.records import LANDMARKS
from kneerisk.simulate.dicom import write_dicom
from kneerisk.simulate.implant import with_implants
from kneerisk.simulate.layouts.layout import Shot
from kneerisk.simulate.layouts.open import open_layout
from kneerisk.simulate.layouts.plain import readable_grade
from kneerisk.simulate.participants import SITES, Participant, Visit, draw_participant
from kneerisk.simulate.radiograph import SimulatedKnee, SimulatedRadiograph, simulate_radiograph
from kneerisk.simulate.truth import Row, TruthTable
from kneerisk.simulate.vendors import LOOKS, Look, Syntax

_NEW_SYSTEM = 36
"""From this month on the first site has another X-ray system."""
_OAI_SYNTAX: dict[Syntax, Syntax] = {"rle": "explicit-little-endian", "jpeg-ls": "jpeg-lossless",
                                     "jpeg-2000": "jpeg-lossless"}  # fmt: skip
"""The OAI's files are uncompressed or JPEG."""


@dataclass(frozen=True, slots=True)
class CohortSettings:
    """What cohort to simulate."""

    directory: Path
    participants: int
    visits: tuple[int, ...] = (0,)
    """Months since baseline, ascending, the first 0."""
    layout: str = "plain"
    seed: int = 0
    spacing_mm: float | None = None
    """mm per pixel of every radiograph; its system's own where ``None``."""
    dropout: float = 0.06
    """Share of participants lost in a year; a third as many miss a visit."""
    nda: bool = False
    """OAI's tables under NDA's names."""
    workers: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.participants <= 99_999:
            raise UsageError(f"participants must be 1 to 99999, got {self.participants}")
        if not self.visits or self.visits[0] != 0 or list(self.visits) != sorted(set(self.visits)):
            given = ",".join(map(str, self.visits))
            raise UsageError(
                f"visits are months in ascending order that start with 0, such as 0,12,24; got {given}"
            )
        if self.visits[-1] > 120:
            raise UsageError(f"visits may lie up to 120 months after baseline, got {self.visits[-1]}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is a share a year in 0 to 1, got {self.dropout}")
        if self.spacing_mm is not None and not 0.05 <= self.spacing_mm <= 2:
            raise UsageError(f"spacing_mm must lie in 0.05 to 2, got {self.spacing_mm}")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a cohort is."""

    done: int
    total: int
    images: int


@dataclass(frozen=True, slots=True)
class Written:
    """A cohort that is finished."""

    truth: Path
    participants: int
    images: int
    rises: int
    """Knees whose read grade rose within twelve months of the first visit."""
    knees: int
    """Knees that could rise, by the reader, at the first visit."""
    best_auc: float | None
    """Of the true risk for those rises; ``None`` without a rise."""
    image_auc: float | None
    """The same of the risk that severity alone tells: the most that a radiograph can."""


def simulate_cohort(settings: CohortSettings) -> Iterator[Progress | Written]:
    """Write a cohort; yields after every participant, and what was written at the end.

    Raises:
        UsageError: the layout has no such visit, or the folder is not empty.
        KneeriskError: the disk is full, or the folder cannot be written.
    """
    directory = settings.directory
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is not an empty folder: name a new one")
    try:
        yield from _write(settings)
    except OSError as error:
        raise KneeriskError(
            f"{directory} cannot be written: {error.strerror}; delete it, make room, and run again"
        ) from error


def _write(settings: CohortSettings) -> Iterator[Progress | Written]:
    layout = open_layout(settings.layout, settings.directory, settings.visits, settings.nda)
    settings.directory.mkdir(parents=True, exist_ok=True)
    notes = {
        "kneerisk.simulated.seed": str(settings.seed),
        "kneerisk.simulated.visits": ",".join(map(str, settings.visits)),
        "kneerisk.simulated.layout": settings.layout,
        "kneerisk.simulated.dropout": str(settings.dropout),
    }
    images = 0
    risks: list[float] = []
    seen: list[float] = []
    rose: list[bool] = []
    with (
        closing(layout),
        closing(TruthTable(settings.directory, notes)) as truth,
        closing(_all(settings)) as drawn,
    ):
        layout.start()
        for done, one in enumerate(drawn, start=1):
            layout.add(one.person)
            for row in one.rows:
                truth.add(row)
            for knee in one.person.visits[0].knees:
                if knee.read < 4:
                    risks.append(knee.risk_12m)
                    seen.append(knee.risk_12m_seen)
                    rose.append(knee.read_12m > knee.read)
            images += one.images
            yield Progress(done, settings.participants, images)
        layout.finish()
        place = truth.finish()
    yield Written(
        place, settings.participants, images, sum(rose), len(rose), auc(risks, rose), auc(seen, rose)
    )


@dataclass(frozen=True, slots=True)
class _Drawn:
    person: Participant
    rows: list[Row]
    images: int


def _all(settings: CohortSettings) -> Generator[_Drawn]:
    """Every participant in order; a few ahead in other processes, so that memory stays flat."""
    draw = partial(_one, settings)
    if settings.workers == 1:
        yield from map(draw, range(1, settings.participants + 1))
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(settings.workers, context, initializer=_leave_interrupts_to_the_parent)
    ahead: deque[Future[_Drawn]] = deque()
    try:
        for number in range(1, settings.participants + 1):
            ahead.append(pool.submit(draw, number))
            if len(ahead) > 3 * settings.workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _one(settings: CohortSettings, number: int) -> _Drawn:
    """Draw a participant and write the radiographs."""
    person = draw_participant(settings.seed, number, settings.visits, settings.dropout)
    names = open_layout(settings.layout, settings.directory, settings.visits, settings.nda)
    rows: list[Row] = []
    images = 0
    for visit in person.visits:
        path, shown = None, None
        if visit.has_image:
            shots = names.shots(person, visit)
            shown = _radiograph(settings, person, visit)
            path = shots[0].path
            for shot in shots:
                picture = (
                    shown if shot.series is None else _other_view(settings.seed, person, visit, shot, shown)
                )
                syntax = None
                if settings.layout == "oai":
                    syntax = _OAI_SYNTAX.get(picture.look.syntax)
                write_dicom(
                    picture,
                    settings.directory / shot.path,
                    participant_id=names.identity(person),
                    syntax=syntax,
                    visit_date=shot.date,
                    series=shot.series,
                )
            images += len(shots)
        rows += _truth_rows(names.identity(person), person, visit, path, shown)
    return _Drawn(person, rows, images)


def _radiograph(settings: CohortSettings, person: Participant, visit: Visit) -> SimulatedRadiograph:
    """The bilateral radiograph of a visit: the participant's own bones, the visit's own positioning."""
    right, left = visit.knees
    site = SITES.index(person.site)
    renewed = site == 0 and visit.month >= _NEW_SYSTEM
    look: Look = LOOKS[5 if renewed else site]
    simulated = simulate_radiograph(
        _number(settings.seed, person.number, visit.month),
        severity_right=right.severity,
        severity_left=left.severity,
        look=look,
        spacing_mm=settings.spacing_mm,
        anatomy_seed=_number(settings.seed, person.number),
    )
    return with_implants(simulated, tuple(knee.side for knee in visit.knees if knee.replaced))


def _other_view(
    seed: int, person: Participant, visit: Visit, shot: Shot, beside: SimulatedRadiograph
) -> SimulatedRadiograph:
    """A small picture of no PA knee, blurred noise, with the header of the radiograph ``beside`` it."""
    import cv2

    series = sum(map(ord, shot.series or ""))
    rng = np.random.default_rng([seed, person.number, visit.month, series])
    cloud = cv2.GaussianBlur(rng.normal(size=(240, 200)).astype(np.float32), (0, 0), 9.0)
    scaled = (cloud - cloud.min()) / max(float(np.ptp(cloud)), 1e-6)
    pixels = np.round(scaled * (2**beside.look.bits - 1)).astype(np.uint16)
    return replace(beside, pixels=pixels, knees=())


def _truth_rows(
    who: str, person: Participant, visit: Visit, path: str | None, shown: SimulatedRadiograph | None
) -> list[Row]:
    rows = []
    drawn: dict[str, SimulatedKnee] = {} if shown is None else {knee.side: knee for knee in shown.knees}
    for knee, history in zip(visit.knees, person.knees, strict=True):
        row: Row = {
            "participant_id": who,
            "visit_month": visit.month,
            "side": knee.side,
            "image_path": path,
            "simulated_attended": visit.attended,
            "simulated_severity": knee.severity,
            "simulated_grade": knee.grade,
            "simulated_grade_12m": knee.grade_12m,
            "simulated_risk_12m": knee.risk_12m,
            "simulated_risk_12m_seen": knee.risk_12m_seen,
            "simulated_liability": history.liability,
            "simulated_replaced": knee.replaced,
            "kl_read": knee.read,
            "kl_read_12m": knee.read_12m,
            "kl_read_again": knee.read_again,
            "kl_missing": readable_grade(visit, knee) is None,
            "age": person.age + visit.month / 12,
            "sex": "F" if person.female else "M",
            "bmi": person.bmi,
            "womac": knee.womac,
            "injury": history.injury,
            "surgery": history.surgery,
            "site": person.site,
        }
        if shown is not None:
            seen = drawn[knee.side]
            row["spacing_mm"] = shown.spacing_mm
            row["centre_x"], row["centre_y"] = seen.centre
            for name, (x, y) in zip(LANDMARKS, seen.landmarks.tolist(), strict=True):
                row[f"lm_{name}_x"], row[f"lm_{name}_y"] = x, y
        rows.append(row)
    return rows


def _number(*parts: int) -> int:
    """A seed that follows from numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def auc(scores: list[float], events: list[bool]) -> float | None:
    """Area under the ROC curve, ties halved; ``None`` where all or none is an event."""
    happened = np.asarray(events, bool)
    positives = int(happened.sum())
    if positives in (0, len(happened)):
        return None
    _, place, counts = np.unique(np.asarray(scores, np.float64), return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    above = rank[happened].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(happened) - positives)))
