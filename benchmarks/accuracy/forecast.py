"""How a stack's forecast moves, on Chen's val knees: ``python -m benchmarks.accuracy.forecast --data DIR``.

``moves``  the expected grade (as the later classifier answers it, and as the classifier of now reads it in
           the forecast) and the joint space at twelve months against today's, by the reader's grade, beside
           the Osteoarthritis Initiative's; both joins and the risks against the outcome's equations;
           the grade now
``seeds``  the risks from other noises than seed 0's
``steps``  the risks in few sampler steps against those in fifty

Every knee here was used to choose (val), none to train.  Nobody knows how these knees moved: the equations,
fitted to OAI readings, say what is knowable of it from one visit.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from kneerisk_train.data.equations import hazards, image_risk, load_equations
from kneerisk_train.publish.figures import grade_figures
from kneerisk_train.publish.fit import rank_with_equations
from kneerisk_train.publish.forecast import forecast_knees, open_networks, views_of
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks.accuracy.val import val_knees
from kneerisk.method.calibration import Calibration
from kneerisk.method.grade import median_grade
from kneerisk.method.joint_space import joint_space
from kneerisk.method.predict import Forecast, ForecastSettings
from kneerisk.method.risk import hazards_of, monotone_rise, risk_of_rise
from kneerisk.simulate.rates import KL_TRANSITIONS
from kneerisk.stack.stack import Stack

Array = npt.NDArray[np.float64]

SEEDS = (0, 1, 2)
MOST_STEPS = 50
FELL = 0.1
"""Grades: a knee whose expected grade falls by more is counted."""
WIDENED = 0.2
"""Millimetres: a knee whose medial joint space widens by more is counted."""


def risks(stack: Stack, said: Forecast, grade: npt.NDArray[np.int64]) -> dict[str, Array]:
    """Every risk of N forecast knees, each [N]."""
    calibration = Calibration.from_mapping(stack.calibration())
    h, p_12m = hazards_of(said.moves).mean(axis=1), said.p_12m.mean(axis=1)
    return {
        "sum": risk_of_rise(said.p_now, p_12m),
        "monotone": monotone_rise(said.p_now, p_12m),
        "image": calibration.from_image(h, said.p_now),
        "given_grade": calibration.given_grade(h, grade),
    }


def medial_width(landmarks: npt.NDArray[np.float32], spacing: npt.NDArray[np.float32]) -> Array:
    """Minimum medial joint space width, mm [N], of landmarks [N, 16, 2]; NaN where spacing is unknown."""
    return np.array(
        [
            joint_space(points * mm)[0].minimum if np.isfinite(mm).all() else np.nan
            for points, mm in zip(landmarks, spacing, strict=True)
        ]
    )


def by_grade(values: Array, grade: npt.NDArray[np.int64]) -> list[float]:
    """Means by the reader's grade, 0 to 4."""
    return [round(float(values[grade == g].mean()), 4) for g in range(5)]


def moves(stack: Stack, data: Path) -> dict[str, object]:
    """What the forecast changes, and what the risks know."""
    val = val_knees(data)
    steps = stack.description.steps
    with open_networks(stack) as networks:
        said = forecast_knees(networks, val, steps)
        later = networks.grade([said.future[:, 0]])["kl"]
    p_12m = said.p_12m.mean(axis=1)
    change = (p_12m - said.p_now) @ np.arange(5)
    read = (later - said.p_now) @ np.arange(5)
    known_change = np.array(KL_TRANSITIONS[12]) @ np.arange(5) - np.arange(5)
    width = medial_width(said.landmarks_now, val.spacing)
    wider = medial_width(said.landmarks_12m, val.spacing) - width
    found = risks(stack, said, val.grade)
    equations = load_equations()
    known = image_risk(equations, said.p_now)
    given = hazards(equations, val, said.p_now)[np.arange(len(val)), val.grade]
    able = val.grade < 4
    return {
        "knees": len(val),
        "steps": steps,
        **grade_figures(said.p_now, val.grade),
        "grade_change": by_grade(change, val.grade),
        "grade_change_oai": [round(float(v), 3) for v in known_change],
        "grade_change_read_in_the_forecast": by_grade(read, val.grade),
        "grade_read_falls_by_more_than_0.1": float((read < -FELL).mean()),
        "grade_falls_by_more_than_0.1": float((change < -FELL).mean()),
        "medial_change_mm": float(np.nanmean(wider)),
        "medial_widens_by_more_than_0.2_mm": float(np.nanmean(wider > WIDENED)),
        "spearman_with_image_equation": rank_with_equations(
            {name: found[name] for name in ("sum", "monotone", "image")}, known, val
        ),
        "the_same_with_kl_4_at_0": {
            name: float(spearmanr(found[name], np.where(able, known, 0)).statistic)
            for name in ("sum", "monotone", "image")
        },
        "spearman_given_grade_with_its_equation": float(
            spearmanr(found["given_grade"][able], given[able]).statistic
        ),
        "mean_risk_image_by_grade": by_grade(found["image"], val.grade),
        "mean_risk_given_grade": by_grade(found["given_grade"], val.grade),
    }


def seeds(stack: Stack, data: Path) -> list[dict[str, object]]:
    """Risks of each seed against seed 0's."""
    val = val_knees(data)
    steps = stack.description.steps
    with open_networks(stack) as networks:
        views = views_of(networks, val.pixels)
        found = {
            seed: risks(stack, networks.forecast(views, ForecastSettings(steps, seed=seed)), val.grade)
            for seed in SEEDS
        }
    return [
        {
            "seed": seed,
            **{f"mean_{name}": float(found[seed][name].mean()) for name in ("image", "given_grade")},
            **{
                f"p99_{name}": float(np.quantile(np.abs(found[seed][name] - found[0][name]), 0.99))
                for name in ("image", "given_grade")
            },
        }
        for seed in SEEDS
    ]


def few_steps(stack: Stack, data: Path, counts: tuple[int, ...]) -> list[dict[str, object]]:
    """Risks in few steps against those in fifty, same noise."""
    val = val_knees(data)
    able = val.grade < 4
    found: dict[int, tuple[Forecast, dict[str, Array]]] = {}
    with open_networks(stack) as networks:
        for count in (*counts, MOST_STEPS):
            said = forecast_knees(networks, val, count)
            found[count] = said, risks(stack, said, val.grade)
    most, best = found[MOST_STEPS]
    known = image_risk(load_equations(), most.p_now)
    # Where the equations' risk is high: a discrimination that needs no outcome.
    high = known[able] > np.quantile(known[able], 0.94)
    rows: list[dict[str, object]] = []
    for count in counts:
        said, few = found[count]
        apart = {name: np.abs(few[name] - best[name]) for name in ("image", "given_grade")}
        aucs = [roc_auc_score(high, risk["image"][able]) for risk in (few, best)]
        rows.append(
            {
                "steps": count,
                "p99_image": float(np.quantile(apart["image"], 0.99)),
                "p99_given_grade": float(np.quantile(apart["given_grade"], 0.99)),
                "max_image": float(apart["image"].max()),
                "spearman": float(spearmanr(few["image"], best["image"]).statistic),
                "kl_12m_changed": float(
                    (median_grade(said.p_12m[:, 0]) != median_grade(most.p_12m[:, 0])).mean()
                ),
                "auc_change": float(aucs[0] - aucs[1]),
            }
        )
    return rows


def main() -> None:
    """Parse the command line and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.forecast", description=__doc__)
    parser.add_argument("what", choices=["moves", "seeds", "steps"])
    parser.add_argument("--stack", default="compact")
    parser.add_argument("--data", type=Path, required=True, help="Chen's folder")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4], help="of 'steps'")
    arguments = parser.parse_args()
    stack = Stack.load(arguments.stack)
    found: object
    if arguments.what == "moves":
        found = moves(stack, arguments.data)
    elif arguments.what == "seeds":
        found = seeds(stack, arguments.data)
    else:
        found = few_steps(stack, arguments.data, tuple(arguments.counts))
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
