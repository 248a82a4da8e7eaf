"""What puts a table in doubt is said first; knees like the training cohort's raise nothing."""

import numpy as np
import pytest

from kneerisk.method.calibration import Calibration, Logistic, Usual
from kneerisk.scoring.outputs.alarms import FEWEST, Looks

USUAL = Usual(novelty=1.0, grades=(0.45, 0.1, 0.27, 0.14, 0.04), risk=0.065)
CALIBRATION = Calibration(
    "nobody", (0.04, 0.09, 0.07, 0.08, 0.0), Logistic(1.0, (0, 0, 0, 0), 0.5, "a guess"), usual=USUAL
)


def rows(count=200, **changes):
    rng = np.random.default_rng(0)
    grades = rng.choice(5, count, p=USUAL.grades)
    return [
        {
            "qc_flags": [],
            "novelty": 1.0 + rng.normal(0, 0.1),
            "risk_12m_image": 0.065 * np.exp(rng.normal(0, 0.3)),
            "kl_now": int(grade),
            "input_sha256": str(number),
            "side": "R",
        }
        | {key: value(number) for key, value in changes.items()}
        for number, grade in enumerate(grades)
    ]


def codes(made, calibration=CALIBRATION):
    looks = Looks()
    for row in made:
        looks.add(row)
    return [alarm.code for alarm in looks.alarms(calibration)]


def test_knees_like_the_training_cohorts_raise_nothing():
    assert codes(rows()) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"qc_flags": lambda n: ["unusual-appearance"] if n % 10 == 0 else []}, "unusual-appearance"),
        ({"novelty": lambda n: 1.3}, "novelty"),
        ({"kl_now": lambda n: 3}, "grades"),
        ({"risk_12m_image": lambda n: 0.14 + n / 1e4}, "mean-risk"),
        ({"risk_12m_image": lambda n: 0.03 + n / 1e5}, "mean-risk"),
        ({"risk_12m_image": lambda n: 0.065}, "same-risk"),
    ],
)
def test_a_cohort_unlike_it_is_named(changes, code):
    assert codes(rows(**changes)) == [code]


def test_a_few_knees_tell_nothing_of_a_cohort():
    strange = {"novelty": lambda n: 9.0}
    assert codes(rows(FEWEST - 1, **strange)) == []
    assert codes(rows(FEWEST, **strange)) == ["novelty"]
    without = Calibration("nobody", CALIBRATION.rates, CALIBRATION.hazard)
    assert codes(rows(**strange), without) == []
