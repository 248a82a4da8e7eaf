"""What a scoring run said of its cohort before any number: the alarms in a table's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNNAMED = "alarm"
"""Code of an alarm of earlier versions, which is a sentence alone."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One reason not to trust the run's numbers as they stand."""

    code: str
    message: str


def alarms_of(documents: Mapping[str, Any], column: str | None = None) -> tuple[Alarm, ...]:
    """The alarms of a table's documents, or of a run report's.

    A recalibration answers those that the knees it was fitted to had raised as well: its rates are of such
    knees. Any other stands, whatever was done to the risks since.

    Args:
        column: leave out what a recalibration of this column answers.
        documents: as :attr:`kneerisk.study.scores.Scores.documents`; ``alarms`` stands among them, in
            ``run``, or in ``summary``, as objects with ``code`` and ``message``; earlier ones are sentences.
    """
    places = (documents, documents.get("run", {}), documents.get("summary", {}))
    found = next((place["alarms"] for place in places if place.get("alarms")), ())
    alarms = (
        Alarm(UNNAMED, entry) if isinstance(entry, str) else Alarm(str(entry["code"]), str(entry["message"]))
        for entry in found
    )
    applied = documents.get("run", {}).get("recalibrated", {}).get(column, {})
    return tuple(alarm for alarm in alarms if alarm.code not in applied.get("alarms", ()))
