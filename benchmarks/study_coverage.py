"""Do the intervals hold the truth as often as they say? Simulated cohorts with a known AUC, again and again.

Every cohort is drawn anew from one population: participants with two knees whose chances of the event go
together, and whose risks do too. The true AUC is that of six million of its knees. Printed: how often each
95 % interval held it, and the calibration slope on a fresh cohort before and after recalibrating.

    python benchmarks/study_coverage.py [--knees 20000] [--repeats 400] [--draws 1000]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from kneerisk.method.recalibration import logit, sigmoid
from kneerisk.study.recalibrate import fit_map
from kneerisk.study.statistics import agreement, bootstrap, discrimination

SHARED = 0.6
"""Standard deviation, in logits, of what a participant's knees share and the risk does not see."""
LOGIT_MEAN, LOGIT_SEEN = -3.0, 1.0


def cohort(participants: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Risks, events and participants' numbers of two knees each; risks are too extreme and too high."""
    owner = np.repeat(np.arange(participants), 2)
    hidden = rng.normal(0, SHARED, participants)[owner]
    seen = LOGIT_SEEN * (rng.normal(0, 0.7, participants)[owner] + rng.normal(0, 0.7, 2 * participants))
    event = rng.random(2 * participants) < sigmoid(LOGIT_MEAN + seen + hidden)
    return sigmoid(LOGIT_MEAN + 0.8 + 1.6 * seen), event, owner


def main() -> None:
    """Run the repeats and print what they come to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--knees", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--draws", type=int, default=1000)
    asked = parser.parse_args()
    rng = np.random.default_rng(2025)
    risk, event, _ = cohort(3_000_000, rng)
    true = discrimination.auc(risk, event)
    print(f"true AUC {true:.4f}, events {event.mean():.4f}", flush=True)
    held = {"bootstrap": 0, "DeLong by participant": 0, "DeLong, knees as independent": 0}
    slopes: list[tuple[float, float]] = []
    started = time.perf_counter()
    for repeat in range(asked.repeats):
        risk, event, owner = cohort(asked.knees // 2, rng)
        people = asked.knees // 2
        codes, bins = bootstrap.codes_of(risk)
        counts = bootstrap.Counts.of(codes, event, owner, people, bins)
        once = float(bootstrap.auc_of(*counts.once())[0, 0])
        job = {"auc": (counts, {"auc": bootstrap.auc_of})}
        drawn = bootstrap.run(job, people, asked.draws, seed=repeat)["auc"]["auc"][0]
        figure = bootstrap.interval(discrimination.auc(risk, event), drawn, once)
        by_participant = discrimination.delong([risk], event, owner).interval(0)
        by_knee = discrimination.delong([risk], event).interval(0)
        intervals = (figure.low, figure.high), by_participant, by_knee
        for name, (low, high) in zip(held, intervals, strict=True):
            held[name] += low <= true <= high
        if repeat % 10 == 0:
            kind, parameters = "logistic", fit_map("logistic", risk, event)
            fresh, seen, whose = cohort(asked.knees // 2, rng)
            new = sigmoid(parameters["intercept"] + parameters["slope"] * logit(fresh))
            before, after = (agreement.intercept_and_slope(r, seen, whose)[1].value for r in (fresh, new))
            slopes.append((before or np.nan, after or np.nan))
    for name, times in held.items():
        print(f"{name}: {100 * times / asked.repeats:.1f} % of {asked.repeats} intervals held the true AUC")
    before, after = np.mean(slopes, axis=0)
    print(f"{kind} recalibration, seen on another cohort: slope {before:.3f} before, {after:.3f} after")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
