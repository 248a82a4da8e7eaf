"""Which crop is which knee's at which visit, and where everything else went."""

from __future__ import annotations

from dataclasses import dataclass

from kneerisk.releases.records import KneeKey
from kneerisk_train.prepare.crops import Cropped
from kneerisk_train.prepare.pairs import VisitPairs, visit_pairs
from kneerisk_train.prepare.release import Release
from kneerisk_train.prepare.staging import Staging

_IMAGES, _KNEES, _READ, _ROWS = (
    "radiographs",
    "knees seen in the radiographs",
    "knees and visits with a reading",
    "rows of the manifest",
)


@dataclass(slots=True)
class Kept:
    """A crop that is the manifest's, without its pixels."""

    rank: int
    image: int
    place: int
    """Its place among the radiograph's knees."""
    knee: Cropped


@dataclass(frozen=True)
class Chosen:
    """Which crops go where: row → knee, in the manifest's order."""

    keys: list[KneeKey]
    kept: dict[KneeKey, Kept]
    pairs: VisitPairs


def choose_crops(release: Release, staging: Staging) -> Chosen:
    """Choose one crop for each knee and visit, and account for everything else.

    Of several radiographs of a knee and visit the one with the lowest rank that gave a crop is kept.
    """
    ledger, kept = release.ledger, dict[KneeKey, Kept]()
    refused: dict[KneeKey, str] = {}
    visits_refused: dict[tuple[str, int], str] = {}
    for index, knees in staging.read(with_pixels=False):
        image = release.images[index]
        ledger.expect(_IMAGES)
        crops = sum(knee.reason is None for knee in knees)
        outcome = f"{crops} crop{'s' * (crops > 1)}" if crops else f"left out: {knees[0].reason}"
        ledger.add(_IMAGES, outcome, f"{image.path}: {knees[0].message}" if not crops else None)
        for place, knee in enumerate(knees):
            if knee.side is None:
                visits_refused[image.participant_id, image.visit_month] = str(knee.reason)
                continue
            ledger.expect(_KNEES)
            key = KneeKey(image.participant_id, image.visit_month, knee.side)
            if knee.reason is not None:
                ledger.add(_KNEES, f"left out: {knee.reason}", f"{image.path} {knee.side}: {knee.message}")
                refused.setdefault(key, knee.reason)
                continue
            new, old = Kept(image.rank, index, place, knee), kept.get(key)
            if old is not None:
                lost = max(new, old, key=lambda k: (k.rank, k.image))
                where = f"{release.images[lost.image].path} {knee.side}"
                ledger.add(_KNEES, "left out: a second radiograph of the knee and visit", where)
            if old is None or (new.rank, new.image) < (old.rank, old.image):
                kept[key] = new
    keys = sorted(kept)
    for _ in keys:
        ledger.add(_KNEES, "in the manifest")
    _count_readings(release, kept, refused, visits_refused)
    return Chosen(keys, kept, visit_pairs(keys))


def _count_readings(
    release: Release,
    kept: dict[KneeKey, Kept],
    refused: dict[KneeKey, str],
    visits_refused: dict[tuple[str, int], str],
) -> None:
    """What became of each reading, and which rows of the manifest have one."""
    ledger, images = release.ledger, {(image.participant_id, image.visit_month) for image in release.images}
    for key, reading in sorted(release.readings.items()):
        ledger.expect(_READ)
        name = f"{key.participant_id} {key.side}, month {key.visit_month}"
        why = refused.get(key) or visits_refused.get(key[:2])
        if key in kept:
            ledger.add(
                _READ, "in the manifest" if reading.kl_grade is not None else "in the manifest, no grade"
            )
        elif why is not None:
            ledger.add(_READ, f"left out: its radiograph was refused: {why}", name)
        elif key[:2] in images:
            ledger.add(_READ, "left out: not shown by its radiograph", name)
        else:
            ledger.add(_READ, "left out: no radiograph", name)
    for key in sorted(kept):
        ledger.expect(_ROWS)
        found = release.readings.get(key)
        if found is None:
            ledger.add(
                _ROWS, "without a reading", f"{key.participant_id} {key.side}, month {key.visit_month}"
            )
        elif found.kl_grade is None:
            ledger.add(_ROWS, f"with a reading that is no grade: {found.kl_code}")
        else:
            ledger.add(_ROWS, "with a KL grade")
