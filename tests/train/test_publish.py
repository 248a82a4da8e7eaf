"""A stack says what happened, and one that misleads is not published unasked."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from kneerisk_train.data.data import Rates
from kneerisk_train.publish.figures import calibration_error
from kneerisk_train.publish.fit import rank_with_equations
from kneerisk_train.publish.publish import warn_or_refuse
from kneerisk_train.run.session import keep_equations, keep_initial

from kneerisk.errors import UsageError


def session(*, borrowed=False):
    return SimpleNamespace(data=SimpleNamespace(rates=Rates(np.eye(5), "somebody else", borrowed)))


@pytest.mark.parametrize("kappa", [0.05, -0.2, float("nan")])
def test_a_stack_that_grades_at_chance_is_refused_or_forced_with_a_warning(kappa, caplog):
    with pytest.raises(UsageError, match=r"grades at chance.*--force"):
        warn_or_refuse(session(), {"kl_quadratic_kappa": kappa}, force=False)
    with caplog.at_level(logging.WARNING, "kneerisk_train"):
        logging.getLogger("kneerisk_train").propagate = True
        warn_or_refuse(session(), {"kl_quadratic_kappa": kappa}, force=True)
    assert "at chance" in caplog.text


def test_a_stack_with_other_peoples_rates_is_refused_unless_forced():
    with pytest.raises(UsageError, match="somebody else"):
        warn_or_refuse(session(borrowed=True), {"kl_quadratic_kappa": 0.8}, force=False)
    warn_or_refuse(session(borrowed=True), {"kl_quadratic_kappa": 0.8}, force=True)
    warn_or_refuse(session(), {"kl_quadratic_kappa": 0.8}, force=False)


def test_a_run_keeps_what_it_started_from(tmp_path):
    first = SimpleNamespace(name="one-1.0", sha256="a" * 64)
    assert keep_initial(None, tmp_path) is None
    noted = keep_initial(first, tmp_path)
    assert keep_initial(None, tmp_path) == noted == {"stack": "one-1.0", "sha256": "a" * 64}
    with pytest.raises(UsageError, match=r"begun from the stack one-1\.0"):
        keep_initial(SimpleNamespace(name="two-1.0", sha256="b" * 64), tmp_path)


def test_a_run_keeps_its_equations(tmp_path):
    given, out = tmp_path / "own.json", tmp_path / "run"
    out.mkdir()
    assert keep_equations(None, out) is None
    given.write_text("{}")
    kept = keep_equations(given, out)
    assert kept == keep_equations(None, out) == keep_equations(given, out)
    given.write_text("[]")
    with pytest.raises(UsageError, match="other equations"):
        keep_equations(given, out)
    with pytest.raises(UsageError, match="cannot be read"):
        keep_equations(tmp_path / "absent.json", out)


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    p = np.array([[0.8, 0.05, 0.05, 0.05, 0.05]] * 10, np.float32)
    grade = np.array([0] * 6 + [1] * 4)
    assert calibration_error(p, grade) == pytest.approx(0.2, abs=1e-6)
    assert calibration_error(np.eye(5, dtype=np.float32)[grade], grade) == 0


def test_only_knees_that_can_rise_are_ranked_and_only_by_scores_that_rank():
    knees = SimpleNamespace(grade=np.array([0, 1, 2, 3, 4]))
    known = np.array([0.1, 0.2, 0.3, 0.4, 0.0])
    scores = {"flat": np.full(5, 0.1), "like": known * 2, "unlike": -known}
    assert rank_with_equations(scores, known, knees) == {"like": 1.0, "unlike": -1.0}
    high = np.where(knees.grade == 4, 9.0, known)
    assert rank_with_equations({"like": high}, known, knees) == {"like": 1.0}
