"""A trained run becomes a stack: its heads are fitted, it forecasts, and is calibrated on what it said."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kneerisk.errors import UsageError
from kneerisk.stack.stack import Stack
from kneerisk.stack.write import revise_stack
from kneerisk_train.data.knees import Knees
from kneerisk_train.publish.figures import measure
from kneerisk_train.publish.fit import fit_calibration, fit_networks
from kneerisk_train.publish.forecast import usual_forecast
from kneerisk_train.publish.model_card import model_card
from kneerisk_train.publish.outcomes import outcomes_of
from kneerisk_train.publish.write import move_stack, trained_modules, write_networks
from kneerisk_train.run.session import Session

log = logging.getLogger(__name__)

CHANCE = 0.1
"""A quadratic kappa below this is no grading."""


def publish(
    session: Session,
    folder: Path,
    *,
    name: str | None = None,
    version: str = "0.1.0",
    steps: int = 2,
    terms: str | None = None,
    card: str | None = None,
    population: str | None = None,
    overwrite: bool = False,
    force: bool = False,
) -> Stack:
    """Write the stack folder, calibrate it on val, and fill its model card; whole, or not at all.

    Args:
        session: the run whose stages are trained.
        folder: where the stack goes.
        name: of the stack; the folder's by default.
        version: of the stack.
        steps: sampler steps a future.
        terms: what the weights were trained on and what may be done with them, in words.
        card: the text of MODEL_CARD.md; ``None`` fills one from the figures measured here.
        population: whose rates those given to the session are, in words.
        overwrite: replace a folder that is there.
        force: publish a stack all the same that grades at chance, or whose risks are another population's.

    Raises:
        UsageError: a stage is missing, val has no knee of some grade, or the stack misleads and ``force`` is
            not given.
    """
    if folder.exists() and not overwrite:
        raise UsageError(f"{folder} exists: choose another --stack, or add --overwrite")
    if population is not None:
        rates = replace(session.data.rates, population=population, borrowed=False)
        session = replace(session, data=replace(session.data, rates=rates))
    _check_grades(session.data.knees["val"])
    modules = trained_modules(session)
    fit_networks(modules, session)
    draft = folder.with_name(f".{folder.name}.draft")
    try:
        stack = write_networks(
            session, modules, draft, name=name or folder.name, version=version, steps=steps, terms=terms
        )
        forecasts = {
            split: usual_forecast(stack, knees)
            for split, knees in session.data.knees.items()
            if split in ("val", "test")
        }
        stack = fit_calibration(stack, forecasts["val"], session)
        figures = measure(stack, forecasts, session.data)
        warn_or_refuse(session, figures["val"], force=force)
        text = card or model_card(stack, session, figures)
        outcomes = outcomes_of(stack, forecasts["val"], session)
        return move_stack(revise_stack(stack, model_card=text, outcomes=outcomes), folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def warn_or_refuse(session: Session, figures: Mapping[str, object], *, force: bool) -> None:
    """Say loudly what would mislead whoever scores with a stack; UsageError unless forced.

    Args:
        session: the run.
        figures: of val.
        force: warn only.
    """
    doubts = []
    kappa = float(str(figures["kl_quadratic_kappa"]))
    if not kappa >= CHANCE:  # a kappa that is no number is no agreement either
        doubts.append(
            f"it grades at chance (quadratic kappa {kappa:.3f} on val): its grades and risks mean nothing"
        )
    if session.data.rates.borrowed:
        doubts.append(
            f"this cohort has too few pairs of visits for rates of its own: risks are calibrated to others' "
            f"({session.data.rates.population})"
        )
    for doubt in doubts:
        log.warning("WARNING: %s", doubt)
    if doubts and not force:
        raise UsageError(f"{'; '.join(doubts)}. Publish it all the same with --force")


def _check_grades(val: Knees) -> None:
    if missing := [grade for grade in range(4) if not (val.grade == grade).any()]:
        raise UsageError(
            f"no val knee has KL grade {missing[0]}: a stack is calibrated grade by grade, on a cohort that "
            "has grades 0 to 3 among its val participants (other split seed or shares may do)"
        )
