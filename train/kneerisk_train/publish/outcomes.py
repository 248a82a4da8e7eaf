"""A stack's equations of further outcomes: of its own cohort's visits, or else those that were given."""

from __future__ import annotations

import logging
from typing import Any

from kneerisk.method.predict import Forecast
from kneerisk.stack.stack import Stack
from kneerisk_train.data.equations import load_equations
from kneerisk_train.data.visits import fitted
from kneerisk_train.run.session import Session
from kneerisk_train.stages.futures import uses_visits

log = logging.getLogger(__name__)


def outcomes_of(stack: Stack, forecast: Forecast, session: Session) -> dict[str, Any] | None:
    """What ``outcomes.json`` of a stack is to hold; ``None``: nothing.

    Its own equations where readings of val's later visits have events enough for any: those of knees that the
    networks did not learn from, but for the head of the grade now. Else, where surrogates taught the
    forecast, the equations that these were drawn by; a warning says whose posteriors they are of, and
    ``derive`` says it again. A forecast that learnt from visits was drawn by no equations, and has none then.

    Args:
        stack: the stack, for its name.
        forecast: what it says of the val knees.
        session: the run.
    """
    own = fitted(
        session.data.knees["val"],
        forecast.p_now,
        population=f"{session.data.name}: readings of its validation participants, whom the networks did not "
        "learn from but for the head of the grade now",
        posteriors=stack.name,
    )
    if own is not None:
        log.info("outcomes.json: %d equations fitted to val's own visits", len(own.equations))
        return own.to_json()
    if uses_visits(session):
        log.warning("val's visits have too few events: the stack has no equations of further outcomes")
        return None
    given = load_equations(session.equations)
    if given.posteriors != stack.name:
        log.warning(
            "val's visits have too few events: the stack's equations of further outcomes are of the "
            "posteriors of %s; their order may hold, the size of the risks need not",
            given.posteriors,
        )
    return given.to_json()
