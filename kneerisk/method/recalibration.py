"""A risk made right for one's own cohort: ``calibrate`` fits it, ``score`` and ``derive`` apply it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError

Array = npt.NDArray[np.float64]
Kind = Literal["logistic", "beta", "isotonic", "by-grade"]

FORMAT = 1
KINDS: tuple[Kind, ...] = ("logistic", "beta", "isotonic", "by-grade")
FORMS = {
    "logistic": "logit(p) = intercept + slope · logit(risk)",
    "beta": "logit(p) = intercept + a · ln(risk) - b · ln(1 - risk) (Kull, Silva Filho & Flach 2017)",
    "isotonic": "p rises with the risk, straight between the points (x, y)",
    "by-grade": "logit(p) = intercept of the grade now + slope · logit(risk)",
}
_PARAMETERS = {
    "logistic": ("intercept", "slope"),
    "beta": ("intercept", "a", "b"),
    "isotonic": ("x", "y"),
    "by-grade": ("intercepts", "slope"),
}
_CLIP = 1e-6
_GRADES = 5


@dataclass(frozen=True)
class Conformal:
    """Sets of grades that hold the reader's grade in so many knees of participants like those fitted on."""

    coverage: float
    """Asked for, such as 0.9."""
    threshold: float
    """A set holds every grade of P(KL now) at least this, and always the likeliest."""
    measured: float
    """Share of knees whose set held the reader's grade, on participants that were left out (cross-fitted)."""
    mean_size: float
    """Grades a set, there."""

    def sets(self, posterior: Array) -> list[list[int]]:
        """P(KL now) [N, 5] → the grades of each set, rising."""
        inside = posterior >= self.threshold
        inside[np.arange(len(posterior)), posterior.argmax(axis=1)] = True
        return [np.flatnonzero(row).tolist() for row in inside]


@dataclass(frozen=True)
class Recalibration:
    """A fitted map from one column's risks to probabilities of a population."""

    kind: Kind
    column: str
    """The column that it is for: ``risk_12m``, ``risk_incident_oa_24m`` …"""
    outcome: str
    months: int
    population: str
    """Whose rates the new risks are, in words."""
    date: str
    """Day of fitting, as ``2025-01-31``."""
    stack: str | None
    """Name and version of the stack whose risks it maps."""
    parameters: Mapping[str, Any]
    fitted_on: Mapping[str, int]
    """Knees, participants and events."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Calibration before and after, on participants that were left out (cross-fitted)."""
    conformal: Conformal | None = None
    alarms: tuple[str, ...] = ()
    """Codes of the alarms that the run of the fitting knees had raised: this map has seen such knees."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        if missing := [name for name in _PARAMETERS[self.kind] if name not in self.parameters]:
            raise ValueError(f"its parameters lack {', '.join(missing)}")
        if self.kind in ("logistic", "by-grade") and not float(self.parameters["slope"]) > 0:
            raise ValueError("slope must be above 0, or the order of risks is lost")
        if self.kind == "by-grade" and len(self.parameters["intercepts"]) != _GRADES:
            raise ValueError("by-grade takes an intercept for each of five grades")

    def apply(self, risk: npt.ArrayLike, grade: npt.ArrayLike | None = None) -> Array:
        """Risks [...] in 0..1 → recalibrated risks, float64 [...].

        A risk of exactly 0 stays 0: that knee cannot have the outcome. NaN stays NaN.

        Args:
            risk: what the column holds.
            grade: [...] 0..4, the reader's grade now where the table has it, else the image's; for
                ``by-grade`` alone.

        Raises:
            ValueError: ``by-grade`` without grades.
        """
        raw = np.asarray(risk, dtype=np.float64)
        clipped = np.clip(raw, _CLIP, 1 - _CLIP)
        p = self.parameters
        if self.kind == "logistic":
            new = sigmoid(p["intercept"] + p["slope"] * logit(clipped))
        elif self.kind == "beta":
            new = sigmoid(p["intercept"] + p["a"] * np.log(clipped) - p["b"] * np.log1p(-clipped))
        elif self.kind == "isotonic":
            new = np.where(np.isnan(raw), np.nan, np.interp(clipped, p["x"], p["y"]))
        else:
            if grade is None:
                raise ValueError("a calibration by grade needs the knees' grades")
            index = np.nan_to_num(np.asarray(grade, dtype=np.float64)).astype(np.intp)
            new = sigmoid(np.asarray(p["intercepts"])[index] + p["slope"] * logit(clipped))
        return np.asarray(np.where(raw == 0, 0.0, new))

    def to_json(self) -> dict[str, Any]:
        """As the file holds it."""
        return {"format": FORMAT, "form": FORMS[self.kind], **asdict(self)}

    def dumps(self) -> str:
        """The file's text."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recalibration:
        """Read what :meth:`to_json` gave.

        Raises:
            ValueError, TypeError, KeyError: it is nothing of the kind.
        """
        data = dict(values)
        if data.pop("format", None) != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        for said in ("form", "sha256"):
            data.pop(said, None)
        if data.get("conformal") is not None:
            data["conformal"] = Conformal(**data["conformal"])
        return cls(**{**data, "alarms": tuple(data.get("alarms", ()))})

    @classmethod
    def load(cls, path: Path) -> Recalibration:
        """Read a file of ``kneerisk calibrate``; UsageError where it is none."""
        try:
            return cls.from_json(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{path} is no calibration of this kneerisk ({error}); make one with kneerisk calibrate"
            ) from error


def load_for(paths: Sequence[Path]) -> dict[str, Recalibration]:
    """Several files, by the column that each is for; UsageError where two are for one column."""
    found: dict[str, Recalibration] = {}
    for path in paths:
        each = Recalibration.load(path)
        if each.column in found:
            raise UsageError(f"two calibrations are for {each.column}: name one of them")
        found[each.column] = each
    return found


def logit(p: npt.ArrayLike) -> Array:
    """Log odds of probabilities inside 0..1."""
    inside = np.clip(np.asarray(p, dtype=np.float64), _CLIP, 1 - _CLIP)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def sigmoid(x: npt.ArrayLike) -> Array:
    """The inverse of :func:`logit`."""
    return np.asarray(1 / (1 + np.exp(-np.asarray(x, dtype=np.float64))))
