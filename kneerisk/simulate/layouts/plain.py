"""The plain layout: a folder for each participant and visit, a manifest, and labels.

::

    images/SIM0001/0m/bilateral.dcm
    manifest.csv   path, participant_id, visit, side, kl_0m, age, sex, bmi, womac, injury, surgery;
                   a row for each knee
    labels.csv     participant_id, side, visit_month, kl: long, the grades as read at every visit

``kneerisk score`` and ``kneerisk prepare folder`` take the manifest as it is; its ``kl_0m`` is the grade read
at that visit.
"""

from __future__ import annotations

from pathlib import Path

from kneerisk.simulate.layouts.layout import Shot
from kneerisk.simulate.participants import KneeHistory, KneeVisit, Participant, Visit
from kneerisk.simulate.text_tables import TextTables

_MANIFEST = ("path", "participant_id", "visit", "side", "kl_0m")
_KNOWN = ("age", "sex", "bmi", "womac", "injury", "surgery")


class PlainLayout:
    """Images by participant and visit; two tables."""

    def __init__(self, directory: Path) -> None:
        self._tables = TextTables(directory)

    def start(self) -> None:
        """Begin the manifest and the labels."""
        self._tables.start("manifest.csv", (*_MANIFEST, *_KNOWN))
        self._tables.start("labels.csv", ("participant_id", "side", "visit_month", "kl"))

    def identity(self, person: Participant) -> str:
        """SIM0001 and so on."""
        return f"SIM{person.number:04d}"

    def shots(self, person: Participant, visit: Visit) -> list[Shot]:
        """The bilateral radiograph."""
        year = 2004 + visit.month // 12
        path = f"images/{self.identity(person)}/{visit.month}m/bilateral.dcm"
        return [Shot(path, f"{year}{visit.month % 12 + 1:02d}15")]

    def add(self, person: Participant) -> None:
        """A manifest row for every knee with an image, a label for every knee that was read."""
        who = self.identity(person)
        for visit in person.visits:
            for knee, history in zip(visit.knees, person.knees, strict=True):
                grade = readable_grade(visit, knee)
                if grade is not None:
                    self._tables.add("labels.csv", (who, knee.side, visit.month, grade))
                if visit.has_image:
                    row = (self.shots(person, visit)[0].path, who, visit.month, knee.side, grade)
                    self._tables.add("manifest.csv", (*row, *_known(person, visit, knee, history)))

    def finish(self) -> None:
        """Put both tables into place."""
        self._tables.finish()

    def close(self) -> None:
        """Drop tables that are not finished."""
        self._tables.close()


def readable_grade(visit: Visit, knee: KneeVisit) -> int | None:
    """The main reader's grade; ``None`` where the tables have none."""
    return None if not visit.has_row or knee.missing or knee.replaced else knee.read


def _known(person: Participant, visit: Visit, knee: KneeVisit, history: KneeHistory) -> tuple[object, ...]:
    return (
        f"{person.age + visit.month / 12:.1f}",
        "F" if person.female else "M",
        f"{person.bmi:.1f}",
        f"{knee.womac:.0f}",
        int(history.injury),
        int(history.surgery),
    )
