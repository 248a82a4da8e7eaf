"""Whether other engines give the same answers, in clinical terms: risks, grades, landmarks.

A candidate (an engine, another precision, another backend) is held against the stack's networks in float32
torch, on the same knees, from the same noise: each component alone at several batch sizes, then the whole
chain.  Nothing here knows what the candidate is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from kneerisk_engines.batches import run_in_batches
from kneerisk_engines.parity import Parity, compare
from kneerisk_engines.runner import Runner

from kneerisk.compile.open import forward_pass, open_network, open_networks
from kneerisk.errors import UsageError
from kneerisk.method.calibration import Calibration
from kneerisk.method.diffusion import draw_noise
from kneerisk.method.exposure import equalise
from kneerisk.method.grade import median_grade
from kneerisk.method.predict import ForecastSettings, StackPredictor
from kneerisk.method.risk import hazards_of, risk_of_rise
from kneerisk.method.views import resized
from kneerisk.radiograph.knees import find_knees
from kneerisk.radiograph.settings import InputSettings
from kneerisk.records import KneeCrop, KneePrediction
from kneerisk.simulate.dicom import write_dicom
from kneerisk.simulate.radiograph import simulate_radiograph
from kneerisk.stack.components import PREDICTING
from kneerisk.stack.stack import Stack

_SIMULATED = 12
"""Simulated radiographs, two knees each, where the user names none."""
_MOST_KNEES = 64
_SAME_LATENT = 1e-3
"""Latents are sums of a codebook's vectors: a position that moved by more than this has another code."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a candidate may be from float32 torch."""

    risk_p99: float = 0.01
    """99th percentile of |Δ risk from the image|."""
    risk_max: float = 0.03
    sum_max: float = 0.1
    """Largest |Δ raw sum|."""
    grades_changed: float = 0.01
    """Share of knees whose KL grade, now or at 12 months, is another."""
    codes_changed: float = 0.02
    """Share of latent positions whose code is another."""
    landmark_p99_px: float = 1.0
    """99th percentile of the distance that landmarks moved, crop pixels."""
    rank_correlation: float = 0.995
    """Least Spearman correlation of the risks from the image."""


@dataclass(frozen=True, slots=True)
class ChainAgreement:
    """The whole chain on N knees."""

    steps: int
    """Sampler steps."""
    knees: int
    risk_p50: float
    risk_p99: float
    risk_max: float
    sum_max: float
    grades_changed: float
    codes_changed: float
    landmark_p99_px: float
    rank_correlation: float | None
    """``None`` where all risks are the same."""
    not_finite: int
    """Knees that the candidate gave no finite answer for."""


@dataclass(frozen=True, slots=True)
class Verification:
    """A candidate's report: kept beside an engine, whether it passed or not."""

    reference: str
    candidate: str
    components: tuple[Parity, ...]
    """One a component and batch size."""
    chain: ChainAgreement
    """End to end, in the stack's steps."""
    limits: Limits
    failures: tuple[str, ...] = field(default=())
    """What exceeds its limit, a line each; empty where the candidate passed."""

    @property
    def passed(self) -> bool:
        """Whether nothing exceeds its limit."""
        return not self.failures


def verify(
    stack: Stack,
    reference: Mapping[str, Runner],
    candidate: Mapping[str, Runner],
    crops: Sequence[KneeCrop],
    *,
    batches: Sequence[int] = (1, 8),
    limits: Limits | None = None,
) -> Verification:
    """Hold a candidate's runners against the reference's.

    Args:
        stack: whose components both run.
        reference: ``encoder``, ``unet``, ``classifier_now`` and ``classifier_12m``; float32.
        candidate: the same components.
        crops: knees, at least one.
        batches: batch sizes at which each component is compared; more knees than there are repeat.
        limits: of the stack's own where not given.

    Raises:
        ValueError: no knee was given.
    """
    if not crops:
        raise ValueError("verifying needs at least one knee")
    limits = limits or Limits()
    inputs = _inputs(stack, reference, crops)
    parities = tuple(
        compare(reference[name], candidate[name], {key: _first(array, size) for key, array in arrays.items()})
        for name, arrays in inputs.items()
        for size in dict.fromkeys(batches)
    )
    chain = _chain(stack, reference, candidate, crops, inputs, stack.description.steps)
    broken = [
        f"{parity.component}.{name}: {output.not_finite} values are not finite"
        for parity in parities
        for name, output in parity.outputs.items()
        if output.not_finite
    ]
    one = next(iter(parities))
    failures = (*broken, *exceeded(chain, limits))
    return Verification(one.reference, one.candidate, parities, chain, limits, failures)


def verify_against_torch(
    stack: Stack, candidate: Mapping[str, Runner], data: Path | None, batches: Sequence[int]
) -> Verification:
    """Hold open runners against float32 torch.

    Args:
        stack: whose components they are.
        candidate: as for :func:`verify`.
        data: a folder of radiographs; ``None`` takes simulated ones.
        batches: as for :func:`verify`.

    Raises:
        UsageError: the radiographs show no knee.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if data is None else data
        if data is None:
            _simulate(folder)
        with open_network(stack, "localiser") as network:
            crops = find_knees(InputSettings((folder,), id_from="folder"), network, most=_MOST_KNEES)
        if not crops:
            raise UsageError(f"{folder}: no knee was found there to verify on (kneerisk validate tells why)")
        with open_networks(stack, PREDICTING, "torch", "fp32") as reference:
            candidates = {name: candidate[name] for name in PREDICTING}
            return verify(stack, reference, candidates, crops, batches=batches)


def _simulate(folder: Path) -> None:
    for number in range(_SIMULATED):
        simulated = simulate_radiograph(number, spacing_mm=0.4)
        write_dicom(simulated, folder / f"SIM{number}" / "film.dcm", participant_id=f"SIM{number}")


def exceeded(chain: ChainAgreement, limits: Limits) -> list[str]:
    """Say, a line each, what is beyond its limit; a value that is not a number is."""
    lines = []
    if chain.not_finite:
        lines.append(f"{chain.not_finite} of {chain.knees} knees have no finite answer")
    for name, most in asdict(limits).items():
        found = getattr(chain, name)
        if name == "rank_correlation":
            if found is not None and not found >= most:
                lines.append(f"rank_correlation {found:.4f} is below {most}")
        elif not found <= most:
            lines.append(f"{name} {found:.4g} is above {most}")
    return lines


def _inputs(
    stack: Stack, reference: Mapping[str, Runner], crops: Sequence[KneeCrop]
) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """What each component is given: the knees themselves, not random numbers."""
    size = stack.description.crop_size
    pixels = np.stack([equalise(resized(crop.pixels, size)) for crop in crops])[:, None]
    latent = run_in_batches(reference["encoder"].run, {"radiograph": pixels}, 1)["latent"]
    noise = np.repeat(draw_noise(0, 1, latent.shape[1:]), len(latent), axis=0)
    # Along the sampler's way: noise and signal in all shares.
    times = np.linspace(1.0, 0.05, len(latent)).astype(np.float32)
    angle = (0.5 * np.pi * times)[:, None, None, None]
    noisy = (np.cos(angle) * latent + np.sin(angle) * noise).astype(np.float32)
    forecast = {"noisy": noisy, "current": latent, "time": times}
    return {
        "encoder": {"radiograph": pixels},
        "unet": forecast,
        "classifier_now": {"latent": latent},
        "classifier_12m": {"latent": latent},
    }


def _first(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """The first ``size`` items, going round where there are fewer."""
    return array[np.arange(size) % len(array)]


def _chain(
    stack: Stack,
    reference: Mapping[str, Runner],
    candidate: Mapping[str, Runner],
    crops: Sequence[KneeCrop],
    inputs: Mapping[str, Mapping[str, npt.NDArray[Any]]],
    steps: int,
) -> ChainAgreement:
    expected, found = (_predict(stack, runners, crops, steps) for runners in (reference, candidate))
    both = [
        (a, b)
        for a, b in zip(expected, found, strict=True)
        if isinstance(a, KneePrediction) and isinstance(b, KneePrediction)
    ]
    latents = [
        run_in_batches(runners["encoder"].run, inputs["encoder"], 1)["latent"]
        for runners in (reference, candidate)
    ]
    moved = np.abs(latents[0] - latents[1]).max(axis=1) > _SAME_LATENT
    if not both:
        worst = float("inf")
        return ChainAgreement(
            steps, len(crops), worst, worst, worst, worst, 1.0, float(moved.mean()), worst, None, len(crops)
        )
    p_now, p_12m, moves, marks = (
        [np.stack(values) for values in zip(*pairs, strict=True)]
        for pairs in (
            [(a.p_now, b.p_now) for a, b in both],
            [(a.p_12m.mean(axis=0), b.p_12m.mean(axis=0)) for a, b in both],
            [(a.moves.mean(axis=0), b.moves.mean(axis=0)) for a, b in both],
            [(a.landmarks_now, b.landmarks_now) for a, b in both],
        )
    )
    raw = [risk_of_rise(now, later) for now, later in zip(p_now, p_12m, strict=True)]
    calibration = Calibration.from_mapping(stack.calibration())
    risk = [calibration.from_image(hazards_of(move), now) for move, now in zip(moves, p_now, strict=True)]
    apart = np.abs(risk[1] - risk[0])
    changed = (median_grade(p_now[0]) != median_grade(p_now[1])) | (
        median_grade(p_12m[0]) != median_grade(p_12m[1])
    )
    shifted = np.linalg.norm(marks[1] - marks[0], axis=-1)
    return ChainAgreement(
        steps=steps,
        knees=len(crops),
        risk_p50=float(np.quantile(apart, 0.5)),
        risk_p99=float(np.quantile(apart, 0.99)),
        risk_max=float(apart.max()),
        sum_max=float(np.abs(raw[1] - raw[0]).max()),
        grades_changed=float(changed.mean()),
        codes_changed=float(moved.mean()),
        landmark_p99_px=float(np.quantile(shifted, 0.99)),
        rank_correlation=_spearman(risk[0], risk[1]),
        not_finite=len(crops) - len(both),
    )


def _predict(
    stack: Stack, runners: Mapping[str, Runner], crops: Sequence[KneeCrop], steps: int
) -> Sequence[object]:
    description = stack.description
    predictor = StackPredictor(
        forward_pass(description, runners), ForecastSettings(steps=steps), crop_size=description.crop_size
    )
    return predictor.predict(crops, [predictor.views(crop) for crop in crops])


def _spearman(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float | None:
    import polars as pl

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(pl.select(pl.corr(pl.Series(first), pl.Series(second), method="spearman")).item())
