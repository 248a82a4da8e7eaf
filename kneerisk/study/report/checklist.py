"""The TRIPOD+AI checklist, filled as far as a run can fill it.

TRIPOD+AI (Collins, Moons, Dhiman and others 2024, BMJ 385:e078378) asks of those who report a prediction
model 27 things.  They stand here in words of our own; a report for a journal takes them from the statement
itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kneerisk.study.report.facts import Facts

State = Literal["filled", "partly", "authors"]

WORDS: Mapping[State, str] = {
    "filled": "said by this run",
    "partly": "said in part; the authors add the rest",
    "authors": "for the authors to say",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One of the 27."""

    number: int
    section: str
    asks: str
    state: State
    says: str


def checklist(
    facts: Facts,
    settings: Mapping[str, Any],
    population: str | None,
    evaluation: Mapping[str, Any] | None,
    enrichment: Mapping[str, Any] | None,
    alarms: int,
) -> tuple[Item, ...]:
    """All 27 items.

    Args:
        facts: the cohort's numbers.
        settings: the run's: ``stack``, ``stack_sha256``, ``backend``, ``precision``, ``seed``, ``steps``,
            ``samples``, ``kneerisk_version``, as far as they are known.
        population: whom the risks were calibrated to.
        evaluation: its JSON, where there is one.
        enrichment: its JSON, where there is one.
        alarms: how many the run raised.
    """
    named = settings.get("stack") or "not named"
    stack = f"stack {named}, kneerisk {settings.get('kneerisk_version') or 'of an unknown version'}"
    outcome = labels = events = None
    unread = ""
    if evaluation is not None:
        outcome = f"{evaluation['outcome_words']} within {evaluation['months']} months"
        labels = f"{outcome}, from the readers' grades in {evaluation['labels']}"
        group = evaluation["overall"]
        events = f"{group['events']} events among {group['knees']} evaluated knees"
        unread = f"; of the scored knees {_counts(evaluation['excluded'])}"
    lost = facts.refused + facts.failed
    bases = ", ".join(f"{name} {count}" for name, count in facts.basis) or "not stated"
    aim = "evaluation" if evaluation else "trial enrichment" if enrichment else None
    run = (
        f"{stack}, {settings.get('backend')} in {settings.get('precision')}, {settings.get('steps')} sampler "
        f"steps, {settings.get('samples')} samples, seed {settings.get('seed')}; intervals resample people"
    )
    found: list[tuple[str, str, State, str | None]] = [
        ("Title", "names the study as one of a prediction model, with its people and its outcome", "partly",
         None if outcome is None else f"an evaluation of {stack}, for {outcome}"),
        ("Abstract", "a structured summary", "authors", None),
        ("Introduction", "why the model is needed, who would use it, inequalities that are known", "partly",
         "research software for studies of cohorts; not for the care of a person"),
        ("Introduction", "the aims: development, evaluation, or both", "partly", aim),
        ("Methods", "where the data come from, and from when", "partly",
         f"{facts.images} image files, {facts.rows} rows; their origin and dates are not in the table"),
        ("Methods", "setting, who was eligible, what treatment they had", "partly",
         f"{facts.participants} participants; {lost} rows were not scored, with their reasons above"),
        ("Methods", "how the data were prepared, and whether alike in every group", "filled",
         "each radiograph decoded by its header, knees located, cut out and equalised, all the same "
         "way; the quality flags above tell the exceptions"),
        ("Methods", "the outcome, how and when it was assessed, by whom, blinded or not", "partly", labels),
        ("Methods", "the predictors, how and when they were measured", "filled",
         f"the radiograph; a reader's grade where the cohort brings one (the risk's basis: {bases})"),
        ("Methods", "how the sample size came about", "partly",
         "; ".join(filter(None, (f"{facts.scored} knees of {facts.participants} participants", events)))),
        ("Methods", "missing data and what was done about them", "partly",
         f"{lost} rows without a score are left out{unread}"),
        ("Methods", "how the model was used, and how its performance was measured", "filled", run),
        ("Methods", "whether classes were rebalanced, and how probabilities were mended", "filled",
         "nothing was rebalanced here; the risks are calibrated to the population below"),
        ("Methods", "what was done for fairness, and why", "partly", _families(evaluation)),
        ("Methods", "what the model gives out, and any thresholds", "filled",
         "a probability for each knee; thresholds stand where they are used"),
        ("Methods", "how the data for development differ from these", "partly",
         f"calibrated to: {population or 'not named by the table'}; the run raised {alarms} alarms"),
        ("Methods", "ethical approval, consent", "authors", None),
        ("Open science", "funding, interests, protocol, registration, where data and code are", "partly",
         "code: kneerisk, Apache-2.0; the stack's model card names its data and terms"),
        ("Patients and public", "how patients and the public took part", "authors", None),
        ("Results", "the flow of participants, and how they compare with the development's", "partly",
         f"{facts.rows} rows: {facts.scored} scored, {facts.refused} refused, {facts.failed} failed"),
        ("Results", "participants and events of the development", "partly", "in the stack's model card"),
        ("Results", "the model in full, so that others can apply it", "filled",
         f"the stack's weights, sha256 {str(settings.get('stack_sha256') or 'unknown')[:16]}"),
        ("Results", "performance with intervals, in key groups too", "partly", _performance(evaluation)),
        ("Results", "results of updating the model", "authors", None),
        ("Discussion", "what the results mean, fairness included", "authors", None),
        ("Discussion", "limits: the sample, overfitting, missing data", "partly",
         "the stack's forecasts and joint-space figures have limits of their own, in its model card; one "
         "cohort is no proof for another"),
        ("Discussion", "how it would be used: poor input, skills needed, what comes next", "partly",
         "poor input is refused with a reason, or flagged; not for use in care"),
    ]  # fmt: skip
    return tuple(
        Item(number, section, asks, "authors" if says is None else state, says or "")
        for number, (section, asks, state, says) in enumerate(found, start=1)
    )


def _counts(excluded: Mapping[str, int]) -> str:
    return "; ".join(f"{why}: {count}" for why, count in excluded.items()) or "none was left out"


def _families(evaluation: Mapping[str, Any] | None) -> str | None:
    if evaluation is None:
        return None
    families = dict.fromkeys(group["family"] for group in evaluation["subgroups"])
    return f"performance is told apart by {', '.join(families)}" if families else "no group was told apart"


def _performance(evaluation: Mapping[str, Any] | None) -> str | None:
    if evaluation is None:
        return None
    auc = evaluation["overall"]["scores"]["model"]["auc"]
    if auc["value"] is None:
        return f"AUC: {auc['reason']}"
    return f"AUC {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f}); calibration and groups above"
