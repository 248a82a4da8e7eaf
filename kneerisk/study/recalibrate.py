"""Make a column of risks right for a cohort: fit a map, measure it on participants that were left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError
from kneerisk.method.recalibration import Conformal, Kind, Recalibration, logit
from kneerisk.study import tables
from kneerisk.study.alarms import UNNAMED, alarms_of
from kneerisk.study.evaluate import risk_column, with_risk
from kneerisk.study.extras import needs
from kneerisk.study.labels import WINDOW_MONTHS, join, observe, read_labels
from kneerisk.study.outcomes import Outcome
from kneerisk.study.scores import POSTERIOR, read_scores
from kneerisk.study.statistics import agreement
from kneerisk.study.statistics.baselines import folds
from kneerisk.study.statistics.measure import FEWEST, too_few

if TYPE_CHECKING:
    import polars as pl

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Owners = npt.NDArray[np.int64]

FOLDS = 10
_FEWEST_OF_A_GRADE = 20
_CLIP = 1e-6
_WORSE = 1.01


@dataclass(frozen=True)
class Calibrated:
    """What a calibration came to."""

    out: str
    recalibration: Recalibration
    excluded: Mapping[str, int]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        rest = {k: v for k, v in asdict(self).items() if k != "recalibration"}
        return {**self.recalibration.to_json(), **rest}


def calibrate(
    path: Path,
    labels: Path,
    out: Path,
    *,
    kind: Kind = "logistic",
    outcome: Outcome = Outcome.ANY_RISE,
    months: int = 12,
    column: str | None = None,
    population: str | None = None,
    conformal: float | None = None,
    window: int = WINDOW_MONTHS,
    allow_unmatched: bool = False,
    overwrite: bool = False,
) -> Calibrated:
    """Fit a calibration and write it.

    Args:
        path: the score table.
        labels: readers' grades over time.
        out: the .json to write.
        kind: logistic (intercept and slope), beta, isotonic, or by-grade (an intercept a grade, one slope).
        outcome: what the risks are of.
        months: by when.
        column: the risk; by default as :func:`kneerisk.study.evaluate.evaluate` chooses it.
        population: whose rates these are, in words; by default named after the labels' file.
        conformal: fit sets of grades too that hold the reader's in this share of knees, such as 0.9.
        window: the nearest reading within so many months of the horizon counts.
        allow_unmatched: go on where labels and scores do not wholly join.
        overwrite: replace ``out``.

    Raises:
        UsageError: the tables do not join, the events are too few, or the risks run against the events.
    """
    needs("scikit-learn", "statsmodels")
    tables.check_free(out, overwrite=overwrite, inputs=(path, labels))
    if conformal is not None and not 0.5 <= conformal < 1:
        raise UsageError(f"--conformal {conformal}: a coverage lies between 0.5 and 1, such as 0.9")
    scores = read_scores(path)
    if risk_column(scores, outcome, months, column) in scores.documents.get("run", {}).get(
        "recalibrated", {}
    ):
        raise UsageError(
            f"the risks of {path.name} are recalibrated already: start from the table they came from"
        )
    joined = join(scores, read_labels(labels), allow_unmatched=allow_unmatched)
    name = risk_column(scores, outcome, months, column)
    seen = observe(joined, outcome, months, window=window)
    frame, excluded = with_risk(seen, name)
    can_rise = frame.filter(frame[name] > 0)
    if len(can_rise) < len(frame):
        excluded[f"{name} is 0: taken as unable to have the outcome"] = len(frame) - len(can_rise)
    event = can_rise["event"].to_numpy().astype(bool)
    if (reason := too_few(event)) is not None:
        raise UsageError(f"nothing to calibrate to: {reason}")
    risk = can_rise[name].to_numpy().astype(np.float64)
    grade = table_grades(can_rise)
    _, owner = np.unique(can_rise["participant_id"].to_numpy(), return_inverse=True)
    parameters = fit_map(kind, risk, event, grade)
    measured, warnings = _measured(kind, risk, event, grade, owner)
    result = Recalibration(
        kind=kind,
        column=name,
        outcome=outcome.value,
        months=months,
        population=population or f"the cohort of {labels.name}",
        date=datetime.now(UTC).date().isoformat(),
        stack=scores.stack,
        parameters=parameters,
        fitted_on={
            "knees": len(event),
            "participants": len(np.unique(owner)),
            "events": int(event.sum()),
        },
        measured=measured,
        conformal=None if conformal is None else _conformal(joined.frame, conformal),
        alarms=tuple(alarm.code for alarm in alarms_of(scores.documents) if alarm.code != UNNAMED),
    )
    if event.sum() < 100:
        warnings.insert(0, f"{int(event.sum())} events: fewer than 100 leave a calibration unsure")
    tables.write_text(result.dumps(), out)
    return Calibrated(str(out), result, excluded, joined.notes, (*scores.notes, *warnings))


def fit_map(kind: Kind, risk: Array, event: Flags, grade: Owners | None = None) -> dict[str, Any]:
    """The parameters of :class:`kneerisk.method.recalibration.Recalibration`, by maximum likelihood.

    Raises:
        UsageError: the risks run against the events, or part them wholly.
    """
    x = logit(risk)
    one = np.ones(len(x))
    try:
        if kind == "logistic":
            a, b = agreement.fit_logistic(np.column_stack([one, x]), event).coefficients
            return {"intercept": float(a), "slope": _rising(b)}
        if kind == "beta":
            return _fit_beta(risk, event)
        if kind == "isotonic":
            return _fit_isotonic(risk, event)
        if grade is None:
            raise ValueError("a calibration by grade needs the knees' grades")
        return _fit_by_grade(x, event, grade)
    except ValueError as error:
        raise UsageError(f"no {kind} calibration can be fitted: {error}") from error


def table_grades(frame: pl.DataFrame) -> Owners:
    """The grade that a calibration by grade goes by: the table's ``kl_0m``, else the image's ``kl_now``."""
    import polars as pl

    return frame.select(pl.coalesce("kl_0m", "kl_now")).to_series().to_numpy().astype(np.int64)


def _fit_beta(risk: Array, event: Flags) -> dict[str, float]:
    """Both exponents at least 0: one that comes out negative is left out (Kull et al. 2017)."""
    clipped = np.clip(risk, _CLIP, 1 - _CLIP)
    parts = {"a": np.log(clipped), "b": -np.log1p(-clipped)}
    while parts:
        columns = np.column_stack([np.ones(len(risk)), *parts.values()])
        found = agreement.fit_logistic(columns, event).coefficients
        exponents = dict(zip(parts, found[1:].tolist(), strict=True))
        if min(exponents.values()) >= 0:
            return {"intercept": float(found[0]), "a": 0.0, "b": 0.0, **exponents}
        del parts[min(exponents, key=exponents.__getitem__)]
    raise ValueError("the risks run against the events")


def _fit_isotonic(risk: Array, event: Flags) -> dict[str, list[float]]:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1).fit(risk, event.astype(np.float64))
    x, y = np.asarray(fitted.X_thresholds_), np.asarray(fitted.y_thresholds_)
    if y[0] == y[-1]:
        raise ValueError("the risks run against the events")
    return {"x": x.round(6).tolist(), "y": y.round(6).tolist()}


def _fit_by_grade(x: Array, event: Flags, grade: Owners) -> dict[str, Any]:
    """Grades with 20 knees and an event of each kind have an intercept of their own; the rest share one."""
    own = [
        g
        for g in range(5)
        if (grade == g).sum() >= _FEWEST_OF_A_GRADE and 0 < event[grade == g].sum() < (grade == g).sum()
    ]
    rest = ~np.isin(grade, own)
    columns = [(grade == g).astype(np.float64) for g in own]
    if rest.any() and 0 < event[rest].sum() < rest.sum():
        columns.append(rest.astype(np.float64))
        used = np.ones(len(x), bool)
    else:
        used = ~rest
    if not columns:
        raise ValueError("no grade has events and knees enough")
    found = agreement.fit_logistic(np.column_stack([*columns, x])[used], event[used]).coefficients
    slope = _rising(found[-1])
    overall = agreement.fit_logistic(np.ones((len(x), 1)), event, offset=slope * x).coefficients[0]
    shared = float(found[len(own)]) if len(columns) > len(own) else float(overall)
    intercepts = [float(found[own.index(g)]) if g in own else shared for g in range(5)]
    return {"intercepts": intercepts, "slope": slope, "own": own}


def _rising(slope: float) -> float:
    if not slope > 0:
        raise ValueError("the risks run against the events (slope below 0)")
    return float(slope)


def _measured(
    kind: Kind, risk: Array, event: Flags, grade: Owners, owner: Owners
) -> tuple[dict[str, Any], list[str]]:
    """Calibration before and after, each participant's knees mapped by a fit to the others'."""
    new = np.full(len(risk), np.nan)
    try:
        for train, test in folds(owner, FOLDS):
            parameters = fit_map(kind, risk[train], event[train], grade[train])
            new[test] = applied(kind, parameters, risk[test], grade[test])
    except UsageError as error:
        return {}, [f"not measured on participants that were left out: {error}"]
    figures = {
        when: {
            "brier": agreement.brier(r, event),
            "calibration_intercept": asdict(agreement.intercept_and_slope(r, event, owner)[0]),
            "calibration_slope": asdict(agreement.intercept_and_slope(r, event, owner)[1]),
            "ici": agreement.distances(r, event)[0].value,
        }
        for when, r in (("before", risk), ("after", new))
    }
    warnings = []
    if agreement.brier(new, event) > _WORSE * agreement.brier(risk, event):
        warnings.append(
            "on participants that were left out the calibrated risks do worse than the risks as they were "
            "(Brier score): there are too few events for this kind; try logistic, or leave them as they are"
        )
    return {"folds": FOLDS, **figures}, warnings


def applied(kind: Kind, parameters: Mapping[str, Any], risk: Array, grade: Owners) -> Array:
    """Risks through a map that was just fitted."""
    blank: dict[str, Any] = {"column": "", "outcome": "", "months": 0, "population": "", "date": ""}
    made = Recalibration(kind=kind, stack=None, parameters=parameters, fitted_on={}, **blank)
    return made.apply(risk, grade)


def _conformal(frame: pl.DataFrame, coverage: float) -> Conformal:
    """Sets for the reader's grade now from P(KL now), so that a new participant's knee is covered.

    Split-conformal on 1 - P(reader's grade); a participant's knees share a weight of one, so that the
    guarantee is for the knees of a participant not seen (Dunn, Wasserman & Ramdas 2023). The sets that are
    used come from all knees; what is stated was measured with each participant left out of the fit.
    """
    both = frame.drop_nulls(["reader_kl", *POSTERIOR, "participant_id"])
    reader = both["reader_kl"].to_numpy().astype(np.int64)
    posterior = both.select(POSTERIOR).to_numpy()
    _, owner = np.unique(both["participant_id"].to_numpy(), return_inverse=True)
    if len(np.unique(owner)) < FOLDS * FEWEST:
        raise UsageError(f"--conformal needs readers' grades of {FOLDS * FEWEST} participants or more")
    truth = posterior[np.arange(len(reader)), reader]
    held, sizes = np.zeros(len(reader)), np.zeros(len(reader))
    for train, test in folds(owner, FOLDS):
        sets = Conformal(coverage, _threshold(truth[train], owner[train], coverage), 0.0, 0.0).sets(
            posterior[test]
        )
        held[test] = [r in s for r, s in zip(reader[test].tolist(), sets, strict=True)]
        sizes[test] = [len(s) for s in sets]
    return Conformal(coverage, _threshold(truth, owner, coverage), float(held.mean()), float(sizes.mean()))


def _threshold(truth: Array, owner: Owners, coverage: float) -> float:
    """The P(reader's grade) that a share ``coverage`` of participants reaches, one more counted in."""
    _, place, knees = np.unique(owner, return_inverse=True, return_counts=True)
    weight = 1 / knees[place]
    order = np.argsort(-truth)
    reached = np.cumsum(weight[order])
    wanted = coverage * (len(knees) + 1)
    index = int(np.searchsorted(reached, wanted - 1e-9))
    return float(truth[order[index]]) if index < len(order) else 0.0
