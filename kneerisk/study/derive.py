"""Further outcomes' risks from a score table, without inference: more columns, or a table of participants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kneerisk.errors import StackError, UsageError
from kneerisk.method.recalibration import Recalibration, load_for
from kneerisk.scoring.outputs.columns import recalibrated
from kneerisk.stack.find import available_stacks
from kneerisk.stack.stack import Stack
from kneerisk.study import tables
from kneerisk.study.outcomes import Outcome, column_of
from kneerisk.study.risks import participants
from kneerisk.study.risks.equations import BASES, Equations
from kneerisk.study.risks.neighbours import knees_of
from kneerisk.study.scores import POSTERIOR, Scores, read_scores

if TYPE_CHECKING:
    import polars as pl

SHIPPED = "compact"
Level = Literal["knee", "participant"]


@dataclass(frozen=True)
class Derived:
    """What a derivation wrote."""

    out: str
    rows: int
    level: str
    columns: Mapping[str, float | None]
    """Each new column, and its mean over the knees that have it."""
    basis: Mapping[str, int]
    """Scored knees by what their risks stand on; ``none`` where nothing is known."""
    recalibrated: Mapping[str, str]
    """Recalibrated columns, and the population of each."""
    population: str
    """Of the equations."""
    posteriors: str
    """The stack that the equations belong to."""
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return asdict(self)


def derive(
    path: Path,
    out: Path,
    *,
    outcomes: Sequence[Outcome] | None = None,
    months: Sequence[int] = (),
    basis: str = "auto",
    calibrations: Sequence[Path] = (),
    level: Level = "knee",
    stack: str | None = None,
    bom: bool = False,
    overwrite: bool = False,
) -> Derived:
    """Write a score table again with other outcomes' risks.

    Args:
        path: a table of ``kneerisk score``.
        out: .parquet or .csv; ``level`` ``participant`` writes one row a participant and visit instead of one
            a knee.
        outcomes: which; all, or where calibrations are given only those that they are for.
        months: horizons; all that the equations know, unless given.
        basis: what the risks stand on, one of :data:`BASES`; ``auto`` takes for each knee the best it has.
        calibrations: files of ``kneerisk calibrate``, each applied to its column.
        level: ``knee`` or ``participant``.
        stack: whose equations; by default those of the stack that scored the table.
        bom: start a CSV with a byte-order mark, so that Excel reads it as UTF-8.
        overwrite: replace ``out``.

    Raises:
        UsageError: the table is none, an outcome or horizon has no equation, a calibration's column is not
            in the table, or ``out`` exists.
    """
    tables.check(out, overwrite=overwrite, inputs=(path,))
    bases = _bases(basis)
    scores = read_scores(path)
    equations, warnings = equations_for(scores, stack)
    recalibrations = load_for(calibrations)
    if outcomes is None and recalibrations:
        wanted = _needed(scores, recalibrations)
    else:
        wanted = _wanted(equations, tuple(Outcome) if outcomes is None else outcomes, months)
    new, counts, said = risks(scores, equations, wanted, bases)
    warnings += said
    new, said = _recalibrated(scores, new, recalibrations)
    warnings += said
    documents = _documents(scores, equations, wanted, recalibrations, new.columns)
    if level == "participant":
        names = _risks_of(dict.fromkeys(("risk_12m", *new.columns)))
        people = participants.worse_and_either(_laid_over(scores.frame, new), names)
        documents["data_dictionary"] = participants.dictionary(people.columns)
        tables.write(people, out, documents, bom=bom)
        rows, frame = len(people), people
        columns = [n for n in people.columns if n.startswith("risk_") and not n.endswith("_side")]
    else:
        rows = tables.write_beside(path, new, out, documents, bom=bom)
        frame = new
        columns = _risks_of(new.columns)
    return Derived(
        out=str(out),
        rows=rows,
        level=level,
        columns={name: _mean(frame[name]) for name in columns},
        basis=counts,
        recalibrated={name: each.population for name, each in recalibrations.items()},
        population=equations.population,
        posteriors=equations.posteriors,
        warnings=(*scores.notes, *warnings),
    )


def risks(
    scores: Scores,
    equations: Equations,
    wanted: Sequence[tuple[Outcome, int]],
    bases: Sequence[str] = BASES,
) -> tuple[pl.DataFrame, dict[str, int], list[str]]:
    """The columns of every outcome and horizon, a row for each of the table's; with counts and warnings."""
    import polars as pl

    knees, untold = knees_of(scores.frame)
    ok = (scores.frame["status"] == "ok").to_numpy()
    columns: dict[str, pl.Series] = {}
    tally: Counter[str] = Counter()
    for outcome, months in wanted:
        risk, used = equations.risk(outcome, months, knees, bases)
        risk = np.where(ok, risk, np.nan)
        name = column_of(outcome, months)
        columns[name] = pl.Series(name, risk.round(6), nan_to_null=True)
        words = pl.Series(f"{name}_basis", np.where(ok & ~np.isnan(risk), used, ""))
        columns[f"{name}_basis"] = words.replace({"": None})
        if not tally:
            found, counts = np.unique(used[ok], return_counts=True)
            tally.update({str(w) or "none": int(n) for w, n in zip(found, counts, strict=True)})
    warnings = []
    if untold:
        warnings.append(
            f"{untold} rows have several rows of the other knee at the same visit, none in the same image: "
            "their risks stand on the knee alone"
        )
    if tally["none"]:
        warnings.append(
            f"{tally['none']} scored knees have no risk: what --basis asks for is not known of them"
        )
    return (
        pl.DataFrame(columns),
        {basis: tally[basis] for basis in (*BASES, "none") if tally[basis]},
        warnings,
    )


def equations_for(scores: Scores, name: str | None = None) -> tuple[Equations, list[str]]:
    """The equations of the stack that scored a table or, where that one is not here, the shipped ones.

    Returns:
        The equations, and what may mislead about them.
    """
    chosen = _stack_named(scores.stack) if name is None else Stack.load(name)
    asked = chosen
    if chosen is None or chosen.outcomes() is None:
        if name is not None:
            raise UsageError(f"the stack {name} has no equations of outcomes (outcomes.json)")
        chosen = Stack.load(SHIPPED)
    data = chosen.outcomes()
    if data is None:
        raise StackError(f"the stack {chosen.name} has no outcomes.json: reinstall kneerisk")
    equations = Equations.from_json(data)
    if scores.stack == equations.posteriors:
        return equations, []
    by = scores.stack or "several stacks, or none that is named,"
    why = "that stack is not here" if asked is None else f"{asked.name} has none that are its own"
    return equations, [
        f"the table was scored by {by} and the equations are of the posteriors of {equations.posteriors} "
        f"({why if name is None else 'as --stack says'}): order may hold, the risks' size need not; "
        "recalibrate with kneerisk calibrate before using it"
    ]


def _stack_named(full: str | None) -> Stack | None:
    """A stack by its name with version, among those here."""
    for folder in available_stacks().values():
        try:
            stack = Stack.load(folder)
        except StackError:
            continue
        if stack.name == full:
            return stack
    return None


def _bases(basis: str) -> tuple[str, ...]:
    if basis == "auto":
        return BASES
    if basis not in BASES:
        raise UsageError(f"--basis is {basis!r}; use auto, {', '.join(BASES)}")
    return (basis,)


def _wanted(
    equations: Equations, outcomes: Sequence[Outcome], months: Sequence[int]
) -> list[tuple[Outcome, int]]:
    wanted = []
    for outcome in dict.fromkeys(outcomes):
        known = equations.horizons(outcome)
        if not known:
            raise UsageError(f"there is no equation for {outcome.value} of {equations.posteriors}")
        if unknown := [m for m in months if m not in known]:
            listed = ", ".join(map(str, known))
            raise UsageError(f"{outcome.value} is known at {listed} months, not at {unknown[0]}")
        wanted += [(outcome, m) for m in (dict.fromkeys(months) or known)]
    return wanted


def _needed(scores: Scores, recalibrations: Mapping[str, Recalibration]) -> list[tuple[Outcome, int]]:
    """The outcomes that calibrations are for and the table does not hold yet."""
    made = {column_of(Outcome(r.outcome), r.months): r for r in recalibrations.values()}
    return [
        (Outcome(r.outcome), r.months)
        for name, r in made.items()
        if name in recalibrations and name not in scores.frame.columns
    ]


def _recalibrated(
    scores: Scores, new: pl.DataFrame, recalibrations: Mapping[str, Recalibration]
) -> tuple[pl.DataFrame, list[str]]:
    """New columns, with what is recalibrated of them and of the table's own."""
    import polars as pl

    warnings = []
    frame = scores.frame
    grade = frame.select(pl.coalesce("kl_0m", "kl_now").cast(pl.Float64).fill_null(float("nan")))
    grades = grade.to_numpy()[:, 0]
    for name, each in recalibrations.items():
        holder = new if name in new.columns else frame
        if name not in holder.columns:
            raise UsageError(f"a calibration is for {name}, and neither the table nor this command makes it")
        if each.stack != scores.stack:
            warnings.append(
                f"the calibration of {name} is of risks of {each.stack}; the table is of {scores.stack}"
            )
        before = scores.documents.get("run", {}).get("recalibrated", {})
        if name in before and holder is frame:
            raise UsageError(
                f"{name} of this table is recalibrated already: start from the table it came from"
            )
        for column in (name, *((f"{name}_lo", f"{name}_hi") if holder is frame else ())):
            if column not in holder.columns:
                continue
            values = holder[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            applied = each.apply(values, grades).round(6)
            new = _with(new, pl.Series(column, applied, nan_to_null=True))
        if each.conformal is not None:
            ok = frame["kl_now_p0"].is_not_null().to_numpy()
            found = iter(each.conformal.sets(frame.filter(pl.Series(ok)).select(POSTERIOR).to_numpy()))
            sets = [";".join(map(str, next(found))) if known else None for known in ok]
            new = _with(new, pl.Series("kl_now_set", sets, pl.String))
    return new, warnings


def _risks_of(columns: Iterable[str]) -> list[str]:
    """The risks among new columns: no bases, sets, or ends of intervals."""
    return [name for name in columns if not name.endswith(("_basis", "_set", "_lo", "_hi"))]


def _with(frame: pl.DataFrame, column: pl.Series) -> pl.DataFrame:
    """A frame, which may have no column yet, with one more or one replaced."""
    return frame.with_columns(column) if frame.columns else column.to_frame()


def _laid_over(frame: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(new.get_columns())


def _mean(column: pl.Series) -> float | None:
    mean = column.mean()
    return None if mean is None else round(float(mean), 6)  # type: ignore[arg-type]


def _documents(
    scores: Scores,
    equations: Equations,
    wanted: Sequence[tuple[Outcome, int]],
    recalibrations: Mapping[str, Recalibration],
    columns: Sequence[str],
) -> dict[str, Any]:
    """The table's documents with those of the new columns."""
    documents = dict(scores.documents)
    dictionary = dict(documents.get("data_dictionary", {}))
    for outcome, months in wanted:
        name = column_of(outcome, months)
        dictionary[name] = _entry(
            "real",
            "probability",
            f"P({outcome.words} within {months} months), given that a reader places the knee where that can "
            f"happen; fitted to: {equations.population}",
            "where status is not ok, or nothing is known that it could stand on",
        )
        dictionary[f"{name}_basis"] = _entry(
            "text", "", f"what {name} stands on: {', '.join(BASES)}", f"where {name} is null"
        )
    applied = {name: each.to_json() for name, each in recalibrations.items()}
    dictionary = recalibrated(dictionary, applied)
    if "kl_now_set" in columns:
        dictionary["kl_now_set"] = _entry(
            "text", "", "grades that hold the reader's in the stated share of knees", "where status is not ok"
        )
    documents["data_dictionary"] = dictionary
    run = dict(documents.get("run", {}))
    run["recalibrated"] = {**run.get("recalibrated", {}), **applied}
    run["derived"] = {
        "columns": [column_of(outcome, months) for outcome, months in wanted],
        "population": equations.population,
        "fit": equations.fit,
        "posteriors": equations.posteriors,
    }
    documents["run"] = run
    return documents


def _entry(kind: str, unit: str, meaning: str, null: str) -> dict[str, str]:
    return {"kind": kind, "unit": unit, "meaning": meaning, "null": null}
