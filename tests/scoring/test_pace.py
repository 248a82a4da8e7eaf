"""A run that becomes slow says so once, and again only after it had recovered."""

from kneerisk.scoring.clock import WINDOW, Pace


def said(rates: list[float]) -> list[int]:
    """Minutes in which a warning came, where each minute has a rate."""
    now = [0.0]
    pace = Pace(lambda: now[0])
    done, found = 0.0, []
    for minute, rate in enumerate(rates):
        for _ in range(6):
            now[0] += WINDOW / 6
            done += rate * WINDOW / 6
            if pace.note(round(done)) is not None:
                found.append(minute)
    assert [round(rate, 1) for rate in pace.rates] == rates
    return found


def test_a_collapse_is_said_once() -> None:
    assert said([10, 10, 10, 10, 2, 1, 1]) == [4]


def test_a_second_collapse_is_said_again() -> None:
    assert said([10, 10, 10, 2, 10, 10, 10, 1]) == [3, 7]


def test_what_is_no_collapse_is_not() -> None:
    assert said([10, 10, 10, 4, 3, 12]) == []
    assert said([10, 1, 10]) == []  # no usual rate is known yet


def test_the_sentence_has_both_rates() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    for done in (600, 1200, 1800):
        now[0] += WINDOW
        assert pace.note(done) is None
    now[0] += 2 * WINDOW
    assert "0.50 images/s, from 10.00" in str(pace.note(1860))
