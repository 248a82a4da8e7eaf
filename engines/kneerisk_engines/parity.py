"""How far two runners of one component differ on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kneerisk_engines.errors import EngineError
from kneerisk_engines.runner import Runner
from kneerisk_engines.spec import Array


@dataclass(frozen=True, slots=True)
class OutputParity:
    """One output of a candidate against the reference's."""

    max_abs: float
    """Largest |candidate − reference|, over values that are finite in both; in the output's own unit."""
    mean_abs: float
    """Mean of the same."""
    max_rel: float
    """``max_abs`` divided by the largest |reference|."""
    not_finite: int
    """Values that are NaN or infinite in the candidate or in the reference."""


@dataclass(frozen=True, slots=True)
class Parity:
    """A candidate runner against a reference, output by output."""

    component: str
    reference: str
    """Backend and precision, as ``torch fp32``."""
    candidate: str
    outputs: Mapping[str, OutputParity]


def compare(reference: Runner, candidate: Runner, arrays: Mapping[str, Array]) -> Parity:
    """Run both on the same arrays and measure how far the candidate is from the reference."""
    if reference.spec != candidate.spec:
        raise EngineError(f"{reference.spec.name} and {candidate.spec.name} have different specs")
    expected, found = reference.run(arrays), candidate.run(arrays)
    return Parity(
        reference.spec.name,
        f"{reference.backend} {reference.precision}",
        f"{candidate.backend} {candidate.precision}",
        {name: _output_parity(expected[name], found[name]) for name in expected},
    )


def _output_parity(expected: Array, found: Array) -> OutputParity:
    finite = np.isfinite(expected) & np.isfinite(found)
    reference = np.abs(expected[finite].astype(np.float64))
    apart = np.abs(found[finite].astype(np.float64) - expected[finite])
    if not apart.size:
        return OutputParity(np.inf, np.inf, np.inf, expected.size)
    largest = float(reference.max())
    worst = float(apart.max())
    relative = worst / largest if largest else (np.inf if worst else 0.0)
    return OutputParity(worst, float(apart.mean()), relative, int(finite.size - finite.sum()))
