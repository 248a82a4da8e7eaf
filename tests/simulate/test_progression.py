"""The model of progression: exact chances, rates that are met, readers who never take a grade back."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneerisk.simulate.participants import KneeVisit, Participant, draw_participant
from kneerisk.simulate.progression import WIDTHS, advance, chance_to_pass, fitted, severity_of, wear_of
from kneerisk.simulate.rates import BASELINE_SHARES, rise_rate
from kneerisk.simulate.reader import Reader
from kneerisk.simulate.shape import MAX_SEVERITY, grade_of

MONTHS = (0, 24)
PEOPLE = 1000


@cache
def cohort() -> list[Participant]:
    return [draw_participant(5, number, MONTHS, 0.06) for number in range(1, PEOPLE + 1)]


def first_visits() -> list[KneeVisit]:
    return [knee for person in cohort() for knee in person.visits[0].knees]


@pytest.mark.parametrize(("distance", "expected"), [(0.3, 0.05), (0.1, 1.0), (2.0, 0.5), (1.5, 3.0)])
def test_the_chance_to_pass_is_that_of_the_process(distance: float, expected: float) -> None:
    rng = np.random.default_rng(1)
    draws = 6000
    passed = np.mean([advance(0.0, expected, rng) >= distance for _ in range(draws)])
    chance = float(chance_to_pass(distance, expected))
    assert abs(passed - chance) < 4 * np.sqrt(chance * (1 - chance) / draws)


@given(st.floats(-1, 12), st.floats(0, 8), st.floats(0, 2))
def test_chances_fall_with_the_distance_and_rise_with_the_pace(d: float, rate: float, more: float) -> None:
    chance = float(chance_to_pass(d, rate))
    assert 0 <= chance <= 1
    assert float(chance_to_pass(d + more, rate)) <= chance + 1e-12
    assert float(chance_to_pass(d, rate + more)) >= chance - 1e-12
    assert float(chance_to_pass(-d if d > 0 else d, rate)) == 1


@given(st.floats(0, MAX_SEVERITY))
def test_severity_is_wear_with_every_grade_as_wide_as_the_next(severity: float) -> None:
    wear = float(wear_of(severity))
    assert float(severity_of(wear)) == pytest.approx(severity, abs=1e-9)
    assert sum(WIDTHS[: int(severity)]) <= wear + 1e-9 <= sum(WIDTHS) + 1e-9


@given(st.floats(0, 1000), st.floats(0, 10))
def test_severity_never_heals_nor_leaves_its_range(wear: float, further: float) -> None:
    before, after = float(severity_of(wear)), float(severity_of(wear + further))
    assert 0 <= before <= after <= MAX_SEVERITY
    assert grade_of(after) >= grade_of(before)


@pytest.mark.parametrize("grade", range(4))
def test_each_grades_rises_within_a_year_are_the_tables(grade: int) -> None:
    """The exact risks, averaged, meet the rate; so do the rises that were drawn."""
    knees = [knee for knee in first_visits() if knee.grade == grade]
    rate = rise_rate(grade, 12)
    error = np.sqrt(rate * (1 - rate) / len(knees))
    risks = np.array([knee.risk_12m for knee in knees])
    assert abs(risks.mean() - rate) < 4 * risks.std() / np.sqrt(len(knees))
    assert abs(np.mean([knee.grade_12m > grade for knee in knees]) - rate) < 3.5 * error


def test_all_knees_rise_in_two_years_as_the_table_says() -> None:
    knees = [
        (a, b) for p in cohort() for a, b in zip(*(v.knees for v in p.visits), strict=True) if a.grade < 4
    ]
    shares = BASELINE_SHARES[:4]
    rate = sum(share * rise_rate(grade, 24) for grade, share in enumerate(shares)) / sum(shares)
    risen = np.mean([b.grade > a.grade for a, b in knees])
    assert abs(risen - rate) < 3.5 * np.sqrt(rate * (1 - rate) / len(knees))


def test_grades_at_baseline_come_in_the_shares_of_the_table() -> None:
    counts = np.bincount([knee.grade for knee in first_visits()], minlength=5) / len(first_visits())
    assert counts == pytest.approx(np.array(BASELINE_SHARES), abs=0.05)


def test_a_knee_at_kl_4_has_no_risk_and_others_have_some() -> None:
    for knee in first_visits():
        assert (knee.risk_12m == 0) == (knee.risk_12m_seen == 0) == (knee.grade == 4)
        assert knee.risk_12m <= 1 and knee.grade_12m >= knee.grade == int(knee.severity)


def test_the_clock_runs_on_past_the_table_and_slows_after_the_first_year() -> None:
    clock = fitted().clock(np.arange(0, 120, 3))
    assert np.all(np.diff(clock) > 0)
    assert float(fitted().clock(24)) < 2 * float(fitted().clock(12)) == 2


@given(st.floats(0, 1, exclude_max=True), st.booleans(), st.integers(0, 3))
def test_grades_read_side_by_side_never_fall(doubt: float, upwards: bool, grade: int) -> None:
    reader = Reader(doubt, upwards)
    assert 0 <= reader.read(grade) <= reader.read(grade + 1) <= 4
    assert abs(reader.read(grade) - grade) <= 1


def test_two_readers_differ_in_twelve_of_a_hundred_readings_most_at_kl_1() -> None:
    knees = first_visits()
    differ = np.array([knee.read != knee.read_again for knee in knees])
    at = np.array([knee.grade for knee in knees])
    assert differ.mean() == pytest.approx(0.12, abs=0.03)
    assert differ[at == 1].mean() > differ[at == 2].mean()


def test_known_things_carry_part_of_what_is_hidden() -> None:
    people = cohort()
    hidden = [history.liability for person in people for history in person.knees]
    womac = [knee.womac for person in people for knee in person.visits[0].knees]
    severity = [knee.severity for person in people for knee in person.visits[0].knees]
    injury = [history.injury for person in people for history in person.knees]
    bmi = [person.bmi for person in people for _ in person.knees]
    for known, what in ((womac, hidden), (womac, severity), (injury, hidden), (bmi, hidden)):
        assert 0.1 < np.corrcoef(known, what)[0, 1] < 0.8
    assert np.corrcoef(hidden[::2], hidden[1::2])[0, 1] == pytest.approx(0.6, abs=0.1)


def test_a_participant_is_the_same_in_any_cohort_and_the_lost_stay_lost() -> None:
    assert draw_participant(5, 7, MONTHS, 0.06) == cohort()[6]
    assert draw_participant(6, 7, MONTHS, 0.06) != cohort()[6]
    assert all(person.visits[0].attended for person in cohort())
    assert np.mean([person.visits[1].attended for person in cohort()]) == pytest.approx(0.87, abs=0.04)
    assert all(visit.attended for n in range(1, 30) for visit in draw_participant(1, n, MONTHS, 0.0).visits)


def test_most_of_the_risk_can_be_seen_and_liability_adds_the_rest() -> None:
    knees = [knee for knee in first_visits() if knee.grade == 2]
    known = np.array([knee.risk_12m for knee in knees])
    seen = np.array([knee.risk_12m_seen for knee in knees])
    assert seen.mean() == pytest.approx(known.mean(), rel=0.05)
    assert 0.9 < np.corrcoef(seen, known)[0, 1] < 0.999
