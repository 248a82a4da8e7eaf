"""A score table, and what was found with it, → the report's page and the files beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.study.alarms import Alarm, alarms_of
from kneerisk.study.files import refuse_existing
from kneerisk.study.report.checklist import WORDS, checklist
from kneerisk.study.report.facts import Facts, completed, facts_of
from kneerisk.study.report.page import render
from kneerisk.study.report.pictures import Album, Picture
from kneerisk.study.report.plots import cohort_plots, enrichment_plots, evaluation_plots
from kneerisk.study.report.sheet import Strip, strips
from kneerisk.study.report.words import ENRICHMENT_ROWS, MEASURES, dictionary, settings_of
from kneerisk.study.tables import write_text

if TYPE_CHECKING:
    from kneerisk.study.scores import Scores


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """What a report is made of; checked when it is made."""

    table: Path
    out: Path
    title: str | None = None
    labels: Path | None = None
    """Readers' grades, to evaluate the table's ``risk_12m`` by."""
    evaluation: Path | None = None
    """JSON of ``kneerisk evaluate``, in the place of ``labels``."""
    enrichment: Path | None = None
    """JSON of ``kneerisk enrich --json``."""
    previews: Path | None = None
    sources: Path | None = None
    """The folder that was scored; ``None``: the one of the name that the table knows, here or beside it."""
    roots: tuple[Path, ...] = ()
    """What a run that has just ended was given."""
    by: str | None = None
    """Column whose values are told apart; ``None``: ``site``."""
    knees: int = 6
    """At most so many in each strip of the contact sheet."""
    files: Path | None = None
    """A folder for the plots as .svg and .png, and the numbers as .csv."""
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"a report is a page: end {self.out.name} in .html")
        if self.labels is not None and self.evaluation is not None:
            raise UsageError("--labels makes an evaluation and --evaluation brings one: give one of the two")
        if not 0 <= self.knees <= 60:
            raise UsageError(f"--knees is 0 to 60 of each kind; got {self.knees}")
        if self.sources is not None and not self.sources.exists():
            raise UsageError(f"--sources {self.sources} is not there: name the folder that was scored")


@dataclass(frozen=True, slots=True)
class Report:
    """A page that was written."""

    out: Path
    facts: Facts
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...]
    pictures: int
    """Knees and radiographs that are shown."""
    files: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "out": str(self.out),
            "knees": self.facts.scored,
            "refused": self.facts.refused,
            "failed": self.facts.failed,
            "pictures": self.pictures,
            "alarms": [{"code": alarm.code, "message": alarm.message} for alarm in self.alarms],
            "notes": list(self.notes),
            "files": [str(path) for path in self.files],
        }


def check_report(settings: ReportSettings) -> None:
    """What can be known before there is a table, so that nothing is scored for a page that cannot be written.

    Raises:
        UsageError: the page must not be written where it is to be.
        KneeriskError: Jinja2 or Matplotlib is not installed.
    """
    inputs = [settings.table, settings.labels, settings.evaluation, settings.enrichment]
    refuse_existing([settings.out], settings.overwrite, inputs=inputs)
    for package, module in (("Jinja2", "jinja2"), ("Matplotlib", "matplotlib")):
        if find_spec(module) is None:
            raise KneeriskError(
                f"a report needs {package}, which is not installed: pip install 'kneerisk[report]'"
            )


def write_report(settings: ReportSettings) -> Report:
    """Read, count, draw and write; the page is complete or absent.

    Raises:
        UsageError: a file cannot be read, does not belong to the table, or must not be replaced.
        KneeriskError: Jinja2 or Matplotlib is not installed.
    """
    from kneerisk.study.scores import read_scores
    from kneerisk.version import __version__

    check_report(settings)
    scores = read_scores(settings.table, landmarks=True)
    evaluation = _document(settings.evaluation, "overall", "kneerisk evaluate")
    if settings.labels is not None:
        from kneerisk.study.evaluate import evaluate

        evaluation = evaluate(settings.table, settings.labels).to_json()
    enrichment = _document(settings.enrichment, "nobody_enriched", "kneerisk enrich --json")
    notes = (
        *scores.notes,
        *_strangers(settings.table.name, (evaluation, "source"), (enrichment, "table")),
    )
    evaluation, enrichment = (_without(document, notes) for document in (evaluation, enrichment))
    facts = facts_of(scores, settings.by)
    alarms = alarms_of(scores.documents)
    notes += _answered(scores, alarms)
    plots = {
        "cohort_plots": cohort_plots(scores, facts),
        "evaluation_plots": () if evaluation is None else evaluation_plots(evaluation),
        "enrichment_plots": () if enrichment is None else enrichment_plots(enrichment),
    }
    shown, came_from = _knees(settings, scores)
    run = settings_of(scores)
    page = render(
        {
            "title": settings.title or f"Knee risk report: {settings.table.stem}",
            "table": settings.table.name,
            "finished": str(scores.documents.get("run", {}).get("finished", ""))[:10],
            "made": datetime.now(UTC).date().isoformat(),
            "version": __version__,
            "simulated": _is_simulated(scores),
            "alarms": alarms,
            "notes": notes,
            "facts": facts,
            "population": scores.population_of("risk_12m"),
            "strips": shown,
            "pictures_from": came_from,
            "evaluation": evaluation,
            "measures": MEASURES,
            "enrichment": enrichment,
            "enrichment_rows": ENRICHMENT_ROWS,
            "checklist": checklist(
                facts, run, scores.population_of("risk_12m"), evaluation, enrichment, len(alarms)
            ),
            "states": WORDS,
            "settings": [(name, value) for name, value in run.items() if value not in (None, "")],
            "dictionary": dictionary(scores),
            **plots,
        }
    )
    write_text(page, settings.out)
    files: tuple[Path, ...] = ()
    if settings.files is not None:
        from kneerisk.study.report.beside import write_files

        drawn = [plot for group in plots.values() for plot in group]
        files = write_files(settings.files, drawn, facts, evaluation, enrichment)
    pictures = sum(picture is not None for _, found in shown for picture in found)
    return Report(settings.out, facts, alarms, notes, pictures, files)


def _document(path: Path | None, key: str, command: str) -> Mapping[str, Any] | None:
    """A JSON that one of our commands wrote."""
    if path is None:
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}; write it with {command}") from error
    if not isinstance(found, dict) or key not in found:
        raise UsageError(f"{path} is not what {command} writes: it has no {key}")
    return found


def _without(document: Mapping[str, Any] | None, notes: Sequence[str]) -> Mapping[str, Any] | None:
    """Without what the page's head says already."""
    if document is None:
        return None
    told = {
        key: [n for n in document[key] if n not in notes] for key in ("notes", "warnings") if key in document
    }
    return {**document, **told}


def _answered(scores: Scores, alarms: tuple[Alarm, ...]) -> tuple[str, ...]:
    """Which alarms the recalibration of the headline risk allows for."""
    left = alarms_of(scores.documents, "risk_12m")
    codes = ", ".join(alarm.code for alarm in alarms if alarm not in left)
    if not codes:
        return ()
    return (
        f"risk_12m is recalibrated to {scores.population_of('risk_12m')}, whose run had raised {codes} too: "
        "risk_12m allows for it, the other columns do not",
    )


def _strangers(table: str, *found: tuple[Mapping[str, Any] | None, str]) -> list[str]:
    """What was made of another table."""
    notes = []
    for document, key in found:
        source = None if document is None else document.get(key)
        if source is not None and Path(str(source)).name != table:
            word = "evaluation" if key == "source" else "enrichment"
            notes.append(f"the {word} below was made of {Path(str(source)).name}, not of {table}")
    return notes


def _knees(settings: ReportSettings, scores: Scores) -> tuple[list[tuple[Strip, list[Picture | None]]], str]:
    """The contact sheet with its pictures, and where they came from."""
    run = scores.documents.get("run", {}).get("fingerprint", {})
    # A table names its inputs without their folders: they may still lie here, or beside it.
    named = [home / path for path in run.get("inputs", ()) for home in (Path(), settings.table.parent)]
    given = settings.roots if settings.sources is None else (settings.sources,)
    roots = list(given) or [path for path in named if path.exists()]
    album = Album(settings.previews, roots, invert=run.get("invert") or "auto")
    sheet = strips(completed(scores.frame), settings.knees) if settings.knees else ()
    shown = [(strip, [album.picture(row) for row in strip.rows]) for strip in sheet]
    found = [picture for _, pictures in shown for picture in pictures if picture is not None]
    came_from = "none" if not found else "previews" if settings.previews is not None else "sources"
    return shown, came_from


def _is_simulated(scores: Scores) -> bool:
    return bool(scores.documents.get("simulated"))
