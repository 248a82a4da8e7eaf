"""A trained run becomes a stack: its heads are fitted, it forecasts, and is calibrated on what it said."""

from __future__ import annotations

import shutil
from pathlib import Path

from kneerisk.errors import UsageError
from kneerisk.stack.stack import Stack
from kneerisk.stack.write import revise_stack
from kneerisk_train.data.knees import Knees
from kneerisk_train.publish.figures import measure
from kneerisk_train.publish.fit import fit_calibration, fit_networks
from kneerisk_train.publish.forecast import usual_forecast
from kneerisk_train.publish.model_card import model_card
from kneerisk_train.publish.write import move_stack, trained_modules, write_networks
from kneerisk_train.run.session import Session


def publish(
    session: Session,
    folder: Path,
    *,
    name: str | None = None,
    version: str = "0.1.0",
    steps: int = 16,
    terms: str | None = None,
    card: str | None = None,
    auxiliary: bool = True,
    overwrite: bool = False,
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
        auxiliary: publish stage 1's own classifier for the grade now where it does better on val.
        overwrite: replace a folder that is there.

    Raises:
        UsageError: a stage is missing, or val has no knee of some grade.
    """
    if folder.exists() and not overwrite:
        raise UsageError(f"{folder} exists: choose another --stack, or add --overwrite")
    _check_grades(session.data.knees["val"])
    modules = trained_modules(session)
    fit_networks(modules, session, auxiliary=auxiliary)
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
        stack = fit_calibration(stack, forecasts["val"], session.data)
        text = card or model_card(stack, session, measure(stack, forecasts, session.data))
        return move_stack(revise_stack(stack, model_card=text), folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_grades(val: Knees) -> None:
    if missing := [grade for grade in range(4) if not (val.grade == grade).any()]:
        raise UsageError(
            f"no val knee has KL grade {missing[0]}: a stack is calibrated grade by grade, on a cohort that "
            "has grades 0 to 3 among its val participants (other split seed or shares may do)"
        )
